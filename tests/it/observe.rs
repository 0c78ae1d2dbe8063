//! Observing: what would be refused is forwarded to the platform's own check, logged and counted; nothing else changes, and it ends by
//! itself.

use crate::client::{Answer, basic, request, request_with};
use crate::clocks::Clocks;
use crate::command::{Folder, eventually};
use crate::configuration::options;
use crate::contract::ENDPOINT;
use crate::curl::{BOTH, curl};
use crate::foreign;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt;
use crate::options::{Key, Options, User};
use crate::platform::Platform;
use serde_json::Value;
use tempfile::TempDir;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A time so many seconds from now, as TOML text.
pub fn in_seconds(seconds: i64) -> String {
    let time = jwt::utc(jwt::now().checked_add_signed(seconds).expect("a time"));
    format!("\"{}Z\"", time.replace(' ', "T"))
}

/// Observes for an hour all but these routes.
pub fn observing(platform: &Platform, enforce: &[&str]) -> Options {
    Options::new(platform)
        .set("routes", "mode", "\"observe\"")
        .set("routes", "observe_until", in_seconds(HOUR))
        .set("routes", "enforce", format!("{enforce:?}"))
}

/// A token of the user of the published example, while the gateway issues none to clients.
fn token(folder: &Folder) -> String {
    folder.cli(&["token", "mint", USER], "").ok().trim().to_owned()
}

fn line(gateway: &Gateway, id: &str) -> Value {
    eventually("an access line", || {
        gateway.log.messages("access").into_iter().find(|line| line["request_id"] == id)
    })
}

fn access(gateway: &Gateway, answer: &Answer) -> Value {
    line(gateway, answer.value("x-request-id"))
}

fn counted(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("ds_gateway_would_refuse_total", &[&format!("reason={reason:?}")])
}

/// Waits until a line of this level with this text was logged.
fn is_said(gateway: &Gateway, text: &str) {
    eventually(text, || {
        gateway.log.lines().iter().any(|line| line.contains("\"warn\"") && line.contains(text)).then_some(())
    });
}

#[test]
fn what_would_be_refused_is_forwarded_as_it_came_and_counted_and_logged() {
    let platform = Platform::echo();
    let gateway = observing(&platform, &[]).start();
    let (valid, long) = (token(&gateway.folder), "x".repeat(9_000));
    let forged = format!("{}AAAA", &valid[..valid.len() - 4]);
    let revoked = token(&gateway.folder);
    let done = gateway.folder.cli(&["revoke", "token", "--token-file", "-"], &revoked);
    assert!(done.stderr.contains("a revocation has no effect on them"), "{done:?}");
    done.ok();
    let explain = ["token", "explain", "--path", "/ds-api/x", "--token-file", "-"];
    let done = gateway.folder.cli(&explain, &revoked);
    assert!(done.code == Some(65) && done.stderr.contains("what would be refused is forwarded"), "{done:?}");
    for (number, (tokens, reason)) in [
        (&[][..], "token_missing"),
        (&["x"], "token_malformed"),
        (&[""], "token_empty"),
        (&["x", "y"], "token_repeated"),
        (&[long.as_str()], "token_oversized"),
        (&[forged.as_str()], "token_signature"),
        (&[revoked.as_str()], "revoked_token"),
    ]
    .into_iter()
    .enumerate()
    {
        for method in ["GET", "POST"] {
            let target = format!("/ds-api/{method}/{number}");
            let fields: Vec<(&str, &str)> = tokens.iter().map(|token| ("user-token", *token)).collect();
            let fields =
                [&fields[..], &[("Authorization", "Basic mine"), ("Cookie", "a=b"), ("X-DS-User", "liar")]]
                    .concat();
            let before = counted(&gateway, reason);
            let answer = gateway.exchange(request_with(method, &target, &fields, b"body"));
            assert_eq!((answer.status, answer.values("x-platform")), (200, vec!["yes"]), "{reason}");
            let seen = platform.request(&target);
            assert_eq!(seen.values("user-token"), tokens, "{reason}");
            assert_eq!(
                (seen.values("authorization"), seen.values("cookie")),
                (vec!["Basic mine"], vec!["a=b"])
            );
            assert!(seen.values("x-ds-user").is_empty(), "{seen:?}");
            assert_eq!((seen.values("x-request-id").len(), seen.body.as_slice()), (1, &b"body"[..]));
            let line = access(&gateway, &answer);
            assert_eq!(
                (&line["decision"], &line["would_refuse"]),
                (&"observed".into(), &reason.into()),
                "{line}"
            );
            assert!(line["user"].is_null() && line["route"] == "protected", "{line}");
            assert_eq!(counted(&gateway, reason), before + 1.0, "{reason}");
        }
    }
    assert_eq!(gateway.metric("ds_gateway_decisions_total", &["decision=\"observed\""]), 14.0);
    assert_eq!(gateway.metric("ds_gateway_decisions_total", &["decision=\"token_missing\""]), 0.0);

    // A token that holds is admitted as always.
    let fields = [("user-token", valid.as_str()), ("Authorization", "Basic mine"), ("x_ds_user", "liar")];
    let answer = gateway.exchange(request("GET", "/ds-api/valid", &fields));
    let seen = platform.request("/ds-api/valid");
    assert_eq!((seen.values("x-ds-user"), seen.values("user-token")), (vec![USER], vec![valid.as_str()]));
    assert!(seen.values("authorization").is_empty(), "{seen:?}");
    let line = access(&gateway, &answer);
    assert!(line["decision"] == "admitted" && line.get("would_refuse").is_none(), "{line}");
    platform.never_saw("liar");
    assert_eq!(gateway.admin("/healthz").status, 200);
}

#[test]
fn with_the_platforms_key_its_tokens_are_told_apart() {
    let platform = Platform::echo();
    let key = Key::foreign("shared");
    let folder = observing(&platform, &[]).key(key.clone()).folder();
    let old = foreign::mint(&key, &foreign::claims(USER).with("iat", jwt::now() - 60));
    let gateway = folder.run(&["--init"]);
    let ask = |number: usize, token: &str| {
        let target = format!("/ds-api/{number}");
        let answer = gateway.exchange(request("GET", &target, &[("user-token", token)]));
        assert_eq!(answer.status, 200);
        let seen = platform.requests().pop().expect("a request");
        assert_eq!((seen.target.as_str(), seen.values("user-token")), (target.as_str(), vec![token]));
        let reason = access(&gateway, &answer).get("would_refuse").and_then(Value::as_str).map(str::to_owned);
        // An identity goes with a token that holds, and with no other.
        assert_eq!(seen.values("x-ds-user").len(), usize::from(reason.is_none()), "{reason:?}");
        reason
    };
    let fresh = || foreign::mint(&key, &foreign::claims(USER));
    // Once the cutoff of the new store is past.
    eventually("a user that was not imported", || {
        (ask(0, &fresh()).as_deref() == Some("user_unknown")).then_some(())
    });
    gateway.folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    eventually("a token to be admitted", || ask(1, &fresh()).is_none().then_some(()));
    assert_eq!(ask(2, &old).as_deref(), Some("revoked_everybody"), "from before the store");
    let other = Key::ours("unknown");
    assert_eq!(ask(3, &foreign::mint(&other, &foreign::claims(USER))).as_deref(), Some("token_key"));
}

#[test]
fn both_protocols_forward_what_is_observed() {
    let platform = Platform::echo();
    let gateway = observing(&platform, &["/ds-api/agents/*"]).https().start();
    for protocol in BOTH {
        let fetch = |target: &str, more: &[&str]| {
            let url = format!("https://{}{target}", gateway.https());
            let fields =
                ["-H", "user-token: x", "-u", "a:b", "-H", "X-DS-User: liar", "-H", "X~DS~Email: liar"];
            curl(protocol, &url, &[&fields[..], more].concat(), "")
        };
        let target = format!("/ds-api/{protocol:?}");
        let answer = fetch(&target, &[]);
        answer.is(200);
        let seen = platform.request(&target);
        assert_eq!(
            (seen.values("user-token"), seen.values("authorization")),
            (vec!["x"], vec![&*basic("a", "b")])
        );
        let line = line(&gateway, answer.values("x-request-id")[0]);
        assert_eq!(
            (&line["decision"], &line["would_refuse"]),
            (&"observed".into(), &"token_malformed".into())
        );
        let target = format!("{ENDPOINT}/{protocol:?}");
        fetch(&target, &["-X", "POST"]).is(200);
        assert_eq!(platform.request(&target).values("authorization"), [&*basic("a", "b")]);
        fetch(&format!("/ds-api/agents/{protocol:?}"), &[]).is_error(401);
    }
    platform.never_saw("/agents/");
    platform.never_saw("liar");
}

#[test]
fn what_is_malformed_is_refused_as_always() {
    let platform = Platform::echo();
    let gateway = observing(&platform, &[]).set("limits", "body_bytes", "10").start();
    for (bytes, status) in [
        (request("GET", "/ds-api/../x", &[]), 400),
        (request("GET", "//x", &[]), 400),
        (request("GET", "/%zz", &[]), 400),
        (request("GET", "/x", &[("user_token", "x")]), 401),
        (request("GET", "/x", &[("User~Token", "x")]), 401),
        (request("GET", "/x", &[("X-HTTP-Method-Override", "PUT")]), 400),
        (request("GET", "/x", &[("Connection", "x-ds-user")]), 400),
        (request("GET", "/x", &[("Content_Length", "5")]), 400),
        (request("GET", "/x", &[("Host", "other")]), 400),
        (request("GET", "/x", &[("Connection", "upgrade"), ("Upgrade", "websocket")]), 501),
        (request_with("POST", "/x", &[], b"more than ten bytes"), 413),
        (request("DELETE", ENDPOINT, &[("user_token", "x")]), 401),
    ] {
        gateway.exchange(&bytes).is_error(status);
    }
    assert_eq!(platform.bytes(), 0);
    assert_eq!(gateway.exchange(request("GET", "/x", &[])).status, 200);
}

#[test]
fn token_endpoint_is_the_platforms_in_every_spelling_unless_it_is_enforced() {
    let platform = Platform::echo();
    let gateway = observing(&platform, &[]).start();
    let credentials = basic(USER, PASSWORD);
    let rows = [
        ("POST", ENDPOINT, Some(true), None),
        ("POST", "/ds-api/user-token/Main%20Org.", Some(true), None),
        ("POST", "/ds-api/user-token?x", None, Some("bad_credentials")),
        ("GET", "/ds-api/user-token?token=x", Some(true), None),
        // What the vendor's playbooks do, which `inspect_auth = "token"` is for.
        ("GET", "/ds-api/user-token?token=y", None, Some("bad_credentials")),
        ("PUT", ENDPOINT, None, Some("method_not_allowed")),
        ("POST", "/DS-API/user-token", Some(true), Some("not_found")),
        ("POST", "/ds-api//user-token", Some(true), Some("not_found")),
        ("POST", "/ds-api/%75ser-token", Some(true), Some("not_found")),
        ("POST", "/ds-api/user-token/a/b", Some(true), Some("not_found")),
    ];
    for (method, target, has_basic, reason) in rows {
        let fields = [("Authorization", credentials.as_str()), ("X-DS-User", "liar")];
        let fields = if has_basic.is_some() { &fields[..] } else { &fields[1..] };
        let before = reason.map(|reason| counted(&gateway, reason));
        let answer = gateway.exchange(request(method, target, fields));
        assert_eq!((answer.status, answer.values("x-platform")), (200, vec!["yes"]), "{method} {target}");
        let seen = platform.requests().pop().expect("a request");
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, target));
        assert_eq!(seen.values("authorization").len(), usize::from(has_basic.is_some()), "{method} {target}");
        let line = access(&gateway, &answer);
        assert_eq!((&line["route"], &line["decision"]), (&"endpoint".into(), &"observed".into()), "{line}");
        assert_eq!(line.get("would_refuse").and_then(Value::as_str), reason, "{line}");
        if let (Some(reason), Some(before)) = (reason, before) {
            assert_eq!(counted(&gateway, reason), before + 1.0, "{reason}");
        }
    }
    platform.never_saw("liar");
    assert_eq!(gateway.metric("ds_gateway_token_requests_total", &[]), 0.0);

    for enforce in [ENDPOINT, "/ds-api/user-token/*", "/ds-api/user-token/x"] {
        let (platform, enforce) = (Platform::echo(), [enforce]);
        let gateway = observing(&platform, &enforce).start();
        let minted = gateway.mint();
        for (method, target, ..) in rows {
            let status = gateway.exchange(request(method, target, &[])).status;
            let expected: &[u16] = match (method, target) {
                ("PUT", _) => &[405],
                (_, target) if target.starts_with("/ds-api/user-token") && !target.ends_with("a/b") => {
                    &[401, 400]
                }
                _ => &[404],
            };
            assert!(expected.contains(&status), "{method} {target}: {status}");
        }
        assert_eq!(platform.bytes(), 0, "{enforce:?}");
        // All else is observed, and the gateway's own token is admitted.
        assert_eq!(gateway.exchange(request("GET", "/ds-api/other", &[])).status, 200);
        assert_eq!(gateway.status(&minted), 200);
        gateway.still_healthy();
    }
}

#[test]
fn routes_are_enforced_one_by_one() {
    let platform = Platform::echo();
    let gateway = observing(&platform, &[ENDPOINT, "/ds-api/agents/*", "/ds-api/report"]).start();
    let minted = gateway.mint();
    for target in [
        "/ds-api/agents/7",
        "/ds-api/agents",
        "/DS-API/Agents/7",
        "/ds-api//agents/7",
        "/ds-api/%61gents/7",
        "/ds-api;x/agents/7",
        "/ds-api/report",
        "/ds-api/report/",
        "/ds-api/report;x=1?y",
    ] {
        gateway.exchange(request("GET", target, &[])).is_error(401);
        gateway.exchange(request("GET", target, &[("user-token", "x")])).is_error(401);
        assert_eq!(
            gateway.exchange(request("GET", target, &[("user-token", &minted)])).status,
            200,
            "{target}"
        );
    }
    assert_eq!(counted(&gateway, "token_missing"), 0.0);
    assert_eq!(gateway.metric("ds_gateway_decisions_total", &["decision=\"token_missing\""]), 9.0);
    for target in ["/ds-api/servers", "/ds-api/agent", "/ds-api/report/7", "/x/ds-api/agents"] {
        assert_eq!(gateway.exchange(request("GET", target, &[])).status, 200, "{target}");
    }
    gateway.still_healthy();
}

/// A gateway on clocks that a test moves.
struct World {
    gateway: Gateway,
    clocks: Clocks,
    platform: Platform,
    _shim: TempDir,
}

impl World {
    /// Observes for so many seconds.
    fn new(seconds: i64) -> Self {
        let platform = Platform::echo();
        let folder = observing(&platform, &[])
            .set("routes", "observe_until", in_seconds(seconds))
            .set("store", "heartbeat_interval", "\"100ms\"")
            .folder();
        folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
        let shim = TempDir::new().expect("a folder");
        let clocks = Clocks::new(shim.path(), "gateway");
        let gateway = Self::start(folder, &clocks);
        Self { gateway, clocks, platform, _shim: shim }
    }

    fn start(folder: Folder, clocks: &Clocks) -> Gateway {
        let command = clocks.command(folder.command(&["run"]));
        Gateway::start(folder, command)
    }

    fn restart(self) -> Self {
        let gateway = Self::start(self.gateway.stop(), &self.clocks);
        Self { gateway, ..self }
    }

    /// Where a request without a token and a login go: `(200, 200)` to the platform, `(401, 401)` nowhere.
    fn statuses(&self) -> (u16, u16) {
        let status = |method, target| self.gateway.exchange(request(method, target, &[])).status;
        (status("GET", "/ds-api/x"), status("POST", ENDPOINT))
    }

    fn ready(&self) -> Value {
        // What was read before a clock moved is stale until it is read again.
        let ready = || Some(self.gateway.admin("/readyz")).filter(|ready| ready.status == 200);
        eventually("/readyz", ready).json()
    }

    fn until(&self) -> f64 {
        self.gateway.metric("ds_gateway_observe_until_timestamp_seconds", &[])
    }

    #[track_caller]
    fn observes(&self) {
        assert_eq!(self.statuses(), (200, 200));
        assert!(self.until() > 0.0);
        let ready = self.ready();
        assert!(ready["mode"] == "observe" && ready["observe_until"].is_string(), "{ready}");
        assert!(ready["warnings"].to_string().contains("are forwarded until"), "{ready}");
    }

    #[track_caller]
    fn enforces(&self) {
        let bytes = self.platform.bytes();
        assert_eq!(self.statuses(), (401, 401));
        assert_eq!((self.platform.bytes(), self.until()), (bytes, 0.0));
        let ready = self.ready();
        assert!(ready["mode"] == "enforce" && ready["observe_until"].is_null(), "{ready}");
        assert!(!ready["warnings"].to_string().contains("are forwarded until"), "{ready}");
    }
}

#[test]
fn it_ends_by_itself_while_the_gateway_runs() {
    let world = World::new(HOUR);
    world.observes();
    is_said(&world.gateway, "routes.mode: \\\"observe\\\" until");
    world.clocks.set(HOUR - 300, HOUR - 300);
    world.observes();
    world.clocks.set(HOUR, HOUR);
    world.enforces();
    is_said(&world.gateway, "the observation has ended: every route is enforced");
    // What the gateway does then it does after a start, too.
    let world = world.restart();
    world.enforces();
    is_said(&world.gateway, "has passed");
    world.gateway.mint();
}

#[test]
fn a_wall_clock_that_goes_back_or_stands_still_makes_it_no_longer() {
    let world = World::new(HOUR);
    world.observes();
    for wall in [-DAY, 0] {
        world.clocks.set(wall, HOUR);
        world.enforces();
    }
}

#[test]
fn a_wall_clock_that_is_ahead_ends_it_for_as_long_as_it_is() {
    let world = World::new(HOUR);
    world.observes();
    world.clocks.set(2 * HOUR, 0);
    world.enforces();
    is_said(&world.gateway, "the observation has ended: every route is enforced");
    world.clocks.set(0, 0);
    world.observes();
    is_said(&world.gateway, "the clock was set back: routes are observed again until");
}

#[test]
fn a_start_with_a_clock_that_is_behind_enforces() {
    let world = World::new(HOUR);
    world.observes();
    world.clocks.set(-10 * 60, 0);
    let world = world.restart();
    world.enforces();
    is_said(&world.gateway, "routes.mode: every route is enforced, since the wall clock is");
    world.clocks.set(0, 0);
    let world = world.restart();
    world.observes();
}

#[test]
fn the_log_says_once_a_day_that_it_goes_on() {
    let world = World::new(3 * DAY);
    world.observes();
    for day in 1..3 {
        world.clocks.set(day * DAY + 60, day * DAY + 60);
        eventually("a line of that day", || {
            let said = world.gateway.log.lines();
            let said = said.iter().filter(|line| line.contains("routes are observed until"));
            (said.count() >= usize::try_from(day).expect("a number")).then_some(())
        });
    }
    let said = world.gateway.log.lines();
    let said: Vec<_> = said.iter().filter(|line| line.contains("routes are observed until")).collect();
    assert!(said.len() == 2 && said[1].contains("\"would_refuse\":"), "{said:?}");
}

#[test]
fn check_says_until_when_and_what_stands_against_it() {
    let folder = |until: String| {
        options().set("routes", "mode", "\"observe\"").set("routes", "observe_until", until).folder()
    };
    for arguments in [&["check"][..], &["check", "--config-only"]] {
        let until = in_seconds(HOUR);
        let done = folder(until.clone()).cli(arguments, "");
        let says = |text: &str| done.stderr.contains(text);
        assert_eq!(done.code, Some(0), "{done:?}");
        let until = until.trim_matches('"').replace('T', " ").replace('Z', " UTC");
        assert!(says(&format!("\"observe\" until {until}")), "{done:?}");
        assert!(
            says("so is the token endpoint") && says("token.inspect_auth") && says("foreign = true"),
            "{done:?}"
        );
        for (until, sentence) in
            [(in_seconds(-60), "has passed"), (in_seconds(31 * DAY), "more than 30 days ahead")]
        {
            let done = folder(until).cli(arguments, "");
            assert_eq!(done.code, Some(64), "{done:?}");
            let line = done.stderr.lines().find(|line| line.contains(sentence)).unwrap_or_default();
            assert!(line.starts_with("routes.observe_until: ") && line.ends_with(", column 1)"), "{done:?}");
        }
    }
    // Nobody means to observe for a year: better to hear of it than to be surprised by what is enforced.
    let done = folder(in_seconds(31 * DAY)).cli(&["run"], "");
    assert!(done.code == Some(64) && done.stderr.contains("more than 30 days ahead"), "{done:?}");

    let done = options()
        .set("routes", "mode", "\"observe\"")
        .set("routes", "observe_until", in_seconds(HOUR))
        .set("routes", "enforce", format!("[{ENDPOINT:?}]"))
        .set("platform", "forward_token", "false")
        .folder()
        .cli(&["check"], "");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("platform.forward_token: false"), "{done:?}");
    for text in ["so is the token endpoint", "token.inspect_auth", "foreign = true"] {
        assert!(!done.stderr.contains(text), "{text} {done:?}");
    }
}
