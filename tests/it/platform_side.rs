//! The other side: bodies as streams, several servers, and every way in which a platform can fail.

use crate::client::{Answer, request, request_with};
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::wire::{Fault, chunks};
use std::io::Write as _;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

pub fn get(gateway: &Gateway, target: &str, token: &str) -> Answer {
    gateway.exchange(request("GET", target, &[("user-token", token)]))
}

/// A few MB in which no two places look alike.
pub fn megabytes() -> Vec<u8> {
    (0..600_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

#[test]
fn bodies_arrive_whole_both_ways_sized_and_chunked() {
    let platform = Platform::start(Behaviour::Mirror { chunked: false });
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let body = megabytes();
    for answered_chunked in [false, true] {
        platform.behave(Behaviour::Mirror { chunked: answered_chunked });
        for sent_chunked in [false, true] {
            let target = format!("/mirror/{answered_chunked}/{sent_chunked}");
            let fields = [("user-token", token.as_str()), ("Transfer-Encoding", "chunked")];
            let bytes = if sent_chunked {
                [request("PUT", &target, &fields), chunks(&body, 70_000)].concat()
            } else {
                request_with("PUT", &target, &fields[..1], &body)
            };
            let mut client = gateway.client();
            let mut sender = client.sender();
            let sending = thread::spawn(move || sender.write_all(&bytes));
            let answer = client.answer().expect("an answer");
            sending.join().expect("a sender").expect("all is sent");
            assert_eq!((answer.status, answer.body.len()), (200, body.len()), "{target}");
            assert!(answer.body == body, "{target}");
            assert!(platform.request(&target).body == body, "{target}");
            assert_eq!(client.exchange(request("GET", "/after", &[("user-token", &token)])).status, 200);
        }
    }
}

#[test]
fn bodies_are_streamed_not_stored() {
    let (go_on, told) = mpsc::channel();
    let told = Mutex::new(told);
    let platform = Platform::start(Behaviour::Custom(Arc::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        // The rest is sent only after the client has read the first chunk.
        told.lock().expect("a lock").recv().expect("a word from the client");
        stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n")
    })));
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let mut client = gateway.client();
    client.send(request(
        "POST",
        "/stream",
        &[("user-token", token.as_str()), ("Transfer-Encoding", "chunked")],
    ));
    client.send("8\r\nupload-1\r\n");
    platform.waits_for("upload-1");
    client.send("8\r\nupload-2\r\n0\r\n\r\n");
    let (status, head) = client.head().expect("a head before the body is complete");
    assert_eq!((status, head.is_chunked()), (200, true));
    let mut text = Vec::new();
    while text.len() < 5 {
        text.extend(client.wire().chunk().expect("a chunk").expect("not the end"));
    }
    go_on.send(()).expect("the platform waits");
    text.extend(client.wire().chunked().expect("the rest"));
    assert_eq!(text, b"firstsecond");
}

#[test]
fn servers_are_asked_in_turn() {
    let (one, two) = (Platform::echo(), Platform::echo());
    let gateway = Options::servers(&[&one.url(), &two.url()]).set("server", "threads", "1").start();
    let token = gateway.mint();
    for number in 0..10 {
        assert_eq!(get(&gateway, &format!("/{number}"), &token).status, 200);
    }
    assert_eq!((one.requests().len(), two.requests().len()), (5, 5));
}

#[test]
fn answers_without_a_body_stay_without_one() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let mut client = gateway.client();
    let head = client.exchange(request("HEAD", "/head", &[("user-token", &token)]));
    assert_eq!((head.status, head.value("x-platform")), (200, "yes"));
    assert_eq!(client.exchange(request("GET", "/second", &[("user-token", &token)])).status, 200);
    for status in [204, 304] {
        platform.behave(Behaviour::Raw(format!("HTTP/1.1 {status} X\r\nETag: \"a\"\r\n\r\n").into_bytes()));
        let answer = client.exchange(request("GET", "/none", &[("user-token", &token)]));
        assert_eq!((answer.status, answer.value("etag")), (status, "\"a\""));
        answer.value("x-request-id");
    }
    platform.behave(Behaviour::Raw(b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\nmine".to_vec()));
    let answer = get(&gateway, "/error", &token);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (500, "mine"),
        "an error of the platform is the platform's"
    );
}

#[test]
fn a_platform_that_fails_is_502_and_no_connection_to_it_is_used_again() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let raw = |text: &str| Behaviour::Raw(text.as_bytes().to_vec());
    for (name, behaviour) in [
        ("closed", Behaviour::Close),
        ("reset", Behaviour::Reset),
        ("garbage", raw("\x00\x01\x02 nothing like HTTP\r\n\r\n")),
        ("text", raw("hello\r\n\r\n")),
        ("half a header", raw("HTTP/1.1 200 OK\r\nContent-Le")),
        ("no number", raw("HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n")),
        (
            "an upgrade that nobody asked for",
            raw("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ),
    ] {
        platform.behave(behaviour);
        for method in ["GET", "POST"] {
            let before = platform.requests().len();
            let answer =
                gateway.exchange(request_with(method, "/failing", &[("user-token", &token)], b"body"));
            assert_eq!(answer.status, 502, "{name} {method}");
            answer.is_error(502);
            assert!(
                method != "POST" || platform.requests().len() <= before + 1,
                "{name}: a POST is not tried again"
            );
        }
        platform.behave(Behaviour::Echo);
        gateway.still_healthy();
    }
}

#[test]
fn a_post_is_sent_once_even_on_a_connection_that_was_used_before() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    assert_eq!(get(&gateway, "/warm", &token).status, 200);
    platform.behave(Behaviour::Close);
    let answer = gateway.exchange(request_with("POST", "/once", &[("user-token", &token)], b"an order"));
    answer.is_error(502);
    platform.request("/once");
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn a_platform_that_is_not_there_is_502() {
    // No program of the tests listens on port 1, and the system hands it out to nobody.
    let gateway = Options::servers(&["http://127.0.0.1:1"]).start();
    let token = gateway.mint();
    for method in ["GET", "POST"] {
        gateway.exchange(request_with(method, "/x", &[("user-token", &token)], b"body")).is_error(502);
    }
    assert_eq!(gateway.admin("/healthz").status, 200);
    gateway.mint();
}

#[test]
fn a_platform_that_says_nothing_is_504() {
    let platform = Platform::start(Behaviour::Never);
    let gateway = Options::new(&platform).set("platform", "read_timeout", "\"1s\"").start();
    let token = gateway.mint();
    get(&gateway, "/slow", &token).is_error(504);
    platform.request("/slow");
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn an_answer_that_breaks_off_never_looks_complete() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("platform", "read_timeout", "\"1s\"").start();
    let token = gateway.mint();
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        for stall in [false, true] {
            platform.behave(Behaviour::Custom(Arc::new(move |_, stream| {
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nfirst\r\n").as_bytes())?;
                if stall {
                    std::io::Read::read(stream, &mut [0; 1])?;
                }
                Ok(())
            })));
            let mut client = gateway.client();
            client.send(request("GET", "/breaks", &[("user-token", &token)]));
            match client.answer() {
                Err(Fault::Truncated | Fault::Closed) => {}
                // With the first bytes still in its hands the gateway may also say it with a status.
                Ok(answer) if answer.status == 502 || answer.status == 504 => {}
                other => panic!("{head} {stall}: {other:?}"),
            }
        }
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}
