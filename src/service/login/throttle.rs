//! How many wrong passwords are checked: so many an account from places that it never logged in from, so many from each place that
//! it did, and more loosely by address and network. Decided before a password is hashed, and only those that are hashed count.
//!
//! Names that nobody bears are counted as any other. The reasons, and what is given up: `docs/decisions/0021-logins.md`.

use super::sketch::{Limit, Place, Sketch, Ticks};
use crate::auth::source::{Network, Source};

/// Wrong passwords for one account from all places that it never logged in from: 100 in any hour, 60 of them at once.
pub(super) const ACCOUNT: Limit = Limit::new(60, 90);
/// For one account from one place that it has logged in from.
pub(super) const SOURCE: Limit = Limit::new(20, 180);
/// From one address, for accounts that never logged in from there.
pub(super) const ADDRESS: Limit = Limit::new(120, 10);
/// From one network.
pub(super) const NETWORK: Limit = Limit::new(600, 2);

/// How long a wrong password counts against its address and its network in the order of the queue: longer than ten thousand
/// addresses take for a round.
const WRONG: Limit = Limit::new(u32::MAX, 1200);
/// How long a login counts so, whatever came of it: where all are new, those that come again and again wait behind those that do not.
const TRIED: Limit = Limit::new(u32::MAX, 30);

/// What it is that has too many wrong passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The account, from places that it never logged in from.
    Account,
    /// The account, from this place.
    Source,
    /// The address.
    Address,
    /// Its network.
    Network,
}

/// Too many wrong passwords: how long until one more is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// Of what.
    pub reason: Reason,
    /// At least 1.
    pub seconds: u32,
}

/// Who tries to log in, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// As sent; there may be no such user.
    pub(super) name: &'a str,
    /// How often an operator has unlocked this name: with each, all its counts begin again.
    pub(super) unlocks: u64,
    /// `None`: the client has no address, and so no place of its own.
    pub(super) source: Option<(Source, Network)>,
    /// The account has logged in from there, or the place is trusted by the configuration.
    pub(super) is_known: bool,
}

/// The counts that an attempt has a part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    limited: Vec<(Reason, Limit, Place)>,
    /// Of the network and the address, where the account does not know them: for the order of the queue.
    recent: Option<[Places; 2]>,
}

/// Where wrong passwords and all logins of a network or an address are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Places {
    wrong: Place,
    tried: Place,
}

/// What came of late from where an attempt comes from: less goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Debt {
    /// From its network.
    pub(super) network: Recent,
    /// From its address.
    pub(super) address: Recent,
}

/// Of a network or an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Recent {
    /// Wrong passwords.
    pub(super) wrong: u32,
    /// Logins.
    pub(super) tried: u32,
}

/// The counts of all.
pub(super) struct Throttle {
    sketch: Sketch,
}

impl Throttle {
    /// Goes on from what was counted.
    pub(super) const fn new(sketch: Sketch) -> Self {
        Self { sketch }
    }

    /// What was counted.
    pub(super) const fn sketch(&self) -> &Sketch {
        &self.sketch
    }

    /// Where an attempt is counted.
    pub(super) fn counts(&self, attempt: &Attempt<'_>) -> Counts {
        let (name, unlocks) = (attempt.name.as_bytes(), attempt.unlocks.to_le_bytes());
        let (mut limited, mut recent) = (Vec::with_capacity(3), None);
        let mut count =
            |reason, limit, parts: &[&[u8]]| limited.push((reason, limit, self.sketch.place(parts)));
        match attempt.source {
            Some((source, _)) if attempt.is_known => {
                count(Reason::Source, SOURCE, &[b"source", name, &unlocks, source.to_string().as_bytes()]);
            }
            from => {
                count(Reason::Account, ACCOUNT, &[b"account", name, &unlocks]);
                if let Some((source, network)) = from {
                    let (source, network) = (source.to_string(), network.to_string());
                    count(Reason::Address, ADDRESS, &[b"address", source.as_bytes()]);
                    count(Reason::Network, NETWORK, &[b"network", network.as_bytes()]);
                    recent = Some([network, source].map(|key| Places {
                        wrong: self.sketch.place(&[b"wrong", key.as_bytes()]),
                        tried: self.sketch.place(&[b"tried", key.as_bytes()]),
                    }));
                }
            }
        }
        Counts { limited, recent }
    }

    /// May one more password be checked?
    pub(super) fn check(&self, counts: &Counts, now: Ticks) -> Result<(), Throttled> {
        let waits = counts
            .limited
            .iter()
            .map(|(reason, limit, place)| (self.sketch.wait(*place, *limit, now), *reason));
        match waits.max_by_key(|(wait, _)| *wait) {
            Some((wait, reason)) if wait > 0 => {
                // Where several passwords of one attempt were counted, it may take longer.
                let seconds = wait.div_ceil(Ticks::PER_SECOND).min(MAX_RETRY_AFTER);
                Err(Throttled { reason, seconds })
            }
            _ => Ok(()),
        }
    }

    /// Counts passwords that are about to be checked, if they may be. By one thread at a time.
    pub(super) fn take(&self, counts: &Counts, passwords: u32, now: Ticks) -> Result<(), Throttled> {
        self.check(counts, now)?;
        for (_, limit, place) in &counts.limited {
            self.sketch.add(*place, *limit, passwords, now);
        }
        for places in counts.recent.iter().flatten() {
            self.sketch.add(places.wrong, WRONG, passwords, now);
        }
        Ok(())
    }

    /// Nobody knows whether they were right: they do not count, and nothing else changes.
    pub(super) fn uncount(&self, counts: &Counts, passwords: u32) {
        for (_, limit, place) in &counts.limited {
            self.sketch.take_back(*place, *limit, passwords);
        }
        for places in counts.recent.iter().flatten() {
            self.sketch.take_back(places.wrong, WRONG, passwords);
        }
    }

    /// One of them was right: they do not count, and neither do those that came before from a place that the account knows.
    pub(super) fn give_back(&self, counts: &Counts, passwords: u32) {
        for (reason, limit, place) in &counts.limited {
            match reason {
                Reason::Source => self.sketch.clear(*place),
                _ => self.sketch.take_back(*place, *limit, passwords),
            }
        }
        for places in counts.recent.iter().flatten() {
            self.sketch.take_back(places.wrong, WRONG, passwords);
        }
    }

    /// Counts an attempt, and says what came before it from its place.
    pub(super) fn debt(&self, counts: &Counts, now: Ticks) -> Debt {
        let recent = |places: Places| {
            let count = |place, limit| self.sketch.count(place, limit, now);
            let recent = Recent { wrong: count(places.wrong, WRONG), tried: count(places.tried, TRIED) };
            // Some may be lost where several threads add; it is only for the order.
            self.sketch.add(places.tried, TRIED, 1, now);
            recent
        };
        if let Some(places) = counts.recent {
            let [network, address] = places.map(recent);
            return Debt { network, address };
        }
        let known = counts.limited.iter().map(|(_, limit, place)| self.sketch.count(*place, *limit, now));
        Debt { network: Recent::default(), address: Recent { wrong: known.sum(), tried: 0 } }
    }
}

/// The longest time that a client is told to wait, in seconds: until the next attempt from a place that the account knows.
pub const MAX_RETRY_AFTER: u32 = SOURCE.every / Ticks::PER_SECOND;

#[cfg(test)]
mod tests;
