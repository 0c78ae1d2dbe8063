use super::*;
use crate::auth::cache::CacheLimits;
use crate::auth::explain::{Check, Outcome, explain};
use crate::auth::identity::Identity;
use crate::auth::keys::{Algorithm, Key};
use crate::auth::name::Name;
use crate::auth::revocation::Account;
use crate::auth::secret::Secret;
use crate::auth::time::Lived;
use crate::auth::token::{TokenId, mint};
use crate::auth::token_set::{Keep, RevokedToken};
use proptest::prelude::*;

const NOW: UnixTime = UnixTime(1_700_000_000);

fn cache() -> Cache {
    Cache::new(CacheLimits { entries: 100, bytes: 1 << 20 }, 1, || 0, 0)
}

fn gate() -> Gate {
    let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
    let key = Key::new("k", Algorithm::Hs256, &secret, false).unwrap();
    let rules = TokenRules::DEFAULT;
    let key_set = KeySet::new(vec![key]).unwrap();
    Gate::new(
        key_set,
        rules,
        cache(),
        Duration::from_secs(300),
        RevocationSnapshot::default(),
        Duration::ZERO,
    )
}

fn at(uptime: u64) -> ClockReading {
    ClockReading { now: NOW, uptime: Duration::from_secs(uptime) }
}

fn token(gate: &Gate) -> String {
    let anna = Identity {
        user: Name::parse_user("anna").unwrap(),
        email: "anna@example.com".into(),
        organization: Name::parse("Main Org.").unwrap(),
    };
    let minted = mint(&anna, 5, [1; 16], NOW, &gate.rules(), gate.keys().signer()).unwrap();
    minted.token
}

#[test]
fn what_new_rules_refuse_is_not_admitted_from_the_cache() {
    let gate = gate();
    let token = token(&gate);
    let verdict = || gate.admit(TokenField::One(token.as_bytes()), at(0)).map(|_| ());
    let day = TokenRules::DEFAULT;
    for (rules, expected) in [
        (TokenRules { max_lifetime: 3600, ..day }, Err(Denial::TokenLifetime)),
        (TokenRules { max_bytes: 64, ..day }, Err(Denial::TokenOversized)),
        (day, Ok(())),
    ] {
        gate.replace_rules(day, None);
        assert_eq!([verdict(), verdict()], [Ok(()), Ok(())], "it is cached");
        gate.replace_rules(rules, None);
        assert_eq!([verdict(), verdict()], [expected, expected], "{rules:?}");
    }
    let secret = Secret::new(b"another secret, and long enough too".to_vec());
    let other = Key::new("other", Algorithm::Hs256, &secret, false).unwrap();
    gate.replace_rules(day, Some(KeySet::new(vec![other]).unwrap()));
    assert_eq!([verdict(), verdict()], [Err(Denial::TokenKey), Err(Denial::TokenKey)]);
}

/// Whatever changes the verdict on a token, a permit that was given before has the same, and the version says that something changed.
#[test]
fn a_permit_that_is_asked_about_again_has_the_verdict_of_its_token() {
    let day = TokenRules::DEFAULT;
    let other = || {
        let secret = Secret::new(b"another secret, and long enough too".to_vec());
        KeySet::new(vec![Key::new("other", Algorithm::Hs256, &secret, false).unwrap()]).unwrap()
    };
    type Change<'c> = (Option<Denial>, &'c dyn Fn(&Gate));
    let changes: [Change<'_>; 8] = [
        (None, &|gate| gate.replace_rules(day, None)),
        (None, &|gate| gate.apply(|snapshot| snapshot.advance(9))),
        (Some(Denial::TokenLifetime), &|gate| {
            gate.replace_rules(TokenRules { max_lifetime: 3600, ..day }, None);
        }),
        (Some(Denial::TokenOversized), &|gate| gate.replace_rules(TokenRules { max_bytes: 64, ..day }, None)),
        (Some(Denial::TokenKey), &|gate| gate.replace_keys(other())),
        (Some(Denial::RevokedKey), &|gate| {
            let key = gate.keys().signer().fingerprint();
            gate.apply(|snapshot| snapshot.revoke_key(key));
        }),
        (Some(Denial::RevokedUser), &|gate| {
            gate.apply(|snapshot| snapshot.hold(Subject::User("anna".into())));
        }),
        (Some(Denial::RevokedEverybody), &|gate| {
            let cutoff = Cutoff { sequence: 6, time: NOW, ..Cutoff::default() };
            gate.apply_cutoffs(&[(Subject::Everybody, cutoff)]);
        }),
    ];
    for (expected, change) in changes {
        let gate = gate();
        let token = token(&gate);
        let mut permit = gate.inspect(token.as_bytes(), at(0)).unwrap();
        let mut again = |reading| gate.admit_again(&mut permit, token.as_bytes(), reading).err();
        assert_eq!(again(at(0)), None);
        let version = gate.version();
        change(&gate);
        assert_ne!(gate.version(), version, "{expected:?}");
        assert_eq!(again(at(0)), expected);
        assert_eq!(again(at(0)), gate.inspect(token.as_bytes(), at(0)).err());
        let expired = ClockReading { now: NOW.plus(86_400), uptime: Duration::ZERO };
        assert_eq!(again(expired), gate.inspect(token.as_bytes(), expired).err());
        assert_eq!(again(at(301)), Some(Denial::StateStale));
    }
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
        let mut snapshot = RevocationSnapshot::default();
        snapshot.set_account("myUser".into(), Account::Enabled);
        let key_set = KeySet::new(vec![key(foreign)]).unwrap();
        let gate = Gate::new(key_set, gate().rules(), cache(), Duration::MAX, snapshot, Duration::ZERO);
        let reading = ClockReading { now: UnixTime(now), uptime: Duration::ZERO };
        let verdict = gate.admit(TokenField::One(token.as_bytes()), reading);
        assert_eq!(verdict.as_ref().err(), expected.as_ref(), "{foreign} {now}");
        if let Ok(permit) = verdict {
            assert_eq!(permit.identity().organization.as_str(), "Main Org.");
        }
    }
}

#[test]
fn a_key_that_is_revoked_signs_no_more() {
    let gate = gate();
    assert_eq!(gate.signs_with(NOW).as_deref(), Some("k"));
    let key = gate.keys().signer().fingerprint();
    gate.apply(|snapshot| snapshot.revoke_key(key));
    assert_eq!(gate.signs_with(NOW), None);
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
        let reading = ClockReading { now, uptime: Duration::ZERO };
        let checks = explain(&gate, token.as_bytes(), reading);
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
    let cutoff = Cutoff { sequence: 6, time: NOW, lived: Lived(0), blocked: false, revocation: true };
    let update = gate.update(|snapshot| {
        snapshot.apply_cutoff(Subject::User("anna".into()), cutoff);
        snapshot.advance(6);
        Ok::<(), ()>(())
    });
    assert_eq!(update, Ok(()));
    assert_eq!(gate.admit(field, at(0)).err(), Some(Denial::RevokedUser));
    assert_eq!(gate.sequence(), 6);
}

#[test]
fn another_key_set_verifies_everything_again() {
    let gate = gate();
    let token = token(&gate);
    let field = TokenField::One(token.as_bytes());
    assert!(gate.admit(field, at(0)).is_ok());
    let secret = Secret::new((0..48).collect());
    let other = Key::new("other", Algorithm::Hs256, &secret, false).unwrap();
    gate.replace_keys(KeySet::new(vec![other]).unwrap());
    assert_eq!(gate.admit(field, at(0)).err(), Some(Denial::TokenKey));
}

#[test]
fn a_hit_allocates_nothing() {
    let gate = gate();
    let token = token(&gate);
    let id = |number: u64| TokenId::of(&number.to_be_bytes());
    gate.apply(|snapshot| {
        let keep = Keep::Expires(NOW.plus(86_400));
        let revoked = |number| RevokedToken { id: id(number), keep, lived: Lived(0) };
        snapshot.revoke_tokens((0..1000).map(revoked));
        snapshot.apply_cutoff(
            Subject::User("anna".into()),
            Cutoff { sequence: 3, time: NOW, lived: Lived(0), blocked: false, revocation: true },
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
    Cutoff(Subject, bool),
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
        2 => (subject, any::<bool>()).prop_map(|(subject, closed)| Step::Cutoff(subject, closed)),
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
            let key_set = KeySet::new(vec![key("k", 0), key("old", 64)]).unwrap();
            let cache = Cache::new(CacheLimits { entries, bytes: 1 << 20 }, 1, || 0, 3);
            let rules = gate().rules();
            Gate::new(key_set, rules, cache, Duration::MAX, RevocationSnapshot::default(), Duration::ZERO)
        };
        let (cached, bare) = (with(entries), with(0));
        let tokens: Vec<String> = (0..12)
            .map(|number| {
                let identity = Identity {
                    user: Name::parse_user(if number % 3 == 0 { "bert" } else { "anna" }).unwrap(),
                    email: "a@b".into(),
                    organization: Name::parse("Main Org.").unwrap(),
                };
                let key_set = bare.keys();
                let key = key_set.by_kid(if number % 4 == 0 { "old" } else { "k" }).unwrap();
                let at = NOW.plus(number * 1000);
                mint(&identity, number + 1, [1; 16], at, &bare.rules(), key).unwrap().token
            })
            .collect();
        let (mut now, mut number) = (NOW, 6);
        for step in steps {
            let both = |change: &dyn Fn(&mut RevocationSnapshot)| {
                cached.apply(change);
                bare.apply(change);
            };
            match step {
                Step::Ask(at) => {
                    let reading = ClockReading { now, uptime: Duration::ZERO };
                    let ask = |gate: &Gate| gate.inspect(tokens[at].as_bytes(), reading).map(|permit| permit.id());
                    prop_assert_eq!(ask(&cached), ask(&bare), "token {} at {}", at, now);
                }
                Step::RevokeToken(at) => {
                    let reading = ClockReading { now: NOW.plus(20_000), uptime: Duration::ZERO };
                    if let Ok(permit) = bare.inspect(tokens[at].as_bytes(), reading) {
                        let keep = Keep::Expires(permit.expires_at());
                        let revoked = RevokedToken { id: permit.id(), keep, lived: Lived(now.0) };
                        both(&|snapshot| snapshot.revoke_tokens([revoked]));
                    }
                }
                Step::Cutoff(subject, closed) => {
                    number += 1;
                    let cutoff = Cutoff { sequence: number, time: now, lived: Lived(now.0), blocked: closed, revocation: true };
                    both(&|snapshot| snapshot.apply_cutoff(subject.clone(), cutoff));
                }
                Step::RevokeKey => {
                    let old = |gate: &Gate| gate.keys().by_kid("old").unwrap().fingerprint();
                    both(&|snapshot| snapshot.revoke_key(old(&bare)));
                }
                Step::Forget => both(&|snapshot| {
                    snapshot.expire_below(0, Lived(now.0 - 200_000));
                    for slice in 0..RevocationSnapshot::SLICES {
                        drop(snapshot.expire(slice));
                    }
                }),
                Step::ExpireBelow(below) => both(&|snapshot| snapshot.expire_below(below, Lived(0))),
                Step::Pass(seconds) => now = now.plus(seconds),
            }
        }
    }
}
