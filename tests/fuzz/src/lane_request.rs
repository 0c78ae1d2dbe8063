//! The fast lane's reader: what it takes is read alike by two strict readers, and what it sends on is one request, with the gateway's
//! own fields in the place of those that the client sent under their names.
//!
//! The input: the bytes of a connection, from the first of a request.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use ds_gateway::auth::cache::{Cache, CacheLimits};
use ds_gateway::auth::fields::Field;
use ds_gateway::auth::gate::{ClockReading, Gate, Pass, TokenField};
use ds_gateway::auth::identity::Identity;
use ds_gateway::auth::keys::{Algorithm, Key, KeySet};
use ds_gateway::auth::name::Name;
use ds_gateway::auth::revocation::RevocationSnapshot;
use ds_gateway::auth::secret::Secret;
use ds_gateway::auth::time::UnixTime;
use ds_gateway::auth::token::{TokenRules, mint};
use ds_gateway::config::Config;
use ds_gateway::edge::forward::Rewrite;
use ds_gateway::edge::lane::forwarded;
use ds_gateway::edge::raw_head::RawHead;
use ds_gateway::edge::request_head::RequestHead as _;

use crate::fields::expected;
use crate::requests::{self, Framing, framing, request};

pub fn run(input: &[u8]) {
    let (rewrite, pass) = &*SETTING;
    let mut out = Vec::new();
    let Some((length, body)) = forwarded(input, rewrite, pass, &mut out) else { return };
    let shown = || format!("{}\nsent on as {}", input.escape_ascii(), out.escape_ascii());

    // As it came: by the reader of the tests, and by the gateway's other one.
    let (sent, ..) = request(input).unwrap_or_else(|fault| panic!("{fault:?}: {}", shown()));
    assert_eq!(sent.head.length, length, "{}", shown());
    assert_eq!(framing(&sent.head), Ok(Framing::Sized(body as usize)), "{}", shown());
    assert!(sent.head.start.ends_with(b" HTTP/1.1") && !sent.is_odd(), "{}", shown());
    assert!(sent.target.starts_with(b"/"), "{}", shown());
    let raw = RawHead::parse(&input[..length]).unwrap_or_else(|fault| panic!("{fault:?}: {}", shown()));
    assert_eq!((raw.method(), raw.target()), (&*sent.method, &*sent.target), "{}", shown());
    let fields = raw.fields().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
    assert_eq!(fields.collect::<Vec<_>>(), sent.head.fields, "{}", shown());

    // As it goes on.
    let head = requests::head(&out).unwrap_or_else(|fault| panic!("{fault:?}: {}", shown()));
    assert_eq!((head.length, &head.start), (out.len(), &sent.head.start), "{}", shown());
    assert_eq!(framing(&head), framing(&sent.head), "{}", shown());
    assert_eq!(head.values("host").len(), 1, "{}", shown());
    for (name, value) in SET {
        let found = head.values(name);
        assert_eq!(found.len(), 1, "{name}: {}", shown());
        assert!(value.is_empty() || found == [value.as_bytes()], "{name}: {}", shown());
    }
    let is_ours = |name: &[u8]| SET.iter().any(|(set, _)| set.as_bytes() == name);
    for (name, value) in head.fields.iter().filter(|(name, _)| !is_ours(name)) {
        assert!(
            matches!(expected(name, &IDENTITY), Field::Free | Field::Token),
            "{}: {}",
            name.escape_ascii(),
            shown()
        );
        assert!(!HOP_BY_HOP.iter().any(|hop| hop.as_bytes() == name), "{}: {}", name.escape_ascii(), shown());
        let was_sent = sent.head.fields.iter().any(|(have, said)| have == name && said == value);
        assert!(was_sent || name == b"cookie", "{}: {}", name.escape_ascii(), shown());
    }
    // None is lost.
    let kept: BTreeSet<&[u8]> = head.fields.iter().map(|(name, _)| name.as_slice()).collect();
    for (name, _) in &sent.head.fields {
        let ends_here = HOP_BY_HOP.iter().any(|hop| hop.as_bytes() == name);
        let goes_on = !ends_here && matches!(expected(name, &IDENTITY), Field::Free | Field::Token);
        assert!(!goes_on || kept.contains(name.as_slice()), "{} is lost: {}", name.escape_ascii(), shown());
    }
}

const IDENTITY: [&str; 3] = ["X-DS-User", "X-DS-Email", "X-DS-Organization"];

/// What the gateway sets, and to what where that is always the same.
const SET: [(&str, &str); 7] = [
    ("x-ds-user", "anna"),
    ("x-ds-email", "anna@example.com"),
    ("x-ds-organization", "Main Org."),
    ("x-request-id", ""),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-proto", "http"),
    ("traceparent", ""),
];

/// Of a connection (RFC 9110 §7.6.1), and what asks something of the next hop alone.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

static SETTING: LazyLock<(Rewrite, Pass)> = LazyLock::new(|| {
    let text = "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = [\"http://127.0.0.1:9\"]\n";
    let config = Config::parse(text, Path::new("/nowhere"), std::iter::empty()).0.expect("a configuration").0;
    let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
    let keys =
        KeySet::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).expect("a key")]).expect("keys");
    let name = |text| Name::parse(text).expect("a name");
    let anna =
        Identity { user: name("anna"), email: "anna@example.com".into(), organization: name("Main Org.") };
    let now = UnixTime(1_700_000_000);
    let minted = mint(&anna, 1, [7; 16], now, &TokenRules::DEFAULT, keys.signer()).expect("a token");
    let cache = Cache::new(CacheLimits { entries: 10, bytes: 1 << 20 }, 1, || 0, 0);
    let snapshot = RevocationSnapshot::default();
    let gate =
        Gate::new(keys, TokenRules::DEFAULT, cache, Duration::from_secs(300), snapshot, Duration::ZERO);
    let reading = ClockReading { now, uptime: Duration::ZERO };
    let permit = gate.admit(TokenField::One(minted.token.as_bytes()), reading).expect("a permit");
    (Rewrite::new(&config.platform), Pass::Permit(permit))
});
