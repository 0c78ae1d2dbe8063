//! Which paths are public. The oracle here is written from the rule, not from the gateway: a path is public only as
//! it stands on the wire, and only if no reader could take it for another.

use crate::client::{Answer, basic, request};
use crate::gateway::{Gateway, Options, PASSWORD, USER};
use crate::jwt;
use crate::platform::{Platform, Seen};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

const PUBLIC: &str = r#"["/ds-api/", "/ds-api/download/*", { path = "/ds-api/ping", methods = ["OPTIONS", "POST"] }]"#;

fn house() -> (Platform, Gateway) {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public(PUBLIC).start();
    (platform, gateway)
}

/// If a path has one spelling only (`security.md`, the path rule).
fn canonical(path: &[u8]) -> bool {
    let mut at = 0;
    while at < path.len() {
        match path[at] {
            b'%' => {
                let digits = path.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else { return false };
                let plain = byte.is_ascii_alphanumeric() || b"-._~/\\;".contains(&byte);
                if plain || byte.is_ascii_control() || digits.is_some_and(|digits| digits.starts_with('+')) {
                    return false;
                }
                at += 3;
            }
            b'\\' | b';' | 0x80.. | 0..=0x20 | 0x7f => return false,
            _ => at += 1,
        }
    }
    let dots = |segment: &[u8]| segment == b"." || segment == b"..";
    path.starts_with(b"/") && crate::wire::find(path, b"//").is_none() && !path.split(|byte| *byte == b'/').any(dots)
}

/// If the configuration above opens this path, as it stands, to this method.
fn public(method: &str, path: &[u8]) -> bool {
    let reading = method == "GET" || method == "HEAD";
    let below = path.starts_with(b"/ds-api/download/") || path == b"/ds-api/download";
    match path {
        b"/ds-api/" => reading,
        b"/ds-api/ping" => method == "OPTIONS" || method == "POST",
        _ => below && reading,
    }
}

fn path_of(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?' || *byte == b'#').next().unwrap_or_default()
}

/// What readers make of a path: plainly after RFC 3986, with slashes merged, and with `\` and `;` given a meaning.
fn readings(target: &str) -> [String; 3] {
    let path = path_of(target.as_bytes());
    let decode = |path: &[u8]| {
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < path.len() {
            let digits = path.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) if path[at] == b'%' => (bytes.push(byte), at += 3).1,
                _ => (bytes.push(path[at]), at += 1).1,
            }
        }
        String::from_utf8_lossy(&bytes).to_lowercase()
    };
    let resolve = |path: &str, merge: bool| {
        let mut kept: Vec<&str> = Vec::new();
        for segment in path.split('/').skip(1) {
            match segment {
                "." => {}
                ".." => drop(kept.pop()),
                "" if merge => {}
                _ => kept.push(segment),
            }
        }
        format!("/{}", kept.join("/"))
    };
    let bare: Vec<&[u8]> = path.split(|byte| *byte == b'/').map(|s| s.split(|b| *b == b';').next().unwrap_or(s)).collect();
    let windows = decode(&bare.join(&b'/')).replace('\\', "/");
    [resolve(&decode(path), false), resolve(&decode(path), true), resolve(&windows, true)]
}

fn is_endpoint(reading: &str) -> bool {
    reading == "/ds-api/user-token" || reading.starts_with("/ds-api/user-token/")
}

/// The ways in which a path is bent.
fn bent(path: &str) -> Vec<String> {
    let (start, last) = path.trim_end_matches('/').rsplit_once('/').expect("a segment");
    let mut all = Vec::new();
    for middle in [
        "/", "/./", "/x/../", "/%2e/", "/x/%2E%2e/", "/x/..%2f", "/%252e/", "/%2f", "/%5c", "/\\", "\\", "/;/", "/;x=1/", "/x/..;/",
        "/.;/", "/%00/", "/%23/", "/%3f/", "/?/", "/#/", "/..%00/", "/%c0%ae%c0%ae/", "/%c0%af", "%2f",
    ] {
        all.push(format!("{start}{middle}{last}"));
        all.push(format!("{middle}{path}"));
    }
    for tail in [
        "", "/", "//", ".", "/.", "/..", "%20", "%09", "%00", ";", ";x=1", ";/", "%3b", "?", "?x=1", "?/../x", "#", "#/../x", "%23",
        "%3f", "\\", "%5c", "%2f", "%2e", "/%2e%2e/secret", "/../secret", "/..;/secret", "/..%2fsecret", "/..\\secret", "/%2e./secret",
        "%c0%af", "%", "%2", "%zz", "%u002f", "x", "x/y",
    ] {
        all.push(format!("{path}{tail}"));
    }
    all.extend([path.to_uppercase(), path.replacen("ds-api", "dS-api", 1), path.replacen("ds-api", "%64s-api", 1)]);
    all.push(path.replacen("ds-api", "ds%2Dapi", 1));
    all.extend([path[1..].to_owned(), format!("http://gateway.test{path}"), format!("http://evil.test{path}")]);
    all.extend([format!("//gateway.test{path}"), format!("gateway.test:80{path}"), format!("http:{path}")]);
    all
}

/// Without a token: bytes at the platform only for a path that is public as it stands.
#[track_caller]
fn holds(platform: &Platform, before: usize, may: bool, answer: &Answer, what: &str) {
    if may {
        return;
    }
    assert_eq!(platform.bytes(), before, "{what}: {:?}", platform.requests().last());
    assert!((400..500).contains(&answer.status), "{what}: {}", answer.status);
}

/// What the platform got without a token has a public path, and nothing of a credential.
fn is_clean(seen: &Seen) {
    let path = path_of(seen.target.as_bytes());
    assert!(canonical(path) && public(&seen.method, path), "{seen:?}");
    assert!(!seen.target.contains('#'), "{seen:?}");
    assert!(seen.body.is_empty() && seen.values("transfer-encoding").is_empty(), "{seen:?}");
    for (name, _) in &seen.head.fields {
        let name = name.to_lowercase().replace(['_', '.'], "-");
        let secret = ["user-token", "authorization", "cookie", "x-ds-user", "x-ds-email", "x-ds-organization"];
        assert!(!secret.contains(&name.as_str()), "{seen:?}");
    }
}

#[test]
fn public_routes_are_open_as_they_stand_and_to_their_methods_only() {
    let (platform, gateway) = house();
    let open = [
        ("GET", "/ds-api/"), ("HEAD", "/ds-api/"), ("GET", "/ds-api/?x=/secret&token=x"), ("GET", "/ds-api/download/agent.tar.gz"),
        ("GET", "/ds-api/download/a/b/c%20d"), ("HEAD", "/ds-api/download/%C3%A9"), ("OPTIONS", "/ds-api/ping"), ("POST", "/ds-api/ping"),
    ];
    for (method, target) in open {
        let answer = gateway.exchange(request(method, target, &[]));
        assert_eq!(answer.status, 200, "{method} {target}");
        assert_eq!(platform.requests().last().map(|seen| seen.target.clone()).as_deref(), Some(target));
    }
    platform.requests().iter().for_each(is_clean);
    let before = platform.bytes();
    let closed = [
        ("POST", "/ds-api/"), ("OPTIONS", "/ds-api/"), ("DELETE", "/ds-api/download/x"), ("get", "/ds-api/"), ("GET", "/ds-api/ping"),
        ("HEAD", "/ds-api/ping"), ("GET", "/ds-api"), ("GET", "/ds-api/downloads"), ("GET", "/ds-api/download-x/y"), ("GET", "/"),
        ("GET", "/ds-api/x?/ds-api/"), ("GET", "/ds-api/x#/ds-api/"), ("GET", "/x/ds-api/download/y"), ("GET", "/ds-api/ping/x"),
    ];
    for (method, target) in closed {
        let answer = gateway.exchange(request(method, target, &[]));
        assert_eq!(answer.status, 401, "{method} {target}");
    }
    assert_eq!(platform.bytes(), before);
    gateway.still_healthy();
}

#[test]
fn a_body_makes_a_public_route_a_protected_one() {
    let (platform, gateway) = house();
    let token = gateway.mint();
    let bodies = ["Content-Length: 6\r\n\r\ncanary", "Transfer-Encoding: chunked\r\n\r\n6\r\ncanary\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"];
    for body in bodies {
        for line in ["GET /ds-api/", "HEAD /ds-api/", "GET /ds-api/download/x", "POST /ds-api/ping"] {
            let answer = gateway.exchange(format!("{line} HTTP/1.1\r\nHost: x\r\n{body}"));
            assert_eq!(answer.status, 401, "{line} {body}");
        }
    }
    assert_eq!(platform.bytes(), 0);
    assert_eq!(gateway.exchange("GET /ds-api/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").status, 200);
    let with = crate::client::request_with("POST", "/ds-api/ping?with", &[("user-token", &token)], b"body");
    assert_eq!(gateway.exchange(with).status, 200, "with a token it is a request like any other");
    assert_eq!(platform.request("/ds-api/ping?with").values("x-ds-user"), [USER]);
    gateway.still_healthy();
}

#[test]
fn no_bend_of_a_public_path_opens_another() {
    let (platform, gateway) = house();
    let mut opened = 0;
    for path in ["/ds-api/", "/ds-api/download/agent", "/ds-api/ping", "/ds-api/user-token"] {
        for target in bent(path) {
            for method in ["GET", "OPTIONS"] {
                let may = canonical(path_of(target.as_bytes())) && public(method, path_of(target.as_bytes()));
                let before = platform.bytes();
                let answer = gateway.exchange(request(method, &target, &[]));
                holds(&platform, before, may, &answer, &format!("{method} {target}"));
                opened += usize::from(answer.status == 200);
            }
        }
    }
    assert!(opened > 0 && opened == platform.requests().len(), "{opened}");
    platform.requests().iter().for_each(is_clean);
    gateway.still_healthy();
}

#[test]
fn no_bend_of_the_endpoint_reaches_the_platform_even_with_a_token() {
    let (platform, gateway) = house();
    let (token, good) = (gateway.mint(), basic(USER, PASSWORD));
    let mut bends = bent("/ds-api/user-token");
    bends.extend(bent("/ds-api/user-token/Main%20Org."));
    for target in bends {
        for method in ["GET", "POST"] {
            let answer = gateway.exchange(request(method, &target, &[("user-token", &token), ("Authorization", &good)]));
            let lands = readings(&target).iter().any(|reading| is_endpoint(reading));
            assert!(!lands || answer.status != 200, "{method} {target}");
        }
    }
    for seen in platform.requests() {
        assert!(!readings(&seen.target).iter().any(|reading| is_endpoint(reading)), "{} {}", seen.method, seen.target);
    }
    gateway.still_healthy();
}

#[test]
fn strict_paths_refuse_what_is_not_canonical() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("routes", "strict_paths", "true").start();
    let token = gateway.mint();
    let fields = [("user-token", token.as_str())];
    for target in ["/a//b", "/a/../b", "/a/./b", "/%61", "/a;b", "/a\\b", "/a%2fb", "/a%zz"] {
        gateway.exchange(request("GET", target, &fields)).is_error(400);
    }
    assert_eq!(platform.bytes(), 0);
    assert_eq!(gateway.exchange(request("GET", "/a/b%20c?d=//..", &fields)).status, 200);
    gateway.still_healthy();
}

const WORDS: [&str; 27] = [
    "ds-api", "download", "agent.tar.gz", "user-token", "ping", "secret", "DS-API", ".", "..", "%2e", "%2E%2e", "..;", "x", "",
    "%75ser-token", "%00", "%2f", "%5c", "\\", "%c0%af", "a;b=1", "~", "%7e", "%20", "%C3%A9", "é", "*",
];
const STARTS: [&str; 8] = ["/", "/ds-api/", "/ds-api/download/", "//", "", "\\", "http://gateway.test/", "gateway.test:80/"];
const ENDS: [&str; 12] = ["", "/", ".", ";", "?", "?x=/ds-api/", "?token=x", "#", "#/../x", "%23", "%3f", "/.."];
const OPEN: [&str; 4] = ["/ds-api/", "/ds-api/ping", "/ds-api/download/a", "/ds-api/download/b/c.zip"];

fn targets() -> impl Strategy<Value = Vec<u8>> {
    let select = |all: &'static [&'static str]| prop::sample::select(all);
    let end = || prop_oneof![Just(""), select(&ENDS)];
    let joined = (select(&STARTS), prop::collection::vec(select(&WORDS), 0..5), end())
        .prop_map(|(start, words, end)| format!("{start}{}{end}", words.join("/")).into_bytes());
    let open = (select(&OPEN), end()).prop_map(|(path, end)| format!("{path}{end}").into_bytes());
    let raw = prop::collection::vec(0x21..=0xffu8, 0..20).prop_map(|tail| [b"/ds-api/", tail.as_slice()].concat());
    prop_oneof![4 => joined, 3 => open, 1 => raw]
}

#[test]
fn without_a_token_the_platform_sees_only_what_is_canonical_and_public() {
    let (platform, gateway) = house();
    let token = gateway.mint();
    let forged = jwt::signed(b"a secret that is not the gateway's", token.rsplit_once('.').expect("a signature").0);
    let pool = [
        format!("user-token: {forged}"), "user-token: x".to_owned(), "user-token:".to_owned(), format!("user_token: {token}"),
        format!("User.Token: {token}"), format!("user-token: {token}, {token}"), format!("Cookie: user-token={token}"),
        format!("Authorization: Bearer {token}"), format!("Authorization: {}", basic(USER, PASSWORD)),
        "X-Forwarded-Uri: /ds-api/".to_owned(), "X-Original-URL: /ds-api/".to_owned(), "X-Rewrite-Url: /ds-api/download/x".to_owned(),
        "X-HTTP-Method-Override: GET".to_owned(), "X-Forwarded-Method: OPTIONS".to_owned(), "X-DS-User: root".to_owned(),
        "X_DS_User: root".to_owned(), "X-Forwarded-For: 127.0.0.1".to_owned(), "User-Agent: kube-probe/1.0".to_owned(),
        "Connection: user-token".to_owned(), "Connection: close".to_owned(), "Upgrade: websocket".to_owned(), "Accept: */*".to_owned(),
    ];
    let methods = ["GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "PROPFIND", "CONNECT"];
    let bodies = ["\r\n", "\r\n", "\r\n", "Content-Length: 0\r\n\r\n", "Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"];
    let requests = (
        prop::sample::select(methods.to_vec()),
        targets(),
        prop::collection::vec(prop::sample::select(pool.to_vec()), 0..4),
        prop::sample::select(bodies.to_vec()),
    );
    let opened = Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 256, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&requests, |(method, target, fields, body)| {
        let mut bytes = format!("{method} ").into_bytes();
        bytes.extend(&target);
        bytes.extend(b" HTTP/1.1\r\nHost: gateway.test\r\n");
        fields.iter().for_each(|field| bytes.extend(format!("{field}\r\n").bytes()));
        bytes.extend(body.bytes());
        let path = path_of(&target);
        let may = canonical(path) && public(method, path) && !body.contains("abc");
        let before = (platform.bytes(), platform.requests().len());
        let answer = gateway.exchange(bytes);
        if !may {
            prop_assert_eq!(platform.bytes(), before.0, "{:?}", platform.requests().last());
            prop_assert!((400..500).contains(&answer.status), "{}", answer.status);
        }
        prop_assert_eq!(platform.requests().len() - before.1, usize::from(answer.status == 200));
        opened.set(opened.get() + usize::from(answer.status == 200));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(opened.get() > 10, "the property was put to the test: {} requests went through", opened.get());
    platform.requests().iter().for_each(is_clean);
    gateway.still_healthy();
}
