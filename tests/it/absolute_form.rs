//! Targets in absolute-form (RFC 9112 §3.2.2): what a client sends that takes the gateway for its proxy.

use crate::client::basic;
use crate::contract::ENDPOINT;
use crate::gateway::{PASSWORD, USER};
use crate::options::Options;
use crate::platform::Platform;

#[test]
fn absolute_form_is_the_same_request_in_origin_form() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public\"]").start();
    let token = gateway.mint();
    let field = format!("user-token: {token}\r\n");
    for (request, status, seen) in [
        ("GET http://a.test/x?y=1 HTTP/1.1\r\nHost: a.test", 200, Some("/x?y=1")),
        ("GET HTTPS://a.test:8443/x2 HTTP/1.1\r\nHost: a.test:8443", 200, Some("/x2")),
        ("GET http://a.test HTTP/1.1\r\nHost: a.test", 200, Some("/")),
        ("GET http://a.test?z HTTP/1.1\r\nHost: a.test", 200, Some("/?z")),
        ("OPTIONS http://a.test HTTP/1.1\r\nHost: a.test", 200, Some("*")),
        ("GET http://[::1]:80/six HTTP/1.1\r\nHost: [::1]:80", 200, Some("/six")),
        ("GET http://a.test/old HTTP/1.0", 200, Some("/old")),
        ("GET http://a.test/old2 HTTP/1.0\r\nHost: a.test", 200, Some("/old2")),
        // Not equal, byte for byte.
        ("GET http://a.test/canary HTTP/1.1\r\nHost: b.test", 400, None),
        ("GET http://a.test/canary HTTP/1.1\r\nHost: A.test", 400, None),
        ("GET http://a.test:80/canary HTTP/1.1\r\nHost: a.test", 400, None),
        ("GET http://a.test/canary HTTP/1.0\r\nHost: b.test", 400, None),
        ("GET http://a.test/canary HTTP/1.1", 400, None),
        ("GET http://u@a.test/canary HTTP/1.1\r\nHost: a.test", 400, None),
        ("GET http://u@a.test/canary HTTP/1.1\r\nHost: u@a.test", 400, None),
        ("GET http:///canary HTTP/1.1\r\nHost: a.test", 400, None),
        ("GET http://a b/canary HTTP/1.1\r\nHost: a b", 400, None),
        ("GET ftp://a.test/canary HTTP/1.1\r\nHost: a.test", 400, None),
        ("GET a.test:80 HTTP/1.1\r\nHost: a.test:80", 400, None),
        // The path rule sees what is left.
        ("GET http://a.test/../canary HTTP/1.1\r\nHost: a.test", 400, None),
        ("GET http://a.test//canary HTTP/1.1\r\nHost: a.test", 400, None),
        ("GET http://a.test/ds-api/%2e%2e/canary HTTP/1.1\r\nHost: a.test", 400, None),
    ] {
        let answer = gateway.exchange(format!("{request}\r\n{field}\r\n"));
        assert_eq!(answer.status, status, "{request}: {}", answer.text());
        if let Some(target) = seen {
            let arrived = platform.request(target);
            assert_ne!(arrived.values("host"), [""], "{request}");
            assert_eq!(arrived.values("x-forwarded-proto"), ["http"], "{request}");
        }
    }
    platform.never_saw("canary");
    // A password before the host is nobody's to see.
    let spelt = [
        "GET http://anna:canaryPassword@a.test/x HTTP/1.1",
        "GET //anna:canaryPassword@a.test/x HTTP/1.1",
        "CONNECT anna:canaryPassword@a.test:1 HTTP/1.1",
    ];
    for line in spelt {
        let answer =
            gateway.exchange(format!("{line}\r\nHost: a.test\r\nUser-Agent: Basic canaryPassword\r\n\r\n"));
        assert!(answer.status >= 400, "{line}: {answer:?}");
    }
    let lines = gateway.log.lines();
    assert!(lines.iter().any(|line| line.contains("REDACTED@a.test")), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("canaryPassword")), "{lines:?}");
    let host = platform.request("/old").values("host").concat();
    assert_eq!(host, "a.test", "its authority stands in for the field");
}

#[test]
fn absolute_form_opens_nothing_and_reaches_the_endpoint() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public\"]").start();
    for (target, status) in [("/public", 200), ("/public?x", 200), ("/private", 401), ("/public/x", 401)] {
        let text = format!("GET http://a.test{target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(gateway.exchange(text).status, status, "{target}");
    }
    let authorization = basic(USER, PASSWORD);
    let text = format!(
        "POST http://a.test{ENDPOINT} HTTP/1.1\r\nHost: a.test\r\nAuthorization: {authorization}\r\n\r\n"
    );
    assert_eq!(gateway.exchange(text).status, 201);
    platform.never_saw(ENDPOINT);
    platform.never_saw("private");
}
