//! Two gateways behind a real HAProxy, as docs/operations.md says: restarted in turn, and no request fails.

use crate::client::{Client, request};
use crate::command::{eventually, in_time};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::proxies::{HaProxy, LIES, free_address, lied_to};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

/// The configuration in the documentation, for these gateways.
fn documented(clients: SocketAddr, gateways: &[(SocketAddr, SocketAddr); 2]) -> String {
    let text = include_str!("../../docs/operations.md");
    let block = text.split("```haproxy\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let [(a, a_admin), (b, b_admin)] = gateways;
    let mut text = block.to_owned();
    for (documented, here) in [
        // More than a test may open.
        ("maxconn 10000", "maxconn 100".to_owned()),
        ("203.0.113.1:443 ssl crt /etc/haproxy/gateway.pem alpn h2,http/1.1", clients.to_string()),
        ("10.0.0.5:8080 port 9464", format!("{a} port {}", a_admin.port())),
        ("10.0.0.5:8081 port 9465", format!("{b} port {}", b_admin.port())),
    ] {
        assert!(text.contains(documented), "{text}");
        text = text.replace(documented, &here);
    }
    text
}

#[test]
fn two_gateways_are_restarted_in_turn_and_no_request_fails() {
    let platform = Platform::echo();
    let places = [(free_address(), free_address()), (free_address(), free_address())];
    let options = |(http, admin): (SocketAddr, SocketAddr)| {
        Options::new(&platform)
            .nobody()
            .set("server", "http", format!("[\"{http}\"]"))
            .set("server", "drain_delay", "\"3s\"")
            .set("server", "trusted_proxies", "[\"127.0.0.1\"]")
            .set("admin", "listen", format!("\"{admin}\""))
    };
    let folder = options(places[0]).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let state = |path: &Path| format!("{:?}", path.to_str().expect("a path"));
    let second = options(places[1]).set("server", "state_dir", state(&folder.state())).folder();
    let gateways = [folder.run(&[]), second.run(&[])];
    let clients = free_address();
    let _haproxy = HaProxy::start(&documented(clients, &places));
    let token = gateways[0].mint();
    let ask = request("GET", "/ds-api/servers", &[("user-token", &token)]);
    let reached = in_time(|| {
        let mut client = Client::try_connect(clients).ok()?;
        client.try_send(&ask).ok()?;
        client.answer().ok().filter(|answer| answer.status == 200)
    });
    assert!(reached.is_some(), "nothing gets through");
    let lies = [&[("user-token", token.as_str())], LIES.as_slice()].concat();
    assert_eq!(Client::connect(clients).exchange(request("GET", "/ds-api/lies", &lies)).status, 200);
    assert_eq!(platform.request("/ds-api/lies").values("x-forwarded-proto"), ["https"]);
    assert!(!lied_to(&platform), "what a client says of itself ends at HAProxy");

    let gateways = restart_in_turn(gateways.into(), clients, &ask);
    gateways.iter().for_each(Gateway::still_healthy);
}

/// Stops each and starts it again, while clients ask for something that is answered by 200 each time.
pub fn restart_in_turn(gateways: Vec<Gateway>, clients: SocketAddr, ask: &[u8]) -> Vec<Gateway> {
    let (start, is_over) = (Instant::now(), AtomicBool::new(false));
    let served = |gateway: &Gateway| gateway.metric("ds_gateway_decisions_total", &["decision=\"admitted\""]);
    let mut restarted = Vec::new();
    let sent: usize = thread::scope(|scope| {
        let load: Vec<_> = (0..6)
            .map(|which| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut sent = 0;
                    let mut client = Client::connect(clients);
                    // Not for ever, if something below fails.
                    while !is_over.load(Relaxed) && start.elapsed().as_secs() < 120 {
                        // Some keep their connection, some make one for each request.
                        if which % 2 == 0 {
                            client = Client::connect(clients);
                        }
                        let answer = client.exchange(ask);
                        assert_eq!(answer.status, 200, "request {sent} of client {which}: {answer:?}");
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for before in gateways {
            let folder = before.stop();
            let gateway = folder.run(&[]);
            // The balancer has seen it once it gets requests.
            eventually("requests at the new one", || (served(&gateway) > 20.0).then_some(()));
            restarted.push(gateway);
        }
        is_over.store(true, Relaxed);
        load.into_iter().map(|client| client.join().expect("every request is served")).sum()
    });
    assert!(sent > 300, "{sent}");
    restarted
}
