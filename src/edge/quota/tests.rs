use super::*;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::{prop_assert, prop_assert_eq, proptest};

fn quotas(limit: u64, workers: usize) -> Quotas {
    Quotas { all: Overload::ALL.map(|_| Quota::new(limit, workers)), workers }
}

fn left(quotas: &Quotas) -> u64 {
    quotas.all[0].left.load(Ordering::SeqCst)
}

#[test]
fn a_small_quota_is_exact() {
    let quota = Quota::new(3, 2);
    let (one, other) = (Share::of(&quota), Share::of(&quota));
    assert!(one.take(1) && one.take(1) && other.take(1));
    assert!(!one.take(1) && !other.take(1));
    one.give_back(2);
    other.give_back(1);
    assert!(other.take(3));
}

#[test]
fn a_network_leaves_the_last_fifth_to_others() {
    let quotas = quotas(1_000, 1);
    let budget = quotas.budget();
    let request = |network| Reserved::new(Arc::clone(&budget), budget.usage(network));
    let mut greedy = request(Network::of("10.0.0.1".parse().unwrap()));
    while greedy.take(Overload::Requests, 1).is_ok() {}
    assert!((795..=805).contains(&greedy.amounts[0]), "{:?}", greedy.amounts);
    assert!(request(Network::of("10.0.0.9".parse().unwrap())).take(Overload::Requests, 10).is_err());
    let mut other = request(Network::of("10.0.1.1".parse().unwrap()));
    for _ in 0..150 {
        assert_eq!(other.take(Overload::Requests, 1), Ok(()));
    }
    drop((greedy, other));
    assert!(budget.networks.lock().values().all(|usage| usage.strong_count() == 0));
    drop(budget);
    assert_eq!(left(&quotas), 1_000);
}

#[test]
fn networks_that_left_are_forgotten() {
    let quotas = quotas(1_000, 1);
    let budget = quotas.budget();
    for number in 0..10_000u32 {
        budget.usage(Network::of(std::net::IpAddr::from((number << 8).to_be_bytes())));
    }
    assert!(budget.networks.lock().len() < 100);
}

#[test]
fn threads_never_have_more_than_there_is() {
    let (quota, used) = (Quota::new(100, 4), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let share = Share::of(&quota);
                for amount in (1..=40).cycle().take(10_000) {
                    if share.take(amount) {
                        assert!(used.fetch_add(amount, Ordering::SeqCst) + amount <= 100);
                        used.fetch_sub(amount, Ordering::SeqCst);
                        share.give_back(amount);
                    }
                }
            });
        }
    });
    assert_eq!(quota.left.load(Ordering::SeqCst), 100);
}

proptest! {
    /// What is taken, spare and left is all there is; a refusal means that most of it is taken.
    #[test]
    fn nothing_is_lost(steps in vec((any::<bool>(), any::<bool>(), 0u64..300), 0..200)) {
        let quota = Quota::new(1_000, 2);
        let shares = [Share::of(&quota), Share::of(&quota)];
        let mut taken: Vec<(bool, u64)> = Vec::new();
        for (takes, which, amount) in steps {
            let used: u64 = taken.iter().map(|(_, amount)| amount).sum();
            if !takes {
                if let Some((which, amount)) = taken.pop() {
                    shares[usize::from(which)].give_back(amount);
                }
            } else if shares[usize::from(which)].take(amount) {
                taken.push((which, amount));
            } else {
                prop_assert!(used + amount > 1_000 - 1_000 / 8, "{used} {amount}");
            }
            let used: u64 = taken.iter().map(|(_, amount)| amount).sum();
            let spare: u64 = shares.iter().map(|share| share.spare.load(Ordering::Relaxed)).sum();
            prop_assert_eq!(used + spare + quota.left.load(Ordering::Relaxed), 1_000);
        }
    }
}
