//! Where the platform listens, and the `Host` that it sees.

use crate::client::{Client, request};
use crate::curl::{BOTH, curl};
use crate::http2::token_field;
use crate::options::Options;
use crate::platform::{Platform, Seen};
use crate::platform_side::get;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use tempfile::TempDir;

fn field<'s>(seen: &'s Seen, name: &str) -> Vec<&'s str> {
    seen.values(name)
}

/// Over both protocols: the client's, the server's own or a fixed one, and the platform can still read the client's.
#[test]
fn the_platform_sees_the_configured_host() {
    let platform = Platform::echo();
    let own = platform.address.to_string();
    for (setting, expected) in [
        ("keep", None),
        ("server", Some(own.as_str())),
        ("platform.example:8080", Some("platform.example:8080")),
    ] {
        let gateway = Options::new(&platform).https().set("platform", "host", format!("{setting:?}")).start();
        let token = token_field(&gateway.mint());
        for protocol in BOTH {
            let target = format!("/{setting}/{protocol:?}");
            let url = format!("https://{}{target}?a=b", gateway.https());
            curl(protocol, &url, &["-H", &token, "-H", "X-Forwarded-Host: liar.example"], "").is(200);
            let seen = platform.request(&format!("{target}?a=b"));
            let client = gateway.https().to_string();
            assert_eq!(field(&seen, "host"), [expected.unwrap_or(&client)], "{target}");
            let forwarded = expected.map(|_| client.as_str());
            assert_eq!(
                field(&seen, "x-forwarded-host"),
                forwarded.into_iter().collect::<Vec<_>>(),
                "{target}"
            );
        }
        gateway.still_healthy();
    }
}

/// What a trusted proxy says of the host goes on.
#[test]
fn a_trusted_proxys_host_is_not_replaced() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .set("server", "trusted_proxies", "[\"127.0.0.1\"]")
        .set("platform", "host", "\"server\"")
        .start();
    let fields = [("user-token", &*gateway.mint()), ("X-Forwarded-Host", "public.example")];
    assert_eq!(Client::connect(gateway.http()).exchange(request("GET", "/x", &fields)).status, 200);
    let seen = platform.request("/x");
    assert_eq!(field(&seen, "x-forwarded-host"), ["public.example"]);
    assert_eq!(field(&seen, "host"), [platform.address.to_string().as_str()]);
}

/// A Unix domain socket whose connections all go to the platform.
fn relay(path: &Path, platform: &Platform) {
    let (listener, address) = (UnixListener::bind(path).expect("a socket"), platform.address);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(address) else { continue };
            let (reader, writer) =
                (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            thread::spawn(move || {
                copy(reader, writer, |end: &TcpStream| end.shutdown(std::net::Shutdown::Write))
            });
            thread::spawn(move || {
                copy(server, client, |end: &UnixStream| end.shutdown(std::net::Shutdown::Write))
            });
        }
    });
}

fn copy<R: io::Read, W: io::Write>(mut from: R, mut to: W, end: impl Fn(&W) -> io::Result<()>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(end(&to));
}

#[test]
fn a_unix_socket_is_a_server_like_any_other() {
    let (platform, dir) = (Platform::echo(), TempDir::new().expect("a temporary folder"));
    let path = dir.path().join("platform.sock");
    relay(&path, &platform);
    let absent = format!("unix:{}", dir.path().join("absent.sock").display());
    let url = format!("unix:{}", path.display());
    let gateway = Options::servers(&[&url, &absent]).start();
    let token = gateway.mint();
    for number in 0..20 {
        assert_eq!(get(&gateway, &format!("/{number}"), &token).status, 200);
    }
    assert_eq!(field(&platform.request("/7"), "host"), ["gateway.test"]);
    let value = |name: &str, labels: &[&str]| gateway.metric(&format!("ds_gateway_platform_{name}"), labels);
    assert_eq!(value("addresses", &[&url, "state=\"in_use\""]), 1.0);
    assert_eq!(value("addresses", &[&absent, "state=\"ejected\""]), 1.0);
    assert!(value("tries_failed_total", &[&absent, "fault=\"connect_failed\""]) >= 3.0);
    // It comes up, and is used.
    relay(&dir.path().join("absent.sock"), &platform);
    crate::command::eventually("the other socket", || {
        assert_eq!(get(&gateway, "/again", &token).status, 200);
        (value("addresses", &[&absent, "state=\"in_use\""]) == 1.0).then_some(())
    });
    gateway.still_healthy();
}
