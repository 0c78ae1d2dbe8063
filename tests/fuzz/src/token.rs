//! Tokens: what the gate admits has a signature of a key in the key set, by another implementation of HMAC, and its claims inside
//! the bounds; and a cache changes no verdict.
//!
//! The input: a byte for the key, one for what is done to the token, two for the clock; then header and claims, with a line
//! feed between them, or a token as it stands.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use ds_gateway::auth::cache::{Cache, CacheLimits};
use ds_gateway::auth::gate::{ClockReading, Gate, TokenField};
use ds_gateway::auth::keys::{Algorithm, Key, KeySet};
use ds_gateway::auth::revocation::RevocationSnapshot;
use ds_gateway::auth::secret::Secret;
use ds_gateway::auth::time::UnixTime;
use ds_gateway::auth::token::{TokenRules, UnknownUsers};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Name, algorithm, secret, foreign.
const KEYS: [(&str, &str, &[u8; 32], bool); 3] = [
    ("ours", "HS256", b"0123456789abcdef0123456789abcdef", false),
    ("platform", "HS256", b"fedcba9876543210fedcba9876543210", true),
    ("long", "HS512", b"a secret of thirty-two bytes: 0k", true),
];

const NOW: u64 = 1_700_000_000;

const RULES: TokenRules = TokenRules { unknown_users: UnknownUsers::Accept, ..TokenRules::DEFAULT };

pub fn run(input: &[u8]) {
    let Some((&[key, change, high, low], text)) = input.split_first_chunk() else { return };
    let moved = i64::from(i16::from_be_bytes([high, low])) * 4;
    let now = NOW.saturating_add_signed(moved);
    let token = match key & 3 {
        3 => text.to_vec(),
        key => signed(text, usize::from(key), change),
    };
    GATES.with_borrow(|(cached, uncached)| {
        let admit = |gate: &Gate, now: u64| {
            let reading = ClockReading { now: UnixTime(now), uptime: Duration::ZERO };
            gate.admit(TokenField::One(&token), reading)
        };
        // At another moment first, so that the second question is answered from the cache.
        for now in [now.saturating_add(30_000), now, now] {
            let (one, other) = (admit(cached, now), admit(uncached, now));
            assert_eq!(
                one.as_ref()
                    .map(|permit| (permit.id(), permit.identity().clone(), permit.expires_at()))
                    .map_err(|denial| *denial),
                other
                    .as_ref()
                    .map(|permit| (permit.id(), permit.identity().clone(), permit.expires_at()))
                    .map_err(|denial| *denial),
                "the cache changes the verdict"
            );
            if let Ok(permit) = one {
                let claims = check(&token, now);
                assert_eq!(claims["user"].as_str(), Some(permit.identity().user.as_str()));
                assert_eq!(claims["email"].as_str(), Some(&*permit.identity().email));
                assert_eq!(claims["database"].as_str(), Some(permit.identity().organization.as_str()));
                assert_eq!(claims["exp"].as_u64(), Some(permit.expires_at().0), "exp is rounded down");
                for (claim, field) in ["user", "email", "database"].iter().zip(permit.fields()) {
                    let decoded: Vec<u8> = percent_encoding::percent_decode(field.as_bytes()).collect();
                    assert_eq!(claims[*claim].as_str().map(str::as_bytes), Some(&*decoded));
                    assert!(field.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte)));
                }
            }
        }
        for field in [TokenField::Absent, TokenField::Several, TokenField::Alias, TokenField::One(b"")] {
            let reading = ClockReading { now: UnixTime(now), uptime: Duration::ZERO };
            assert!(cached.admit(field, reading).is_err());
        }
    });
}

/// All that must hold of a token that was admitted, read again; its claims, with their times rounded.
fn check(token: &[u8], now: u64) -> Value {
    assert!(token.len() <= RULES.max_bytes);
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    let [header, claims_text, signature] = [header, claims, signature].map(decode);
    let header = members(&header);
    let of = |name: &str| header.iter().find(|(member, _)| member == name).map(|(_, value)| value);
    for member in ["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty"] {
        assert_eq!(of(member), None);
    }
    let message = &token[..token.iter().rposition(|byte| *byte == b'.').expect("a dot")];
    let kid = of("kid").map(|kid| kid.as_str().expect("a text"));
    let is_signer = |(name, algorithm, secret, foreign): &&(&str, &str, &[u8; 32], bool)| {
        kid.map_or(*foreign, |kid| kid == *name)
            && of("alg").and_then(Value::as_str) == Some(algorithm)
            && hmac(*secret, algorithm, message) == signature
    };
    let signer = KEYS.iter().find(is_signer).expect("a key that signed it");
    let claims = members(&claims_text);
    let mut names: Vec<&str> = claims.iter().map(|(name, _)| name.as_str()).collect();
    names.retain(|name| ["exp", "iat", "nbf", "user", "email", "database", "jti"].contains(name));
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a claim twice");
    let is_fractional = ["exp", "iat", "nbf"]
        .iter()
        .any(|name| written(&claims_text, name).is_some_and(|(_, fraction)| fraction.is_some()));
    let mut claims: Value = claims.into_iter().collect::<serde_json::Map<_, _>>().into();
    let number = |name: &str| written(&claims_text, name).map(|(whole, _)| whole);
    let (exp, iat) = (number("exp").expect("exp"), number("iat").expect("iat"));
    assert!(exp > now, "expired");
    assert!(iat <= now + RULES.max_skew, "not yet valid");
    if let Some((whole, fraction)) = written(&claims_text, "nbf") {
        let is_between = fraction.is_some_and(|digits| digits.bytes().any(|digit| digit != b'0'));
        assert!(whole < now || (whole == now && !is_between), "not yet valid");
    }
    claims["exp"] = exp.into();
    assert!(exp <= iat.saturating_add(RULES.max_lifetime), "lives too long");
    for name in ["user", "email", "database"] {
        let text = claims[name].as_str().expect("a text");
        assert!(!text.is_empty() && !text.chars().any(char::is_control) && text.trim() == text, "{text:?}");
    }
    assert!(!claims["user"].as_str().expect("a text").contains(':'));
    if !signer.3 {
        assert_eq!(of("typ").and_then(Value::as_str), Some("JWT"));
        let jti = claims["jti"].as_str().expect("a jti");
        let (number, random) = jti.split_once('.').expect("a dot");
        assert!(number.parse::<u64>().is_ok_and(|number| number > 0) && random.len() == 22, "{jti}");
        assert_eq!(claims.as_object().map(serde_json::Map::len), Some(6));
        assert!(!is_fractional, "a fraction in a token of ours");
    }
    claims
}

/// A time as it stands in the text: its whole seconds, and the digits of its fraction if it has one.
fn written(text: &[u8], name: &str) -> Option<(u64, Option<String>)> {
    let claims: BTreeMap<String, &RawValue> = serde_json::from_slice(text).expect("an object");
    let (whole, fraction) = match claims.get(name)?.get().split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction.to_owned())),
        None => (claims.get(name)?.get(), None),
    };
    for digits in [Some(whole), fraction.as_deref()].into_iter().flatten() {
        assert!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
    }
    Some((whole.parse().expect("64 bits"), fraction))
}

/// Header and claims, signed, and then changed in one place.
fn signed(text: &[u8], key: usize, change: u8) -> Vec<u8> {
    let at = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let (header, claims) = (&text[..at], text.get(at + 1..).unwrap_or_default());
    let (_, algorithm, secret, _) = KEYS[key];
    let mut token = [encode(header), encode(claims)].join(".").into_bytes();
    let signature = hmac(secret, algorithm, &token);
    token.extend([b".", encode(&signature).as_bytes()].concat());
    // What comes of a change in a byte, where there is to be one.
    if change >= 0x80 {
        let at = token.len() * usize::from(change & 0x7f) / 0x80;
        token[at] = token[at].wrapping_add(1);
    }
    token
}

thread_local! {
    static GATES: RefCell<(Gate, Gate)> = RefCell::new((gate(64), gate(0)));
}

fn gate(entries: usize) -> Gate {
    let key = |(name, algorithm, secret, foreign): (&str, &str, &[u8; 32], bool)| {
        let algorithm = Algorithm::parse(algorithm).expect("an algorithm");
        Key::new(name, algorithm, &Secret::new(secret.to_vec()), foreign).expect("a key")
    };
    let keys = KeySet::new(KEYS.into_iter().map(key).collect()).expect("keys");
    let cache = Cache::new(CacheLimits { entries, bytes: 1 << 20 }, 1, || 0, 7);
    Gate::new(keys, RULES, cache, Duration::from_secs(300), RevocationSnapshot::default(), Duration::ZERO)
}

fn hmac(secret: &[u8], algorithm: &str, message: &[u8]) -> Vec<u8> {
    let digest = if algorithm == "HS512" { MessageDigest::sha512() } else { MessageDigest::sha256() };
    let key = PKey::hmac(secret).expect("a key");
    let mut signer = Signer::new(digest, &key).expect("HMAC");
    signer.sign_oneshot_to_vec(message).expect("HMAC")
}

/// The members of an object, those that come twice too.
fn members(text: &[u8]) -> Vec<(String, Value)> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, Value)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let members = json.deserialize_map(Members).expect("JSON");
    json.end().expect("nothing behind it");
    members
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len())
            .for_each(|place| text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize])));
    }
    text
}

/// base64url, of which each text has one spelling.
fn decode(text: &[u8]) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text {
        let value = ALPHABET.iter().position(|letter| letter == byte).expect("base64url");
        bits = bits << 6 | u32::try_from(value).expect("six bits");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
            bits &= (1 << count) - 1;
        }
    }
    assert!(count < 6 && bits == 0, "another spelling of the token");
    bytes
}
