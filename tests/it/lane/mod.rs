//! The fast lane beside the engine: the same gateway with `server.fast_lane` on and off, held against the same clients and platforms.

mod cancel;
mod desync;
mod differential;
mod early;
mod recorder;
mod requests;
mod third_reader;

use crate::client::{Channel, Client};
use crate::gateway::Gateway;
use crate::options::Options;
use crate::wire::Wire;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// With the lane and without it.
const SIDES: [bool; 2] = [true, false];

/// The same gateway on that side.
fn on_side(options: Options, lane: bool) -> Options {
    options.set("server", "fast_lane", lane)
}

/// How a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

const SCHEMES: [Scheme; 2] = [Scheme::Http, Scheme::Https];

fn connect(gateway: &Gateway, scheme: Scheme) -> Client<Box<dyn Channel>> {
    match scheme {
        Scheme::Http => gateway.client().plain(),
        Scheme::Https => Client::connect(gateway.https()).secure(),
    }
}

/// Checks that the lane has served something if it is on, and nothing if it is off: else a test shows nothing of it.
#[track_caller]
fn has_taken(gateway: &Gateway, lane: bool) {
    let taken = gateway.metric("ds_gateway_fast_lane_requests_total", &["result=\"taken\""]);
    assert_eq!(taken > 0.0, lane, "{taken} taken");
}

/// A platform whose every connection is served by a function of the test's own, which may say and leave unread what it likes.
struct RawPlatform {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl RawPlatform {
    fn start(serve: impl Fn(Wire<TcpStream>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), serve)
    }

    fn on(
        listener: TcpListener,
        serve: impl Fn(Wire<TcpStream>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let (stopped, serve) = (Arc::<AtomicBool>::default(), Arc::new(serve));
        let ends = Arc::clone(&stopped);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let serve = Arc::clone(&serve);
                drop(stream.set_nodelay(true));
                // An error is the end of the connection.
                thread::spawn(move || drop(serve(Wire::new(stream))));
            }
        });
        Self { address, stopped }
    }

    fn options(&self) -> Options {
        Options::servers(&[&format!("http://{}", self.address)])
    }
}

impl Drop for RawPlatform {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// An answer that repeats what it was asked for.
fn answer_to(target: &str) -> Vec<u8> {
    let length = target.len();
    format!("HTTP/1.1 200 OK\r\nX-Asked: {target}\r\nContent-Length: {length}\r\n\r\n{target}").into_bytes()
}

/// The target of a request line.
fn target_of(start: &str) -> String {
    start.split(' ').nth(1).unwrap_or_default().to_owned()
}
