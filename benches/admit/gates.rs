//! A gate, and tokens that it admits.

use std::hint::black_box;
use std::time::Duration;

use ds_gateway::auth::cache::{Cache, CacheLimits};
use ds_gateway::auth::gate::{ClockReading, Gate, TokenField};
use ds_gateway::auth::identity::Identity;
use ds_gateway::auth::keys::{Algorithm, Key, KeySet};
use ds_gateway::auth::name::Name;
use ds_gateway::auth::revocation::RevocationSnapshot;
use ds_gateway::auth::secret::Secret;
use ds_gateway::auth::time::{Lived, UnixTime};
use ds_gateway::auth::token::{TokenId, TokenRules, mint};
use ds_gateway::auth::token_set::{Keep, RevokedToken};
use ds_gateway::thread_slot;

pub(super) const NOW: UnixTime = UnixTime(1_800_000_000);
const READING: ClockReading = ClockReading { now: NOW, uptime: Duration::ZERO };

pub(super) fn gate(entries: usize, threads: usize) -> Gate {
    let secret = Secret::new((0..48).collect());
    let key_set = KeySet::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).unwrap()]).unwrap();
    let rules = TokenRules::DEFAULT;
    let cache = Cache::new(CacheLimits { entries, bytes: 8 << 30 }, threads, thread_slot::current, 42);
    Gate::new(key_set, rules, cache, Duration::MAX, RevocationSnapshot::default(), Duration::ZERO)
}

pub(super) fn tokens(gate: &Gate, count: u64) -> Vec<String> {
    let token = |number: u64| {
        let identity = Identity {
            user: Name::parse_user(&format!("user-{}", number % 1000)).unwrap(),
            email: "someone@example.com".into(),
            organization: Name::parse("Main Org.").unwrap(),
        };
        let random = u128::from(number).to_le_bytes();
        mint(&identity, number + 1, random, NOW, &gate.rules(), gate.keys().signer()).unwrap().token
    };
    (0..count).map(token).collect()
}

pub(super) fn revoke(gate: &Gate, count: u64) {
    let keep = Keep::Expires(NOW.plus(86_400));
    let ids = (0..count).map(|number| RevokedToken {
        id: TokenId::of(&number.to_be_bytes()),
        keep,
        lived: Lived(0),
    });
    gate.apply(|snapshot| snapshot.revoke_tokens(ids));
}

pub(super) fn admit(gate: &Gate, token: &str) -> bool {
    gate.admit(TokenField::One(black_box(token.as_bytes())), READING).is_ok()
}
