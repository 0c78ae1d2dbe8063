//! What becomes of keys: from when on one signs, and until when one verifies.
//!
//! There are never many keys, so that lists are faster than maps.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use crate::auth::keys::{Fingerprint, Key, KeySet};
use crate::auth::time::UnixTime;

/// From when on a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Activation {
    /// Seconds.
    pub from: UnixTime,
    /// The sequence of the transaction that said so: of two for the same second the later one counts.
    pub sequence: u64,
}

/// What the store says of a key beyond its secret. It merges: reading it twice, late or out of order changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// When it was activated last; `None`: never.
    pub activation: Option<Activation>,
    /// It signs nothing more, and verifies no token whose `exp` is later. `None`: it goes on.
    pub ends_at: Option<UnixTime>,
}

impl KeyUse {
    /// Of a key that is revoked: no token ends as early.
    pub const REVOKED: Self = Self { activation: None, ends_at: Some(UnixTime(0)) };

    /// Does it verify nothing?
    pub fn is_revoked(&self) -> bool {
        self.ends_at == Self::REVOKED.ends_at
    }

    /// Takes in what was read elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.activation = self.activation.into_iter().chain(other.activation).max_by_key(|at| at.sequence);
        self.ends_at = self.ends_at.into_iter().chain(other.ends_at).min();
    }
}

/// The uses of all keys that have one.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyUses {
    /// Asked for each request, so that it holds nothing else.
    ends: Vec<(Fingerprint, UnixTime)>,
    activations: Vec<(Fingerprint, Activation)>,
}

impl KeyUses {
    pub(super) fn merge(&mut self, key: Fingerprint, given: KeyUse) {
        let mut merged = self.of(key);
        merged.merge(given);
        set(&mut self.ends, key, merged.ends_at);
        set(&mut self.activations, key, merged.activation);
    }

    pub(super) fn of(&self, key: Fingerprint) -> KeyUse {
        KeyUse { activation: find(&self.activations, key), ends_at: find(&self.ends, key) }
    }

    /// Is a token refused that this key has signed, and whose `exp` is that?
    pub(super) fn refuse(&self, key: Fingerprint, expires_at: UnixTime) -> bool {
        !self.ends.is_empty() && find(&self.ends, key).is_some_and(|end| expires_at > end)
    }

    /// How many are revoked.
    pub(super) fn revoked(&self) -> usize {
        self.ends.iter().filter(|(_, end)| *end == UnixTime(0)).count()
    }

    /// Those whose use the other does not have as it is here.
    pub(super) fn difference(&self, other: &Self) -> Vec<(Fingerprint, KeyUse)> {
        let ends = self.ends.iter().map(|(key, _)| *key);
        let keys: HashSet<Fingerprint> = ends.chain(self.activations.iter().map(|(key, _)| *key)).collect();
        let missing = keys.into_iter().filter(|key| {
            let mut merged = other.of(*key);
            merged.merge(self.of(*key));
            merged != other.of(*key)
        });
        missing.map(|key| (key, self.of(key))).collect()
    }

    /// The key of the set that signs at `now`.
    ///
    /// The one that was activated for the latest time that has come; where none was, the first of the set, and of the others those that are ours
    /// before foreign ones. A key that some running gateway does not have is passed over as long as there is another, for that gateway would
    /// refuse what it signs.
    pub(super) fn signer<'r>(
        &self,
        key_set: &'r KeySet,
        now: UnixTime,
        is_shared: impl Fn(Fingerprint) -> bool,
    ) -> Option<&'r Arc<Key>> {
        let rank = |(place, key): &(usize, &Arc<Key>)| {
            let activation =
                self.of(key.fingerprint()).activation.filter(|activation| activation.from <= now);
            (!is_shared(key.fingerprint()), Reverse(activation), *place > 0 && key.foreign())
        };
        let usable = key_set.shared().filter(|key| self.of(key.fingerprint()).ends_at.is_none());
        // Of equals the first of the set.
        usable.enumerate().min_by_key(rank).map(|(_, key)| key)
    }
}

fn find<T: Copy>(all: &[(Fingerprint, T)], key: Fingerprint) -> Option<T> {
    all.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
}

fn set<T>(all: &mut Vec<(Fingerprint, T)>, key: Fingerprint, value: Option<T>) {
    all.retain(|(other, _)| *other != key);
    all.extend(value.map(|value| (key, value)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::Algorithm;
    use crate::auth::secret::Secret;

    fn keys(foreign: &[&str]) -> KeySet {
        let key = |kid: &str| {
            let secret = Secret::new(format!("{kid}: a secret that is long enough for a key").into_bytes());
            Key::new(kid, Algorithm::Hs256, &secret, foreign.contains(&kid)).unwrap()
        };
        KeySet::new(["a", "b", "c"].into_iter().map(key).collect()).unwrap()
    }

    /// What is done to the keys `a`, `b` and `c`, each a letter and what it is.
    fn uses(set: &KeySet, given: &[(&str, KeyUse)]) -> KeyUses {
        let mut uses = KeyUses::default();
        for (kid, given) in given {
            uses.merge(set.by_kid(kid).unwrap().fingerprint(), *given);
        }
        uses
    }

    fn active(from: u64, sequence: u64) -> KeyUse {
        KeyUse { activation: Some(Activation { from: UnixTime(from), sequence }), ends_at: None }
    }

    fn ends(at: u64) -> KeyUse {
        KeyUse { activation: None, ends_at: Some(UnixTime(at)) }
    }

    /// Uses, foreign keys, keys that every gateway has, and the one that signs at 100.
    type Case<'c> = (&'c [(&'c str, KeyUse)], &'c [&'c str], &'c str, Option<&'c str>);

    #[test]
    fn the_key_that_was_activated_last_signs_if_every_gateway_has_it() {
        let cases: [Case<'_>; 14] = [
            (&[], &[], "abc", Some("a")),
            (&[], &[], "bc", Some("b")),
            (&[], &["b"], "bc", Some("c")),
            (&[], &["a"], "abc", Some("a")),
            (&[], &[], "", Some("a")),
            (&[("b", active(50, 1))], &[], "abc", Some("b")),
            (&[("b", active(50, 1))], &[], "ac", Some("a")),
            (&[("b", active(50, 1))], &[], "", Some("b")),
            (&[("b", active(101, 1))], &[], "abc", Some("a")),
            (&[("b", active(50, 2)), ("c", active(50, 1))], &[], "abc", Some("b")),
            (&[("b", active(60, 1)), ("c", active(50, 2))], &[], "abc", Some("b")),
            (&[("b", active(50, 1)), ("b", ends(900))], &[], "abc", Some("a")),
            (&[("a", KeyUse::REVOKED), ("b", ends(900))], &[], "ab", Some("c")),
            (&[("a", KeyUse::REVOKED), ("b", ends(900)), ("c", ends(9))], &[], "abc", None),
        ];
        for (given, foreign, everywhere, expected) in cases {
            let set = keys(foreign);
            let kid_of = |key| set.iter().find(|other| other.fingerprint() == key).unwrap().kid();
            let uses = uses(&set, given);
            let signer = uses.signer(&set, UnixTime(100), |key| everywhere.contains(kid_of(key)));
            assert_eq!(signer.map(|key| key.kid()), expected, "{given:?} {foreign:?} {everywhere:?}");
        }
    }

    #[test]
    fn what_is_read_twice_or_late_changes_nothing() {
        let set = keys(&[]);
        let given = [active(50, 1), active(40, 3), active(90, 2), ends(70), KeyUse::default()];
        let expected = KeyUse { ends_at: Some(UnixTime(70)), ..active(40, 3) };
        let key = set.signer().fingerprint();
        for first in 0..given.len() {
            let mut turned = given.map(|given| ("a", given));
            turned.rotate_left(first);
            assert_eq!(uses(&set, &turned).of(key), expected);
            turned.reverse();
            assert_eq!(uses(&set, &turned).of(key), expected);
        }
    }

    #[test]
    fn a_retired_key_verifies_what_ends_in_its_time_and_a_revoked_one_nothing() {
        let set = keys(&[]);
        let uses =
            uses(&set, &[("a", ends(70)), ("b", ends(70)), ("b", KeyUse::REVOKED), ("c", active(1, 1))]);
        let refused = |kid: &str, at| uses.refuse(set.by_kid(kid).unwrap().fingerprint(), UnixTime(at));
        assert_eq!(
            [refused("a", 70), refused("a", 71), refused("b", 1), refused("c", 999)],
            [false, true, true, false]
        );
        assert_eq!(uses.revoked(), 1);
    }

    #[test]
    fn the_difference_is_what_the_other_lacks() {
        let set = keys(&[]);
        let [a, b, c] = ["a", "b", "c"].map(|kid| set.by_kid(kid).unwrap().fingerprint());
        let here = uses(&set, &[("a", active(5, 1)), ("b", ends(7)), ("c", KeyUse::REVOKED)]);
        let mut difference = here.difference(&KeyUses::default());
        difference.sort_by_key(|(key, _)| [a, b, c].iter().position(|other| other == key));
        assert_eq!(difference, [(a, active(5, 1)), (b, ends(7)), (c, KeyUse::REVOKED)]);
        let there = uses(&set, &[("a", active(9, 2)), ("b", ends(3)), ("c", KeyUse::REVOKED)]);
        assert_eq!(here.difference(&there), []);
    }
}
