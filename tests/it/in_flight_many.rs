//! Many event streams of one user end together, and those of another go on. `STREAMS=10000` measures what docs/benchmarks.md says; the test
//! itself asserts no time.

use crate::client::request;
use crate::contract::ENDPOINT;
use crate::gateway::PASSWORD;
use crate::h2_client::H2Client;
use crate::options::{Options, User};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::timeout;

/// Begins an event stream and says nothing more, until the connection ends.
async fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.is_ok_and(|count| count == 0) {
            return;
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n";
    drop(stream.write_all(answer).await);
    drop(stream.read_u8().await);
}

/// A platform of event streams, on a thread of its own.
fn platform() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a listener");
    thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    address
}

const STREAMS_OF_A_CONNECTION: usize = 100;

#[test]
fn all_streams_of_a_user_end_with_one_revocation_and_no_other_does() {
    let count: usize = std::env::var("STREAMS").map_or(300, |text| text.parse().expect("a number"));
    let other = User::new("other", PASSWORD, "other@example.com", "Other Org.");
    let gateway = Options::servers(&[&format!("http://{}", platform())])
        .user(other)
        .https()
        .set("limits", "connections", 1_000)
        .set("limits", "platform_connections", count * 3 / 2 + 500)
        .set("limits", "requests", count * 2 + 500)
        .set("limits", "memory", 16_u64 << 30)
        .set("limits", "requests_per_connection", STREAMS_OF_A_CONNECTION)
        .set("log", "access", "false")
        .start();
    let (token, neighbour) = (gateway.mint(), gateway.login("other", PASSWORD).expect("a token"));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Each from a network of its own: one may not take all that there is.
    let connect = |number: usize| {
        let source = Ipv4Addr::new(127, 1 + number as u8, 0, 1);
        H2Client::connect(source.into(), gateway.https(), 1 << 16)
    };
    let mut connections = Vec::new();
    let mut begin = |number: usize, token: &str, streams: usize| {
        let mut client = connect(number);
        let answers: Vec<_> = (0..streams).map(|_| client.get_as("/ds-api/events", token)).collect();
        connections.push(client);
        runtime.block_on(async {
            let mut bodies = Vec::new();
            for answer in answers {
                let answer = answer.await.expect("an answer");
                let refused = || {
                    let text = gateway.admin("/metrics").text();
                    text.lines()
                        .filter(|line| line.contains("requests_refused"))
                        .collect::<Vec<_>>()
                        .join(", ")
                };
                assert_eq!(answer.status(), 200, "{}", refused());
                let mut body = answer.into_body();
                body.data().await.expect("an event").expect("an event");
                bodies.push(body);
            }
            bodies
        })
    };
    let mut neighbours = begin(0, &neighbour, STREAMS_OF_A_CONNECTION);
    let mut streams = Vec::new();
    for number in 1..=count.div_ceil(STREAMS_OF_A_CONNECTION) {
        streams.extend(begin(number, &token, STREAMS_OF_A_CONNECTION.min(count - streams.len())));
    }
    thread::sleep(Duration::from_secs(1));
    let (times, acknowledged) = runtime.block_on(async {
        let asked = Instant::now();
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|mut body| {
                tokio::spawn(async move {
                    let end = timeout(Duration::from_secs(60), body.data()).await.expect("the stream ends");
                    assert!(end.expect("no end").expect_err("no data").is_reset());
                    asked.elapsed()
                })
            })
            .collect();
        let answer = request("DELETE", ENDPOINT, &[("user-token", &token)]);
        let address = gateway.http();
        let revoked = tokio::task::spawn_blocking(move || {
            let status = crate::client::Client::connect(address).exchange(answer).status;
            (status, asked.elapsed())
        });
        let (status, acknowledged) = revoked.await.expect("an answer");
        assert_eq!(status, 204);
        let mut times = Vec::new();
        for task in tasks {
            times.push(task.await.expect("a stream"));
        }
        (times, acknowledged)
    });
    let mut times = times;
    times.sort_unstable();
    let share = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!(
        "{count} streams: DELETE answered after {acknowledged:?}, half had ended after {:?}, 99 % after {:?}, all after {:?}",
        share(50),
        share(99),
        share(100)
    );
    let ended = gateway.metric("ds_gateway_requests_ended_total", &["reason=\"revoked_token\""]);
    assert_eq!(ended as usize, count);
    runtime.block_on(async {
        for body in &mut neighbours {
            let silence = timeout(Duration::from_millis(1), body.data()).await;
            assert!(silence.is_err(), "a stream of another user ended: {silence:?}");
        }
    });
    assert_eq!(gateway.status(&token), 401);
}
