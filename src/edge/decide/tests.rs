use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Version};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::{Gate, Observation};
use crate::auth::identity::Identity;
use crate::auth::keys::{Algorithm, Key, KeySet};
use crate::auth::name::Name;
use crate::auth::policy::EnforcedPath;
use crate::auth::revocation::RevocationSnapshot;
use crate::auth::time::UnixTime;
use crate::auth::token::{TokenRules, mint};
use crate::config::Config;
use crate::edge::forward::Rewrite;
use crate::edge::platforms::Platforms;
use crate::edge::raw_head::RawHead;
use crate::edge::request_head::EngineHead;
use crate::edge::upstream::Upstream;
use crate::metrics::ServerMetrics;

const NOW: UnixTime = UnixTime(1_700_000_000);

const CONFIG: &str = r#"
[server]
http = ["127.0.0.1:0"]
state_dir = "state"
[platform]
servers = ["http://127.0.0.1:9000"]
user_changes = [{ methods = ["PUT"], path = "/ds-api/users/{email}", ends = "{email}" }]
[routes]
public = ["/ds-api/public/*"]
"#;

const SHARED: &str = r#"
[cors]
origins = ["https://dashboard.example"]
"#;

pub(in crate::edge) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| runtime(CONFIG));

/// The same, with pages of other origins.
/// With the same gate: each has a number of its own.
static SHARING: LazyLock<Runtime> =
    LazyLock::new(|| Runtime { gate: Arc::clone(&RUNTIME.gate), ..runtime(&format!("{CONFIG}{SHARED}")) });

/// Of a configuration, with an empty store's gate and one server.
pub(in crate::edge) fn runtime(text: &str) -> Runtime {
    let (config, _) = Config::parse(text, Path::new("/nowhere"), std::iter::empty());
    let (config, _) = config.unwrap();
    let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
    let key_set = KeySet::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).unwrap()]).unwrap();
    let cache = Cache::new(CacheLimits { entries: 100, bytes: 1 << 20 }, 1, || 0, 0);
    let (snapshot, staleness) = (RevocationSnapshot::default(), Duration::from_secs(300));
    Runtime {
        gate: Arc::new(Gate::new(key_set, TokenRules::DEFAULT, cache, staleness, snapshot, Duration::ZERO)),
        policy: config.routes,
        observation: None,
        cors: config.cors,
        rewrite: Rewrite::new(&config.platform),
        user_changes: config.platform.user_changes,
        platforms: Platforms::new(
            Upstream::new(
                &config.platform.pool,
                None,
                None,
                &Arc::new(ServerMetrics::new([])),
                &mut Vec::new(),
            )
            .unwrap(),
            Vec::new(),
        ),
        limits: config.limits,
        request_durations: Vec::new(),
        proxies: Arc::default(),
        forwarded_fields: config.server.forwarded_fields,
        half_close: config.server.half_close,
    }
}

/// With the same gate, while routes but these are observed for another 1,000 s.
pub(in crate::edge) fn observing(enforced: &[&str]) -> Runtime {
    let enforced = enforced.iter().map(|path| EnforcedPath::new(path).unwrap()).collect();
    let observation = Observation::begin(NOW.plus(1000), enforced, InspectAuth::Basic, clock());
    Runtime { gate: Arc::clone(&RUNTIME.gate), observation: Some(observation), ..runtime(CONFIG) }
}

static OBSERVING: LazyLock<Runtime> = LazyLock::new(|| observing(&["/ds-api/agents/*"]));

pub(in crate::edge) static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let anna = Identity {
        user: Name::parse_user("anna").unwrap(),
        email: "anna@example.com".into(),
        organization: Name::parse("Main Org.").unwrap(),
    };
    let (keys, rules) = (RUNTIME.gate.keys(), RUNTIME.gate.rules());
    mint(&anna, 5, [1; 16], NOW, &rules, keys.signer()).unwrap().token
});

/// A request as text, and as the engine would hand it on.
struct Request {
    method: String,
    target: String,
    headers: HeaderMap,
    raw: String,
}

impl Request {
    fn new(method: &str, target: &str, fields: &[(&str, &str)]) -> Self {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), value);
        }
        let raw = format!("{method} {target} HTTP/1.1\r\n{lines}\r\n");
        Self { method: method.into(), target: target.into(), headers, raw }
    }

    fn of_engine(&self) -> EngineHead<'_> {
        EngineHead {
            method: &self.method,
            target: self.target.as_bytes(),
            version: Version::HTTP_11,
            headers: &self.headers,
            raw: Some(self.raw.as_bytes()),
            has_unannounced_body: false,
        }
    }

    fn raw(&self) -> RawHead<'_> {
        RawHead::parse(self.raw.as_bytes()).unwrap()
    }
}

pub(in crate::edge) fn clock() -> ClockReading {
    ClockReading { now: NOW, uptime: Duration::ZERO }
}

/// What became of a request, as far as a table shows it: the kind, the word of the log, why it would be refused.
fn summary(decision: &Decision) -> (&'static str, &'static str, Option<&'static str>) {
    match decision {
        Decision::Forward(Pass::Observed(pass), facts) => {
            ("forward", facts.word, pass.would_refuse().map(WouldRefuse::as_str))
        }
        Decision::Forward(_, facts) => ("forward", facts.word, None),
        Decision::Change(_, facts, _) => ("change", facts.word, None),
        Decision::Endpoint(_, facts) => ("endpoint", facts.word, None),
        Decision::Wait(_, facts) => ("wait", facts.word, None),
        Decision::Answer(_, facts) => ("answer", facts.word, None),
    }
}

/// All that is known of a decision; secrets show as their presence.
fn describe<H: RequestHead>(head: &H) -> String {
    format!("{:?}", decide(head, &RUNTIME, clock()))
}

/// Where a page runs that may call, and where one that may not.
const ORIGIN: (&str, &str) = ("Origin", "https://dashboard.example");
const OTHER_ORIGIN: (&str, &str) = ("Origin", "https://evil.example");
const ASKS_FOR: (&str, &str) = ("Access-Control-Request-Method", "PUT");

#[test]
fn each_request_has_its_decision() {
    let (host, token) = (("Host", "gateway"), ("User-Token", TOKEN.as_str()));
    for (method, target, fields, expected) in [
        ("GET", "/ds-api/x", &[host, token][..], ("forward", "admitted")),
        ("POST", "/ds-api/x", &[host, token, ("Content-Length", "5")], ("forward", "admitted")),
        ("PUT", "/ds-api/x", &[host, token], ("forward", "admitted")),
        ("PUT", "/ds-api/users/a@b", &[host, token], ("change", "admitted")),
        ("PUT", "/DS-API/%75sers/a@b/?x", &[host, token], ("change", "admitted")),
        ("GET", "/ds-api/users/a@b", &[host, token], ("forward", "admitted")),
        ("PUT", "/ds-api/users/a@b", &[host], ("answer", "token_missing")),
        ("GET", "/ds-api/public/x", &[host], ("forward", "public")),
        ("GET", "/ds-api/public/x", &[host, ("user_token", "x")], ("answer", "token_alias")),
        ("GET", "/ds-api/public/x", &[host, ("Transfer-Encoding", "chunked")], ("answer", "token_missing")),
        ("GET", "/ds-api/x", &[host], ("answer", "token_missing")),
        ("GET", "/ds-api/x", &[host, token, token], ("answer", "token_repeated")),
        ("GET", "/ds-api/x", &[token], ("answer", "malformed")),
        ("GET", "/ds-api//..", &[host, token], ("answer", "malformed")),
        ("GET", "/DS-API/user-token", &[host, token], ("answer", "not_found")),
        ("POST", "/ds-api/user-token", &[host], ("endpoint", "malformed")),
    ] {
        let request = Request::new(method, target, fields);
        let (kind, facts) = match decide(&request.raw(), &RUNTIME, clock()) {
            Decision::Forward(_, facts) => ("forward", facts),
            Decision::Change(_, facts, _) => ("change", facts),
            Decision::Endpoint(_, facts) => ("endpoint", facts),
            Decision::Wait(_, facts) => ("wait", facts),
            Decision::Answer(_, facts) => ("answer", facts),
        };
        assert_eq!((kind, facts.word), expected, "{method} {target} {fields:?}");
        assert_eq!(describe(&request.raw()), describe(&request.of_engine()));
    }
}

#[test]
fn a_browser_that_asks_before_it_sends_is_answered_on_every_route() {
    let (host, token) = (("Host", "gateway"), ("User-Token", TOKEN.as_str()));
    for target in [
        "/ds-api/x",
        "/ds-api/public/x",
        "/ds-api/user-token",
        "/ds-api/user-token/Main%20Org.",
        "/ds-api/user-token/a/b",
        "/%00",
        "*",
    ] {
        for (fields, expected) in [
            (&[host, ORIGIN, ASKS_FOR][..], Some((204, "preflight"))),
            (&[host, ORIGIN, ASKS_FOR, token], Some((204, "preflight"))),
            (
                &[host, ORIGIN, ASKS_FOR, ("Access-Control-Request-Headers", "user-token")],
                Some((204, "preflight")),
            ),
            (&[host, OTHER_ORIGIN, ASKS_FOR], Some((403, "origin_refused"))),
            (&[host, OTHER_ORIGIN, ASKS_FOR, token], Some((403, "origin_refused"))),
            // Malformed as before.
            (&[ORIGIN, ASKS_FOR], Some((400, "malformed"))),
            // Requests like any other.
            (&[host, ORIGIN], None),
            (&[host, ASKS_FOR], None),
            (&[host, ORIGIN, ORIGIN, ASKS_FOR], None),
            (&[host, ORIGIN, ASKS_FOR, ASKS_FOR], None),
        ] {
            let request = Request::new("OPTIONS", target, fields);
            let decided = decide(&request.raw(), &SHARING, clock());
            match (&decided, expected) {
                (Decision::Answer(reply, facts), Some(expected)) => {
                    assert_eq!((reply.status, facts.word), expected, "{target} {fields:?}");
                }
                (_, None) => {
                    assert_eq!(format!("{decided:?}"), describe(&request.raw()), "{target} {fields:?}")
                }
                (decided, Some(_)) => panic!("{target} {fields:?}: {decided:?}"),
            }
            let by_engine = decide(&request.of_engine(), &SHARING, clock());
            assert_eq!(format!("{decided:?}"), format!("{by_engine:?}"));
        }
    }
}

#[test]
fn what_would_be_refused_goes_on_while_its_route_is_observed() {
    let (host, token) = (("Host", "gateway"), ("User-Token", TOKEN.as_str()));
    let long = "x".repeat(9_000);
    let long = ("user-token", long.as_str());
    for (target, fields, would_refuse) in [
        ("/ds-api/x", &[host][..], "token_missing"),
        ("/ds-api/x", &[host, token, token], "token_repeated"),
        ("/ds-api/x", &[host, ("user-token", "a, b")], "token_repeated"),
        ("/ds-api/x", &[host, ("user-token", "")], "token_empty"),
        ("/ds-api/x", &[host, ("user-token", "x")], "token_malformed"),
        ("/ds-api/x", &[host, long], "token_oversized"),
        ("/ds-api/public/x", &[host, ("Transfer-Encoding", "chunked")], "token_missing"),
        ("/ds-api/agents/7", &[host], "token_missing"),
        ("/ds-api/%61gents/7", &[host, token, token], "token_repeated"),
    ] {
        let request = Request::new("GET", target, fields);
        let observed = match target.contains("gents") {
            true => ("answer", would_refuse, None),
            false => ("forward", "observed", Some(would_refuse)),
        };
        assert_eq!(summary(&decide(&request.raw(), &OBSERVING, clock())), observed, "{target} {fields:?}");
        assert_eq!(
            summary(&decide(&request.of_engine(), &OBSERVING, clock())),
            observed,
            "{target} {fields:?}"
        );
        assert_eq!(summary(&decide(&request.raw(), &RUNTIME, clock())), ("answer", would_refuse, None));
        for over in [
            ClockReading { now: NOW.plus(1000), ..clock() },
            ClockReading { uptime: Duration::from_secs(1000), ..clock() },
        ] {
            let [observing, enforcing] =
                [&*OBSERVING, &*RUNTIME].map(|runtime| decide(&request.raw(), runtime, over));
            assert_eq!(format!("{observing:?}"), format!("{enforcing:?}"), "{target} {fields:?}");
        }
    }
    // Known, and of no use: nobody can say what was revoked since.
    let stale = ClockReading { uptime: Duration::from_secs(301), ..clock() };
    let request = Request::new("GET", "/ds-api/x", &[host, token]);
    assert_eq!(
        summary(&decide(&request.raw(), &OBSERVING, stale)),
        ("forward", "observed", Some("state_stale"))
    );
    assert_eq!(summary(&decide(&request.raw(), &OBSERVING, clock())), ("forward", "admitted", None));
    // Refused for its form, as always.
    let alias = Request::new("GET", "/ds-api/x", &[host, ("user_token", "x")]);
    assert_eq!(summary(&decide(&alias.raw(), &OBSERVING, clock())), ("answer", "token_alias", None));
}

#[test]
fn token_endpoint_goes_on_in_every_spelling_unless_it_is_enforced() {
    let enforcing = observing(&["/ds-api/user-token"]);
    let basic = ("Authorization", "Basic YTpi");
    for (method, target, fields, would_refuse) in [
        ("POST", "/ds-api/user-token", &[basic][..], None),
        ("POST", "/ds-api/user-token/Main%20Org.", &[basic], None),
        ("POST", "/ds-api/user-token", &[], Some("bad_credentials")),
        ("POST", "/ds-api/user-token", &[basic, basic], Some("bad_credentials")),
        ("GET", "/ds-api/user-token?token=x", &[basic], None),
        ("GET", "/ds-api/user-token?token=x", &[], Some("bad_credentials")),
        ("GET", "/ds-api/user-token", &[basic], Some("bad_request")),
        ("PUT", "/ds-api/user-token", &[basic], Some("method_not_allowed")),
        ("DELETE", "/ds-api/user-token/x", &[("user-token", "x")], Some("method_not_allowed")),
        ("DELETE", "/ds-api/user-token", &[("user-token", "x")], None),
        ("DELETE", "/ds-api/user-token", &[], Some("token_missing")),
        ("POST", "/DS-API/User-Token", &[basic], Some("not_found")),
        ("POST", "/ds-api//user-token", &[basic], Some("not_found")),
        ("POST", "/ds-api/%75ser-token", &[basic], Some("not_found")),
        ("POST", "/ds-api/user-token;x=1", &[basic], Some("not_found")),
        ("POST", "/ds-api/user-token/", &[basic], Some("not_found")),
        ("GET", "/ds-api/user-token/a/b", &[], Some("not_found")),
    ] {
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("Host", "gateway")]).collect();
        let request = Request::new(method, target, &fields);
        let decided = decide(&request.raw(), &OBSERVING, clock());
        assert_eq!(summary(&decided), ("forward", "observed", would_refuse), "{method} {target} {fields:?}");
        assert!(matches!(decided, Decision::Forward(_, Facts { route: RouteLabel::Endpoint, .. })));
        let over = ClockReading { now: NOW.plus(1000), ..clock() };
        for (runtime, clock) in [(&enforcing, clock()), (&*OBSERVING, over)] {
            let decided = format!("{:?}", decide(&request.raw(), runtime, clock));
            assert_eq!(decided, describe(&request.raw()), "{method} {target}");
        }
    }
    // As on every other route.
    let alias = Request::new("DELETE", "/ds-api/user-token", &[("Host", "g"), ("user_token", "x")]);
    assert!(matches!(decide(&alias.raw(), &OBSERVING, clock()), Decision::Endpoint(..)));
}

#[test]
fn endpoint_gets_a_copy_of_what_it_needs() {
    let fields = [("Host", "g"), ("authorization", "Basic a"), ("AUTHORIZATION", "b"), ("user-token", "t")];
    let request = Request::new("GET", "/ds-api/user-token/Main%20Org.?token=x", &fields);
    let Decision::Endpoint(call, _) = decide(&request.raw(), &RUNTIME, clock()) else { panic!() };
    let text = |secret: &Secret| String::from_utf8(secret.expose_secret().to_vec()).unwrap();
    assert_eq!((&*call.method, call.organization.as_deref()), ("GET", Some("Main Org.")));
    assert_eq!(call.query.as_ref().map(text).as_deref(), Some("token=x"));
    assert_eq!(call.authorization.iter().map(text).collect::<Vec<_>>(), ["Basic a", "b"]);
    assert_eq!(call.token.as_ref().map(text), Err(&Denial::TokenMissing), "which only a revocation needs");
    let request = Request::new("DELETE", "/ds-api/user-token?token=x", &fields);
    let Decision::Endpoint(call, _) = decide(&request.raw(), &RUNTIME, clock()) else { panic!() };
    assert_eq!(call.token.as_ref().map(text).as_deref(), Ok("t"));
    assert!(call.query.is_none() && call.authorization.is_empty());
}

#[cfg(not(feature = "model"))]
#[test]
fn an_admitted_request_allocates_nothing() {
    let request =
        Request::new("GET", "/ds-api/x?y=z", &[("Host", "g"), ("Accept", "*/*"), ("User-Token", &TOKEN)]);
    let (engine, raw) = (request.of_engine(), request.raw());
    // The first one fills the cache.
    assert!(matches!(decide(&raw, &RUNTIME, clock()), Decision::Forward(..)));
    LazyLock::force(&OBSERVING);
    let observed = Request::new("GET", "/ds-api/x?y=z", &[("Host", "g"), ("Accept", "*/*")]);
    let observed = observed.raw();
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().unwrap();
    let before = allocated.get();
    for _ in 0..100 {
        assert!(matches!(decide(&raw, &RUNTIME, clock()), Decision::Forward(..)));
        assert!(matches!(decide(&engine, &RUNTIME, clock()), Decision::Forward(..)));
    }
    // Nor does one that is observed, or admitted meanwhile.
    for _ in 0..100 {
        assert!(matches!(decide(&raw, &OBSERVING, clock()), Decision::Forward(Pass::Permit(_), _)));
        assert!(matches!(decide(&observed, &OBSERVING, clock()), Decision::Forward(Pass::Observed(_), _)));
    }
    assert_eq!(allocated.get() - before, 0);
}

/// Fields that a rule looks at, and others.
fn field() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        Just("Host"),
        Just("user-token"),
        Just("USER_TOKEN"),
        Just("Content-Length"),
        Just("content_length"),
        Just("Transfer-Encoding"),
        Just("Connection"),
        Just("Upgrade"),
        Just("Expect"),
        Just("X-Http-Method-Override"),
        Just("x-ds-user"),
        Just("Authorization"),
        Just("Accept"),
    ];
    let value = prop_oneof![
        Just(String::new()),
        Just("gateway".into()),
        Just("0".into()),
        Just("17".into()),
        Just("chunked".into()),
        Just("Chunked".into()),
        Just("h2c".into()),
        Just("100-continue".into()),
        Just("close, x-ds-user".into()),
        Just(TOKEN.clone()),
        "[!-~]{1,12}",
    ];
    (name.prop_map(str::to_owned), value)
}

/// A request of any kind.
fn any_request() -> impl Strategy<Value = (&'static str, String, Vec<(String, String)>)> {
    let method = prop_oneof![Just("GET"), Just("POST"), Just("DELETE"), Just("OPTIONS")];
    let target = prop_oneof![
        Just("/ds-api/x".to_owned()),
        Just("/ds-api/user-token".into()),
        Just("/ds-api/public/y".into()),
        Just("*".into()),
        "/[!-~]{0,16}",
    ];
    (method, target, vec(field(), 0..6))
}

proptest! {
    #[test]
    fn no_origin_changes_a_verdict((method, target, fields) in any_request(), origin in "https://dashboard[.]example|null|[ -~]{0,30}", rule: bool) {
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let without: Vec<(&str, &str)> = fields.chain([("Host", "gateway")]).collect();
        let with: Vec<(&str, &str)> = without.iter().copied().chain([("Origin", origin.trim())]).collect();
        let runtime = if rule { &SHARING } else { &RUNTIME };
        let decided = |fields: &[(&str, &str)]| format!("{:?}", decide(&Request::new(method, &target, fields).raw(), runtime, clock()));
        prop_assert_eq!(decided(&with), decided(&without));
    }

    #[test]
    fn only_a_preflight_is_decided_otherwise_where_origins_are_listed((method, target, fields) in any_request(), extra in vec(prop_oneof![Just(ORIGIN), Just(OTHER_ORIGIN), Just(ASKS_FOR)], 0..4)) {
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let fields: Vec<(&str, &str)> = fields.chain([("Host", "gateway")]).chain(extra.iter().copied()).collect();
        let request = Request::new(method, &target, &fields);
        let (sharing, plain) = (format!("{:?}", decide(&request.raw(), &SHARING, clock())), describe(&request.raw()));
        let is_preflight = method == "OPTIONS"
            && extra.iter().filter(|field| **field != ASKS_FOR).count() == 1
            && extra.iter().filter(|field| **field == ASKS_FOR).count() == 1;
        if is_preflight {
            prop_assert!(sharing.starts_with("Answer"), "{}", sharing);
        } else {
            prop_assert_eq!(sharing, plain);
        }
    }

    /// Only the decision about a token is observed: what is malformed, asked by a browser, public or admitted is what it was.
    #[test]
    fn only_a_refused_token_is_decided_otherwise_while_observing((method, target, fields) in any_request(), extra in vec(prop_oneof![Just(ORIGIN), Just(ASKS_FOR)], 0..3), over: bool) {
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let fields: Vec<(&str, &str)> = fields.chain([("Host", "gateway")]).chain(extra).collect();
        let request = Request::new(method, &target, &fields);
        let reading = ClockReading { now: if over { NOW.plus(1000) } else { NOW }, ..clock() };
        let (observed, plain) = (decide(&request.raw(), &OBSERVING, reading), decide(&request.raw(), &RUNTIME, reading));
        if let Decision::Forward(Pass::Observed(_), facts) = &observed {
            prop_assert!(!over);
            let is_denied = matches!(&plain, Decision::Answer(_, facts) if matches!(facts.label, Some(DecisionLabel::Denied(denial)) if denial != Denial::TokenAlias));
            let is_endpoint = matches!(&plain, Decision::Endpoint(..)) || summary(&plain).1 == "not_found";
            prop_assert!(is_denied || is_endpoint, "{:?}", plain);
            prop_assert_eq!(facts.route == RouteLabel::Endpoint, is_endpoint);
        } else {
            prop_assert_eq!(format!("{observed:?}"), format!("{plain:?}"));
        }
    }

    #[test]
    fn both_carriers_of_a_head_get_the_same_decision(
        method in prop_oneof![Just("GET"), Just("POST"), Just("OPTIONS")],
        target in prop_oneof![
            Just("/ds-api/x".to_owned()), Just("/ds-api/user-token".into()), Just("/ds-api/public/y".into()),
            Just("*".into()), "/[!-~]{0,16}",
        ],
        fields in vec(field(), 0..6),
        has_host in any::<bool>(),
    ) {
        let host = has_host.then_some(("Host", "gateway"));
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(host).collect();
        let request = Request::new(method, &target, &fields);
        // The engine drops a length where there is an encoding, which the rules see by the raw bytes.
        let mut engine = Request::new(method, &target, &fields);
        if engine.headers.contains_key("transfer-encoding") {
            engine.headers.remove("content-length");
        }
        // A table keeps fields of one name together, so that of two faults another one may be found first.
        let (of_raw, of_engine) = (describe(&request.raw()), describe(&engine.of_engine()));
        let kind = |text: &str| text.split('(').next().map(str::to_owned);
        prop_assert_eq!(kind(&of_raw), kind(&of_engine));
        if kind(&of_raw).as_deref() != Some("Answer") {
            prop_assert_eq!(of_raw, of_engine);
        }
    }
}

/// With a gate of its own that has applied the sequence 7.
static AT_SEVEN: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = runtime(CONFIG);
    runtime.gate.apply(|snapshot| snapshot.advance(7));
    runtime
});

#[test]
fn request_with_a_valid_token_waits_for_a_sequence_that_is_not_applied() {
    let (host, token) = (("Host", "gateway"), ("user-token", TOKEN.as_str()));
    let at_least = |value: &'static str| ("X-DS-At-Least", value);
    let admitted = ("forward", "admitted", None);
    for (target, fields, expected) in [
        ("/ds-api/x", &[host, token, at_least("0")][..], admitted),
        ("/ds-api/x", &[host, token, at_least("7")], admitted),
        ("/ds-api/x", &[host, token, at_least("007")], admitted),
        ("/ds-api/x", &[host, token, at_least("8")], ("wait", "not_applied", None)),
        ("/ds-api/x", &[host, token, ("x-ds-at-least", "8")], ("wait", "not_applied", None)),
        ("/ds-api/x", &[host, token, at_least("18446744073709551615")], ("wait", "not_applied", None)),
        // A stranger waits for nothing.
        ("/ds-api/x", &[host, at_least("8")], ("answer", "token_missing", None)),
        ("/ds-api/x", &[host, token, token, at_least("8")], ("answer", "token_repeated", None)),
        ("/ds-api/x", &[host, ("user-token", "a.b.c"), at_least("8")], ("answer", "token_malformed", None)),
        // Where no token is asked for, there is nothing to wait for.
        ("/ds-api/public/x", &[host, at_least("8")], ("forward", "public", None)),
        ("/ds-api/user-token", &[host, token, at_least("8")], ("endpoint", "malformed", None)),
        // No sequence.
        ("/ds-api/x", &[host, token, at_least("")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("-1")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("+1")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("1.0")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("7, 7")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("7 7")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("0x7")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("18446744073709551616")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("7"), at_least("7")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, at_least("a"), at_least("7")], ("answer", "malformed", None)),
        ("/ds-api/x", &[host, token, ("Connection", "X-DS-At-Least")], ("answer", "malformed", None)),
        ("/ds-api/public/x", &[host, at_least("a")], ("answer", "malformed", None)),
        // Other spellings ask for nothing.
        ("/ds-api/x", &[host, token, ("x_ds_at_least", "8")], admitted),
        ("/ds-api/x", &[host, token, ("X.DS.At.Least", "a")], admitted),
        ("/ds-api/x", &[host, token, ("X-DS-Sequence", "8")], admitted),
    ] {
        let request = Request::new("GET", target, fields);
        let decided = decide(&request.raw(), &AT_SEVEN, clock());
        assert_eq!(summary(&decided), expected, "{target} {fields:?}");
        let by_engine = decide(&request.of_engine(), &AT_SEVEN, clock());
        assert_eq!(format!("{decided:?}"), format!("{by_engine:?}"), "{target} {fields:?}");
        if let Decision::Forward(_, facts) = decided {
            let names_one = fields.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("x"));
            assert_eq!(facts.has_managed, names_one, "{fields:?}: it must be dropped");
        }
    }
    // Changes on the platform wait too, before they are noted.
    let fields = [host, token, at_least("8")];
    let change = Request::new("PUT", "/ds-api/users/a@example.com", &fields);
    assert!(matches!(decide(&change.raw(), &AT_SEVEN, clock()), Decision::Wait(8, _)));
}

#[test]
fn nobody_waits_where_routes_are_observed() {
    let (host, token) = (("Host", "gateway"), ("user-token", TOKEN.as_str()));
    let at_least = ("X-DS-At-Least", "8");
    for (target, fields, expected) in [
        ("/ds-api/x", &[host, token, at_least][..], ("forward", "admitted", None)),
        ("/ds-api/x", &[host, at_least], ("forward", "observed", Some("token_missing"))),
        ("/ds-api/agents/7", &[host, token, at_least], ("wait", "not_applied", None)),
        ("/ds-api/agents/7", &[host, at_least], ("answer", "token_missing", None)),
    ] {
        let request = Request::new("GET", target, fields);
        assert_eq!(summary(&decide(&request.raw(), &OBSERVING, clock())), expected, "{target} {fields:?}");
    }
    let over = ClockReading { now: NOW.plus(1000), ..clock() };
    let request = Request::new("GET", "/ds-api/x", &[host, token, at_least]);
    assert_eq!(summary(&decide(&request.raw(), &OBSERVING, over)), ("wait", "not_applied", None));
}
