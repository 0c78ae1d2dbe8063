//! HTTP/2 by ALPN on the TLS listener: the whole contract over it, with a client of those in the field.

use crate::command::{eventually, finish, in_time};
use crate::connections::HONEST;
use crate::contract::{CHALLENGE, ENDPOINT, describes};
use crate::curl::{BOTH, Protocol, curl, curl_any};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::h2_client::{H2Client, statuses};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::platform_side::megabytes;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A gateway with a TLS listener and public routes, and a token of it.
pub fn tls_deployment() -> (Platform, Gateway, String) {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().public("[\"/public/*\"]").start();
    let token = gateway.mint();
    (platform, gateway, token)
}

pub fn url(gateway: &Gateway, target: &str) -> String {
    format!("https://{}{target}", gateway.https())
}

pub fn token_field(token: &str) -> String {
    format!("user-token: {token}")
}

#[test]
fn the_token_endpoint_answers_over_http_2_as_it_does_over_http_1() {
    let (platform, gateway, _) = tls_deployment();
    let account = format!("{USER}:{PASSWORD}");
    for protocol in BOTH {
        let fetch = |arguments: &[&str], target: &str| curl(protocol, &url(&gateway, target), arguments, "");
        let minted = fetch(&["-u", &account, "-X", "POST"], ENDPOINT);
        assert_eq!(minted.is(201).values("cache-control"), ["no-store"]);
        assert_eq!(minted.values("x-content-type-options"), ["nosniff"]);
        assert_eq!(minted.values("x-request-id").len(), 1);
        let token = minted.json()["user-token"].as_str().expect("a token").to_owned();
        assert_eq!(gateway.status(&token), 200);

        let query = format!("{ENDPOINT}?token={token}");
        describes(&fetch(&["-u", &account], &query).is(200).json(), &token);
        fetch(&["-u", &account, "-X", "POST"], &format!("{ENDPOINT}/Main%20Org.")).is(201);
        fetch(&["-u", &account, "-X", "POST"], &format!("{ENDPOINT}/Other")).is_error(401);
        let wrong = fetch(&["-u", "myUser:wrong", "-X", "POST"], ENDPOINT);
        wrong.is_error(401);
        assert_eq!(wrong.values("www-authenticate"), [CHALLENGE]);
        fetch(&["-X", "POST"], ENDPOINT).is_error(401);
        fetch(&["-u", &account], ENDPOINT).is_error(400);
        fetch(&["-u", &account], &format!("{query}&token=x")).is_error(400);
        for method in ["PUT", "PATCH", "OPTIONS"] {
            let answer = fetch(&["-u", &account, "-X", method], ENDPOINT);
            answer.is_error(405);
            assert_eq!(answer.values("allow"), ["DELETE, GET, POST"]);
        }
        fetch(&["-u", &account, "-I"], ENDPOINT).is(405);
        for (target, status) in [("/", 404), ("/a/b", 404), ("%2f", 404), ("/../user-token", 400)] {
            let target = format!("{ENDPOINT}{target}");
            fetch(&["--path-as-is", "-u", &account, "-H", &token_field(&token)], &target).is_error(status);
        }
    }
    let seen = platform.requests();
    assert!(seen.iter().all(|seen| seen.target == "/ds-api/status-of-a-token"), "{seen:?}");
    gateway.still_healthy();
}

#[test]
fn the_platform_sees_the_same_request_over_both_protocols() {
    let (platform, gateway, token) = tls_deployment();
    for protocol in BOTH {
        let target = format!("/ds-api/{protocol:?}?a=1&b=%20");
        let claims =
            ["X-DS-User: root", "x_ds_email: root", "X-Forwarded-For: 192.0.2.1", "Authorization: x"];
        let fields: Vec<&str> = claims.iter().flat_map(|claim| ["-H", claim]).collect();
        let answer = curl(
            protocol,
            &url(&gateway, &target),
            &[&["-H", &token_field(&token)], &fields[..]].concat(),
            "",
        );
        assert_eq!(answer.is(200).values("x-platform"), ["yes"]);
        let seen = platform.request(&target);
        for (name, value) in [
            ("x-ds-user", USER),
            ("x-ds-email", EMAIL),
            ("x-ds-organization", ORGANIZATION),
            ("user-token", &token),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", answer.values("x-request-id")[0]),
            ("host", &gateway.https().to_string()),
        ] {
            assert_eq!(seen.values(name), [value], "{protocol:?} {name}");
        }
        assert!(seen.values("authorization").is_empty());
        assert!(seen.head.fields.iter().all(|(_, value)| value != "root"), "{seen:?}");

        let public = format!("/public/{protocol:?}");
        let fields = ["-H", "X-DS-User: root", "-H", "Cookie: a=b", "-u", "a:b"];
        curl(protocol, &url(&gateway, &public), &fields, "").is(200);
        let seen = platform.request(&public);
        for name in ["x-ds-user", "x-ds-email", "x-ds-organization", "user-token", "authorization", "cookie"]
        {
            assert!(seen.values(name).is_empty(), "{protocol:?} {name} on a public route");
        }
    }
    gateway.still_healthy();
}

#[test]
fn nothing_goes_on_over_http_2_without_exactly_one_good_token() {
    let (platform, gateway, token) = tls_deployment();
    let good = token_field(&token);
    let alias = format!("user_token: {token}");
    let twice = format!("user-token: {token}, {token}");
    let large = format!("x-canary: {}", "v".repeat(33_000));
    let many: Vec<String> = (0..120).map(|number| format!("x-canary-{number}: v")).collect();
    let many: Vec<&str> = many.iter().flat_map(|field| ["-H", field]).collect();
    let rows: [(u64, &str, Vec<&str>); 11] = [
        (401, "/canary", vec![]),
        (401, "/canary", vec!["-H", "user-token: x.y.z"]),
        (401, "/canary", vec!["-H", &good, "-H", &good]),
        (401, "/canary", vec!["-H", &twice]),
        (401, "/canary", vec!["-H", &alias]),
        (401, "/public/canary", vec!["-H", &alias]),
        (400, "/public/../canary", vec!["--path-as-is"]),
        (401, "/public/canary", vec!["-X", "DELETE"]),
        (400, "/canary%00", vec!["-H", &good]),
        (431, "/canary", vec!["-H", &good, "-H", &large]),
        (431, "/canary", [vec!["-H", &good], many].concat()),
    ];
    for (status, target, arguments) in rows {
        curl(Protocol::Http2, &url(&gateway, target), &arguments, "").is_error(status);
    }
    assert_eq!(platform.bytes(), 0, "{:?}", platform.requests());
    gateway.still_healthy();
}

#[test]
fn the_client_chooses_the_protocol_and_h2c_is_ignored() {
    let (platform, gateway, token) = tls_deployment();
    let field = token_field(&token);
    let plain = format!("http://{}/plain", gateway.http());
    // curl asks for an upgrade to h2c here, and takes a plain answer for a no.
    let answer = curl_any(&["--http2", "-H", &field], &plain, "");
    assert_eq!((answer.is(200).version.as_str(), answer.values("upgrade")), ("1.1", vec![]));
    assert!(platform.request("/plain").values("upgrade").is_empty());
    // A WebSocket handshake is no plain request.
    let handshake = ["-H", &field, "-H", "Connection: Upgrade", "-H", "Upgrade: h2c, websocket"];
    curl_any(&handshake, &plain, "").is_error(501);
    let answer = curl_any(&["--http2-prior-knowledge", "-H", &field], &plain, "");
    assert_ne!((answer.exit, answer.status), (Some(0), 200), "HTTP/2 is for the TLS listener");
    let answer = curl_any(&["--http1.0", "-H", &field], &url(&gateway, "/old"), "");
    assert_eq!(answer.is(200).values("x-platform"), ["yes"]);
    gateway.still_healthy();
}

#[test]
fn many_streams_of_one_connection_do_not_mix() {
    let (platform, gateway, token) = tls_deployment();
    let dir = TempDir::new().expect("a temporary folder");
    let connections = gateway.metric("ds_gateway_connections", &[]);
    let mut command = Command::new("curl");
    command
        .args(["-q", "-sSk", "--http2", "--max-time", "18", "-Z", "--parallel-max", "60"])
        .args(["-H", &token_field(&token), "-o", "answer-#1", &url(&gateway, "/stream/[1-100]")])
        .args(["-w", "%{http_code} %{http_version} %header{x-request-id}\n"])
        .current_dir(dir.path());
    let report = finish(command, "").ok();
    let ids: BTreeSet<&str> = report.lines().filter_map(|line| line.strip_prefix("200 2 ")).collect();
    assert_eq!(ids.len(), 100, "{report}");
    for number in 1..=100 {
        let body = fs::read(dir.path().join(format!("answer-{number}"))).expect("an answer");
        let echo: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(echo["target"], format!("/stream/{number}"));
    }
    assert_eq!(platform.requests().len(), 100);
    eventually("the connections to end", || {
        (gateway.metric("ds_gateway_connections", &[]) <= connections).then_some(())
    });
    gateway.still_healthy();
}

#[test]
fn bodies_of_megabytes_arrive_whole_over_http_2() {
    let (platform, gateway, token) = tls_deployment();
    let dir = TempDir::new().expect("a temporary folder");
    let file = dir.path().join("body");
    let body = megabytes();
    fs::write(&file, &body).expect("a file");
    let at_file = format!("@{}", file.display());
    let field = token_field(&token);
    for protocol in BOTH {
        for chunked in [false, true] {
            platform.behave(Behaviour::Mirror { chunked });
            for upload in [["--data-binary", &at_file], ["-T", file.to_str().expect("a path")]] {
                let target = format!("/mirror/{protocol:?}/{chunked}/{}", upload[0].trim_start_matches('-'));
                let answer =
                    curl(protocol, &url(&gateway, &target), &[&["-H", &field], &upload[..]].concat(), "");
                assert!(answer.is(200).body == body, "{target}: {} bytes", answer.body.len());
                assert!(platform.request(&target).body == body, "{target}");
            }
        }
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn a_silent_client_is_not_kept_because_it_says_it_speaks_http_2() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .https()
        .set("limits", "header_timeout", "\"1s\"")
        .set("limits", "keepalive_timeout", "\"1s\"")
        .start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let clients = [
        ("HTTP/1.1, not a byte", "http/1.1", &b""[..]),
        ("HTTP/2, not a byte", "h2", b""),
        ("HTTP/2, half a preface", "h2", &preface[..10]),
        ("HTTP/2, the preface and nothing more", "h2", preface),
    ]
    .map(|(name, alpn, first)| {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-alpn", alpn, "-connect", &gateway.https().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(first).expect("openssl reads");
        (name, child, stdin)
    });
    let mut still_there = Vec::new();
    for (name, mut child, stdin) in clients {
        if in_time(|| child.try_wait().expect("a child")).is_none() {
            still_there.push(name);
        }
        drop(child.kill());
        drop(child.wait());
        drop(stdin);
    }
    assert!(still_there.is_empty(), "still there long after their time: {still_there:?}");
    gateway.still_healthy();
}

#[test]
fn a_stalled_body_is_given_up_over_both_protocols() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().set("limits", "body_timeout", "\"1s\"").start();
    let token = gateway.mint();
    let mut children = Vec::new();
    for protocol in ["--http1.1", "--http2"] {
        for (name, field) in [("admitted", token_field(&token)), ("refused", "x-none: x".to_owned())] {
            let target = format!("/stalled/{name}{protocol}");
            let child = Command::new("curl")
                .args(["-q", "-s", "-k", protocol, "-T", "-", "-H", "Expect:", "-H", &field])
                .arg(url(&gateway, &target))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("curl");
            children.push((name, target, child));
        }
    }
    let mut still_there = Vec::new();
    for (name, target, mut child) in children {
        // Standard input stays open and silent: curl has nothing to send and no reason to end.
        let ended = in_time(|| {
            gateway.log.messages("access").into_iter().find(|line| line["path"] == target.as_str())
        });
        drop(child.kill());
        drop(child.wait());
        match ended {
            Some(line) if line["status"] == 408 || name == "refused" => {}
            other => still_there.push((target, other)),
        }
    }
    assert!(still_there.is_empty(), "long after their time: {still_there:?}");
    assert!(platform.requests().iter().all(|seen| !seen.complete));
    gateway.still_healthy();
}

/// The engine sends no interim answers over HTTP/2; RFC 9110 §10.1.1 has 417 for a server that cannot meet an expectation. Clients
/// that go on after a while are served.
#[test]
fn a_client_that_waits_for_100_for_ever_is_told_that_none_comes() {
    let (platform, gateway, token) = tls_deployment();
    let field = token_field(&token);
    let expect = ["-H", "Expect: 100-continue"];
    for (target, expected) in [("/expects", 417), ("/public/expects", 417), (ENDPOINT, 401)] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut client = H2Client::connect(HONEST, gateway.https(), 1 << 20);
        let (answer, body) = client.post_expecting(target, &token);
        std::thread::spawn(move || drop(sender.send(statuses(vec![answer]))));
        let status = receiver.recv_timeout(std::time::Duration::from_secs(15));
        assert_eq!(status.expect("an answer before the body"), [expected], "{target}");
        drop(body);
    }
    for (target, parts) in
        [("/later/whole", &["a body"][..]), ("/later/parts", &["a", " bo", "dy"]), ("/later/empty", &[""])]
    {
        let mut client = H2Client::connect(HONEST, gateway.https(), 1 << 20);
        let (answer, mut body) = client.post_expecting(target, &token);
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        for (at, part) in parts.iter().enumerate() {
            body.send_data((*part).into(), at + 1 == parts.len()).expect("a stream");
        }
        assert_eq!(statuses(vec![answer]), [200], "{target}");
        assert_eq!(platform.request(target).body, parts.concat().into_bytes(), "{target}");
    }
    // Without a body there is nothing to wait for.
    curl(Protocol::Http2, &url(&gateway, "/none"), &[&expect[..], &["-H", &field]].concat(), "").is(200);
    assert!(platform.request("/none").values("expect").is_empty());
    platform.never_saw("/expects");
    gateway.still_healthy();
}
