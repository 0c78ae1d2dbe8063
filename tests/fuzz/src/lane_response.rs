//! What the platform answers, through the fast lane: the client gets one answer, with the body that the platform sent, or none that
//! is whole; and the next request gets its own, whatever came behind the first.
//!
//! The input: a byte of bits, one that says where the answer is cut in two, and the answer to a request that the lane takes.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exchange::{connect, would_block};
use crate::gateway::{self, Gateway};
use crate::requests::{Body, Fault, Framing, Head, body, framing, head};
use crate::rules::log_in;

pub fn run(input: &[u8]) {
    let Some((&[info_label, cut], text)) = input.split_first_chunk() else { return };
    // A connection that ends without a word is tried again.
    if text.is_empty() {
        return;
    }
    let is_head = info_label & 1 != 0;
    let cut = text.len() * usize::from(cut) / 256;
    HOUSE.with_borrow_mut(|deployment| {
        let Deployment { platform, gateway, token } = deployment;
        let mut client = End::of(connect(gateway.http));
        let method = if is_head { "HEAD" } else { "GET" };
        client.send(
            format!("{method} /ds-api/one HTTP/1.1\r\nHost: gateway.test\r\nuser-token: {token}\r\n\r\n")
                .as_bytes(),
        );
        let first = platform.asked().expect("a plain request reaches the platform");

        let part = if cut == 0 { &b""[..] } else { &text[..cut] };
        platform.ends[first].send(part);
        client.listen(|came| whole(came, is_head).is_some());
        platform.ends[first].send(&text[cut..]);
        client.listen(|came| whole(came, is_head).is_some());
        if whole(&client.came, is_head).is_none() {
            platform.ends[first].finish();
            client.listen_to_the_end(|came| whole(came, is_head).is_some());
        }
        let meant = platforms(text, is_head);
        let got = whole(&client.came, is_head);
        let shown = || format!("{}\nsent on as {}", text.escape_ascii(), client.came.escape_ascii());
        if let Some(answer) = &got {
            answer.check(is_head, &shown);
        } else {
            assert!(client.has_ended, "neither answered nor ended: {}", shown());
            assert!(
                !matches!(meant, Some(Meant { is_whole: true, .. })),
                "a whole answer is cut off: {}",
                shown()
            );
        }
        if let (Some(meant), Some(got)) = (&meant, &got) {
            let is_ours = got.is_ours(Some(meant));
            assert!(!(is_ours && meant.is_whole), "a plain answer is refused: {}", shown());
            if !is_ours {
                assert_eq!(got.status, meant.status, "{}", shown());
                assert_eq!(got.body, meant.body, "{}", shown());
                assert!(meant.is_whole, "a part is taken for a whole answer: {}", shown());
            }
        }

        // The next one on the connection, where there still is one.
        if got.is_some() && !client.has_ended {
            client.came.clear();
            client.send(
                format!("GET /ds-api/two HTTP/1.1\r\nHost: gateway.test\r\nuser-token: {token}\r\n\r\n")
                    .as_bytes(),
            );
            if let Some(second) = platform.asked() {
                if second == first {
                    let nothing_behind = meant.as_ref().is_none_or(|meant| meant.length == text.len());
                    assert!(nothing_behind, "used again with bytes on it: {}", text.escape_ascii());
                }
                platform.ends[second].send(LAST);
            }
            client.listen_to_the_end(|came| whole(came, false).is_some());
            if let Some(answer) = whole(&client.came, false) {
                let is_its_own = answer.body == b"last" || answer.is_ours(None);
                assert!(is_its_own, "{} to the next: {}", client.came.escape_ascii(), text.escape_ascii());
            } else {
                assert!(client.has_ended && client.came.is_empty(), "{}", client.came.escape_ascii());
            }
        }
        platform.forget();
    });
}

const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast";

/// An answer as its client got it.
struct Answer {
    status: u16,
    head: Head,
    body: Vec<u8>,
}

impl Answer {
    /// What holds of every one.
    fn check(&self, is_head: bool, shown: &dyn Fn() -> String) {
        let Self { status, head, .. } = self;
        assert!(head.start.starts_with(b"HTTP/1.1 "), "{}", shown());
        assert_eq!(head.values("x-request-id").len(), 1, "{}", shown());
        for name in ["keep-alive", "proxy-connection", "te", "trailer", "upgrade"] {
            assert!(head.values(name).is_empty(), "{name}: {}", shown());
        }
        assert!(head.values("connection").iter().all(|value| *value == b"close"), "{}", shown());
        let ends: Vec<_> =
            ["content-length", "transfer-encoding"].iter().flat_map(|name| head.values(name)).collect();
        let is_bare = is_head || *status == 204 || *status == 304;
        assert!(ends.len() == 1 || (ends.is_empty() && is_bare), "{}", shown());
        assert!(*status != 204 || ends.is_empty(), "{}", shown());
    }

    /// That the platform gave none that was `meant`.
    fn is_ours(&self, meant: Option<&Meant>) -> bool {
        [502, 504].contains(&self.status)
            && self.head.values("content-type") == [&b"application/json"[..]]
            && meant.is_none_or(|meant| meant.status != self.status)
    }
}

/// The answer that these bytes begin with, past interim ones, where all of it is there. Anything else than an answer is a finding.
fn whole(mut bytes: &[u8], is_head: bool) -> Option<Answer> {
    loop {
        let head = match head(bytes) {
            Ok(head) => head,
            Err(Fault::Short) => return None,
            Err(fault) => panic!("{fault:?} to the client: {}", bytes.escape_ascii()),
        };
        let status = status(&head.start).unwrap_or_else(|| panic!("to the client: {}", bytes.escape_ascii()));
        bytes = &bytes[head.length..];
        if status < 200 {
            continue;
        }
        if is_head || status == 204 || status == 304 {
            assert!(bytes.is_empty(), "more than an answer: {}", bytes.escape_ascii());
            return Some(Answer { status, head, body: Vec::new() });
        }
        let framing =
            framing(&head).unwrap_or_else(|fault| panic!("{fault:?}: {}", head.start.escape_ascii()));
        let Body { bytes: body, length, end } = body(bytes, framing);
        match end {
            Ok(()) => {
                assert_eq!(length, bytes.len(), "more than an answer: {}", bytes.escape_ascii());
                return Some(Answer { status, head, body });
            }
            Err(Fault::Short) => return None,
            Err(fault) => panic!("{fault:?} to the client: {}", bytes.escape_ascii()),
        }
    }
}

fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let is_line = rest.get(3).is_none_or(|byte| *byte == b' ');
    is_line.then(|| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

/// What the platform said, where it said it plainly: nothing here that one reader may see in another way.
struct Meant {
    status: u16,
    body: Vec<u8>,
    /// Bytes of it, and of interim answers before it.
    length: usize,
    is_whole: bool,
}

fn platforms(text: &[u8], is_head: bool) -> Option<Meant> {
    let (mut rest, mut interim) = (text, 0);
    let (head, status) = loop {
        let head = head(rest).ok()?;
        let status = status(&head.start)?;
        // Bytes in values that one may drop and another keep.
        let is_plain = |bytes: &[u8]| bytes.iter().all(|byte| (b' '..0x7f).contains(byte));
        let is_known = head.fields.iter().all(|(_, value)| is_plain(value)) && is_plain(&head.start);
        if !is_known || status == 101 || !(100..600).contains(&status) || head.fields.len() > 200 {
            return None;
        }
        rest = &rest[head.length..];
        if status >= 200 {
            break (head, status);
        }
        // An interim one says nothing of its end; and after a hundred of them there is one.
        interim += 1;
        if interim > 100
            || !head.values("content-length").is_empty()
            || !head.values("transfer-encoding").is_empty()
        {
            return None;
        }
    };
    let before = text.len() - rest.len();
    let framing = framing(&head).ok()?;
    let has_length = !head.values("content-length").is_empty();
    let has_coding = !head.values("transfer-encoding").is_empty();
    let is_old = head.start.starts_with(b"HTTP/1.0");
    if is_old && has_coding {
        return None;
    }
    if is_head || status == 204 || status == 304 {
        return Some(Meant { status, body: Vec::new(), length: before, is_whole: true });
    }
    if !has_length && !has_coding {
        // Whatever comes.
        return Some(Meant { status, body: rest.to_vec(), length: text.len(), is_whole: true });
    }
    let Body { bytes, length, end } = body(rest, framing);
    match end {
        Ok(()) => Some(Meant { status, body: bytes, length: before + length, is_whole: true }),
        Err(Fault::Short) if framing != Framing::Chunked => {
            Some(Meant { status, body: bytes, length: before + length, is_whole: false })
        }
        Err(_) => None,
    }
}

struct Deployment {
    platform: Platform,
    gateway: Gateway,
    token: String,
}

thread_local! {
    static HOUSE: RefCell<Deployment> = RefCell::new({
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let gateway = gateway::start(&listener, true);
        listener.set_nonblocking(true).expect("a socket");
        let platform = Platform { listener, ends: Vec::new() };
        Deployment { token: log_in(gateway.http), platform, gateway }
    });
}

/// A server that says what it is told to.
struct Platform {
    listener: TcpListener,
    ends: Vec<End>,
}

impl Platform {
    /// Waits for a request, and takes it; on which connection it came. `None` if none comes.
    fn asked(&mut self) -> Option<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Ok((stream, _)) = self.listener.accept() {
                self.ends.push(End::of(stream));
            }
            for (at, end) in self.ends.iter_mut().enumerate() {
                end.read();
                if end.came.windows(4).any(|four| four == b"\r\n\r\n") {
                    end.came.clear();
                    return Some(at);
                }
            }
            if Instant::now() > deadline {
                return None;
            }
            let mut polled = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            let open = self.ends.iter().filter(|end| !end.has_ended);
            polled.extend(open.map(|end| PollFd::new(end.stream.as_fd(), PollFlags::POLLIN)));
            let _ = poll(&mut polled, PollTimeout::from(50u8));
        }
    }

    /// Connections that nobody uses any more.
    fn forget(&mut self) {
        self.ends.iter_mut().for_each(End::read);
        self.ends.retain(|end| !end.has_ended && !end.has_finished);
    }
}

/// One end of a connection.
struct End {
    stream: TcpStream,
    came: Vec<u8>,
    /// The other one sends no more.
    has_ended: bool,
    has_finished: bool,
}

impl End {
    fn of(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).expect("a socket");
        Self { stream, came: Vec::new(), has_ended: false, has_finished: false }
    }

    /// All that fits into the socket's buffer, which an input does.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn finish(&mut self) {
        self.has_finished = true;
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while !self.has_ended {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.has_ended = true,
                Ok(count) => self.came.extend_from_slice(&buffer[..count]),
                Err(error) if would_block(&error) => return,
                Err(_) => self.has_ended = true,
            }
        }
    }

    /// Reads until nothing has come for a while, or enough has.
    fn listen(&mut self, is_enough: impl Fn(&[u8]) -> bool) {
        self.wait(QUIET, is_enough);
    }

    /// Reads until the connection has ended, or enough has come.
    fn listen_to_the_end(&mut self, is_enough: impl Fn(&[u8]) -> bool) {
        self.wait(PATIENCE, is_enough);
    }

    fn wait(&mut self, longest: Duration, is_enough: impl Fn(&[u8]) -> bool) {
        loop {
            self.read();
            if self.has_ended || is_enough(&self.came) {
                return;
            }
            let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(longest).expect("a short time");
            if poll(&mut polled, timeout).is_ok_and(|ready| ready == 0) {
                return;
            }
        }
    }
}

/// Where nothing has happened for so long, nothing more may come.
const QUIET: Duration = Duration::from_millis(2);

/// Longer than the gateway takes for anything that is asked of it here.
const PATIENCE: Duration = Duration::from_secs(20);
