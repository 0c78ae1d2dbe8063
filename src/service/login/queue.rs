//! Logins that wait for a thread, in a fair order: nobody waits behind a flood that somebody else sends.
//!
//! Turns go round networks, and within each round its addresses; those that had the fewest wrong passwords checked of late come
//! first. Accounts at places that they know get three turns of four where others wait too. Where the queue is full, a newcomer takes
//! the place of one of the network that has the most. Where all are new, the newest goes first: the oldest has waited for too long.

use std::collections::HashMap;

use super::throttle::Debt;
use crate::auth::source::{Network, Source};

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// Whether the account has logged in from there before.
    pub(super) is_known: bool,
    /// Where it comes from.
    pub(super) from: Option<(Source, Network)>,
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
    networks: HashMap<Option<Network>, Turns>,
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
mod tests;
