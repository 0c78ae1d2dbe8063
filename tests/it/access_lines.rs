//! What the access line says of the request itself, and what an event stream is counted as.

use crate::client::request;
use crate::command::eventually;
use crate::curl::{Protocol, curl};
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use serde_json::Value;

fn line(gateway: &Gateway, path: &str) -> Value {
    eventually("an access line", || {
        gateway.log.messages("access").into_iter().find(|line| line["path"] == path)
    })
}

#[test]
fn line_names_protocol_host_and_user_agent_and_no_secret_in_them() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let token = gateway.mint();
    let long = "x".repeat(3_000);
    let agents = [
        ("plain", "curl/8.0 (test)", "curl/8.0 (test)"),
        ("cut", &*long, &long[..256]),
        ("quoted", "a \"b\" \\ c", "a \"b\" \\ c"),
        ("token", &*token, "REDACTED"),
    ];
    for (protocol, name) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")] {
        for (what, agent, shown) in agents {
            let path = format!("/{what}-{}", &name[5..]);
            let url = format!("https://{}{path}", gateway.https());
            curl(protocol, &url, &["--user-agent", agent], "").is(401);
            let line = line(&gateway, &path);
            assert_eq!(line["protocol"], name, "{line}");
            assert_eq!(line["host"], gateway.https().to_string(), "{line}");
            let found = line["user_agent"].as_str().expect("a text");
            assert!(if what == "token" { found.contains(shown) } else { found == shown }, "{what}: {line}");
        }
    }
    gateway.exchange(request("GET", "/without", &[]));
    let without = line(&gateway, "/without");
    assert!(without["user_agent"].is_null() && without["host"] == "gateway.test", "{without}");
    let secret = token.rsplit('.').next().expect("a signature");
    assert!(!gateway.log.lines().iter().any(|line| line.contains(secret)));
    gateway.still_healthy();
}

#[test]
fn event_stream_is_counted_as_one_and_not_among_the_times_of_its_route() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let answer = |kind: &str| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        );
        Behaviour::Raw([head.as_bytes(), b"\n\n"].concat())
    };
    let count = |metric: &str, route: &str| {
        gateway.metric(&format!("ds_gateway_{metric}"), &[&format!("route={route:?}")])
    };
    for (kind, is_stream) in [
        ("text/event-stream", true),
        ("Text/Event-Stream; charset=utf-8", true),
        ("text/event", false),
        ("application/json", false),
    ] {
        platform.behave(answer(kind));
        let before = ["protected", "stream"].map(|route| count("request_duration_seconds_count", route));
        let requests = count("requests_total", "protected");
        let answer = gateway.exchange(request("GET", "/events", &[("user-token", &token)]));
        assert_eq!(answer.status, 200, "{kind}");
        eventually("the request to be counted", || {
            (count("requests_total", "protected") == requests + 1.0).then_some(())
        });
        let after = ["protected", "stream"].map(|route| count("request_duration_seconds_count", route));
        let expected = [before[0] + f64::from(!is_stream), before[1] + f64::from(is_stream)];
        assert_eq!(after, expected, "{kind}");
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}
