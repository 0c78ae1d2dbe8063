//! Where the gateway listens: the forms of addresses, both families of one port, and what cannot be listened on.

use crate::client::{Client, request};
use crate::command::eventually;
use crate::configuration::options;
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::Platform;
use crate::postgres_server::free_port;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

#[track_caller]
fn answers(gateway: &Gateway, address: SocketAddr) {
    let answer = Client::connect(address).exchange(request("GET", "/x", &[]));
    assert_eq!(answer.status, 401, "{address}");
    let client = SocketAddr::new(address.ip(), 0).to_string();
    let rejected = |line: &String| line.contains(&format!("\"client\":\"{}", client.trim_end_matches('0')));
    eventually("a line with the client", || gateway.log.lines().iter().any(rejected).then_some(()));
}

#[test]
fn both_families_of_one_port_are_listened_on() {
    let platform = Platform::echo();
    for listeners in [
        &["0.0.0.0:P", "[::]:P"][..],
        &["[::]:P", "127.0.0.1:P"],
        &["127.0.0.1:P", "[::1]:P"],
        &[":P"],
        &["localhost:P"],
    ] {
        let port = free_port();
        let list: Vec<String> = listeners.iter().map(|text| text.replace('P', &port.to_string())).collect();
        let gateway = Options::new(&platform).set("server", "http", format!("{list:?}")).start();
        answers(&gateway, (Ipv4Addr::LOCALHOST, port).into());
        answers(&gateway, (Ipv6Addr::LOCALHOST, port).into());
        gateway.still_healthy();
    }
    // Alone, [::] takes both families, as the system has it.
    let port = free_port();
    let gateway = Options::new(&platform).set("server", "http", format!("[\"[::]:{port}\"]")).start();
    answers(&gateway, (Ipv4Addr::LOCALHOST, port).into());
    answers(&gateway, (Ipv6Addr::LOCALHOST, port).into());
}

#[test]
fn one_family_may_be_the_admin_listeners() {
    let platform = Platform::echo();
    let port = free_port();
    let gateway = Options::new(&platform)
        .set("server", "http", format!("[\"[::]:{port}\"]"))
        .set("admin", "listen", format!("\"127.0.0.1:{port}\""))
        .start();
    let six = Client::connect((Ipv6Addr::LOCALHOST, port).into()).exchange(request("GET", "/metrics", &[]));
    let four = Client::connect((Ipv4Addr::LOCALHOST, port).into())
        .exchange("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((six.status, four.status), (401, 200));
    gateway.still_healthy();
}

#[test]
fn addresses_that_exclude_each_other_are_refused_with_the_reason() {
    for (http, https, admin, key, words) in [
        ("[\"127.0.0.1:4\", \"127.0.0.1:4\"]", "[]", "127.0.0.1:5", "server.http", &["twice"][..]),
        ("[\"127.0.0.1:4\"]", "[\"127.0.0.1:4\"]", "127.0.0.1:5", "server.http", &["server.https"]),
        ("[\"0.0.0.0:4\", \"127.0.0.1:4\"]", "[]", "127.0.0.1:5", "server.http", &["every IPv4 address"]),
        ("[\"[::]:4\", \"[::1]:4\"]", "[]", "127.0.0.1:5", "server.http", &["every IPv6 address"]),
        ("[\":4\", \"0.0.0.0:4\"]", "[]", "127.0.0.1:5", "server.http", &["twice"]),
        ("[\"0.0.0.0:4\"]", "[]", "localhost:4", "admin.listen", &["server.http"]),
        ("[\"4\"]", "[]", "127.0.0.1:5", "server.http", &["\":4\""]),
        ("[\"*:4\"]", "[]", "127.0.0.1:5", "server.http", &["\":4\""]),
        ("[\"gateway.example:4\"]", "[]", "127.0.0.1:5", "server.http", &["gateway.example", "\":4\""]),
        ("[\"127.0.0.1:4\"]", "[]", "9464", "admin.listen", &["\":9464\""]),
    ] {
        let folder = options()
            .set("server", "http", http)
            .set("server", "https", https)
            .set("admin", "listen", format!("{admin:?}"))
            .folder();
        for command in ["check", "run"] {
            let done = folder.cli(&[command], "");
            let line = done.stderr.lines().find(|line| line.starts_with(key));
            let is_named = line.is_some_and(|line| words.iter().all(|word| line.contains(word)));
            assert!(done.code == Some(64) && is_named, "{command} {http} {https} {admin}: {done:?}");
            assert_eq!(done.stderr.lines().count(), 2, "one error: {done:?}");
        }
    }
}
