//! Requests in flight whose token ceases to hold: event streams, long polls, downloads and uploads end, over every protocol, and what was cut
//! never looks complete; those of others go on.

use crate::client::{Client, request};
use crate::command::eventually;
use crate::contract::ENDPOINT;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::h2_client::H2Client;
use crate::options::{Options, User};
use crate::wire::Wire;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;

/// A platform whose answers take as long as somebody is there.
struct Streams {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
}

impl Streams {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (address, open) = (listener.local_addr().expect("an address"), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&open);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    let mut wire = Wire::new(stream);
                    while let Ok(head) = wire.head() {
                        let target = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
                        if !target.starts_with("/ds-api/long/") {
                            drop(wire.inner().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
                            continue;
                        }
                        count.fetch_add(1, Ordering::SeqCst);
                        drop(serve(wire.inner(), &target));
                        count.fetch_sub(1, Ordering::SeqCst);
                        return;
                    }
                });
            }
        });
        Self { address, open }
    }

    fn gateway(&self) -> Options {
        let other = User::new("other", PASSWORD, "other@example.com", "Other Org.");
        Options::servers(&[&format!("http://{}", self.address)]).user(other).https()
    }

    /// Waits until so many are served.
    #[track_caller]
    fn serves(&self, count: usize, what: &str) {
        eventually(what, || (self.open.load(Ordering::SeqCst) == count).then_some(()));
    }
}

/// Until the gateway closes the connection.
fn serve(stream: &mut TcpStream, target: &str) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    match target.rsplit('/').next() {
        // Something now, and nothing more.
        Some("events") => {
            stream.write_all(
                format!("{head}Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n").as_bytes(),
            )?;
        }
        Some("busy") => {
            stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            loop {
                stream.write_all(b"8\r\ndata: 1\n\r\n")?;
                // Seldom enough for a client that reads nothing meanwhile: more small frames are too many for the library.
                thread::sleep(Duration::from_millis(60));
            }
        }
        Some("close") => stream.write_all(format!("{head}\r\ndata: 1\n").as_bytes())?,
        Some("download") => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 16 << 10])?;
                thread::sleep(Duration::from_millis(1));
            }
        }
        _ => {}
    }
    let mut scratch = [0; 64 << 10];
    while stream.read(&mut scratch)? > 0 {}
    Ok(())
}

/// A client over HTTP/1, by what it sends in front of its token.
const CLIENTS: [(&str, &str); 8] = [
    ("an event stream", "GET /ds-api/long/events HTTP/1.1\r\n"),
    ("a busy event stream", "GET /ds-api/long/busy HTTP/1.1\r\n"),
    ("an answer without a length", "GET /ds-api/long/close HTTP/1.1\r\n"),
    ("a long poll", "GET /ds-api/long/poll HTTP/1.1\r\n"),
    ("a download", "GET /ds-api/long/download HTTP/1.1\r\n"),
    // The fast lane leaves these to the engine.
    ("an event stream of the engine", "GET /ds-api/long/events HTTP/1.1\r\nKeep-Alive: x\r\n"),
    ("an upload", "POST /ds-api/long/upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"),
    ("a client of HTTP/1.0", "GET /ds-api/long/close HTTP/1.0\r\n"),
];

/// All that comes until the connection ends, and how it ends.
fn begin(gateway: &Gateway, start: &str, token: &str) -> thread::JoinHandle<(Vec<u8>, io::Result<()>)> {
    let mut client = Client::connect(gateway.http());
    client.send(format!("{start}Host: gateway.test\r\nuser-token: {token}\r\n\r\n"));
    if start.starts_with("POST") {
        client.send("5\r\nhello\r\n");
    }
    let mut stream = client.sender();
    thread::spawn(move || {
        let (mut seen, mut buffer) = (Vec::new(), [0; 16 << 10]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return (seen, Ok(())),
                Ok(count) => {
                    seen.truncate(1 << 20);
                    seen.extend_from_slice(&buffer[..count]);
                }
                Err(error) => return (seen, Err(error)),
            }
        }
    })
}

/// Has everything in flight under a token ended by `end`, which gets that token, while another user's requests go on.
fn all_end(options: impl Fn(Options) -> Options, end: impl Fn(&Gateway, &str), reason: &str) {
    let streams = Streams::start();
    let gateway = options(streams.gateway()).start();
    let neighbour = gateway.login("other", PASSWORD).expect("a token");
    let mut others = H2Client::connect(Ipv4Addr::LOCALHOST.into(), gateway.https(), 1 << 20);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let is_expiry = reason == "token_expired";
    let mut beside = Vec::new();
    let mut neighbours = 0;
    if !is_expiry {
        beside.push(runtime.block_on(others.get_as("/ds-api/long/busy", &neighbour)).expect("an answer"));
        neighbours = 1 + CLIENTS[..2].len();
        CLIENTS[..2].iter().for_each(|(_, start)| drop(begin(&gateway, start, &neighbour)));
        streams.serves(neighbours, "the neighbours");
    }
    let token = gateway.mint();
    let mut h2 = H2Client::connect(Ipv4Addr::LOCALHOST.into(), gateway.https(), 1 << 20);
    let mut bodies: Vec<_> = ["events", "busy", "close", "download"]
        .map(|kind| h2.get_as(&format!("/ds-api/long/{kind}"), &token))
        .into_iter()
        .map(|answer| runtime.block_on(answer).expect("an answer").into_body())
        .collect();
    let poll = h2.get_as("/ds-api/long/poll", &token);
    let (upload, mut sender) = h2.post("/ds-api/long/upload", &token);
    sender.send_data("hello".into(), false).expect("a stream");
    let clients = CLIENTS.map(|(name, start)| (name, begin(&gateway, start, &token)));
    let all = neighbours + clients.len() + bodies.len() + 2;
    streams.serves(all, "all requests to be in flight");

    end(&gateway, &token);
    streams.serves(neighbours, "the requests to end at the platform");
    for (name, client) in clients {
        let (seen, end) = client.join().expect("a client");
        let text = String::from_utf8_lossy(&seen);
        assert!(!text.ends_with("0\r\n\r\n"), "{name}: {text}");
        let is_timeout = end.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(!is_timeout, "{name} did not end");
        if name == "a client of HTTP/1.0" {
            assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset), "{name}");
        }
    }
    runtime.block_on(async {
        for body in &mut bodies {
            let error = loop {
                match body.data().await {
                    Some(Ok(data)) => drop(body.flow_control().release_capacity(data.len())),
                    Some(Err(error)) => break error,
                    None => panic!("an answer that was cut is complete"),
                }
            };
            assert!(error.is_reset(), "{error}");
        }
        for answer in [poll, upload] {
            let error = answer.await.expect_err("no answer");
            assert!(error.is_reset(), "{error}");
        }
        // Of these the connection goes on, and so do the neighbours.
        let after = h2.get_as("/ds-api/after", &token).await.expect("an answer");
        assert_eq!(after.status(), 401);
        for answer in &mut beside {
            let more = answer.body_mut().data().await.expect("more").expect("more");
            drop(answer.body_mut().flow_control().release_capacity(more.len()));
        }
    });
    let ended = gateway.metric("ds_gateway_requests_ended_total", &[&format!("reason=\"{reason}\"")]);
    assert_eq!(ended as usize, all - neighbours, "{reason}");
    let lines = gateway.log.lines();
    let logged = lines.iter().filter(|line| line.contains(&format!("\"fault\":\"{reason}\""))).count();
    assert!(logged >= all - neighbours, "{logged}: {lines:#?}");
    assert_eq!(streams.open.load(Ordering::SeqCst), neighbours);
}

const AS_IT_IS: fn(Options) -> Options = |options| options;

#[test]
fn requests_in_flight_end_with_their_token() {
    let end = |gateway: &Gateway, token: &str| {
        let answer = gateway.exchange(request("DELETE", ENDPOINT, &[("user-token", token)]));
        assert_eq!(answer.status, 204);
    };
    all_end(AS_IT_IS, end, "revoked_token");
}

#[test]
fn requests_in_flight_end_with_a_revocation_of_their_user() {
    let end = |gateway: &Gateway, _: &str| drop(gateway.folder.cli(&["revoke", "user", USER], "").ok());
    all_end(AS_IT_IS, end, "revoked_user");
}

#[test]
fn requests_in_flight_end_when_their_user_is_disabled() {
    let end = |gateway: &Gateway, _: &str| drop(gateway.folder.cli(&["user", "disable", USER], "").ok());
    all_end(AS_IT_IS, end, "revoked_user");
}

#[test]
fn requests_in_flight_end_when_their_token_expires() {
    all_end(|options| options.set("token", "lifetime", "\"4s\""), |_, _| (), "token_expired");
}

/// A change of users ends the token that asks for it, and its answer comes all the same, however long it takes.
#[test]
fn a_request_that_changes_its_own_user_has_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut wire = Wire::new(stream);
                while wire.head().is_ok() {
                    drop(wire.inner().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"));
                    thread::sleep(Duration::from_millis(1_500));
                    drop(wire.inner().write_all(b"done"));
                }
            });
        }
    });
    let changes = "[{ path = \"/ds-api/me\", ends = \"self\" }]";
    let gateway =
        Options::servers(&[&format!("http://{address}")]).set("platform", "user_changes", changes).start();
    let token = gateway.mint();
    let answer = gateway.exchange(request("PUT", "/ds-api/me", &[("user-token", &token)]));
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert_eq!(gateway.status(&token), 401);
}

/// An answer that is on its way when its token is revoked arrives, if the request is young.
#[test]
fn a_short_request_is_not_cut() {
    let streams = Streams::start();
    let gateway = streams.gateway().start();
    let token = gateway.mint();
    let client = begin(&gateway, CLIENTS[0].1, &token);
    streams.serves(1, "the stream");
    // The stream is cut, and not before its time.
    let answer = gateway.exchange(request("DELETE", ENDPOINT, &[("user-token", &token)]));
    assert_eq!(answer.status, 204);
    let (seen, _) = client.join().expect("a client");
    assert!(String::from_utf8_lossy(&seen).contains("data: 1"), "{seen:?}");
    let line = eventually("the line of the stream", || {
        gateway.log.lines().into_iter().find(|line| line.contains("/ds-api/long/events"))
    });
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line");
    assert!(line["duration_ms"].as_f64().expect("a time") >= 500.0, "{line}");
}
