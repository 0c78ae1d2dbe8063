//! Clients and platforms that are slow and yet move: bodies have a least pace, requests may have a longest time, and who takes
//! an answer slowly but steadily gets all of it.

use crate::client::{Client, request};
use crate::command::eventually;
use crate::connections::{ATTACKER, held, public};
use crate::h2_client::{H2Client, statuses};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use bytes::Bytes;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(400);

#[test]
fn a_body_of_a_byte_now_and_then_is_refused_in_the_end() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let token = gateway.mint();
    let (address, https, held_by) = (gateway.http(), gateway.https(), token.clone());
    let http2 = thread::spawn(move || {
        let mut client = H2Client::connect(ATTACKER, https, 65_535);
        let (answer, mut body) = client.post("/drip", &held_by);
        let sender = thread::spawn(move || {
            while body.send_data(Bytes::from_static(b"x"), false).is_ok() {
                thread::sleep(PAUSE);
            }
        });
        let status = statuses(vec![answer])[0];
        drop(client);
        sender.join().expect("the sender");
        status
    });
    let mut client = Client::connect_from(ATTACKER, address);
    client.send(request("POST", "/drip", &[("user-token", token.as_str()), ("Content-Length", "1000000")]));
    // While it drips, a body that keeps its pace for longer is not disturbed.
    let (at, steady_token) = (gateway.http(), token.clone());
    let steady = thread::spawn(move || {
        let mut client = Client::connect(at);
        client.send(request(
            "POST",
            "/steady",
            &[("user-token", &steady_token), ("Content-Length", "10000")],
        ));
        for _ in 0..100 {
            client.send([b's'; 100]);
            thread::sleep(Duration::from_millis(250));
        }
        client.answer().expect("an answer").status
    });
    while client.try_send("x").is_ok()
        && gateway.metric("ds_gateway_requests_total", &["4xx", "protected"]) < 2.0
    {
        thread::sleep(PAUSE);
    }
    client.answer().expect("an answer").is_error(408);
    assert!([0, 408].contains(&http2.join().expect("a client")));
    assert_eq!(steady.join().expect("a client"), 200);
    assert!(platform.requests().iter().all(|seen| seen.complete == (seen.target != "/drip")));
    gateway.still_healthy();
}

#[test]
fn who_reads_slowly_but_steadily_gets_everything() {
    const SIZE: usize = 400_000;
    let platform = Platform::start(Behaviour::Custom(Arc::new(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")?;
        stream.write_all(&[b'd'; SIZE])
    })));
    let gateway =
        Options::new(&platform).public("[\"/public/*\"]").set("limits", "write_timeout", "\"2s\"").start();
    let mut stream = TcpStream::connect(gateway.http()).expect("a connection");
    // What the kernel takes for us would hide how slow we are.
    socket2::SockRef::from(&stream).set_recv_buffer_size(8 * 1024).expect("a small buffer");
    stream.write_all(&request("GET", "/public/x", &[])).expect("the gateway reads");
    let (mut read, mut piece) = (0, [0; 16 * 1024]);
    while read < SIZE {
        let count = stream.read(&mut piece).expect("bytes");
        assert_ne!(count, 0, "ended after {read} bytes");
        read += count;
        thread::sleep(Duration::from_millis(150));
    }
    assert!(read > SIZE, "header and body");
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn a_request_may_have_a_longest_time_by_route() {
    let (platform, release) = held();
    let gateway = Options::new(&platform)
        .https()
        .set("routes", "public", "[\"/public/*\", \"/slow/*\"]")
        .set("routes", "request_duration", "[{ path = \"/slow/*\", limit = \"1s\" }]")
        .start();
    let mut other = public(ATTACKER, gateway.http());
    let mut slow = gateway.client();
    slow.send(request("GET", "/slow/x", &[]));
    let mut http2 = H2Client::connect(ATTACKER, gateway.https(), 65_535);
    let (slow_stream, other_stream) = (http2.get("/slow/y"), http2.get("/public/z"));
    assert!(slow.answer().is_err(), "the connection ends");
    assert_eq!(statuses(vec![slow_stream]), [0], "the stream ends");
    let lines = eventually("both lines", || {
        let lines = gateway.log.messages("access");
        let cut: Vec<_> = lines.into_iter().filter(|line| line["status"] == 504).collect();
        (cut.len() == 2).then_some(cut)
    });
    let server = platform.address.to_string();
    for line in &lines {
        assert_eq!(
            (&line["fault"], &line["server"], &line["tries"]),
            (&"request duration exceeded".into(), &server.as_str().into(), &1.into())
        );
    }
    for _ in 0..4 {
        release.send(()).expect("the platform waits");
    }
    assert_eq!(statuses(vec![other_stream]), [200], "its connection goes on");
    assert_eq!(other.answer().expect("an answer").status, 200);
    assert_eq!(gateway.metric("ds_gateway_in_flight_requests", &[]), 0.0);
    platform.behave(Behaviour::Echo);
    drop(release);
    gateway.still_healthy();
}
