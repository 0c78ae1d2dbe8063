//! The gate: one question, may this request pass, and the only place that says yes.
//!
//! A [`Permit`] has private fields and is made here alone, so anyone who holds one knows that the check
//! happened. Nothing here waits, reads a clock or touches anything but memory.
//!
//! While routes are observed, what would be denied there goes on with an [`ObservedPass`], which is made here alone as well.

mod clock_reading;
mod observation;
mod permit;
mod would_refuse;

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cache::Cache;
use super::denial::Denial;
use super::keys::KeySet;
use super::revocation::{Cutoff, RevocationSnapshot, Subject};
use super::shared::{ArcSwap, AtomicU64, Mutex};
use super::time::UnixTime;
use super::token::{self, TokenRules, Verified};

pub use self::clock_reading::ClockReading;
pub use self::observation::{Observation, enforces_endpoint};
pub use self::permit::{ObservedPass, Pass, Permit};
pub use self::would_refuse::WouldRefuse;

/// The `user-token` fields of a request; none, one and several stay distinct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenField<'r> {
    /// No such field.
    Absent,
    /// Exactly one, with its value as received.
    One(&'r [u8]),
    /// Two or more, whatever they say.
    Several,
    /// A field that some server behind us would read as `user-token`.
    Alias,
}

impl<'r> TokenField<'r> {
    /// The one token that there is.
    pub fn single(self) -> Result<&'r [u8], Denial> {
        match self {
            Self::One(token) if !token.is_empty() => Ok(token),
            Self::Several => Err(Denial::TokenRepeated),
            Self::Alias => Err(Denial::TokenAlias),
            Self::One(_) | Self::Absent => Err(Denial::TokenMissing),
        }
    }
}

/// Keys, rules, and the snapshot that the replica keeps up to date.
pub struct Gate {
    basis: ArcSwap<Basis>,
    max_staleness: Duration,
    cache: Cache,
    snapshot: ArcSwap<RevocationSnapshot>,
    updating: Mutex<()>,
    /// Uptime in milliseconds at the last successful read of the store.
    read_at: AtomicU64,
    /// How often the snapshot, the keys or the rules were replaced.
    version: AtomicU64,
}

/// What tokens are verified by, replaced as one: no token is judged by the keys of one configuration and the rules of another.
struct Basis {
    /// What it verified is known by its generation.
    keys: Arc<KeySet>,
    rules: TokenRules,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("keys", &self.keys())
            .field("rules", &self.rules())
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// `snapshot` is what the store held at `uptime`.
    pub fn new(
        keys: KeySet,
        rules: TokenRules,
        cache: Cache,
        max_staleness: Duration,
        snapshot: RevocationSnapshot,
        uptime: Duration,
    ) -> Self {
        let gate = Self {
            basis: ArcSwap::from_pointee(Basis { keys: Arc::new(keys), rules }),
            max_staleness,
            cache,
            snapshot: ArcSwap::from_pointee(snapshot),
            updating: Mutex::new(()),
            read_at: AtomicU64::new(0),
            version: AtomicU64::new(0),
        };
        gate.note_read(uptime);
        gate
    }

    /// May a request with these `user-token` fields pass at this moment?
    pub fn admit(&self, field: TokenField<'_>, reading: ClockReading) -> Result<Permit, Denial> {
        match field {
            TokenField::Absent => Err(Denial::TokenMissing),
            TokenField::Several => Err(Denial::TokenRepeated),
            TokenField::Alias => Err(Denial::TokenAlias),
            TokenField::One(b"") => Err(Denial::TokenEmpty),
            TokenField::One(token) => match self.inspect(token, reading) {
                // Two fields that something in front of us joined (RFC 9110 §5.3).
                Err(Denial::TokenMalformed) if token.contains(&b',') => Err(Denial::TokenRepeated),
                verdict => verdict,
            },
        }
    }

    /// The same for a request for `target` while routes are observed: what is denied goes on where its route is. Apart, so that who does not
    /// observe pays nothing for it.
    #[cold]
    pub fn admit_or_observe(
        &self,
        field: TokenField<'_>,
        observation: &Observation,
        target: &[u8],
        reading: ClockReading,
    ) -> Result<Pass, Denial> {
        match self.admit(field, reading) {
            Ok(permit) => Ok(Pass::Permit(permit)),
            Err(denial) => observation.pass(denial, target, reading).map(Pass::Observed).ok_or(denial),
        }
    }

    /// Does this token hold at this moment? Its times and all revocations are asked each time; only what
    /// never changes comes from the cache.
    pub fn inspect(&self, token: &[u8], reading: ClockReading) -> Result<Permit, Denial> {
        if self.is_stale(reading.uptime) {
            return Err(Denial::StateStale);
        }
        let basis = self.basis.load();
        let verified = self.identify_by(token, &basis)?;
        self.check(&verified, &basis, reading)?;
        Ok(Permit::new(verified))
    }

    /// Would the token be admitted again that this permit was given for? What it says is read again only where keys or rules were
    /// replaced since, and the permit then stands for that.
    pub fn admit_again(
        &self,
        permit: &mut Permit,
        token: &[u8],
        reading: ClockReading,
    ) -> Result<(), Denial> {
        if self.is_stale(reading.uptime) {
            return Err(Denial::StateStale);
        }
        let basis = self.basis.load();
        if permit.generation() != basis.keys.generation() {
            *permit = Permit::new(self.identify_by(token, &basis)?);
        }
        self.check(permit.verified(), &basis, reading)
    }

    /// May what a token says pass at this moment?
    fn check(&self, verified: &Verified, basis: &Basis, reading: ClockReading) -> Result<(), Denial> {
        let snapshot = self.snapshot.load();
        verified.check_time(reading.now, || snapshot.cutoff_time(verified), &basis.rules)?;
        snapshot.check(verified, &basis.rules)
    }

    /// What a token says that has not expired, revoked or not: anyone who holds it may end it.
    pub fn identify_at(&self, token: &[u8], now: UnixTime) -> Result<Arc<Verified>, Denial> {
        let basis = self.basis.load();
        let verified = self.identify_by(token, &basis)?;
        let snapshot = self.snapshot.load();
        verified.check_time(now, || snapshot.cutoff_time(&verified), &basis.rules)?;
        Ok(verified)
    }

    /// What a token says, expired or not.
    pub fn identify(&self, token: &[u8]) -> Result<Arc<Verified>, Denial> {
        self.identify_by(token, &self.basis.load())
    }

    fn identify_by(&self, token: &[u8], basis: &Basis) -> Result<Arc<Verified>, Denial> {
        let found = self.cache.find(token);
        if let Some(verified) = found.filter(|found| found.generation == basis.keys.generation()) {
            return Ok(verified);
        }
        let verified = Arc::new(token::verify(token, &basis.keys, &basis.rules)?);
        self.cache.keep(token, &verified);
        Ok(verified)
    }

    /// Has the store not been read for longer than `max_staleness`?
    pub fn is_stale(&self, uptime: Duration) -> bool {
        self.age(uptime) > self.max_staleness
    }

    /// How long ago the store was last read.
    pub fn age(&self, uptime: Duration) -> Duration {
        uptime.saturating_sub(Duration::from_millis(self.read_at.load(Ordering::Relaxed)))
    }

    /// Notes that the store was read at `uptime` and that the snapshot is what it said.
    pub fn note_read(&self, uptime: Duration) {
        let millis = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        self.read_at.fetch_max(millis, Ordering::Relaxed);
    }

    /// Changes the snapshot in one step: a request sees all of the change or, if it fails, none of it.
    pub fn update<T, E>(&self, change: impl FnOnce(&mut RevocationSnapshot) -> Result<T, E>) -> Result<T, E> {
        let _one_at_a_time = self.updating.lock();
        let mut snapshot = RevocationSnapshot::clone(&self.snapshot.load());
        let value = change(&mut snapshot)?;
        self.snapshot.store(snapshot.into());
        self.count_change();
        Ok(value)
    }

    /// Another number whenever what the gate decides by was replaced: while it and the second are the same, so is each verdict, unless
    /// the store is not read for too long.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// After the change: who sees the number sees the change.
    fn count_change(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The same, for a change that cannot fail.
    pub fn apply<T>(&self, change: impl FnOnce(&mut RevocationSnapshot) -> T) -> T {
        let Ok(value) = self.update(|snapshot| Ok::<T, Infallible>(change(snapshot)));
        value
    }

    /// Takes in cutoffs that were read beside the feed, ahead of it: they merge, so it may read them again.
    pub fn apply_cutoffs(&self, cutoffs: &[(Subject, Cutoff)]) {
        let snapshot = self.snapshot.load();
        if cutoffs.iter().all(|(subject, cutoff)| snapshot.includes(subject, *cutoff)) {
            return;
        }
        self.apply(|snapshot| {
            cutoffs.iter().for_each(|(subject, cutoff)| snapshot.apply_cutoff(subject.clone(), *cutoff));
        });
    }

    /// The last store transaction that is in force here.
    pub fn sequence(&self) -> u64 {
        self.snapshot.load().sequence()
    }

    /// All that was read from the store, as of now.
    pub fn snapshot(&self) -> Arc<RevocationSnapshot> {
        self.snapshot.load_full()
    }

    /// Verified identities.
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The key set of this moment.
    pub fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.basis.load().keys)
    }

    /// The name of the key that signs at `now`; `None` if each is revoked or retired.
    pub fn signs_with(&self, now: UnixTime) -> Option<String> {
        let snapshot = self.snapshot.load();
        let keys = self.keys();
        snapshot.signer(&keys, now).map(|key| key.kid().to_owned())
    }

    /// Is there a key that may sign, neither revoked nor retired?
    pub fn can_sign(&self) -> bool {
        self.snapshot.load().can_sign(&self.keys())
    }

    /// Puts another key set in the place of the one that is there; what the old one verified is verified again.
    pub fn replace_keys(&self, keys: KeySet) {
        let _one_at_a_time = self.updating.lock();
        let rules = self.rules();
        self.basis.store(Arc::new(Basis { keys: Arc::new(keys), rules }));
        self.count_change();
    }

    /// Replaces the rules, and the keys where others are given. What was verified by the old ones is verified again.
    pub fn replace_rules(&self, rules: TokenRules, keys: Option<KeySet>) {
        let _one_at_a_time = self.updating.lock();
        let keys = keys.unwrap_or_else(|| self.keys().next_generation());
        self.basis.store(Arc::new(Basis { keys: Arc::new(keys), rules }));
        self.count_change();
    }

    /// The rules of this moment.
    pub fn rules(&self) -> TokenRules {
        self.basis.load().rules
    }
}

#[cfg(test)]
mod tests;
