//! A platform that answers before it has read the request: the client sees the answer, and what was not read of its body is never taken
//! for a request.

use super::{RawPlatform, SCHEMES, SIDES, Scheme, answer_to, connect, has_taken, on_side, target_of};
use crate::client::{request, request_with};
use crate::command::eventually;
use crate::wire::Wire;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpMaxSeg;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;

/// A listener whose connections take half of a body before any of it is read.
fn narrow() -> TcpListener {
    let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let socket = TcpSocket::new_v4().expect("a socket");
        // The other side keeps as much as some segments have, so that these are small.
        setsockopt(&socket, TcpMaxSeg, &536).expect("a size");
        socket.set_recv_buffer_size(1).expect("a size");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let listener = socket.listen(64).and_then(tokio::net::TcpListener::into_std).expect("a listener");
        listener.set_nonblocking(false).expect("a listener that waits");
        listener
    })
}

/// What the platform does once it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Reads the rest later, and serves what follows.
    Drains,
    /// The same, having said that it is the last.
    DrainsAndCloses,
    /// Ends with the rest unread, which resets the connection.
    Resets,
}

struct Refusing {
    platform: RawPlatform,
    /// Bodies that ended before their end.
    cut_off: Arc<AtomicUsize>,
    targets: Arc<Mutex<Vec<String>>>,
}

const BODY: usize = 60_000;
const ROUNDS: usize = 5;

impl Refusing {
    fn open(after: After) -> Self {
        let (cut_off, targets) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (cuts, seen) = (Arc::clone(&cut_off), Arc::clone(&targets));
        let platform = RawPlatform::on(narrow(), move |mut wire| {
            while let Ok(head) = wire.head() {
                let target = target_of(&head.start);
                seen.lock().expect("a lock").push(target.clone());
                if target != "/early" {
                    let body = head.length().map_or(Ok(Vec::new()), |length| wire.sized(length));
                    body.map_err(|_| io::ErrorKind::UnexpectedEof)?;
                    wire.inner().write_all(&answer_to(&target))?;
                    continue;
                }
                if !refuse(after, head.length().expect("a length"), &mut wire)? {
                    cuts.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
            }
            Ok(())
        });
        Self { platform, cut_off, targets }
    }
}

/// Answers before the body is read; whether the connection goes on.
fn refuse(after: After, length: usize, wire: &mut Wire<TcpStream>) -> io::Result<bool> {
    let close = if after == After::Drains { "" } else { "Connection: close\r\n" };
    let answer = format!(
        "HTTP/1.1 413 Content Too Large\r\n{close}X-Asked: /early\r\nContent-Length: 6\r\n\r\n/early"
    );
    wire.inner().write_all(answer.as_bytes())?;
    if after == After::Resets {
        return Ok(false);
    }
    // Others have their turn before any of the body is read.
    thread::sleep(Duration::from_millis(100));
    if wire.sized(length).is_err() {
        return Ok(false);
    }
    if after == After::DrainsAndCloses {
        drop(wire.inner().shutdown(Shutdown::Both));
        return Ok(false);
    }
    Ok(true)
}

fn check(lane: bool, scheme: Scheme, after: After) {
    let refusing = Refusing::open(after);
    let options = refusing.platform.options().https().set("server", "threads", "1");
    let gateway = on_side(options, lane).start();
    let token = gateway.mint();
    // What would be a request, if its beginning were taken for all of the body.
    let smuggled = request("GET", "/smuggled", &[("user-token", &token)]);
    let body: Vec<u8> = smuggled.into_iter().cycle().take(BODY).collect();
    let what = format!("lane {lane}, {scheme:?}, {after:?}");
    let mut other = connect(&gateway, scheme);
    for round in 0..ROUNDS {
        let ask = |client: &mut crate::client::Client<_>, place: &str| {
            let target = format!("/number/{round}/{place}");
            client.send(request("GET", &target, &[("user-token", &token)]));
            let answer = client.answer().unwrap_or_else(|fault| panic!("{what} {target}: {fault:?}"));
            assert_eq!((answer.status, answer.text()), (200, target), "{what}");
        };
        let mut client = connect(&gateway, scheme);
        ask(&mut client, "before");
        client.send(request_with("POST", "/early", &[("user-token", &token)], &body));
        let answer = client.answer().unwrap_or_else(|fault| panic!("{what} {round}: {fault:?}"));
        match (answer.status, after) {
            (413, _) => assert_eq!(answer.text(), "/early", "{what}"),
            // The reset may come before its answer was read.
            (502, After::Resets) => answer.is_error(502),
            other => panic!("{what} {round}: {other:?}"),
        }
        if !answer.says_close() {
            // Before the platform has read any of the body.
            ask(&mut client, "same");
        }
        ask(&mut other, "other");
        ask(&mut other, "after");
    }
    let targets = refusing.targets.lock().expect("a lock").clone();
    assert!(
        targets.iter().all(|target| target == "/early" || target.starts_with("/number/")),
        "{what}: {targets:?}"
    );
    let posts = targets.iter().filter(|target| *target == "/early").count();
    assert_eq!(posts, ROUNDS, "{what}: a POST is sent once");
    has_taken(&gateway, lane);
    // The engine goes on with the body, which is as good.
    if after == After::Drains && lane {
        let cut = || refusing.cut_off.load(Ordering::Relaxed);
        eventually("a body that is cut off", || (cut() > 0).then_some(()));
    }
}

#[test]
fn an_answer_before_the_body_was_read_leaves_nothing_to_the_next_request() {
    thread::scope(|scope| {
        for lane in SIDES {
            for after in [After::Drains, After::DrainsAndCloses, After::Resets] {
                scope.spawn(move || SCHEMES.into_iter().for_each(|scheme| check(lane, scheme, after)));
            }
        }
    });
}
