//! Requests that are too large, too slow or have two meanings: refused with their status, never forwarded, and never
//! a way to put a second request behind the first.

use crate::client::{Client, basic, request, request_with};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::options::Options;
use crate::platform::Platform;
use crate::wire::{Fault, chunks};

pub fn deployment() -> (Platform, Gateway, String) {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let token = gateway.mint();
    (platform, gateway, token)
}

#[test]
fn a_header_over_the_limit_is_431() {
    let (platform, gateway, token) = deployment();
    let field = |count: usize| vec![("x-canary", "v"); count];
    let with_token = |fields: &[(&str, &str)]| {
        request("GET", "/ds-api/x", &[&[("user-token", token.as_str())], fields].concat())
    };
    for bytes in [
        with_token(&[("x-canary", &"v".repeat(33_000))]),
        with_token(&[("x-canary", &"v".repeat(20_000)), ("x-other", &"v".repeat(20_000))]),
        with_token(&field(120)),
        request("GET", &format!("/ds-api/x?{}", "canary".repeat(6_000)), &[("user-token", &token)]),
        request("GET", "/public/x", &field(120)),
        request(
            "POST",
            "/ds-api/user-token",
            &[&[("Authorization", basic(USER, PASSWORD).as_str())], &field(120)[..]].concat(),
        ),
        request("GET", "/ds-api/x", &field(120)),
    ] {
        gateway.exchange(bytes).is_error(431);
    }
    assert_eq!(platform.bytes(), 0);
    assert_eq!(gateway.exchange(with_token(&[("x-long", &"v".repeat(30_000))])).status, 200);
    assert_eq!(gateway.exchange(with_token(&[("x-many", "v"); 90])).status, 200);
    platform.never_saw("canary");
    gateway.still_healthy();
}

#[test]
fn the_header_limits_are_configurable() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .set("limits", "header_bytes", "4096")
        .set("limits", "header_fields", "10")
        .start();
    let token = gateway.mint();
    for fields in [vec![("x-canary", "v".repeat(4_096))], vec![("x-canary", "v".to_owned()); 10]] {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        gateway
            .exchange(request("GET", "/x", &[&[("user-token", token.as_str())], &fields[..]].concat()))
            .is_error(431);
    }
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn a_body_over_the_limit_is_413() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("limits", "body_bytes", "1000").start();
    let token = gateway.mint();
    let fields = [("user-token", token.as_str())];
    gateway.exchange(request_with("POST", "/canary", &fields, &[b'c'; 1_001])).is_error(413);
    assert_eq!(platform.bytes(), 0, "a length that is stated is judged before the platform is asked");
    let mut chunked = request("POST", "/chunked", &[fields[0], ("Transfer-Encoding", "chunked")]);
    chunked.extend(chunks(&[b'c'; 5_000], 500));
    gateway.exchange(&chunked).is_error(413);
    assert!(platform.requests().iter().all(|seen| !seen.complete), "no end of a body that was cut");
    let answer = gateway.exchange(request_with("POST", "/just", &fields, &[b'c'; 1_000]));
    assert_eq!((answer.status, platform.request("/just").body.len()), (200, 1_000));
    gateway.still_healthy();
}

#[test]
fn a_request_whose_length_has_two_meanings_is_400() {
    let (platform, gateway, token) = deployment();
    let rows = [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 6\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 7",
        "Content-Length: 6, 6",
        "Content-Length: +6",
        "Content-Length: 0x6",
        "Content-Length: -6",
        "Content-Length: 6.0",
        "Content-Length: 6 6",
        "Content-Length:",
        "Content-Length: six",
        "Content-Length: 99999999999999999999",
        "Content-Length : 6",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\n Content-Length: 6",
        " Transfer-Encoding: chunked",
        "Transfer_Encoding : chunked",
    ];
    let mut wrong = Vec::new();
    for lengths in rows {
        for (target, credential) in [
            ("/canary", format!("user-token: {token}")),
            ("/public/canary", "x: y".to_owned()),
            ("/canary", "x: y".to_owned()),
        ] {
            let mut client = gateway.client();
            let hidden = format!(
                "6\r\ncanary\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\nuser-token: {token}\r\n\r\n"
            );
            client.send(format!(
                "POST {target} HTTP/1.1\r\nHost: x\r\n{credential}\r\n{lengths}\r\n\r\n{hidden}"
            ));
            match client.answer() {
                Ok(answer) if answer.status == 400 => {}
                other => wrong.push(format!("{lengths:?} on {target}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(platform.bytes(), 0, "{:?}", platform.requests());
    platform.never_saw("hidden");
    // Not even HTTP/1.0 has a coding with one meaning.
    let old = format!(
        "POST /canary HTTP/1.0\r\nHost: x\r\nuser-token: {token}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert_eq!(gateway.exchange(old).status, 400);
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn a_target_or_host_with_no_single_meaning_is_400() {
    let (platform, gateway, token) = deployment();
    let good = basic(USER, PASSWORD);
    let fields = format!("user-token: {token}\r\nAuthorization: {good}\r\n\r\n");
    for start in [
        "GET /canary HTTP/1.1\r\n",
        "GET /public/canary HTTP/1.1\r\n",
        "POST /ds-api/user-token HTTP/1.1\r\n",
        "GET /canary HTTP/1.1\r\nHost:\r\n",
        "GET /canary HTTP/1.1\r\nHost:  \r\n",
        "GET /canary HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        "GET /canary HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET http://evil.test/canary HTTP/1.1\r\nHost: gateway.test\r\n",
        "GET gateway.test:80 HTTP/1.1\r\nHost: gateway.test\r\n",
        "GET public/canary HTTP/1.1\r\nHost: a\r\n",
        "GET foo:bar HTTP/1.1\r\nHost: a\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n",
        "GET ?x HTTP/1.1\r\nHost: a\r\n",
        "GET /canary%00 HTTP/1.1\r\nHost: a\r\n",
        "GET /public/%00canary HTTP/1.1\r\nHost: a\r\n",
        "POST /ds-api/user-token%00 HTTP/1.1\r\nHost: a\r\n",
    ] {
        let answer = gateway.exchange(format!("{start}{fields}"));
        assert_eq!(answer.status, 400, "{start}");
        if start.matches("Host: a").count() < 2 && !start.contains("evil") {
            answer.is_error(400);
        }
    }
    assert_eq!(platform.bytes(), 0);
    gateway.exchange("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").is_error(401);
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn only_100_continue_may_be_expected() {
    let (platform, gateway, token) = deployment();
    let expecting = |value: &str, token: &str| {
        request("POST", "/upload", &[("user-token", token), ("Expect", value), ("Content-Length", "6")])
    };
    // The body that none of them sends is waited for; side by side that is one wait.
    let clients = ["y", "y 100-continue", "100-continue, y", "200-ok"].map(|value| {
        let mut client = gateway.client();
        client.send(expecting(value, &token));
        client
    });
    for mut client in clients {
        client.answer().expect("an answer").is_error(417);
    }
    // Without a token the answer comes at once: nobody is told to go on.
    gateway.exchange(expecting("100-continue", "x")).is_error(401);
    assert_eq!(platform.bytes(), 0);

    let mut client = gateway.client();
    client.send(expecting("100-continue", &token));
    let interim = client.answer().expect("a first answer");
    assert_eq!(interim.status, 100);
    client.send("canary");
    assert_eq!(client.answer().expect("the answer").status, 200);
    assert_eq!(platform.request("/upload").body, b"canary");
    gateway.still_healthy();
}

#[test]
fn nobody_holds_a_connection_for_ever() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .set("limits", "header_timeout", "\"1s\"")
        .set("limits", "keepalive_timeout", "\"1s\"")
        .set("limits", "body_timeout", "\"1s\"")
        .start();
    let token = gateway.mint();
    let silent = gateway.client();
    let mut half = gateway.client();
    half.send("GET /canary HTTP/1.1\r\nHost: x\r\nx-half: ");
    let mut idle = gateway.client();
    assert_eq!(idle.exchange(request("GET", "/once", &[("user-token", &token)])).status, 200);
    let mut stalled = gateway.client();
    stalled.send(request("POST", "/refused", &[("Content-Length", "10")]));
    let mut body = gateway.client();
    body.send(request("POST", "/stalled", &[("user-token", token.as_str()), ("Content-Length", "10")]));
    body.send("12345");
    let ends = |mut client: Client| client.wire().rest().map(drop);
    for (name, client) in [
        ("silent", silent),
        ("half a header", half),
        ("idle", idle),
        ("no body", stalled),
        ("half a body", body),
    ] {
        assert_ne!(ends(client), Err(Fault::Silent), "{name}");
    }
    platform.never_saw("canary");
    assert!(platform.requests().iter().all(|seen| seen.complete || seen.target == "/stalled"));
    gateway.still_healthy();
}
