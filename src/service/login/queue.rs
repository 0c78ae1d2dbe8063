//! Logins that wait for a thread, in a fair order: nobody waits behind a flood that somebody else sends.
//!
//! Turns go round networks, and within each round its addresses; those that had the fewest wrong passwords checked of late come
//! first. Accounts at places that they know get three turns of four where others wait too. Where the queue is full, a newcomer takes
//! the place of one of the network that has the most. Where all are new, the newest goes first: the oldest has waited for too long.

use std::collections::HashMap;

use super::throttle::Debt;
use crate::auth::source::{Block, Source};

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// Whether the account has logged in from there before.
    pub(super) is_known: bool,
    /// Where it comes from.
    pub(super) from: Option<(Source, Block)>,
    /// The same for all that are of one account and one address.
    pub(super) pair: u64,
    /// What had been checked for its place when it came.
    pub(super) debt: Debt,
}

impl Waiter {
    /// The first login from its network in a while, and from a place that the account does not know.
    fn is_fresh(&self) -> bool {
        !self.is_known && self.debt == Debt::default()
    }
}

/// Why there is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Nobody who waits has more than its share.
    Queue,
    /// So many of the account wait from this address already.
    Pair,
}

/// What came of a place for a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<T> {
    /// It waits.
    Waits,
    /// It waits in the place of this one.
    InPlaceOf(T),
    /// It does not wait.
    Refused(Full, T),
}

/// Those that wait.
pub(super) struct Queue<T> {
    waiting: Vec<Entry<T>>,
    networks: HashMap<Option<Block>, Turns>,
    sources: HashMap<Option<Source>, Turns>,
    /// Turns that were had; also the time by which those that come are told apart.
    turn: u64,
    /// More came than there were places for, and half of them are still taken.
    is_overloaded: bool,
}

struct Entry<T> {
    waiter: Waiter,
    since: u64,
    item: T,
}

/// Of a network or an address of which somebody waits.
#[derive(Clone, Copy, Default)]
struct Turns {
    waiting: usize,
    /// Its last turn, or when it came.
    last: u64,
}

impl<T> Queue<T> {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            waiting: Vec::new(),
            networks: HashMap::new(),
            sources: HashMap::new(),
            turn: 0,
            is_overloaded: false,
        }
    }

    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds one, where at most `capacity` may wait.
    pub(super) fn push(&mut self, waiter: Waiter, item: T, capacity: usize) -> Pushed<T> {
        let of_pair = self.waiting.iter().filter(|entry| entry.waiter.pair == waiter.pair);
        if of_pair.count() >= MAX_OF_PAIR {
            return Pushed::Refused(Full::Pair, item);
        }
        let displaced = if self.waiting.len() < capacity {
            self.is_overloaded &= self.waiting.len() > capacity / 2;
            None
        } else {
            self.is_overloaded = true;
            let Some(at) = self.displaced_by(&waiter) else { return Pushed::Refused(Full::Queue, item) };
            Some(self.remove(at))
        };
        self.turn += 1;
        let (source, network) = waiter.from.unzip();
        for turns in [self.networks.entry(network).or_default(), self.sources.entry(source).or_default()] {
            if turns.waiting == 0 {
                turns.last = self.turn;
            }
            turns.waiting += 1;
        }
        self.waiting.push(Entry { waiter, since: self.turn, item });
        displaced.map_or(Pushed::Waits, Pushed::InPlaceOf)
    }

    /// Takes the next one out.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.turn += 1;
        // The fourth turn is first for those whom nobody knows.
        let first = !self.turn.is_multiple_of(4);
        let rank = |entry: &Entry<T>| {
            let Waiter { is_known, from, debt, .. } = entry.waiter;
            let (source, network) = from.unzip();
            let last = |turns: Option<&Turns>| turns.map_or(0, |turns| turns.last);
            let network = (debt.network, last(self.networks.get(&network)));
            let source = (debt.address, last(self.sources.get(&source)));
            // In time for the newest, where it is too late for the oldest in any case.
            let age = if self.is_overloaded && entry.waiter.is_fresh() {
                self.turn - entry.since
            } else {
                u64::MAX
            };
            (is_known != first, age, network, source, entry.since)
        };
        let (at, _) = self.waiting.iter().enumerate().min_by_key(|(_, entry)| rank(entry))?;
        let turn = self.turn;
        if let Some(entry) = self.waiting.get(at) {
            let (source, network) = entry.waiter.from.unzip();
            self.networks.entry(network).and_modify(|turns| turns.last = turn);
            self.sources.entry(source).and_modify(|turns| turns.last = turn);
        }
        Some(self.remove(at))
    }

    /// Takes out all that are not wanted any more.
    pub(super) fn drain(&mut self, is_over: impl Fn(&T) -> bool) -> Vec<T> {
        let mut over = Vec::new();
        let mut at = 0;
        while let Some(entry) = self.waiting.get(at) {
            if is_over(&entry.item) {
                over.push(self.remove(at));
            } else {
                at += 1;
            }
        }
        over
    }

    /// Those that wait.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|entry| &entry.item)
    }

    /// Who gives up its place to a newcomer: the last of the network that has the most, of those whom the accounts know or of
    /// the others, whichever have more than their share. None, if the newcomer has as much.
    fn displaced_by(&self, newcomer: &Waiter) -> Option<usize> {
        let known = self.waiting.iter().filter(|entry| entry.waiter.is_known).count();
        let others = self.waiting.len() - known;
        // As turns are given: three of four to those that are known.
        let (mine, share) = match newcomer.is_known {
            true => (known, self.waiting.len() * 3 / 4),
            false => (others, self.waiting.len() / 4),
        };
        let is_known = if mine < share { !newcomer.is_known } else { newcomer.is_known };
        let waiting = |waiter: &Waiter| {
            let (source, network) = waiter.from.unzip();
            let count = |turns: Option<&Turns>| turns.map_or(0, |turns| turns.waiting);
            (count(self.networks.get(&network)), count(self.sources.get(&source)))
        };
        let candidates =
            self.waiting.iter().enumerate().filter(|(_, entry)| entry.waiter.is_known == is_known);
        let age =
            |entry: &Entry<T>| if entry.waiter.is_fresh() { u64::MAX - entry.since } else { entry.since };
        let weight = |entry: &Entry<T>| (waiting(&entry.waiter), entry.waiter.debt, age(entry));
        let (at, most) = candidates.max_by_key(|(_, entry)| weight(entry))?;
        let (networks, sources) = waiting(newcomer);
        let ((most_networks, most_sources), most_debt, _) = weight(most);
        let mine = ((networks + 1, sources + 1), newcomer.debt);
        let most = ((most_networks, most_sources), most_debt);
        let has_less = if newcomer.is_fresh() { mine <= most } else { mine < most };
        (is_known != newcomer.is_known || has_less).then_some(at)
    }

    fn remove(&mut self, at: usize) -> T {
        let entry = self.waiting.swap_remove(at);
        let (source, network) = entry.waiter.from.unzip();
        leave(&mut self.networks, network);
        leave(&mut self.sources, source);
        entry.item
    }
}

fn leave<K: std::hash::Hash + Eq>(turns: &mut HashMap<K, Turns>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = turns.entry(key) {
        entry.get_mut().waiting = entry.get().waiting.saturating_sub(1);
        if entry.get().waiting == 0 {
            entry.remove();
        }
    }
}

/// Logins of one account from one address that may wait.
pub(super) const MAX_OF_PAIR: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::login::throttle::Recent;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    const SOME: Recent = Recent { wrong: 1, tried: 0 };
    const DEBT: Debt = Debt { network: SOME, address: SOME };

    fn waiter(address: [u8; 4], is_known: bool) -> Waiter {
        let ip = IpAddr::from(Ipv4Addr::from(address));
        let pair = u64::from(Ipv4Addr::from(address).to_bits());
        Waiter { is_known, from: Some((Source::of(ip), Block::of(ip))), pair, debt: Debt::default() }
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
        /// Whoever was let in and not displaced is served; no place that has one waiting waits for longer than all places take.
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
}
