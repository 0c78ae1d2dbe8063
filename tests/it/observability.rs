//! What an operator sees: the admin listener, the series, and a line for every request.

use crate::client::{Answer, Client, basic, request};
use crate::command::eventually;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::Options;
use crate::platform::Platform;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The one access line of an answer.
fn access(gateway: &Gateway, answer: &Answer) -> Value {
    let id = answer.value("x-request-id");
    let mine = |line: &Value| line["request_id"] == id;
    let line = eventually("an access line", || gateway.log.messages("access").into_iter().find(mine));
    assert_eq!(gateway.log.messages("access").iter().filter(|line| mine(line)).count(), 1);
    line
}

#[test]
fn the_admin_listener_answers_its_three_paths_and_no_other_listener_does() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin(path).status, 200, "{path}");
        gateway.exchange(request("GET", path, &[])).is_error(401);
    }
    for path in ["/", "/ds-api/user-token", "/healthz/x"] {
        assert_eq!(gateway.admin(path).status, 404, "{path}");
    }
    // A page whose name leads here is not shown what only this machine may see.
    for path in ["/metrics", "/readyz"] {
        let ask = |host: &str| {
            Client::connect(gateway.admin_address())
                .exchange(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        };
        assert_eq!(ask("rebound.example:9464").status, 421);
        assert_eq!(ask("localhost").status, 200);
    }
    assert_eq!(platform.bytes(), 0);
}

#[test]
fn the_series_are_there_and_move() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let token = gateway.mint();
    let rows: Vec<(&str, Vec<&str>, Vec<u8>)> = vec![
        (
            "ds_gateway_requests_total",
            vec!["route=\"protected\"", "status=\"2xx\""],
            request("GET", "/x", &[("user-token", &token)]),
        ),
        (
            "ds_gateway_requests_total",
            vec!["route=\"public\"", "status=\"2xx\""],
            request("GET", "/public/x", &[]),
        ),
        ("ds_gateway_requests_total", vec!["status=\"4xx\""], request("GET", "/x", &[])),
        (
            "ds_gateway_requests_total",
            vec!["route=\"endpoint\"", "status=\"4xx\""],
            request("POST", "/ds-api/user-token", &[]),
        ),
        (
            "ds_gateway_decisions_total",
            vec!["decision=\"admitted\""],
            request("GET", "/x", &[("user-token", &token)]),
        ),
        ("ds_gateway_decisions_total", vec!["decision=\"public\""], request("GET", "/public/x", &[])),
        ("ds_gateway_decisions_total", vec!["decision=\"token_missing\""], request("GET", "/x", &[])),
        (
            "ds_gateway_decisions_total",
            vec!["decision=\"token_empty\""],
            request("GET", "/x", &[("user-token", "")]),
        ),
        (
            "ds_gateway_decisions_total",
            vec!["decision=\"token_repeated\""],
            request("GET", "/x", &[("user-token", "x"), ("user-token", "x")]),
        ),
        (
            "ds_gateway_decisions_total",
            vec!["decision=\"token_alias\""],
            request("GET", "/x", &[("user_token", "x")]),
        ),
        (
            "ds_gateway_decisions_total",
            vec!["decision=\"token_malformed\""],
            request("GET", "/x", &[("user-token", "x")]),
        ),
        (
            "ds_gateway_decisions_total",
            vec!["decision=\"token_oversized\""],
            request("GET", "/x", &[("user-token", &"x".repeat(9_000))]),
        ),
        (
            "ds_gateway_decisions_total",
            vec!["decision=\"token_signature\""],
            request("GET", "/x", &[("user-token", &changed(&token))]),
        ),
        (
            "ds_gateway_token_requests_total",
            vec!["action=\"mint\"", "outcome=\"ok\""],
            request("POST", "/ds-api/user-token", &[("Authorization", &basic(USER, PASSWORD))]),
        ),
        (
            "ds_gateway_token_requests_total",
            vec!["action=\"mint\"", "outcome=\"bad_credentials\""],
            request("POST", "/ds-api/user-token", &[("Authorization", &basic(USER, "x"))]),
        ),
        (
            "ds_gateway_token_requests_total",
            vec!["action=\"mint\"", "outcome=\"organization_mismatch\""],
            request("POST", "/ds-api/user-token/X", &[("Authorization", &basic(USER, PASSWORD))]),
        ),
        (
            "ds_gateway_token_requests_total",
            vec!["action=\"inspect\"", "outcome=\"bad_token\""],
            request("GET", "/ds-api/user-token?token=x", &[("Authorization", &basic(USER, PASSWORD))]),
        ),
        (
            "ds_gateway_token_requests_total",
            vec!["action=\"inspect\"", "outcome=\"bad_request\""],
            request("GET", "/ds-api/user-token", &[("Authorization", &basic(USER, PASSWORD))]),
        ),
        (
            "ds_gateway_request_duration_seconds_count",
            vec!["route=\"protected\""],
            request("GET", "/x", &[("user-token", &token)]),
        ),
    ];
    for (name, labels, bytes) in rows {
        let before = gateway.metric(name, &labels);
        gateway.exchange(bytes);
        eventually(&format!("{name} {labels:?} to count one more"), || {
            (gateway.metric(name, &labels) - before == 1.0).then_some(())
        });
    }
    let number = gateway.metric("ds_gateway_store_number", &[]);
    gateway.mint();
    eventually("the store's number to grow", || {
        (gateway.metric("ds_gateway_store_number", &[]) > number).then_some(())
    });
    let text = gateway.admin("/metrics").text();
    for series in [
        "ds_gateway_build_info{version=\"",
        "ds_gateway_in_flight_requests ",
        "ds_gateway_request_duration_seconds_bucket",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(series), "{series}");
    }
    // The platform's servers are named as in the configuration.
    let text = text.replace(&format!("server=\"{}\"", platform.address), "");
    for word in [USER, EMAIL, ORGANIZATION, "/public", "127.0.0.1"] {
        assert!(!text.contains(word), "no label names a user, a path or an address: {word}");
    }
}

/// The token with another signature of the same form.
pub fn changed(token: &str) -> String {
    let (text, mac) = token.rsplit_once('.').expect("a signature");
    let first = if mac.starts_with('A') { 'B' } else { 'A' };
    format!("{text}.{first}{}", &mac[1..])
}

#[test]
fn every_request_leaves_one_access_line() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let token = gateway.mint();
    let id: String = Sha256::digest(token.rsplit_once('.').expect("a signature").0)[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let good = basic(USER, PASSWORD);
    let rows = [
        ("GET", "/x?a=1", &[("user-token", token.as_str())][..], 200, "protected", "admitted"),
        ("GET", "/public/x", &[], 200, "public", "public"),
        ("GET", "/x", &[], 401, "protected", "token_missing"),
        ("HEAD", "/x", &[("user-token", "a.b.c")], 401, "protected", "token_malformed"),
    ];
    for (method, path, fields, status, route, decision) in rows {
        let answer = gateway.exchange(request(method, path, fields));
        let line = access(&gateway, &answer);
        let members = "time level message request_id client method path status route decision user token_id duration_ms bytes_sent";
        for member in members.split(' ') {
            assert!(line.get(member).is_some(), "no {member} in {line}");
        }
        assert_eq!(
            (&line["method"], &line["path"], &line["status"]),
            (&method.into(), &path.into(), &status.into())
        );
        assert_eq!((&line["route"], &line["decision"]), (&route.into(), &decision.into()));
        assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1")), "{line}");
        let known = decision == "admitted";
        assert_eq!(line["user"], if known { USER.into() } else { Value::Null }, "{line}");
        assert_eq!(line["token_id"], if known { id.as_str().into() } else { Value::Null }, "{line}");
        assert!(line["bytes_sent"].as_u64().is_some_and(|bytes| method == "HEAD" || bytes > 0), "{line}");
        assert!(line["duration_ms"].as_f64().is_some(), "{line}");
    }
    let target = format!("/ds-api/user-token?a=1&token={token}&b=2");
    let line = access(&gateway, &gateway.exchange(request("GET", &target, &[("Authorization", &good)])));
    assert_eq!(
        (&line["path"], &line["route"]),
        (&"/ds-api/user-token?a=1&token=REDACTED&b=2".into(), &"endpoint".into())
    );
    let line =
        access(&gateway, &gateway.exchange(request("GET", "/x?user-token=a&token=b&token=c&other=d", &[])));
    assert_eq!(line["path"], "/x?user-token=REDACTED&token=REDACTED&token=REDACTED&other=d");
    let silent = Options::new(&platform).set("log", "access", "false").start();
    silent.mint();
    assert!(silent.log.messages("access").is_empty());
}

#[test]
fn lines_are_json_or_text_as_configured() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    gateway.mint();
    for line in gateway.log.lines() {
        let json: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        for member in ["time", "level", "message"] {
            assert!(json[member].is_string(), "{line}");
        }
    }
    for hidden in ["\u{85}", "\u{9b}2J", "\u{202e}", "\u{2028}", "\u{feff}", "%2565yJhbGciOi.canary"] {
        gateway.exchange(request("GET", &format!("/hidden-{hidden}?sig=canary&auth=canary"), &[]));
    }
    let nasty = request("GET", "/a\"b%0d%0a{\"level\":\"error\"}?x=\\u0000\u{e9}", &[("user-token", "x")]);
    let answer = gateway.exchange(nasty);
    assert!((400..500).contains(&answer.status));
    eventually("the lines", || (gateway.log.lines().iter().any(|line| line.contains("feff"))).then_some(()));
    for line in gateway.log.lines() {
        let is_seen = |c: char| c.is_ascii() && !c.is_control() || c.is_alphabetic();
        assert!(line.chars().all(is_seen) && !line.contains("canary"), "{line:?}");
        serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    }
}
