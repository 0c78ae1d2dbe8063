//! Read-your-writes: what a mint or a revocation says of itself in `X-DS-Sequence`, and what `X-DS-At-Least` asks of a gateway.

use crate::client::{Answer, basic, request, request_with};
use crate::command::{eventually, private};
use crate::contract::ENDPOINT;
use crate::curl::{BOTH, curl};
use crate::gateway::{EMAIL, Gateway, PASSWORD, USER};
use crate::headers::{folded, get};
use crate::http2::{tls_deployment, token_field, url};
use crate::observe::observing;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::revocation::{delete, is_204, number_of};
use serde_json::Value;
use std::time::{Duration, Instant};

/// More than any store has.
const FAR: &str = "18446744073709551615";

/// The sequence that an answer acknowledges.
#[track_caller]
fn sequence_of(answer: &Answer) -> u64 {
    let values = answer.values("x-ds-sequence");
    assert_eq!(values.len(), 1, "{answer:?}");
    values[0].parse().expect("a sequence")
}

/// A protected request for a gateway that has applied this sequence.
fn at_least(gateway: &Gateway, target: &str, token: &str, sequence: &str) -> Answer {
    get(gateway, target, &[("user-token", token), ("X-DS-At-Least", sequence)])
}

fn waits(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("ds_gateway_sequence_waits_total", &[&format!("outcome=\"{outcome}\"")])
}

/// Asked with the sequence of a revocation, a gateway refuses the token or does not know yet; it never lets it pass.
#[track_caller]
fn is_ended(used: &Answer) -> Option<()> {
    assert!([401, 503].contains(&used.status), "{used:?}");
    (used.status == 401).then_some(())
}

/// Two gateways with one store, as the documentation describes them.
fn pair(platform: &Platform) -> [Gateway; 2] {
    let first = Options::new(platform).start();
    let state = format!("{:?}", first.folder.state().to_str().expect("a path"));
    let second = Options::new(platform).nobody().set("server", "state_dir", state).folder().run(&[]);
    [first, second]
}

#[test]
fn every_acknowledged_mint_and_revocation_says_its_sequence() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let good = basic(USER, PASSWORD);
    for target in [ENDPOINT, "/ds-api/user-token/Main%20Org."] {
        let minted = gateway.exchange(request("POST", target, &[("Authorization", &good)]));
        let token = minted.json()["user-token"].as_str().expect("a token").to_owned();
        assert_eq!((minted.status, sequence_of(&minted)), (201, number_of(&token)));
        let inspected = get(&gateway, &format!("{ENDPOINT}?token={token}"), &[("Authorization", &good)]);
        assert_eq!((inspected.status, inspected.values("x-ds-sequence")), (200, vec![]));
        let [first, again] = [(); 2].map(|()| gateway.exchange(delete(&token)));
        is_204(&first);
        is_204(&again);
        assert!(sequence_of(&first) > number_of(&token));
        assert_eq!(sequence_of(&again), sequence_of(&first), "it was revoked before");
        let refused = at_least(&gateway, "/ds-api/canary", &token, "0");
        assert_eq!((refused.status, refused.values("x-ds-sequence")), (401, vec![]));
    }
    for refused in
        [gateway.log_in(USER, "wrong"), gateway.exchange(delete("a.b.c")), get(&gateway, ENDPOINT, &[])]
    {
        assert!((400..500).contains(&refused.status) && refused.values("x-ds-sequence").is_empty());
    }
    platform.never_saw("canary");
}

#[test]
fn request_goes_on_once_its_sequence_is_applied_and_without_the_field() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let minted = gateway.log_in(USER, PASSWORD);
    let token = minted.json()["user-token"].as_str().expect("a token").to_owned();
    let own = sequence_of(&minted).to_string();
    // Its own mint, as soon as the gateway has read that; a machine may be busy for longer than a request waits.
    eventually("the mint to be applied", || {
        let answer = at_least(&gateway, "/ds-api/own", &token, &own);
        assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
        (answer.status == 200).then_some(())
    });
    for sequence in ["0", "1", "0000000000000000000000001", &own] {
        assert_eq!(at_least(&gateway, "/ds-api/applied", &token, sequence).status, 200, "{sequence}");
    }
    // Other spellings ask for nothing, and public routes have nothing to wait for.
    for name in ["x_ds_at_least", "X.DS.At.Least", "x~ds~at~least"] {
        assert_eq!(get(&gateway, "/ds-api/alias", &[("user-token", &token), (name, FAR)]).status, 200);
    }
    assert_eq!(get(&gateway, "/public/x", &[("X-DS-At-Least", FAR)]).status, 200);
    let seen = platform.requests();
    assert!(seen.len() >= 9);
    for seen in &seen {
        assert_eq!(folded(seen, "x-ds-at-least"), Vec::<&str>::new(), "{seen:?}");
    }
    gateway.still_healthy();
}

#[test]
fn request_for_a_sequence_that_never_comes_is_503_and_is_not_sent() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let fields = [("user-token", token.as_str()), ("X-DS-At-Least", FAR)];
    let mut client = gateway.client();
    for (number, request) in [
        request("GET", "/ds-api/canary", &fields),
        request("HEAD", "/ds-api/canary", &fields),
        request_with("POST", "/ds-api/canary", &fields, b"canary"),
    ]
    .into_iter()
    .enumerate()
    {
        let began = Instant::now();
        client.send(&request);
        let answer = client.answer_to(["GET", "HEAD", "POST"][number]).expect("an answer");
        assert!(began.elapsed() >= Duration::from_millis(50), "it waits for what may come");
        assert_eq!((answer.status, answer.says_close()), (503, false), "{answer:?}");
        assert!(["1", "2"].contains(&answer.value("retry-after")), "{answer:?}");
        if number != 1 {
            answer.is_error(503);
        }
    }
    assert_eq!((waits(&gateway, "late"), waits(&gateway, "too_many")), (3.0, 0.0));
    // The connection goes on.
    let next = client.exchange(request("GET", "/ds-api/next", &[("user-token", &token)]));
    assert_eq!(next.status, 200);
    platform.never_saw("canary");
    let line = eventually("an access line", || {
        gateway.log.messages("access").into_iter().find(|line| line["status"] == 503)
    });
    assert_eq!((&line["decision"], &line["route"]), (&"not_applied".into(), &"protected".into()), "{line}");
    gateway.still_healthy();
}

#[test]
fn what_is_no_sequence_is_400_and_strangers_wait_for_nothing() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let token = gateway.mint();
    let mut client = gateway.client();
    for value in ["", "x", "-1", "+1", "1.5", "1, 1", "1 1", "0x1", "18446744073709551616"] {
        for (target, fields) in [
            ("/ds-api/canary", vec![("user-token", token.as_str()), ("X-DS-At-Least", value)]),
            ("/ds-api/canary", vec![("X-DS-At-Least", value)]),
            ("/public/canary", vec![("X-DS-At-Least", value)]),
        ] {
            client.exchange(request("GET", target, &fields)).is_error(400);
        }
    }
    let twice = [("user-token", token.as_str()), ("X-DS-At-Least", "0"), ("x-ds-at-least", "0")];
    client.exchange(request("GET", "/ds-api/canary", &twice)).is_error(400);
    let nominated = [("user-token", token.as_str()), ("Connection", "X-DS-At-Least")];
    client.exchange(request("GET", "/ds-api/canary", &nominated)).is_error(400);
    let forged = format!("{token}x");
    for fields in [
        vec![],
        vec![("user-token", "a.b.c")],
        vec![("user-token", forged.as_str())],
        vec![("user-token", token.as_str()), ("user-token", token.as_str())],
    ] {
        let fields = [&fields[..], &[("X-DS-At-Least", FAR)]].concat();
        client.exchange(request("GET", "/ds-api/canary", &fields)).is_error(401);
    }
    let counted = ["applied", "late", "too_many"].map(|outcome| waits(&gateway, outcome));
    assert_eq!(counted, [0.0; 3], "nobody has waited");
    platform.never_saw("canary");
    gateway.still_healthy();
}

#[test]
fn token_that_another_gateway_revoked_never_passes_at_that_sequence() {
    let platform = Platform::echo();
    let [first, second] = pair(&platform);
    let mut rounds = 0;
    // A request that waits has the replica look at once, so that most of them are in time.
    eventually("a request that waited and was in time", || {
        let token = first.mint();
        assert_eq!(second.status(&token), 200);
        let answer = first.exchange(delete(&token));
        is_204(&answer);
        let sequence = sequence_of(&answer).to_string();
        eventually("the revocation to be applied", || {
            is_ended(&at_least(&second, "/ds-api/canary", &token, &sequence))
        });
        rounds += 1;
        (rounds >= 10 && waits(&second, "applied") >= 1.0).then_some(())
    });
    platform.never_saw("canary");
    second.still_healthy();
}

#[test]
fn sequence_that_the_command_line_prints_is_one_that_gateways_can_be_asked_for() {
    let platform = Platform::echo();
    // The replica looks once in a while, and where a request waits.
    let gateway = Options::new(&platform)
        .set("store", "poll_interval", "\"5s\"")
        .set("store", "heartbeat_interval", "\"5s\"")
        .start();
    let is_refused_at = |token: &str, printed: &str| {
        let printed: Value = serde_json::from_str(printed).expect("JSON");
        let sequence = printed["number"].as_u64().expect("a sequence").to_string();
        eventually("the revocation to be applied", || {
            is_ended(&at_least(&gateway, "/ds-api/canary", token, &sequence))
        });
    };
    let printed = gateway.folder.cli(&["token", "mint", USER, "--json"], "").ok();
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let token = printed["user-token"].as_str().expect("a token").to_owned();
    assert_eq!(printed["number"], number_of(&token));
    assert_eq!(gateway.status(&token), 200);
    let file = gateway.folder.dir.path().join("token");
    private(&file, token.as_bytes());
    let arguments = ["token", "--token-file", file.to_str().expect("a path"), "--json"];
    let done = gateway.folder.cli(&[&["revoke"][..], &arguments].concat(), "");
    assert!([Some(0), Some(75)].contains(&done.code), "{done:?}");
    is_refused_at(&token, done.stdout.trim());
    // Of a user as well.
    let token = gateway.mint();
    let done = gateway.folder.cli(&["revoke", "user", USER, "--json"], "");
    assert!([Some(0), Some(75)].contains(&done.code), "{done:?}");
    is_refused_at(&token, done.stdout.trim());
    platform.never_saw("canary");
}

#[test]
fn both_protocols_have_the_same_rule() {
    let (platform, gateway, token) = tls_deployment();
    let account = format!("{USER}:{PASSWORD}");
    for protocol in BOTH {
        let ask = |target: &str, arguments: &[&str]| curl(protocol, &url(&gateway, target), arguments, "");
        let minted = ask(ENDPOINT, &["-u", &account, "-X", "POST"]);
        let own = minted.json()["user-token"].as_str().expect("a token").to_owned();
        assert_eq!(minted.is(201).values("x-ds-sequence"), [number_of(&own).to_string()]);
        let field = token_field(&token);
        let with = |token: &str, sequence: &str| {
            let sequence = format!("X-DS-At-Least: {sequence}");
            ask("/ds-api/canary", &["-H", token, "-H", &sequence])
        };
        with(&field, FAR).is_error(503);
        with(&field, "x").is_error(400);
        with("user-token: x", FAR).is_error(401);
        platform.never_saw("canary");
        let applied = ask("/ds-api/applied", &["-H", &field, "-H", "X-DS-At-Least: 0"]);
        applied.is(200);
        let revoked = ask(ENDPOINT, &["-X", "DELETE", "-H", &token_field(&own)]);
        assert_eq!(revoked.is(204).values("x-ds-sequence").len(), 1);
    }
    for seen in platform.requests() {
        assert_eq!(folded(&seen, "x-ds-at-least"), Vec::<&str>::new());
    }
    gateway.still_healthy();
}

#[test]
fn no_platform_says_what_the_store_has_acknowledged() {
    let raw =
        b"HTTP/1.1 200 OK\r\nX-DS-Sequence: 99\r\nx-ds-sequence: 98\r\nContent-Length: 2\r\nConnection: X-DS-Sequence, close\r\n\r\nok";
    let platform = Platform::start(Behaviour::Raw(raw.to_vec()));
    let changes = r#"[{ methods = ["PUT"], path = "/ds-api/users/{email}", ends = "{email}" }]"#;
    let gateway = Options::new(&platform).https().set("platform", "user_changes", changes).start();
    let token = gateway.mint();
    for protocol in BOTH {
        let answer = curl(protocol, &url(&gateway, "/ds-api/x"), &["-H", &token_field(&token)], "");
        assert_eq!(answer.is(200).values("x-ds-sequence"), Vec::<&str>::new(), "{protocol:?}");
    }
    // Its answer to a change of a user acknowledges a cutoff, which only the gateway knows.
    let target = format!("/ds-api/users/{EMAIL}");
    let answer = gateway.exchange(request_with("PUT", &target, &[("user-token", &token)], b"{}"));
    assert_eq!(answer.status, 200);
    let sequence = sequence_of(&answer);
    assert!(sequence > number_of(&token) && ![98, 99].contains(&sequence), "{answer:?}");
    let used = at_least(&gateway, "/ds-api/canary", &token, &sequence.to_string());
    used.is_error(401);
    platform.never_saw("canary");
}

#[test]
fn nobody_waits_where_routes_are_observed() {
    let platform = Platform::echo();
    let gateway = observing(&platform, &[ENDPOINT, "/ds-api/agents/*"]).start();
    let token = gateway.mint();
    assert_eq!(at_least(&gateway, "/ds-api/observed", &token, FAR).status, 200);
    assert_eq!(get(&gateway, "/ds-api/observed", &[("X-DS-At-Least", FAR)]).status, 200);
    assert_eq!(waits(&gateway, "late"), 0.0);
    at_least(&gateway, "/ds-api/agents/canary", &token, FAR).is_error(503);
    get(&gateway, "/ds-api/agents/canary", &[("X-DS-At-Least", FAR)]).is_error(401);
    platform.never_saw("canary");
    for seen in platform.requests() {
        assert_eq!(folded(&seen, "x-ds-at-least"), Vec::<&str>::new());
    }
}
