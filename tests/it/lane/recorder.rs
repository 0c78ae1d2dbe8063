//! A platform that keeps every request that it reads with its bytes, by the client that it came from, and answers each in a way that
//! depends on nothing but the request.

use super::{RawPlatform, target_of};
use crate::wire::{Fault, Head, Wire, chunks};
use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// A request as it arrived, whole.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub head: Head,
    pub body: Vec<u8>,
    /// All bytes of it.
    pub raw: Vec<u8>,
}

/// Requests by the address that the gateway says they come from.
type Record = Arc<Mutex<BTreeMap<String, Vec<Arrived>>>>;

pub struct Recorder {
    pub platform: RawPlatform,
    record: Record,
}

impl Recorder {
    /// Answers in many forms.
    pub fn open() -> Self {
        Self::answering(any_answer)
    }

    /// Answers without a body.
    pub fn plain() -> Self {
        Self::answering(|_, _| (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), true))
    }

    fn answering(answer: fn(&Head, &[u8]) -> (Vec<u8>, bool)) -> Self {
        let record = Record::default();
        let records = Arc::clone(&record);
        let platform = RawPlatform::start(move |wire| {
            let stream = wire.into_inner();
            let mut answers = stream.try_clone()?;
            let mut wire = Wire::new(Tee { stream, seen: Vec::new() });
            loop {
                let Ok((head, body)) = read(&mut wire) else { return Ok(()) };
                // The gateway sends one request at a time.
                let raw = std::mem::take(&mut wire.inner().seen);
                let client = head.values("x-forwarded-for").concat();
                let client = client.rsplit([',', ' ']).next().unwrap_or_default().to_owned();
                let (bytes, goes_on) = answer(&head, &body);
                records.lock().expect("a lock").entry(client).or_default().push(Arrived { head, body, raw });
                answers.write_all(&bytes)?;
                if !goes_on {
                    return answers.shutdown(std::net::Shutdown::Both);
                }
            }
        });
        Self { platform, record }
    }

    /// What came from a client since it was asked last.
    pub fn take(&self, client: &str) -> Vec<Arrived> {
        self.record.lock().expect("a lock").remove(client).unwrap_or_default()
    }
}

/// Keeps what is read.
struct Tee {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

fn read(wire: &mut Wire<Tee>) -> Result<(Head, Vec<u8>), Fault> {
    let head = wire.head()?;
    if head.values("expect").iter().any(|value| value.eq_ignore_ascii_case("100-continue")) {
        drop(wire.inner().stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n"));
    }
    let body = match head.length() {
        _ if head.is_chunked() => wire.chunked()?,
        Some(length) => wire.sized(length)?,
        None => Vec::new(),
    };
    Ok((head, body))
}

/// An answer in one of many forms; whether the connection goes on.
fn any_answer(head: &Head, body: &[u8]) -> (Vec<u8>, bool) {
    let target = target_of(&head.start);
    let is_head = head.start.starts_with("HEAD ");
    let text = format!("{} has {} bytes", head.start, body.len());
    let form =
        target.bytes().chain(head.start.bytes()).fold(7_u32, |sum, byte| sum * 31 % 65_521 + u32::from(byte));
    let sized = |fields: &str, body: &str| {
        let content = if is_head { "" } else { body };
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{content}", body.len()).into_bytes()
    };
    let chunked = |fields: &str, body: &[u8]| {
        let mut bytes = format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        if !is_head {
            bytes.extend(body);
        }
        bytes
    };
    match form % 16 {
        0 => (chunked("", &chunks(text.as_bytes(), 7)), true),
        1 => {
            let extended = format!("3;a=b\r\nabc\r\n{:x};c\r\n{text}\r\n0;d\r\nX-Sum: 1\r\n\r\n", text.len());
            (chunked("Trailer: X-Sum\r\n", extended.as_bytes()), true)
        }
        2 => (b"HTTP/1.1 204 No Content\r\nX-Empty: yes\r\n\r\n".to_vec(), true),
        3 => (b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 9\r\n\r\n".to_vec(), true),
        4 => (
            sized("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n", &text),
            true,
        ),
        5 => (
            sized(
                "X-Request-Id: theirs\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n",
                &text,
            ),
            true,
        ),
        6 => (sized("Access-Control-Allow-Origin: *\r\nVary: Accept, origin\r\n", &text), true),
        7 => (
            sized("Vary: Accept\r\nX-Empty:\r\nX-Blanks: \t a  b \t\r\nX-Bytes: \u{e9}\u{fc}\r\n", &text),
            true,
        ),
        8 => (sized("", &text.repeat(700)), true),
        9 => (sized(&format!("X-Long: {}\r\n", "l".repeat(20_000)), &text), true),
        10 => (sized("Connection: close\r\n", &text), false),
        11 => {
            let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
            bytes.extend(sized("", &text));
            (bytes, true)
        }
        12 => (format!("HTTP/1.1 200 OK\r\n\r\n{}", if is_head { "" } else { &text }).into_bytes(), false),
        13 => (b"HTTP/1.1 500 \r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n".to_vec(), true),
        14 => (
            sized(
                "Content-Type: text/event-stream\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTE: x\r\n",
                &text,
            ),
            true,
        ),
        _ => (sized("Server: platform\r\nX-Folded: a\r\n b\r\n", &text), true),
    }
}
