//! Which paths are public. The oracle here is written from the rule, not from the gateway: a path is public only as
//! it stands on the wire, and only if no reader could take it for another.

use crate::client::{Answer, basic, request};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::options::Options;
use crate::paths::{bent, canonical, is_endpoint, path_of, readings};
use crate::platform::{Platform, Seen};

const PUBLIC: &str =
    r#"["/ds-api/", "/ds-api/download/*", { path = "/ds-api/ping", methods = ["OPTIONS", "POST"] }]"#;

pub fn deployment() -> (Platform, Gateway) {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public(PUBLIC).start();
    (platform, gateway)
}

/// If the configuration above opens this path, as it stands, to this method.
pub fn public(method: &str, path: &[u8]) -> bool {
    let reading = method == "GET" || method == "HEAD";
    let below = path.starts_with(b"/ds-api/download/") || path == b"/ds-api/download";
    match path {
        b"/ds-api/" => reading,
        b"/ds-api/ping" => method == "OPTIONS" || method == "POST",
        _ => below && reading,
    }
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
pub fn is_clean(seen: &Seen) {
    let path = path_of(seen.target.as_bytes());
    assert!(canonical(path) && public(&seen.method, path), "{seen:?}");
    assert!(!seen.target.contains('#'), "{seen:?}");
    assert!(seen.body.is_empty() && seen.values("transfer-encoding").is_empty(), "{seen:?}");
    for (name, _) in &seen.head.fields {
        let name = name.to_lowercase().replace(['_', '.'], "-");
        let secret =
            ["user-token", "authorization", "cookie", "x-ds-user", "x-ds-email", "x-ds-organization"];
        assert!(!secret.contains(&name.as_str()), "{seen:?}");
    }
}

#[test]
fn public_routes_are_open_as_they_stand_and_to_their_methods_only() {
    let (platform, gateway) = deployment();
    let open = [
        ("GET", "/ds-api/"),
        ("HEAD", "/ds-api/"),
        ("GET", "/ds-api/?x=/secret&token=x"),
        ("GET", "/ds-api/download/agent.tar.gz"),
        ("GET", "/ds-api/download/a/b/c%20d"),
        ("HEAD", "/ds-api/download/%C3%A9"),
        ("OPTIONS", "/ds-api/ping"),
        ("POST", "/ds-api/ping"),
    ];
    for (method, target) in open {
        let answer = gateway.exchange(request(method, target, &[]));
        assert_eq!(answer.status, 200, "{method} {target}");
        assert_eq!(platform.requests().last().map(|seen| seen.target.clone()).as_deref(), Some(target));
    }
    platform.requests().iter().for_each(is_clean);
    let before = platform.bytes();
    let closed = [
        ("POST", "/ds-api/"),
        ("OPTIONS", "/ds-api/"),
        ("DELETE", "/ds-api/download/x"),
        ("get", "/ds-api/"),
        ("GET", "/ds-api/ping"),
        ("HEAD", "/ds-api/ping"),
        ("GET", "/ds-api"),
        ("GET", "/ds-api/downloads"),
        ("GET", "/ds-api/download-x/y"),
        ("GET", "/"),
        ("GET", "/ds-api/x?/ds-api/"),
        ("GET", "/ds-api/x#/ds-api/"),
        ("GET", "/x/ds-api/download/y"),
        ("GET", "/ds-api/ping/x"),
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
    let (platform, gateway) = deployment();
    let token = gateway.mint();
    let bodies = [
        "Content-Length: 6\r\n\r\ncanary",
        "Transfer-Encoding: chunked\r\n\r\n6\r\ncanary\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
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
    let (platform, gateway) = deployment();
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
    let (platform, gateway) = deployment();
    let (token, good) = (gateway.mint(), basic(USER, PASSWORD));
    let mut bends = bent("/ds-api/user-token");
    bends.extend(bent("/ds-api/user-token/Main%20Org."));
    for target in bends {
        for method in ["GET", "POST"] {
            let answer = gateway.exchange(request(
                method,
                &target,
                &[("user-token", &token), ("Authorization", &good)],
            ));
            let lands = readings(&target).iter().any(|reading| is_endpoint(reading));
            assert!(!lands || answer.status != 200, "{method} {target}");
        }
    }
    for seen in platform.requests() {
        assert!(
            !readings(&seen.target).iter().any(|reading| is_endpoint(reading)),
            "{} {}",
            seen.method,
            seen.target
        );
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
