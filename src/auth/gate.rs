//! The gate: one question, may this request pass, and the only place that says yes.
//!
//! A [`Permit`] has private fields and is made here alone, so whoever holds one knows that the check
//! happened. Nothing here waits, reads a clock or touches anything but memory.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderValue;

use super::cache::Cache;
use super::denial::Denial;
use super::identity::Identity;
use super::keys::KeyRing;
use super::policy::PublicPass;
use super::revocation::{Mark, Standing, Subject};
use super::shared::{ArcSwap, AtomicU64, Mutex};
use super::time::UnixTime;
use super::token::{self, TokenId, TokenRules, Verified};

/// The two clocks of one reading: what the world calls now, and how long this process has run.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Compared with `exp`, `iat` and `nbf`.
    pub now: UnixTime,
    /// Monotonic; compared with the last successful read of the store.
    pub uptime: Duration,
}

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

/// Proof that a request carried a token that holds at this moment.
#[derive(Debug)]
pub struct Permit {
    verified: Arc<Verified>,
}

impl Permit {
    /// The token's name.
    pub fn id(&self) -> TokenId {
        self.verified.id
    }

    /// Who the token speaks for.
    pub fn identity(&self) -> &Identity {
        &self.verified.identity
    }

    /// User, e-mail address and organization as the platform is told them.
    pub fn fields(&self) -> &[HeaderValue; 3] {
        &self.verified.fields
    }

    /// The first second at which the token no longer holds.
    pub fn expires_at(&self) -> UnixTime {
        self.verified.expires_at
    }
}

/// What a request needs before a byte of it may reach the platform.
#[derive(Debug)]
pub enum Pass {
    /// It carried a valid token.
    Permit(Permit),
    /// The configuration makes its path public.
    Public(PublicPass),
}

/// The checks of a token, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The store was read recently enough to know of every revocation.
    Store,
    /// Not longer than `token.max_bytes`.
    Size,
    /// Three parts of base64url, JSON inside.
    Shape,
    /// No header member that is refused, all that are needed.
    Header,
    /// The key is in the ring, and the algorithm is its own.
    Key,
    /// The signature is the key's.
    Signature,
    /// The claims are complete, of their types, and nothing else.
    Claims,
    /// Minted here, or under a key that admits foreign tokens.
    Origin,
    /// Not longer than `token.max_lifetime`.
    Lifetime,
    /// `exp` lies ahead.
    Expiry,
    /// `iat` and `nbf` lie behind.
    Start,
    /// Neither it nor its key was revoked, and no mark on its user, its organization or everybody came after it.
    Revocation,
    /// A foreign token's user is known here.
    User,
}

impl Check {
    /// Every check, in order.
    pub const ALL: [Self; 13] = [
        Self::Store,
        Self::Size,
        Self::Shape,
        Self::Header,
        Self::Key,
        Self::Signature,
        Self::Claims,
        Self::Origin,
        Self::Lifetime,
        Self::Expiry,
        Self::Start,
        Self::Revocation,
        Self::User,
    ];

    /// The check as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Size => "size",
            Self::Shape => "shape",
            Self::Header => "header",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Origin => "origin",
            Self::Lifetime => "lifetime",
            Self::Expiry => "expiry",
            Self::Start => "start",
            Self::Revocation => "revocation",
            Self::User => "user",
        }
    }

    /// The check that a denial comes from; the shape of a request's fields is the first of a token too.
    const fn of(denial: Denial) -> (Self, Denial) {
        let check = match denial {
            Denial::StateStale => Self::Store,
            Denial::TokenOversized => Self::Size,
            Denial::TokenMissing
            | Denial::TokenRepeated
            | Denial::TokenAlias
            | Denial::TokenEmpty
            | Denial::TokenMalformed => Self::Shape,
            Denial::TokenHeader => Self::Header,
            Denial::TokenKey | Denial::TokenAlgorithm => Self::Key,
            Denial::TokenSignature => Self::Signature,
            Denial::TokenClaims => Self::Claims,
            Denial::TokenForeign => Self::Origin,
            Denial::TokenLifetime => Self::Lifetime,
            Denial::TokenExpired => Self::Expiry,
            Denial::TokenNotYetValid => Self::Start,
            Denial::RevokedToken
            | Denial::RevokedUser
            | Denial::RevokedOrganization
            | Denial::RevokedEverybody
            | Denial::RevokedKey => Self::Revocation,
            Denial::UserUnknown => Self::User,
        };
        (check, denial)
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The token passes it.
    Passed,
    /// The token is refused here.
    Failed(Denial),
    /// An earlier check refused the token.
    NotReached,
}

/// Keys, rules, and the standing that the follower keeps up to date.
pub struct Gate {
    keys: ArcSwap<KeyRing>,
    rules: TokenRules,
    max_staleness: Duration,
    cache: Cache,
    standing: ArcSwap<Standing>,
    updating: Mutex<()>,
    /// Uptime in milliseconds at the last successful read of the store.
    read_at: AtomicU64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("keys", &self.keys()).field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Gate {
    /// `standing` is what the store held at `uptime`.
    pub fn new(
        keys: KeyRing,
        rules: TokenRules,
        cache: Cache,
        max_staleness: Duration,
        standing: Standing,
        uptime: Duration,
    ) -> Self {
        let gate = Self {
            keys: ArcSwap::from_pointee(keys),
            rules,
            max_staleness,
            cache,
            standing: ArcSwap::from_pointee(standing),
            updating: Mutex::new(()),
            read_at: AtomicU64::new(0),
        };
        gate.note_read(uptime);
        gate
    }

    /// May a request with these `user-token` fields pass at this moment?
    pub fn admit(&self, field: TokenField<'_>, moment: Moment) -> Result<Permit, Denial> {
        match field {
            TokenField::Absent => Err(Denial::TokenMissing),
            TokenField::Several => Err(Denial::TokenRepeated),
            TokenField::Alias => Err(Denial::TokenAlias),
            TokenField::One(b"") => Err(Denial::TokenEmpty),
            TokenField::One(token) => match self.inspect(token, moment) {
                // Two fields that something in front of us joined (RFC 9110 §5.3).
                Err(Denial::TokenMalformed) if token.contains(&b',') => Err(Denial::TokenRepeated),
                verdict => verdict,
            },
        }
    }

    /// Does this token hold at this moment? Its times and all revocations are asked each time; only what
    /// never changes comes from the cache.
    pub fn inspect(&self, token: &[u8], moment: Moment) -> Result<Permit, Denial> {
        if self.is_stale(moment.uptime) {
            return Err(Denial::StateStale);
        }
        let verified = self.identify(token)?;
        let standing = self.standing.load();
        verified.check_time(moment.now, || standing.cutoff_time(&verified), &self.rules)?;
        standing.check(&verified, &self.rules)?;
        Ok(Permit { verified })
    }

    /// What a token says that has not expired, revoked or not: whoever holds it may end it.
    pub fn identify_at(&self, token: &[u8], now: UnixTime) -> Result<Arc<Verified>, Denial> {
        let verified = self.identify(token)?;
        let standing = self.standing.load();
        verified.check_time(now, || standing.cutoff_time(&verified), &self.rules)?;
        Ok(verified)
    }

    /// What a token says, expired or not.
    pub fn identify(&self, token: &[u8]) -> Result<Arc<Verified>, Denial> {
        let keys = self.keys.load();
        let found = self.cache.find(token);
        if let Some(verified) = found.filter(|found| found.generation == keys.generation()) {
            return Ok(verified);
        }
        let verified = Arc::new(token::verify(token, &keys, &self.rules)?);
        self.cache.keep(token, &verified);
        Ok(verified)
    }

    /// The same question, and the answer check by check: for whoever asks why.
    pub fn explain(&self, token: &[u8], moment: Moment) -> Vec<(Check, Outcome)> {
        let verdict = self.inspect(token, moment).map(drop);
        let failed = verdict.err().map(Check::of);
        let outcome = |check: Check| match failed {
            Some((failed, denial)) if check == failed => Outcome::Failed(denial),
            Some((failed, _)) if check > failed => Outcome::NotReached,
            _ => Outcome::Passed,
        };
        Check::ALL.into_iter().map(|check| (check, outcome(check))).collect()
    }

    /// Has the store not been read for longer than `max_staleness`?
    pub fn is_stale(&self, uptime: Duration) -> bool {
        self.age(uptime) > self.max_staleness
    }

    /// How long ago the store was last read.
    pub fn age(&self, uptime: Duration) -> Duration {
        uptime.saturating_sub(Duration::from_millis(self.read_at.load(Ordering::Relaxed)))
    }

    /// Notes that the store was read at `uptime` and that the standing is what it said.
    pub fn note_read(&self, uptime: Duration) {
        let millis = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        self.read_at.fetch_max(millis, Ordering::Relaxed);
    }

    /// Changes the standing in one step: a request sees all of the change or, if it fails, none of it.
    pub fn update<T, E>(&self, change: impl FnOnce(&mut Standing) -> Result<T, E>) -> Result<T, E> {
        let _one_at_a_time = self.updating.lock();
        let mut standing = Standing::clone(&self.standing.load());
        let value = change(&mut standing)?;
        self.standing.store(standing.into());
        Ok(value)
    }

    /// The same, for a change that cannot fail.
    pub fn apply<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        let Ok(value) = self.update(|standing| Ok::<T, Infallible>(change(standing)));
        value
    }

    /// Takes in marks that were read beside the feed, ahead of it: they unite, so it may read them again.
    pub fn raise(&self, marks: &[(Subject, Mark)]) {
        let standing = self.standing.load();
        if marks.iter().all(|(subject, mark)| standing.includes(subject, *mark)) {
            return;
        }
        self.apply(|standing| {
            marks.iter().for_each(|(subject, mark)| standing.raise(subject.clone(), *mark));
        });
    }

    /// The last store transaction that is in force here.
    pub fn number(&self) -> u64 {
        self.standing.load().number()
    }

    /// All that was read from the store, as of now.
    pub fn standing(&self) -> Arc<Standing> {
        self.standing.load_full()
    }

    /// Verified identities.
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The ring of this moment.
    pub fn keys(&self) -> Arc<KeyRing> {
        self.keys.load_full()
    }

    /// The name of the key that signs now; `None` if every key is revoked.
    pub fn signs_with(&self) -> Option<String> {
        let standing = self.standing.load();
        let keys = self.keys.load();
        standing.signer(&keys).map(|key| key.kid().to_owned())
    }

    /// Puts another ring in the place of the one that is there; what the old one verified is verified again.
    pub fn replace_keys(&self, keys: KeyRing) {
        self.keys.store(Arc::new(keys));
    }

    /// The rules, for minting.
    pub const fn rules(&self) -> &TokenRules {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cache::CacheLimits;
    use crate::auth::keys::{Algorithm, Key};
    use crate::auth::name::Name;
    use crate::auth::revocation::Account;
    use crate::auth::secret::Secret;
    use crate::auth::time::Lived;
    use crate::auth::token::mint;
    use crate::auth::token_set::{Keep, RevokedToken};
    use proptest::prelude::*;

    const NOW: UnixTime = UnixTime(1_700_000_000);

    fn cache() -> Cache {
        Cache::new(CacheLimits { entries: 100, bytes: 1 << 20 }, 1, 0)
    }

    fn gate() -> Gate {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        let key = Key::new("k", Algorithm::Hs256, &secret, false).unwrap();
        let rules = TokenRules::DEFAULT;
        let ring = KeyRing::new(vec![key]).unwrap();
        Gate::new(ring, rules, cache(), Duration::from_secs(300), Standing::default(), Duration::ZERO)
    }

    fn at(uptime: u64) -> Moment {
        Moment { now: NOW, uptime: Duration::from_secs(uptime) }
    }

    fn token(gate: &Gate) -> String {
        let anna = Identity {
            user: Name::parse_user("anna").unwrap(),
            email: "anna@example.com".into(),
            organization: Name::parse("Main Org.").unwrap(),
        };
        let minted = mint(&anna, 5, [1; 16], NOW, gate.rules(), gate.keys().signer()).unwrap();
        minted.token
    }

    #[test]
    fn exactly_one_field_with_a_valid_token_gives_a_permit() {
        let gate = gate();
        let token = token(&gate);
        let twice = format!("{token}, {token}");
        for (field, denial) in [
            (TokenField::Absent, Denial::TokenMissing),
            (TokenField::Several, Denial::TokenRepeated),
            (TokenField::Alias, Denial::TokenAlias),
            (TokenField::One(b""), Denial::TokenEmpty),
            (TokenField::One(twice.as_bytes()), Denial::TokenRepeated),
            (TokenField::One(b"x"), Denial::TokenMalformed),
        ] {
            assert_eq!(gate.admit(field, at(0)).err(), Some(denial), "{field:?}");
        }
        let permit = gate.admit(TokenField::One(token.as_bytes()), at(0)).unwrap();
        assert_eq!(permit.identity().user.as_str(), "anna");
        assert_eq!(permit.expires_at(), NOW.plus(86_400));
    }

    /// The example in the platform's documentation, signed with a key that it shares with us.
    #[test]
    fn the_published_example_is_admitted_between_its_times() {
        let secret = Secret::new(b"fedcba9876543210fedcba9876543210".to_vec());
        let key = |foreign| Key::new("platform", Algorithm::Hs256, &secret, foreign).unwrap();
        let claims = serde_json::json!({"exp": 1_580_216_224, "iat": 1_580_129_819, "database": "Main Org.",
            "email": "my.user@example.com", "user": "myUser"});
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        crate::auth::hmac::install();
        let encoding = jsonwebtoken::EncodingKey::from_secret(secret.expose_secret());
        let token = jsonwebtoken::encode(&header, &claims, &encoding).unwrap();
        for (foreign, now, expected) in [
            (true, 1_580_170_000, None),
            (true, 1_580_216_223, None),
            (true, 1_580_216_224, Some(Denial::TokenExpired)),
            (true, 1_580_129_813, Some(Denial::TokenNotYetValid)),
            (false, 1_580_170_000, Some(Denial::TokenKey)),
        ] {
            let mut standing = Standing::default();
            standing.know("myUser".into(), Account::Enabled);
            let ring = KeyRing::new(vec![key(foreign)]).unwrap();
            let gate = Gate::new(ring, *gate().rules(), cache(), Duration::MAX, standing, Duration::ZERO);
            let moment = Moment { now: UnixTime(now), uptime: Duration::ZERO };
            let verdict = gate.admit(TokenField::One(token.as_bytes()), moment);
            assert_eq!(verdict.as_ref().err(), expected.as_ref(), "{foreign} {now}");
            if let Ok(permit) = verdict {
                assert_eq!(permit.identity().organization.as_str(), "Main Org.");
            }
        }
    }

    #[test]
    fn a_key_that_is_revoked_signs_no_more() {
        let gate = gate();
        assert_eq!(gate.signs_with().as_deref(), Some("k"));
        let key = gate.keys().signer().fingerprint();
        gate.apply(|standing| standing.revoke_key(key));
        assert_eq!(gate.signs_with(), None);
    }

    #[test]
    fn past_max_staleness_nothing_passes_until_the_store_is_read_again() {
        let gate = gate();
        let token = token(&gate);
        let field = TokenField::One(token.as_bytes());
        assert!(gate.admit(field, at(300)).is_ok());
        assert_eq!(gate.admit(field, at(301)).err(), Some(Denial::StateStale));
        gate.note_read(Duration::from_secs(301));
        assert!(gate.admit(field, at(301)).is_ok());
    }

    #[test]
    fn an_explanation_names_the_check_that_failed_and_none_behind_it() {
        let gate = gate();
        let token = token(&gate);
        let words = |token: &str, now: UnixTime| {
            let moment = Moment { now, uptime: Duration::ZERO };
            let checks = gate.explain(token.as_bytes(), moment);
            let failed = checks.iter().position(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
            let reached = checks.iter().filter(|(_, outcome)| *outcome != Outcome::NotReached).count();
            (failed.map(|at| checks[at].0), reached)
        };
        assert_eq!(words(&token, NOW), (None, 13));
        assert_eq!(words("x", NOW), (Some(Check::Shape), 3));
        assert_eq!(words(&token, NOW.plus(86_400)), (Some(Check::Expiry), 10));
        assert!(Check::ALL.is_sorted());
    }

    #[test]
    fn an_update_is_in_force_at_once() {
        let gate = gate();
        let token = token(&gate);
        let field = TokenField::One(token.as_bytes());
        let mark = Mark { number: 6, second: NOW, lived: Lived(0), closed: false, revocation: true };
        let update = gate.update(|standing| {
            standing.raise(Subject::User("anna".into()), mark);
            standing.reached(6);
            Ok::<(), ()>(())
        });
        assert_eq!(update, Ok(()));
        assert_eq!(gate.admit(field, at(0)).err(), Some(Denial::RevokedUser));
        assert_eq!(gate.number(), 6);
    }

    #[test]
    fn another_ring_verifies_everything_anew() {
        let gate = gate();
        let token = token(&gate);
        let field = TokenField::One(token.as_bytes());
        assert!(gate.admit(field, at(0)).is_ok());
        let secret = Secret::new((0..48).collect());
        let other = Key::new("other", Algorithm::Hs256, &secret, false).unwrap();
        gate.replace_keys(KeyRing::new(vec![other]).unwrap());
        assert_eq!(gate.admit(field, at(0)).err(), Some(Denial::TokenKey));
    }

    #[test]
    fn a_hit_allocates_nothing() {
        let gate = gate();
        let token = token(&gate);
        let id = |number: u64| TokenId::of(&number.to_be_bytes());
        gate.apply(|standing| {
            let keep = Keep::Expires(NOW.plus(86_400));
            let revoked = |number| RevokedToken { id: id(number), keep, lived: Lived(0) };
            standing.revoke_tokens((0..1000).map(revoked));
            standing.raise(
                Subject::User("anna".into()),
                Mark { number: 3, second: NOW, lived: Lived(0), closed: false, revocation: true },
            );
        });
        let field = TokenField::One(token.as_bytes());
        assert!(gate.admit(field, at(0)).is_ok());
        let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().unwrap();
        let before = allocated.get();
        assert!((0..1000).all(|_| gate.admit(field, at(0)).is_ok()));
        assert_eq!(allocated.get() - before, 0, "bytes for 1,000 hits");
        // And the measure measures.
        drop(std::hint::black_box(vec![0u8; 100]));
        assert!(allocated.get() - before >= 100);
    }

    /// One step of a history that two gates live through.
    #[derive(Clone, Debug)]
    enum Step {
        Ask(usize),
        RevokeToken(usize),
        Mark(Subject, bool),
        RevokeKey,
        Forget,
        ExpireBelow(u64),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let users = prop::sample::select(vec!["anna", "bert"]);
        let subject = prop_oneof![
            Just(Subject::Everybody),
            users.prop_map(|user| Subject::User(user.into())),
            Just(Subject::Organization("Main Org.".into())),
        ];
        let step = prop_oneof![
            20 => (0usize..12).prop_map(Step::Ask),
            2 => (0usize..12).prop_map(Step::RevokeToken),
            2 => (subject, any::<bool>()).prop_map(|(subject, closed)| Step::Mark(subject, closed)),
            1 => Just(Step::RevokeKey),
            1 => Just(Step::Forget),
            1 => (0u64..8).prop_map(Step::ExpireBelow),
            2 => (0u64..40_000).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        /// A cache, of whatever size, changes no verdict: not after a revocation, not after an expiry.
        #[test]
        fn the_verdict_with_the_cache_is_the_verdict_without_it(steps in steps(), entries in 0usize..12) {
            let with = |entries| {
                let secret = |fill: u8| Secret::new((0..48).map(|byte| byte ^ fill).collect());
                let key = |kid, fill| Key::new(kid, Algorithm::Hs256, &secret(fill), false).unwrap();
                let ring = KeyRing::new(vec![key("k", 0), key("old", 64)]).unwrap();
                let cache = Cache::new(CacheLimits { entries, bytes: 1 << 20 }, 1, 3);
                let rules = *gate().rules();
                Gate::new(ring, rules, cache, Duration::MAX, Standing::default(), Duration::ZERO)
            };
            let (cached, bare) = (with(entries), with(0));
            let tokens: Vec<String> = (0..12)
                .map(|number| {
                    let identity = Identity {
                        user: Name::parse_user(if number % 3 == 0 { "bert" } else { "anna" }).unwrap(),
                        email: "a@b".into(),
                        organization: Name::parse("Main Org.").unwrap(),
                    };
                    let ring = bare.keys();
                    let key = ring.by_kid(if number % 4 == 0 { "old" } else { "k" }).unwrap();
                    let at = NOW.plus(number * 1000);
                    mint(&identity, number + 1, [1; 16], at, bare.rules(), key).unwrap().token
                })
                .collect();
            let (mut now, mut number) = (NOW, 6);
            for step in steps {
                let both = |change: &dyn Fn(&mut Standing)| {
                    cached.apply(change);
                    bare.apply(change);
                };
                match step {
                    Step::Ask(at) => {
                        let moment = Moment { now, uptime: Duration::ZERO };
                        let ask = |gate: &Gate| gate.inspect(tokens[at].as_bytes(), moment).map(|permit| permit.id());
                        prop_assert_eq!(ask(&cached), ask(&bare), "token {} at {}", at, now);
                    }
                    Step::RevokeToken(at) => {
                        let moment = Moment { now: NOW.plus(20_000), uptime: Duration::ZERO };
                        if let Ok(permit) = bare.inspect(tokens[at].as_bytes(), moment) {
                            let keep = Keep::Expires(permit.expires_at());
                            let revoked = RevokedToken { id: permit.id(), keep, lived: Lived(now.0) };
                            both(&|standing| standing.revoke_tokens([revoked]));
                        }
                    }
                    Step::Mark(subject, closed) => {
                        number += 1;
                        let mark = Mark { number, second: now, lived: Lived(now.0), closed, revocation: true };
                        both(&|standing| standing.raise(subject.clone(), mark));
                    }
                    Step::RevokeKey => {
                        let old = |gate: &Gate| gate.keys().by_kid("old").unwrap().fingerprint();
                        both(&|standing| standing.revoke_key(old(&bare)));
                    }
                    Step::Forget => both(&|standing| {
                        standing.expire_below(0, Lived(now.0 - 200_000));
                        for slice in 0..Standing::SLICES {
                            drop(standing.forget(slice));
                        }
                    }),
                    Step::ExpireBelow(below) => both(&|standing| standing.expire_below(below, Lived(0))),
                    Step::Pass(seconds) => now = now.plus(seconds),
                }
            }
        }
    }
}
