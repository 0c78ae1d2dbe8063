//! Who the client is, behind proxies: what a trusted one says counts, everywhere alike; what anybody else says does not.

use crate::client::{Answer, Client, basic, request};
use crate::command::{eventually, finish, in_time};
use crate::connections::{ATTACKER, HONEST};
use crate::curl::{BOTH, curl};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::http2::token_field;
use crate::options::Options;
use crate::platform::{Platform, Seen};
use crate::postgres_server::free_port;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Trusted, as all of 127.0.1.0/24.
const PROXY: IpAddr = ATTACKER;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a client says of itself that would count from a trusted proxy. No sample may let any of it through.
pub const LIES: [(&str, &str); 16] = [
    ("Client-IP", "a-lie"),
    ("Forwarded", "for=a-lie"),
    ("Proxy", "a-lie"),
    ("Remote-User", "a-lie"),
    ("True-Client-IP", "a-lie"),
    ("X-Forwarded", "a-lie"),
    ("X-Forwarded-For", "a-lie"),
    ("X-Forwarded-Host", "a-lie"),
    ("X-Forwarded-Port", "a-lie"),
    ("X-Forwarded-Proto", "a-lie"),
    ("X-Original-URI", "a-lie"),
    ("X-Original-URL", "a-lie"),
    ("X-Real-IP", "a-lie"),
    ("X-Request-Id", "a-lie"),
    ("traceparent", TRACE),
    ("tracestate", "vendor=a-lie"),
];

/// Has any of [`LIES`] come to the platform?
pub fn lied_to(platform: &Platform) -> bool {
    platform.saw("a-lie") || platform.saw(&TRACE[3..35])
}

fn options(platform: &Platform) -> Options {
    Options::new(platform).set("server", "trusted_proxies", "[\"127.0.1.0/24\"]").https()
}

/// As they arrive at the platform; `None` where there is no such field.
fn field(seen: &Seen, name: &str) -> Option<String> {
    let values = seen.values(name);
    assert!(values.len() <= 1, "{name}: {values:?}");
    values.first().map(|value| (*value).to_owned())
}

fn get(source: IpAddr, address: SocketAddr, target: &str, token: &str, fields: &[(&str, &str)]) -> Answer {
    let fields = [&[("user-token", token)], fields].concat();
    Client::connect_from(source, address).exchange(request("GET", target, &fields))
}

fn logged_client(gateway: &Gateway, path: &str) -> String {
    eventually("the access line", || {
        let lines = gateway.log.messages("access");
        let line = lines.iter().find(|line| line["path"] == path)?.clone();
        Some(line["client"].as_str().expect("an address").to_owned())
    })
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    let platform = Platform::echo();
    let gateway = options(&platform).start();
    let token = gateway.mint();
    let told = [
        ("X-Forwarded-For", "8.8.8.8, 198.51.100.7, 127.0.1.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "api.example"),
        ("X-Forwarded-Port", "443"),
        ("X-Request-Id", "from-the-proxy-1"),
        ("X-Real-IP", "198.51.100.7"),
        ("Forwarded", "for=9.9.9.9"),
        ("traceparent", TRACE),
        ("tracestate", "vendor=1"),
        ("X-DS-User", "root"),
    ];
    let answer = get(PROXY, gateway.http(), "/trusted", &token, &told);
    assert_eq!((answer.status, answer.value("x-request-id")), (200, "from-the-proxy-1"));
    let seen = platform.request("/trusted");
    for (name, value) in [
        ("x-forwarded-for", Some("198.51.100.7, 127.0.1.9, 127.0.1.1")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", Some("api.example")),
        ("x-forwarded-port", Some("443")),
        ("x-request-id", Some("from-the-proxy-1")),
        ("x-real-ip", Some("198.51.100.7")),
        ("forwarded", None),
        ("tracestate", Some("vendor=1")),
        ("x-ds-user", Some(USER)),
    ] {
        assert_eq!(field(&seen, name).as_deref(), value, "{name}");
    }
    let parent = field(&seen, "traceparent").expect("a trace");
    assert!(
        parent.starts_with(&TRACE[..36]) && parent != TRACE,
        "the trace goes on with a span of ours: {parent}"
    );
    assert_eq!(logged_client(&gateway, "/trusted"), "198.51.100.7");
    let lines = gateway.log.messages("access");
    let line = lines.iter().find(|line| line["path"] == "/trusted").expect("a line");
    assert_eq!((&line["trace_id"], &line["request_id"]), (&TRACE[3..35].into(), &"from-the-proxy-1".into()));

    // So a proxy must let none of it through.
    get(PROXY, gateway.http(), "/lies", &token, &LIES);
    let seen = platform.request("/lies");
    for (name, lie) in LIES
        .into_iter()
        .filter(|(name, _)| !["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto"].contains(name))
    {
        let value = field(&seen, name);
        assert!(value.as_deref().is_some_and(|value| value.starts_with(&lie[..5])), "{name}: {value:?}");
    }

    // The same from anybody else is dropped.
    let answer = get(HONEST, gateway.http(), "/untrusted", &token, &told);
    let id = answer.value("x-request-id").to_owned();
    assert_eq!((answer.status, id.len()), (200, 32));
    let seen = platform.request("/untrusted");
    for (name, value) in [
        ("x-forwarded-for", Some("127.0.2.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", None),
        ("x-forwarded-port", None),
        ("x-request-id", Some(id.as_str())),
        ("x-real-ip", None),
        ("forwarded", None),
        ("tracestate", None),
        ("x-ds-user", Some(USER)),
    ] {
        assert_eq!(field(&seen, name).as_deref(), value, "{name}");
    }
    let parent = field(&seen, "traceparent").expect("a trace");
    assert!(parent.starts_with(&format!("00-{id}-")), "a new trace has the id of its request: {parent}");
    assert!(logged_client(&gateway, "/untrusted").starts_with("127.0.2.1:"));
    gateway.still_healthy();
}

#[test]
fn it_is_the_same_over_both_protocols() {
    let platform = Platform::echo();
    let gateway = options(&platform).start();
    let token = token_field(&gateway.mint());
    for protocol in BOTH {
        for (source, client) in [("127.0.1.1", "198.51.100.7, 127.0.1.1"), ("127.0.2.1", "127.0.2.1")] {
            let target = format!("/{protocol:?}/{source}");
            let url = format!("https://{}{target}", gateway.https());
            let fields = ["-H", &token, "-H", "X-Forwarded-For: 198.51.100.7", "--interface", source];
            curl(protocol, &url, &fields, "").is(200);
            assert_eq!(
                field(&platform.request(&target), "x-forwarded-for").as_deref(),
                Some(client),
                "{target}"
            );
        }
    }
    gateway.still_healthy();
}

/// Log, audit trail and what is remembered of failures all name the client, not the proxy.
#[test]
fn the_audit_trail_and_the_limits_know_the_client() {
    let platform = Platform::echo();
    let gateway = options(&platform)
        .set("limits", "connections_per_address", "3")
        .set("store", "upkeep_interval", "\"200ms\"")
        .start();
    let credentials = basic(USER, PASSWORD);
    let fields = [("Authorization", credentials.as_str()), ("X-Forwarded-For", "2001:db8:5:6::7")];
    let mint = request("POST", "/ds-api/user-token", &fields);
    eventually("a mint", || {
        (Client::connect_from(PROXY, gateway.http()).exchange(&mint).status == 201).then_some(())
    });
    let audit = gateway.folder.command(&["audit", "list", "--json"]);
    assert!(finish(audit, "").ok().contains("\"2001:db8:5:6::7\""));
    let wrong = basic(USER, "wrong");
    let fields = [("Authorization", wrong.as_str()), ("X-Forwarded-For", "2001:db8:5:6::7")];
    let wrong = request("POST", "/ds-api/user-token", &fields);
    eventually("a refused login", || {
        (Client::connect_from(PROXY, gateway.http()).exchange(&wrong).status == 401).then_some(())
    });
    eventually("its row", || {
        let audit = gateway.folder.command(&["audit", "list", "--json"]);
        finish(audit, "").ok().contains("2001:db8:5:6::/64").then_some(())
    });
    // A proxy brings many clients: no bound for one address is its bound.
    let kept: Vec<Client> = (0..10).map(|_| Client::connect_from(PROXY, gateway.http())).collect();
    for mut client in kept {
        assert_eq!(client.exchange(request("GET", "/x", &[])).status, 401);
    }
    gateway.still_healthy();
}

#[test]
fn rfc_7239_counts_where_it_is_configured() {
    let platform = Platform::echo();
    let gateway = options(&platform).set("server", "forwarded_fields", "\"forwarded\"").start();
    let token = gateway.mint();
    let told =
        [("Forwarded", "for=8.8.8.8, for=\"[2001:db8::5]:99\";proto=https"), ("X-Forwarded-For", "9.9.9.9")];
    assert_eq!(get(PROXY, gateway.http(), "/x", &token, &told).status, 200);
    let seen = platform.request("/x");
    assert_eq!(field(&seen, "x-forwarded-for").as_deref(), Some("2001:db8::5, 127.0.1.1"));
    assert_eq!(field(&seen, "x-forwarded-proto").as_deref(), Some("https"));
    let forwarded = field(&seen, "forwarded");
    assert_eq!(forwarded.as_deref(), Some("for=\"[2001:db8::5]:99\";proto=https, for=127.0.1.1"));
    assert_eq!(logged_client(&gateway, "/x"), "2001:db8::5");
    gateway.still_healthy();
}

/// The address of the listener that expects a PROXY header.
fn behind_proxy_protocol(platform: &Platform) -> (Gateway, SocketAddr) {
    let gateway = options(platform)
        .set("server", "http", "[\"127.0.0.3:0\", \"127.0.0.1:0\"]")
        .set("server", "proxy_protocol", "[\"127.0.0.3:0\"]")
        .set("limits", "header_timeout", "\"1s\"")
        .start();
    let lines = gateway.log.messages("listening");
    let addresses = lines.iter().filter_map(|line| line["address"].as_str()?.parse::<SocketAddr>().ok());
    let mut proxied = addresses.filter(|address| address.ip() == IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)));
    let address = proxied.next().expect("a listener");
    (gateway, address)
}

#[test]
fn a_proxy_header_is_required_and_only_trusted_proxies_may_send_one() {
    let platform = Platform::echo();
    let (gateway, proxied) = behind_proxy_protocol(&platform);
    let token = gateway.mint();
    let ask = request("GET", "/canary", &[("user-token", &token)]);
    let good = b"PROXY TCP4 198.51.100.7 203.0.113.9 5555 443\r\n".to_vec();
    let v2 = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(),
        vec![198, 51, 100, 7, 203, 0, 113, 9, 0x15, 0xb3, 0x01, 0xbb],
    ]
    .concat();
    for header in [&good, &v2] {
        let mut client = Client::connect_from(PROXY, proxied);
        client.send([header.as_slice(), &ask].concat());
        assert_eq!(client.answer().expect("an answer").status, 200);
    }
    let seen = platform.requests();
    assert!(
        seen.iter()
            .filter(|seen| seen.target == "/canary")
            .all(|seen| seen.values("x-forwarded-for") == ["198.51.100.7"])
    );
    assert_eq!(logged_client(&gateway, "/canary"), "198.51.100.7:5555");
    let before = platform.requests().len();
    let refused: [(&str, IpAddr, Vec<u8>); 4] = [
        ("no header", PROXY, ask.clone()),
        ("not from a proxy", HONEST, [good.clone(), ask.clone()].concat()),
        ("half a header", PROXY, b"PROXY TCP4 198.51".to_vec()),
        ("nothing", PROXY, Vec::new()),
    ];
    for (name, source, bytes) in &refused {
        let mut client = Client::connect_from(*source, proxied);
        drop(client.try_send(bytes));
        assert!(client.answer().is_err(), "{name}");
    }
    let ended = gateway.metric("ds_gateway_connections_ended_total", &["reason=\"proxy_header\""]);
    assert_eq!(ended, refused.len() as f64);
    assert_eq!(platform.requests().len(), before);
    // Elsewhere such a header is no request.
    let mut client = Client::connect_from(PROXY, gateway.http());
    client.send([good, ask].concat());
    client.answer().expect("an answer").is_error(400);
    gateway.still_healthy();
}

/// A real one, killed at the end.
pub struct HaProxy {
    child: Child,
    _folder: TempDir,
}

impl HaProxy {
    pub fn start(configuration: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, configuration).expect("a configuration");
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        Self { child: command.spawn().expect("haproxy"), _folder: folder }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address that is free, also while whoever has it is stopped.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn behind_a_real_haproxy_everybody_sees_the_client() {
    let platform = Platform::echo();
    let (gateway, proxied) = behind_proxy_protocol(&platform);
    let token = gateway.mint();
    let (by_field, by_header) = (free_address(), free_address());
    let haproxy = HaProxy::start(&format!(
        "global\n    maxconn 100\n\
         defaults\n    timeout connect 2s\n    timeout client 20s\n    timeout server 20s\n\
         frontend by_field\n    mode http\n    bind {by_field}\n    option forwardfor\n    default_backend fields\n\
         backend fields\n    mode http\n    server one {} source 127.0.1.1\n\
         frontend by_header\n    mode tcp\n    bind {by_header}\n    default_backend headers\n\
         backend headers\n    mode tcp\n    server two {proxied} source 127.0.1.1 send-proxy-v2\n",
        gateway.http(),
    ));
    for (name, address) in [("option forwardfor", by_field), ("send-proxy-v2", by_header)] {
        let target = format!("/{}", name.replace(' ', "-"));
        let served = in_time(|| {
            let mut client = Client::try_connect_from(HONEST, address).ok()?;
            // It lies, and is not believed.
            let fields = [("user-token", token.as_str()), ("X-Forwarded-For", "8.8.8.8")];
            client.try_send(request("GET", &target, &fields)).ok()?;
            client.answer().ok().filter(|answer| answer.status == 200)
        });
        assert!(served.is_some(), "{name}: {:?}", gateway.log.lines());
        let seen = platform.requests().into_iter().find(|seen| seen.target == target).expect("a request");
        let expected = if address == by_field { "127.0.2.1, 127.0.1.1" } else { "127.0.2.1" };
        assert_eq!(seen.values("x-forwarded-for"), [expected], "{name}");
        assert!(logged_client(&gateway, &target).starts_with("127.0.2.1"), "{name}");
    }
    drop(haproxy);
    gateway.still_healthy();
}
