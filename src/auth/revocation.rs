//! Which tokens no longer count: marks, ordered by the store and not by a clock.
//!
//! A *mark* on a user, an organization or everybody refuses what was minted before it. It carries the
//! number of the transaction that set it and the second in which it was set, and both only grow: there is
//! no un-revoke.

use std::collections::HashSet;
use std::sync::Arc;

use super::denial::Denial;
use super::identity::Identity;
use super::keys::{Fingerprint, Key, KeyRing};
use super::names::{self, Names};
use super::time::{Lived, UnixTime};
use super::token::{Origin, TokenRules, UnknownUsers, Verified};
use super::token_set::{RevokedToken, TokenSet};

/// The line between the tokens that a revocation ends and those that came after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The number of the store transaction that set it; 0 where there is no mark.
    pub number: u64,
    /// The second in which it was set; a mint takes an `iat` no earlier.
    pub second: UnixTime,
    /// When it was set, in the time that the store has lived through: it is forgotten so long after.
    pub lived: Lived,
    /// Nothing passes, whatever its number: a user that is disabled or removed.
    pub closed: bool,
    /// Somebody revoked something; a new user has a mark as well, which ends what another of that name left.
    pub revocation: bool,
}

impl Mark {
    /// Does this mark refuse the token?
    fn covers(&self, token: &Verified, rules: &TokenRules) -> bool {
        if self.number == 0 {
            return false;
        }
        let before = match token.origin {
            Origin::Ours { number } => number < self.number || token.issued_at < self.second,
            // The platform's clock and ours may disagree by the skew, so the doubt counts against it.
            Origin::Foreign => token.issued_at.minus(rules.max_skew) <= self.second,
        };
        self.closed || before
    }

    /// What holds when both marks were set, in whatever order they were read.
    fn unite(&mut self, other: Self) {
        if other.number >= self.number {
            self.number = other.number;
            (self.closed, self.revocation) = (other.closed, other.revocation);
        }
        self.second = self.second.max(other.second);
        self.lived = self.lived.max(other.lived);
    }
}

/// What a mark is set on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// All tokens, whoever holds them.
    Everybody,
    /// All tokens of the user of that name.
    User(Box<str>),
    /// All tokens with that claim `database`.
    Organization(Box<str>),
}

/// Marks, revoked tokens and keys, and users, as last read from the store: all that the gate knows beyond the
/// token itself. Cheap to copy, whatever its size.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    everybody: Mark,
    users: Names<Mark>,
    organizations: Names<Mark>,
    tokens: TokenSet,
    keys: HashSet<Fingerprint>,
    known: Names<Account>,
    /// How many of them are enabled.
    enabled: usize,
    /// How many of the marks on users are revocations.
    revoked: usize,
    number: u64,
    expired_below: u64,
    forgettable: Lived,
}

/// What the store says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// May have tokens.
    Enabled,
    /// May not, until it is enabled.
    Disabled,
}

/// How much a standing holds, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Tokens revoked one by one.
    pub tokens: usize,
    /// Marks on users that are revocations.
    pub users: usize,
    /// Marks on organizations.
    pub organizations: usize,
    /// Keys revoked.
    pub keys: usize,
}

impl Standing {
    /// Takes a mark in. Marks unite: reading one twice, late or out of order changes nothing.
    pub fn raise(&mut self, subject: Subject, mark: Mark) {
        match subject {
            Subject::Everybody => self.everybody.unite(mark),
            Subject::Organization(name) => _ = self.organizations.entry(name).map(|have| have.unite(mark)),
            Subject::User(name) => {
                if mark.closed && self.known.remove(&name) == Some(Account::Enabled) {
                    self.enabled -= 1;
                }
                if let Some(have) = self.users.entry(name) {
                    self.revoked -= usize::from(have.revocation);
                    have.unite(mark);
                    self.revoked += usize::from(have.revocation);
                }
            }
        }
    }

    /// Would [`raise`](Self::raise) change nothing?
    pub fn includes(&self, subject: &Subject, mark: Mark) -> bool {
        let have = match subject {
            Subject::Everybody => Some(&self.everybody),
            Subject::User(name) => self.users.get(name),
            Subject::Organization(name) => self.organizations.get(name),
        };
        have.is_some_and(|have| {
            let mut united = *have;
            united.unite(mark);
            united == *have
        })
    }

    /// Takes in tokens that were revoked one by one.
    pub fn revoke_tokens(&mut self, tokens: impl IntoIterator<Item = RevokedToken>) {
        self.tokens.extend(tokens);
    }

    /// Takes in a key that was revoked: it verifies nothing ever again.
    pub fn revoke_key(&mut self, key: Fingerprint) {
        self.keys.insert(key);
    }

    /// Is that key revoked?
    pub fn is_key_revoked(&self, key: Fingerprint) -> bool {
        self.keys.contains(&key)
    }

    /// The key of the ring that signs: the first that is not revoked.
    pub fn signer<'r>(&self, ring: &'r KeyRing) -> Option<&'r Arc<Key>> {
        ring.shared().find(|key| !self.is_key_revoked(key.fingerprint()))
    }

    /// Takes in that the store has a user of that name, after the marks of the same reading.
    pub fn know(&mut self, user: Box<str>, account: Account) {
        let is_enabled = |account| usize::from(account == Some(Account::Enabled));
        self.enabled += is_enabled(Some(account));
        self.enabled -= is_enabled(self.known.insert(user, account));
    }

    /// Takes in that all up to transaction `number` has been read.
    pub fn reached(&mut self, number: u64) {
        self.number = self.number.max(number);
    }

    /// Forgets a slice, `0..`[`SLICES`](Self::SLICES), of what no token can ask about any more, but for everybody's cutoff and
    /// those of disabled users. What is returned is to be dropped away from the readers.
    pub fn forget(&mut self, slice: usize) -> TokenSet {
        let before = self.forgettable;
        let old = |mark: &Mark| mark.lived < before;
        let known = &self.known;
        let disabled = |name: &str| known.get(name) == Some(&Account::Disabled);
        let revoked = &mut self.revoked;
        self.users.retain(
            slice,
            |name, mark| !old(mark) || (mark.closed && disabled(name)),
            |mark| *revoked -= usize::from(mark.revocation),
        );
        self.organizations.retain(slice, |_, mark| !old(mark), |_| ());
        if slice == 0 { self.tokens.expire(before) } else { TokenSet::default() }
    }

    /// Into how many slices forgetting is divided, so that nobody waits for all of it.
    pub const SLICES: usize = names::SHARDS;

    /// Takes in that tokens of ours below that number have expired, whatever their `exp` says, and that what was revoked before
    /// that lived time was about such tokens only.
    pub fn expire_below(&mut self, number: u64, forgettable: Lived) {
        self.expired_below = self.expired_below.max(number);
        self.forgettable = self.forgettable.max(forgettable);
    }

    /// Has a token of ours expired by its place in the store's order? By then it has for certain, and a clock that was ahead
    /// when it was minted changes nothing.
    pub fn has_expired(&self, token: &Verified) -> bool {
        matches!(token.origin, Origin::Ours { number } if number < self.expired_below)
    }

    /// The latest time of a cutoff that concerns a token: one that was minted after it says so in its `iat`.
    pub fn cutoff_time(&self, token: &Verified) -> UnixTime {
        let Identity { user, organization, .. } = &token.identity;
        let marks = [
            Some(&self.everybody),
            self.users.get(user.as_str()),
            self.organizations.get(organization.as_str()),
        ];
        marks.into_iter().flatten().map(|mark| mark.second).fold(UnixTime(0), UnixTime::max)
    }

    /// The last transaction that this standing includes.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// How many users are enabled.
    pub const fn users(&self) -> usize {
        self.enabled
    }

    /// How much it holds.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            tokens: self.tokens.len(),
            users: self.revoked,
            organizations: self.organizations.len(),
            keys: self.keys.len(),
        }
    }

    /// May a token with a valid signature pass?
    pub fn check(&self, token: &Verified, rules: &TokenRules) -> Result<(), Denial> {
        let Identity { user, organization, .. } = &token.identity;
        if self.has_expired(token) {
            return Err(Denial::TokenExpired);
        }
        let covered = |mark: Option<&Mark>| mark.is_some_and(|mark| mark.covers(token, rules));
        if !self.keys.is_empty() && self.keys.contains(&token.key) {
            return Err(Denial::RevokedKey);
        }
        if covered(Some(&self.everybody)) {
            return Err(Denial::RevokedEverybody);
        }
        if covered(self.organizations.get(organization.as_str())) {
            return Err(Denial::RevokedOrganization);
        }
        if covered(self.users.get(user.as_str())) {
            return Err(Denial::RevokedUser);
        }
        if self.tokens.contains(token.id, token.expires_at) {
            return Err(Denial::RevokedToken);
        }
        if token.origin == Origin::Foreign
            && rules.unknown_users == UnknownUsers::Refuse
            && self.known.get(user.as_str()) != Some(&Account::Enabled)
        {
            return Err(Denial::UserUnknown);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::name::Name;
    use crate::auth::token::TokenId;
    use crate::auth::token_set::Keep;
    use proptest::prelude::*;

    const RULES: TokenRules = TokenRules::DEFAULT;

    fn token(user: &str, origin: Origin, iat: u64) -> Verified {
        let identity = Identity {
            user: Name::parse_user(user).unwrap(),
            email: "a@b".into(),
            organization: Name::parse("org").unwrap(),
        };
        Verified {
            id: TokenId([0; 16]),
            fields: identity.fields().unwrap(),
            identity,
            origin,
            issued_at: UnixTime(iat),
            expires_at: UnixTime(iat + 86_400),
            not_before: None,
            key: Fingerprint([0; 32]),
            generation: 0,
        }
    }

    fn mark(number: u64, second: u64, closed: bool) -> Mark {
        Mark { number, second: UnixTime(second), lived: Lived(second), closed, revocation: true }
    }

    #[test]
    fn a_mark_ends_what_came_before_and_spares_what_came_after() {
        for (subject, denial) in [
            (Subject::Everybody, Denial::RevokedEverybody),
            (Subject::User("anna".into()), Denial::RevokedUser),
            (Subject::Organization("org".into()), Denial::RevokedOrganization),
        ] {
            let mut standing = Standing::default();
            standing.know("anna".into(), Account::Enabled);
            standing.raise(subject.clone(), mark(10, 1000, false));
            for (origin, iat, expected) in [
                (Origin::Ours { number: 9 }, 1000, Err(denial)),
                (Origin::Ours { number: 9 }, 2000, Err(denial)),
                (Origin::Ours { number: 11 }, 999, Err(denial)),
                (Origin::Ours { number: 11 }, 1000, Ok(())),
                (Origin::Foreign, 1005, Err(denial)),
                (Origin::Foreign, 1006, Ok(())),
            ] {
                let verdict = standing.check(&token("anna", origin, iat), &RULES);
                assert_eq!(verdict, expected, "{subject:?} {origin:?} {iat}");
            }
        }
    }

    #[test]
    fn a_mark_on_another_changes_nothing() {
        let mut standing = Standing::default();
        standing.raise(Subject::User("bert".into()), mark(10, 1000, true));
        standing.raise(Subject::Organization("other".into()), mark(10, 1000, true));
        let ours = token("anna", Origin::Ours { number: 1 }, 1);
        assert_eq!(standing.check(&ours, &RULES), Ok(()));
    }

    #[test]
    fn a_closed_mark_refuses_until_one_that_is_not_closed_follows() {
        let mut standing = Standing::default();
        standing.raise(Subject::User("anna".into()), mark(10, 1000, true));
        let later = token("anna", Origin::Ours { number: 99 }, 9999);
        assert_eq!(standing.check(&later, &RULES), Err(Denial::RevokedUser));
        standing.raise(Subject::User("anna".into()), mark(20, 1500, false));
        assert_eq!(standing.check(&later, &RULES), Ok(()));
        let earlier = token("anna", Origin::Ours { number: 15 }, 1500);
        assert_eq!(standing.check(&earlier, &RULES), Err(Denial::RevokedUser));
    }

    #[test]
    fn a_foreign_token_needs_a_known_user_unless_the_rules_say_otherwise() {
        let foreign = token("anna", Origin::Foreign, 1000);
        let accept = TokenRules { unknown_users: UnknownUsers::Accept, ..RULES };
        let mut standing = Standing::default();
        assert_eq!(standing.check(&foreign, &RULES), Err(Denial::UserUnknown));
        assert_eq!(standing.check(&foreign, &accept), Ok(()));
        standing.know("anna".into(), Account::Enabled);
        assert_eq!(standing.check(&foreign, &RULES), Ok(()));
        standing.raise(Subject::User("anna".into()), mark(3, 10, true));
        assert_eq!(standing.check(&foreign, &accept), Err(Denial::RevokedUser));
    }

    #[test]
    fn a_revoked_token_or_key_passes_no_more_and_its_neighbours_do() {
        let one = token("anna", Origin::Ours { number: 5 }, 1000);
        let other = Verified { id: TokenId([1; 16]), key: Fingerprint([1; 32]), ..one.clone() };
        let mut standing = Standing::default();
        let revoked = RevokedToken { id: one.id, keep: Keep::Expires(one.expires_at), lived: Lived(0) };
        standing.revoke_tokens([revoked]);
        assert_eq!(standing.check(&one, &RULES), Err(Denial::RevokedToken));
        assert_eq!(standing.check(&other, &RULES), Ok(()));
        standing.revoke_key(other.key);
        assert_eq!(standing.check(&other, &RULES), Err(Denial::RevokedKey));
        assert_eq!(standing.sizes(), Sizes { tokens: 1, users: 0, organizations: 0, keys: 1 });
    }

    #[test]
    fn what_no_token_can_ask_about_is_forgotten_and_the_rest_is_not() {
        const BEFORE: Lived = Lived(1_000_001);
        let mut standing = Standing::default();
        let old = BEFORE.0 - 1;
        standing.raise(Subject::User("removed long ago".into()), mark(1, old, true));
        standing.raise(Subject::User("removed lately".into()), mark(2, old + 1, true));
        standing.raise(Subject::User("changed long ago".into()), mark(3, old, false));
        standing.raise(Subject::Organization("long ago".into()), mark(4, old, false));
        standing.raise(Subject::Everybody, mark(5, old, false));
        standing.raise(Subject::User("disabled long ago".into()), mark(6, old, true));
        standing.know("disabled long ago".into(), Account::Disabled);
        // By the time of the act, and not by that of the expiry.
        let keep = Keep::Expires(UnixTime(77));
        standing.revoke_tokens([RevokedToken { id: TokenId([0; 16]), keep, lived: Lived(old) }]);
        let keep = Keep::Expires(UnixTime(7_777));
        standing.revoke_tokens([RevokedToken { id: TokenId([1; 16]), keep, lived: Lived(old + 1) }]);
        standing.expire_below(5, BEFORE);
        let gone: usize = (0..Standing::SLICES).map(|slice| standing.forget(slice).len()).sum();
        assert_eq!(gone, 1);
        assert_eq!(standing.sizes(), Sizes { tokens: 1, users: 2, organizations: 0, keys: 0 });
    }

    #[test]
    fn mark_of_a_new_user_is_no_revocation() {
        let new = |number| Mark { revocation: false, ..mark(number, 1000, false) };
        let mut standing = Standing::default();
        for (name, mark, expected) in [
            ("anna", new(1), 0),
            ("bert", new(2), 0),
            ("anna", mark(3, 1000, false), 1),
            ("anna", new(1), 1),
            ("anna", mark(4, 1000, true), 1),
            ("bert", mark(5, 1000, false), 2),
            // The rows about the one before her were deleted.
            ("anna", new(6), 1),
        ] {
            standing.raise(Subject::User(name.into()), mark);
            assert_eq!(standing.sizes().users, expected, "{name} {mark:?}");
        }
        standing.expire_below(9, Lived(2000));
        (0..Standing::SLICES).for_each(|slice| drop(standing.forget(slice)));
        assert_eq!(standing.sizes().users, 0);
    }

    #[test]
    fn a_token_below_the_expired_sequence_is_expired_whatever_its_exp_says() {
        let mut standing = Standing::default();
        standing.expire_below(10, Lived(0));
        standing.expire_below(5, Lived(0));
        for (origin, expected) in
            [(Origin::Ours { number: 9 }, Err(Denial::TokenExpired)), (Origin::Ours { number: 10 }, Ok(()))]
        {
            assert_eq!(standing.check(&token("anna", origin, u64::MAX / 2), &RULES), expected);
        }
    }

    #[test]
    fn users_counts_those_that_are_enabled_whatever_they_were() {
        let mut standing = Standing::default();
        let user = |number: u64| format!("user {number}").into_boxed_str();
        for (number, change, expected) in [
            (1, Some(Account::Enabled), 1),
            (1, Some(Account::Enabled), 1),
            (2, Some(Account::Disabled), 1),
            (2, Some(Account::Enabled), 2),
            (1, Some(Account::Disabled), 1),
            (1, None, 1),
            (2, None, 0),
            (2, None, 0),
            (2, Some(Account::Enabled), 1),
        ] {
            match change {
                Some(account) => standing.know(user(number), account),
                None => standing.raise(Subject::User(user(number)), mark(number, 0, true)),
            }
            assert_eq!(standing.users(), expected, "{number} {change:?}");
        }
    }

    proptest! {
        /// Whatever the order and the repetition in which marks are read, the last number decides.
        #[test]
        fn marks_unite_in_any_order(
            marks in prop::collection::vec((1u64..50, 0u64..2000, any::<bool>()), 1..12),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
            number in 1u64..60,
            iat in 0u64..2500,
        ) {
            // One transaction sets one mark: equal numbers are the same mark.
            let marks: std::collections::BTreeMap<u64, Mark> =
                marks.into_iter().map(|(n, s, c)| (n, mark(n, s, c))).collect();
            let marks: Vec<Mark> = marks.into_values().collect();
            let user = || Subject::User("anna".into());
            let mut straight = Standing::default();
            marks.iter().for_each(|&mark| straight.raise(user(), mark));
            let mut shuffled = Standing::default();
            order.iter().for_each(|at| shuffled.raise(user(), marks[at.index(marks.len())]));
            marks.iter().rev().for_each(|&mark| shuffled.raise(user(), mark));
            let ours = token("anna", Origin::Ours { number }, iat);
            let verdict = straight.check(&ours, &RULES);
            prop_assert_eq!(verdict, shuffled.check(&ours, &RULES));

            // The naive model: closed last, or any mark that came later.
            let refused = marks.last().is_some_and(|last| last.closed)
                || marks.iter().any(|mark| number < mark.number || UnixTime(iat) < mark.second);
            prop_assert_eq!(verdict.is_err(), refused);
        }
    }
}
