//! A platform that speaks WebSocket, and a protocol of raw bytes. What it does says the last segment of the path.

use crate::command::eventually;
use crate::gateway::PASSWORD;
use crate::options::{Options, User};
use crate::wire::{Head, Wire};
use socket2::SockRef;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Bytes, Message};

/// What the tests' gateways let through.
pub const UPGRADES: &str =
    r#"["/ds-api/live/*", "/open/*", { path = "/ds-api/raw/*", protocols = ["Raw/1", "raw"] }]"#;

#[derive(Default)]
struct Shared {
    heads: Mutex<Vec<Head>>,
    open: AtomicUsize,
    /// Bytes that a flood has written, and that raw connections have read.
    written: AtomicUsize,
    raw: Mutex<Vec<u8>>,
}

pub struct Live {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Live {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (address, shared) = (listener.local_addr().expect("an address"), Arc::<Shared>::default());
        let all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&all);
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Two users, the routes of this file, TLS and plain.
    pub fn options(&self) -> Options {
        let other = User::new("other", PASSWORD, "other@example.com", "Other Org.");
        Options::servers(&[&format!("http://{}", self.address)])
            .user(other)
            .https()
            .public("[\"/open/*\"]")
            .set("routes", "upgrades", UPGRADES)
    }

    /// Heads of the requests so far whose target has this text.
    pub fn heads(&self, target: &str) -> Vec<Head> {
        let heads = self.shared.heads.lock().expect("a lock");
        heads.iter().filter(|head| head.start.contains(target)).cloned().collect()
    }

    pub fn written(&self) -> usize {
        self.shared.written.load(Ordering::SeqCst)
    }

    pub fn raw(&self) -> Vec<u8> {
        self.shared.raw.lock().expect("a lock").clone()
    }

    /// Waits until so many upgraded connections are open.
    #[track_caller]
    pub fn has_open(&self, count: usize, what: &str) {
        eventually(what, || (self.shared.open.load(Ordering::SeqCst) == count).then_some(()));
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    while let Ok(head) = wire.head() {
        shared.heads.lock().expect("a lock").push(head.clone());
        let Some(protocol) = head.values("upgrade").first().map(|name| (*name).to_owned()) else {
            wire.inner().write_all(b"HTTP/1.1 200 OK\r\nX-Platform: yes\r\nContent-Length: 2\r\n\r\n{}")?;
            continue;
        };
        let target = head.start.split(' ').nth(1).unwrap_or_default();
        let kind = target.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let version = head.values("sec-websocket-version").first().is_some_and(|version| *version != "13");
        if version {
            return wire.inner().write_all(
                b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n",
            );
        }
        let mut answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n");
        if let [key] = *head.values("sec-websocket-key") {
            answer += &format!("Sec-WebSocket-Accept: {}\r\n", derive_accept_key(key.as_bytes()));
        }
        if let Some(chosen) =
            head.values("sec-websocket-protocol").first().and_then(|all| all.split(", ").last())
        {
            answer += &format!("Sec-WebSocket-Protocol: {chosen}\r\n");
        }
        answer += "X-Mine: kept\r\nX-DS-Sequence: 5\r\n\r\n";
        shared.open.fetch_add(1, Ordering::SeqCst);
        let stream = wire.inner().try_clone()?;
        let ended = match protocol.as_str() {
            "websocket" => speak(stream, kind, &answer, shared),
            _ => raw(stream, kind, &answer, shared),
        };
        shared.open.fetch_sub(1, Ordering::SeqCst);
        // Both handles: the other side sees the end now.
        if kind != "resets" {
            drop(wire.inner().shutdown(Shutdown::Both));
        }
        return ended;
    }
    Ok(())
}

fn speak(mut stream: TcpStream, kind: &str, answer: &str, shared: &Shared) -> io::Result<()> {
    let tick = |text: &[u8]| [&[0x81, text.len() as u8], text].concat();
    if kind == "hello" {
        // In one packet with the answer.
        stream.write_all(&[answer.as_bytes(), &tick(b"hello")].concat())?;
    } else {
        stream.write_all(answer.as_bytes())?;
    }
    match kind {
        "ticks" => loop {
            stream.write_all(&tick(b"tick"))?;
            thread::sleep(Duration::from_millis(5));
        },
        // Hardly ever between two frames.
        "slow" => loop {
            let frame = tick(b"a whole tick");
            stream.write_all(&frame[..5])?;
            thread::sleep(Duration::from_millis(60));
            stream.write_all(&frame[5..])?;
        },
        "stuck" => {
            stream.write_all(&[0x82, 126, 0x03, 0xe8, 1, 2, 3])?;
            let mut scratch = [0; 1024];
            while stream.read(&mut scratch)? > 0 {}
            Ok(())
        }
        "flood" => {
            let frame = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65_536]].concat();
            loop {
                stream.write_all(&frame)?;
                shared.written.fetch_add(frame.len(), Ordering::SeqCst);
            }
        }
        // After a whole frame, as a server that fails.
        "resets" => {
            stream.write_all(&tick(b"the last tick"))?;
            thread::sleep(Duration::from_millis(100));
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        }
        "closes" => {
            let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
            drop(socket.close(None));
            while socket.read().is_ok() {}
            Ok(())
        }
        _ => {
            let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
            while let Ok(message) = socket.read() {
                if message.is_text() || message.is_binary() {
                    let back = if kind == "quiet" { Message::Pong(Bytes::new()) } else { message };
                    socket.send(back).map_err(io::Error::other)?;
                }
            }
            Ok(())
        }
    }
}

/// Bytes without a form.
fn raw(mut stream: TcpStream, kind: &str, answer: &str, shared: &Shared) -> io::Result<()> {
    stream.write_all(answer.as_bytes())?;
    let mut buffer = vec![0; 64 << 10];
    if kind == "sink" {
        let mut ticks = stream.try_clone()?;
        thread::spawn(move || {
            while ticks.write_all(b"tick").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        while stream.read(&mut buffer)? > 0 {}
        return Ok(());
    }
    loop {
        let count = stream.read(&mut buffer)?;
        shared.raw.lock().expect("a lock").extend_from_slice(&buffer[..count]);
        match (kind, count) {
            // After the client's end.
            ("after", 0) => {
                stream.write_all(b"after the end")?;
                return stream.shutdown(Shutdown::Write);
            }
            // The platform ends first, and still reads.
            ("first", 1..) => {
                stream.write_all(b"only this")?;
                stream.shutdown(Shutdown::Write)?;
            }
            (_, 0) => return Ok(()),
            _ => stream.write_all(&buffer[..count])?,
        }
    }
}
