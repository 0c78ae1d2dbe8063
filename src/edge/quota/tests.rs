use super::*;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::{prop_assert, prop_assert_eq, proptest};

fn quotas(limit: u64, workers: usize) -> Quotas {
    Quotas { all: Overload::ALL.map(|_| Quota::new(limit, workers)), workers, budgets: Mutex::default() }
}

fn left(quotas: &Quotas) -> i64 {
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
fn a_limit_that_is_lowered_below_what_is_taken_gives_nothing_until_enough_has_come_back() {
    let quota = Quota::new(10, 1);
    let share = Share::of(&quota);
    assert!((0..8).all(|_| share.take(1)));
    quota.set(3, 1);
    assert!(!share.take(1) && share.free() == 0);
    share.give_back(5);
    assert!(!share.take(1));
    share.give_back(1);
    assert!(share.take(1) && !share.take(1));
    quota.set(5, 1);
    assert!(share.take(2) && !share.take(1));
    share.give_back(5);
    drop(share);
    assert_eq!(quota.left.load(Ordering::SeqCst), 5);
}

#[test]
fn limits_that_are_lowered_hold_at_once_whatever_workers_have_drawn() {
    let quotas = quotas(1_000, 2);
    let budgets = [quotas.budget(), quotas.budget()];
    let request = |worker: usize| {
        let network = Network::of("10.0.0.1".parse().unwrap());
        Reserved::new(Arc::clone(&budgets[worker]), budgets[worker].usage(network))
    };
    let mut taken: Vec<Reserved> = [0, 1].map(request).into();
    assert!(taken.iter_mut().all(|one| one.take(Overload::Requests, 1).is_ok()));
    for (quota, shares) in quotas.all.iter().zip(0..) {
        quota.set(3, 2);
        budgets.iter().for_each(|budget| budget.shares[shares].surrender());
    }
    let mut third = request(1);
    assert!(third.take(Overload::Requests, 1).is_ok());
    assert!([0, 1].into_iter().all(|worker| request(worker).take(Overload::Requests, 1).is_err()));
    drop((taken, third));
    quotas.all[0].set(1_000, 2);
    drop(budgets);
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
            prop_assert_eq!(signed(used + spare) + quota.left.load(Ordering::Relaxed), 1_000);
        }
    }
}
