//! Which tokens no longer count: cutoffs, ordered by the store and not by a clock.
//!
//! A *cutoff* on a user, an organization or everybody refuses what was minted before it. It carries the
//! number of the transaction that set it and the second in which it was set, and both only grow: there is
//! no un-revoke.

pub mod difference;
mod key_uses;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::denial::Denial;
use super::identity::Identity;
use super::keys::{Fingerprint, Key, KeySet};
use super::names::{self, Names};
use super::time::{Lived, UnixTime};
use super::token::{Origin, TokenRules, UnknownUsers, Verified};
use super::token_set::{RevokedToken, TokenSet};

use self::key_uses::KeyUses;
pub use self::key_uses::{Activation, KeyUse};

/// The line between the tokens that a revocation ends and those that came after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cutoff {
    /// The number of the store transaction that set it; 0 where there is no cutoff.
    pub sequence: u64,
    /// The second in which it was set; a mint takes an `iat` no earlier.
    pub time: UnixTime,
    /// When it was set, in the time that the store has lived through: it is forgotten so long after.
    pub lived: Lived,
    /// Nothing passes, whatever its number: a user that is disabled or removed.
    pub blocked: bool,
    /// Somebody revoked something; a new user has a cutoff as well, which ends what another of that name left.
    pub revocation: bool,
}

impl Cutoff {
    /// Does this cutoff refuse the token?
    fn covers(&self, token: &Verified, rules: &TokenRules) -> bool {
        if self.sequence == 0 {
            return false;
        }
        let before = match token.origin {
            Origin::Ours { sequence: number } => number < self.sequence || token.issued_at < self.time,
            // The platform's clock and ours may disagree by the skew, so the doubt counts against it.
            Origin::Foreign => token.issued_at.minus(rules.max_skew) <= self.time,
        };
        self.blocked || before
    }

    /// Does a cutoff that was set from the sequence `number` on, behind all that was lost, refuse all that this one does?
    pub const fn is_covered(&self, there: Self, number: u64) -> bool {
        there.sequence >= number && (there.blocked || !self.blocked) && there.time.0 >= self.time.0
    }

    /// What holds when both cutoffs were set, in whatever order they were read.
    fn merge(&mut self, other: Self) {
        if other.sequence >= self.sequence {
            self.sequence = other.sequence;
            (self.blocked, self.revocation) = (other.blocked, other.revocation);
        }
        self.time = self.time.max(other.time);
        self.lived = self.lived.max(other.lived);
    }
}

/// Was one of these cutoffs set after that sequence?
pub fn is_revoked_since(cutoffs: &[(Subject, Cutoff)], sequence: u64) -> bool {
    cutoffs.iter().any(|(_, cutoff)| cutoff.sequence > sequence)
}

/// What a cutoff is set on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// All tokens, whoever holds them.
    Everybody,
    /// All tokens of the user of that name.
    User(Box<str>),
    /// All tokens with that claim `database`.
    Organization(Box<str>),
    /// All tokens with that e-mail address, [folded](super::name::fold_email), whoever the user is.
    Email(Box<str>),
}

/// Cutoffs, revoked tokens and keys, and users, as last read from the store: all that the gate knows beyond the
/// token itself. Cheap to copy, whatever its size.
#[derive(Clone, Debug, Default)]
pub struct RevocationSnapshot {
    everybody: Cutoff,
    users: Names<Cutoff>,
    organizations: Names<Cutoff>,
    /// By folded address.
    emails: Names<Cutoff>,
    /// How many they are.
    email_count: usize,
    tokens: TokenSet,
    keys: KeyUses,
    /// Keys that every running gateway has, where they have said which they have.
    shared_keys: Option<Arc<HashSet<Fingerprint>>>,
    /// Subjects all of whose tokens are refused for now, and how often each is held.
    held: HashMap<Subject, usize>,
    known: Names<Account>,
    /// How many of them are enabled.
    enabled: usize,
    /// How many of the cutoffs on users are revocations.
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

/// How much a snapshot holds, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Tokens revoked one by one.
    pub tokens: usize,
    /// Cutoffs on users that are revocations.
    pub users: usize,
    /// Cutoffs on organizations.
    pub organizations: usize,
    /// Cutoffs on e-mail addresses.
    pub emails: usize,
    /// Keys revoked.
    pub keys: usize,
}

impl RevocationSnapshot {
    /// Takes a cutoff in. Cutoffs merge: reading one twice, late or out of order changes nothing.
    pub fn apply_cutoff(&mut self, subject: Subject, cutoff: Cutoff) {
        match subject {
            Subject::Everybody => self.everybody.merge(cutoff),
            Subject::Organization(name) => _ = self.organizations.entry(name).map(|have| have.merge(cutoff)),
            Subject::Email(email) => {
                self.email_count += usize::from(self.emails.get(&email).is_none());
                _ = self.emails.entry(email).map(|have| have.merge(cutoff));
            }
            Subject::User(name) => {
                if cutoff.blocked && self.known.remove(&name) == Some(Account::Enabled) {
                    self.enabled -= 1;
                }
                if let Some(have) = self.users.entry(name) {
                    self.revoked -= usize::from(have.revocation);
                    have.merge(cutoff);
                    self.revoked += usize::from(have.revocation);
                }
            }
        }
    }

    /// Refuses every token of the subject until [`release`](Self::release) is called as often: a cutoff is wanted, and the store has not
    /// taken it yet. It mints nothing meanwhile either.
    pub fn hold(&mut self, subject: Subject) {
        *self.held.entry(subject).or_default() += 1;
    }

    /// A cutoff has taken the place of a [`hold`](Self::hold).
    pub fn release(&mut self, subject: &Subject) {
        if let Some(count) = self.held.get_mut(subject) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(subject);
            }
        }
    }

    /// Why a token is refused whose subject is held.
    fn check_held(&self, token: &Verified) -> Result<(), Denial> {
        let Identity { user, organization, .. } = &token.identity;
        for subject in self.held.keys() {
            match subject {
                Subject::Everybody => return Err(Denial::RevokedEverybody),
                Subject::Organization(name) if **name == *organization.as_str() => {
                    return Err(Denial::RevokedOrganization);
                }
                Subject::User(name) if **name == *user.as_str() => return Err(Denial::RevokedUser),
                Subject::Email(email) if **email == *token.email_key() => return Err(Denial::RevokedEmail),
                _ => {}
            }
        }
        Ok(())
    }

    /// Would [`apply_cutoff`](Self::apply_cutoff) change nothing?
    pub fn includes(&self, subject: &Subject, cutoff: Cutoff) -> bool {
        let have = match subject {
            Subject::Everybody => Some(&self.everybody),
            Subject::User(name) => self.users.get(name),
            Subject::Organization(name) => self.organizations.get(name),
            Subject::Email(email) => self.emails.get(email),
        };
        have.is_some_and(|have| {
            let mut merged = *have;
            merged.merge(cutoff);
            merged == *have
        })
    }

    /// Takes in tokens that were revoked one by one.
    pub fn revoke_tokens(&mut self, tokens: impl IntoIterator<Item = RevokedToken>) {
        self.tokens.extend(tokens);
    }

    /// Takes in a key that was revoked: it verifies nothing ever again.
    pub fn revoke_key(&mut self, key: Fingerprint) {
        self.apply_key_use(key, KeyUse::REVOKED);
    }

    /// Takes in when a key was activated, and when it ends.
    pub fn apply_key_use(&mut self, key: Fingerprint, given: KeyUse) {
        self.keys.merge(key, given);
    }

    /// When that key was activated, and when it ends.
    pub fn key_use(&self, key: Fingerprint) -> KeyUse {
        self.keys.of(key)
    }

    /// Is that key revoked?
    pub fn is_key_revoked(&self, key: Fingerprint) -> bool {
        self.key_use(key).is_revoked()
    }

    /// Takes in which keys every running gateway has; `None` where no other has said which it has.
    pub fn set_shared_keys(&mut self, keys: Option<HashSet<Fingerprint>>) {
        self.shared_keys = keys.map(Arc::new);
    }

    /// Keys that every running gateway has, where they have said which they have.
    pub fn shared_keys(&self) -> Option<&HashSet<Fingerprint>> {
        self.shared_keys.as_deref()
    }

    /// Has every running gateway that key, as far as is known?
    pub fn is_shared(&self, key: Fingerprint) -> bool {
        self.shared_keys.as_ref().is_none_or(|keys| keys.contains(&key))
    }

    /// The key of the key set that signs at `now`: the one that was activated last, else the first, if every gateway has it, so that no other
    /// refuses what it signs; `None` if each is revoked or retired.
    pub fn signer<'r>(&self, key_set: &'r KeySet, now: UnixTime) -> Option<&'r Arc<Key>> {
        self.keys.signer(key_set, now, |key| self.is_shared(key))
    }

    /// The key that would sign at `now` if every gateway had all keys.
    pub fn next_signer<'r>(&self, key_set: &'r KeySet, now: UnixTime) -> Option<&'r Arc<Key>> {
        self.keys.signer(key_set, now, |_| true)
    }

    /// Is there a key of the set that may sign, neither revoked nor retired?
    pub fn can_sign(&self, key_set: &KeySet) -> bool {
        key_set.iter().any(|key| self.may_sign(key.fingerprint()))
    }

    /// Is that key neither revoked nor retired?
    pub fn may_sign(&self, key: Fingerprint) -> bool {
        self.key_use(key).ends_at.is_none()
    }

    /// Takes in that the store has a user of that name, after the cutoffs of the same reading.
    pub fn set_account(&mut self, user: Box<str>, account: Account) {
        let is_enabled = |account| usize::from(account == Some(Account::Enabled));
        self.enabled += is_enabled(Some(account));
        self.enabled -= is_enabled(self.known.insert(user, account));
    }

    /// Takes in that all up to transaction `number` has been read.
    pub fn advance(&mut self, number: u64) {
        self.number = self.number.max(number);
    }

    /// Forgets a slice, `0..`[`SLICES`](Self::SLICES), of what no token can ask about any more, but for everybody's cutoff and
    /// those of disabled users. What is returned is to be dropped away from the readers.
    pub fn expire(&mut self, slice: usize) -> TokenSet {
        let before = self.forgettable;
        let old = |cutoff: &Cutoff| cutoff.lived < before;
        let known = &self.known;
        let disabled = |name: &str| known.get(name) == Some(&Account::Disabled);
        let revoked = &mut self.revoked;
        self.users.retain(
            slice,
            |name, cutoff| !old(cutoff) || (cutoff.blocked && disabled(name)),
            |cutoff| *revoked -= usize::from(cutoff.revocation),
        );
        self.organizations.retain(slice, |_, cutoff| !old(cutoff), |_| ());
        let emails = &mut self.email_count;
        self.emails.retain(slice, |_, cutoff| !old(cutoff), |_| *emails -= 1);
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
        matches!(token.origin, Origin::Ours { sequence: number } if number < self.expired_below)
    }

    /// The latest time of a cutoff that concerns a token: one that was minted after it says so in its `iat`.
    pub fn cutoff_time(&self, token: &Verified) -> UnixTime {
        let Identity { user, organization, .. } = &token.identity;
        let cutoffs = [
            Some(&self.everybody),
            self.users.get(user.as_str()),
            self.organizations.get(organization.as_str()),
            self.emails.get(token.email_key()),
        ];
        cutoffs.into_iter().flatten().map(|cutoff| cutoff.time).fold(UnixTime(0), UnixTime::max)
    }

    /// The last transaction that this snapshot includes.
    pub const fn sequence(&self) -> u64 {
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
            emails: self.email_count,
            keys: self.keys.revoked(),
        }
    }

    /// May a token with a valid signature pass?
    pub fn check(&self, token: &Verified, rules: &TokenRules) -> Result<(), Denial> {
        let Identity { user, organization, .. } = &token.identity;
        if self.has_expired(token) {
            return Err(Denial::TokenExpired);
        }
        let covered = |cutoff: Option<&Cutoff>| cutoff.is_some_and(|cutoff| cutoff.covers(token, rules));
        if self.keys.refuse(token.key, token.expires_at) {
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
        // Most have none, and pay for no look-up.
        if self.email_count > 0 && covered(self.emails.get(token.email_key())) {
            return Err(Denial::RevokedEmail);
        }
        if !self.held.is_empty() {
            self.check_held(token)?;
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
mod tests;
