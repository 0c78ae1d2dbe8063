use super::*;
use crate::service::login::throttle::Recent;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

const SOME: Recent = Recent { wrong: 1, tried: 0 };
const DEBT: Debt = Debt { network: SOME, address: SOME };

fn waiter(address: [u8; 4], is_known: bool) -> Waiter {
    let ip = IpAddr::from(Ipv4Addr::from(address));
    let pair = u64::from(Ipv4Addr::from(address).to_bits());
    Waiter { is_known, from: Some((Source::of(ip), Network::of(ip))), pair, debt: Debt::default() }
}

fn all(queue: &mut Queue<String>) -> Vec<String> {
    std::iter::from_fn(|| queue.pop()).collect()
}

fn push(queue: &mut Queue<String>, waiter: Waiter, name: &str) {
    assert_eq!(queue.push(waiter, name.into(), 1000), Pushed::Waits);
}

#[test]
fn turns_go_round_networks_and_then_addresses() {
    let mut queue = Queue::new();
    for number in 0..3 {
        push(&mut queue, waiter([10, 0, 0, 1], false), &format!("a1-{number}"));
        push(&mut queue, waiter([10, 0, 0, 2], false), &format!("a2-{number}"));
        push(&mut queue, waiter([10, 0, 1, 1], false), &format!("b1-{number}"));
    }
    let order = all(&mut queue);
    assert_eq!(order[..6], ["a1-0", "b1-0", "a2-0", "b1-1", "a1-1", "b1-2"]);
    assert_eq!(order[6..], ["a2-1", "a1-2", "a2-2"]);
    assert_eq!((queue.len(), queue.networks.len(), queue.sources.len()), (0, 0, 0));
}

#[test]
fn those_that_are_known_have_three_turns_of_four() {
    let mut queue = Queue::new();
    for number in 0..8_u8 {
        push(&mut queue, waiter([10, 0, number, 1], true), "known");
        push(&mut queue, waiter([10, 1, number, 1], false), "new");
    }
    let order = all(&mut queue);
    for part in order[..8].chunks(4) {
        assert_eq!(part.iter().filter(|name| *name == "known").count(), 3, "{order:?}");
    }
    assert_eq!(order.iter().filter(|name| *name == "known").count(), 8);
}

#[test]
fn a_place_without_wrong_passwords_comes_first() {
    let mut queue = Queue::new();
    for number in 0..50 {
        push(&mut queue, Waiter { debt: DEBT, ..waiter([10, 0, number, 1], false) }, "storm");
    }
    push(&mut queue, waiter([192, 0, 2, 1], false), "honest");
    assert_eq!(queue.pop().as_deref(), Some("honest"));
}

#[test]
fn one_account_at_one_address_has_so_many_places() {
    let mut queue = Queue::new();
    for _ in 0..MAX_OF_PAIR {
        push(&mut queue, waiter([10, 0, 0, 1], true), "many");
    }
    let refused = queue.push(waiter([10, 0, 0, 1], true), "more".into(), 1000);
    assert_eq!(refused, Pushed::Refused(Full::Pair, "more".into()));
    push(&mut queue, waiter([10, 0, 0, 2], true), "another");
}

#[test]
fn a_full_queue_has_a_place_for_who_has_fewer() {
    let mut queue = Queue::new();
    for number in 0..20 {
        push(&mut queue, waiter([10, 0, 0, number], false), "flood");
    }
    let pushed = |queue: &mut Queue<String>, waiter| queue.push(waiter, "honest".to_owned(), 20);
    assert_eq!(pushed(&mut queue, waiter([10, 1, 0, 1], false)), Pushed::InPlaceOf("flood".into()));
    assert_eq!(pushed(&mut queue, waiter([10, 2, 0, 1], true)), Pushed::InPlaceOf("flood".into()));
    let again = pushed(&mut queue, waiter([10, 1, 0, 2], false));
    assert_eq!(again, Pushed::InPlaceOf("flood".into()));
    // Those that are known leave a quarter to others.
    let mut queue = Queue::new();
    for number in 0..20 {
        push(&mut queue, waiter([10, 0, number, 1], true), "known");
    }
    for number in 0..5 {
        let newcomer = waiter([10, 1, number, 1], false);
        assert_eq!(pushed(&mut queue, newcomer), Pushed::InPlaceOf("known".into()), "{number}");
    }
    let again = Waiter { debt: DEBT, ..waiter([10, 2, 0, 1], false) };
    assert!(matches!(pushed(&mut queue, again), Pushed::Refused(Full::Queue, _)));
    assert_eq!(queue.len(), 20);
}

#[test]
fn among_equals_a_place_without_wrong_passwords_displaces() {
    let mut queue = Queue::new();
    for number in 0..20 {
        push(&mut queue, Waiter { debt: DEBT, ..waiter([10, 0, number, 1], false) }, "storm");
    }
    let honest = queue.push(waiter([192, 0, 2, 1], false), "honest".into(), 20);
    assert_eq!(honest, Pushed::InPlaceOf("storm".into()));
    assert_eq!(queue.pop().as_deref(), Some("honest"));
}

#[test]
fn where_all_are_new_and_too_many_the_newest_goes_first() {
    let mut queue = Queue::new();
    for number in 0..20 {
        let name = format!("storm {number}");
        assert_eq!(queue.push(waiter([10, 0, number, 1], false), name, 20), Pushed::Waits);
    }
    let honest = queue.push(waiter([192, 0, 2, 1], false), "honest".into(), 20);
    assert_eq!(honest, Pushed::InPlaceOf("storm 0".into()));
    let again = Waiter { debt: DEBT, ..waiter([10, 0, 99, 1], false) };
    assert!(matches!(queue.push(again, "again".into(), 20), Pushed::Refused(Full::Queue, _)));
    assert_eq!(queue.pop().as_deref(), Some("honest"));
    assert_eq!(queue.pop().as_deref(), Some("storm 19"));
    // Once half of the places are free, it is as ever.
    for _ in 0..9 {
        queue.pop();
    }
    push(&mut queue, waiter([192, 0, 3, 1], false), "later");
    assert_eq!(queue.pop().as_deref(), Some("storm 1"));
}

proptest! {
    /// Anyone who was let in and not displaced is served; no place that has one waiting waits for longer than all places take.
    #[test]
    fn nobody_is_forgotten(steps in prop::collection::vec((0_u8..6, 0_u8..6, any::<bool>(), any::<bool>()), 1..300)) {
        let mut queue = Queue::new();
        let (mut let_in, mut out) = (0, 0);
        for (network, address, is_known, pops) in steps {
            match queue.push(waiter([10, network, 0, address], is_known), let_in, 20) {
                Pushed::Waits => let_in += 1,
                Pushed::InPlaceOf(_) => (let_in, out) = (let_in + 1, out + 1),
                Pushed::Refused(..) => {}
            }
            if pops && queue.pop().is_some() {
                out += 1;
            }
            prop_assert!(queue.len() <= 20);
            prop_assert_eq!(queue.networks.values().map(|turns| turns.waiting).sum::<usize>(), queue.len());
            prop_assert_eq!(queue.sources.values().map(|turns| turns.waiting).sum::<usize>(), queue.len());
        }
        while queue.pop().is_some() {
            out += 1;
        }
        prop_assert_eq!(let_in, out);
    }
}
