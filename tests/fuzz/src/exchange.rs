//! One client and the platform behind the gateway, both played by one thread: when the client's connection has ended, all that
//! the gateway sent to the platform for it has been read as well.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::requests::{Fault, Request, request};

pub struct Platform {
    listener: TcpListener,
    connections: Vec<Connection>,
    seen: Vec<Request>,
}

struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
    /// The place in `seen` of the request whose body is still to come.
    pending: Option<usize>,
    was_continued: bool,
}

/// What the client does, told of what was read and asked what is next.
pub trait Client {
    /// Bytes to be written, taken away as they are.
    fn outgoing(&mut self) -> Vec<u8>;
    /// Bytes that came.
    fn incoming(&mut self, bytes: &[u8]);
    /// Nothing has happened for a while. May end the connection.
    fn quiet(&mut self, seen: usize) -> Quiet;
}

pub enum Quiet {
    Wait,
    /// Nothing more will be sent.
    Finish,
    /// The connection is over.
    End,
}

/// A stream that does not block: TCP, or TLS on it.
pub trait Stream: Read + Write {
    fn tcp(&self) -> &TcpStream;
    /// Says that nothing more will be sent.
    fn finish(&mut self);
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }

    fn finish(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Platform {
    pub fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        Self { listener, connections: Vec::new(), seen: Vec::new() }
    }

    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Plays both ends until the client's connection is over; what the platform saw meanwhile.
    pub fn exchange(&mut self, stream: &mut impl Stream, client: &mut impl Client) -> Vec<Request> {
        let mut outgoing = Vec::new();
        let mut has_finished = false;
        let started = Instant::now();
        loop {
            outgoing.extend(client.outgoing());
            let mut is_busy = self.serve();
            if !outgoing.is_empty() && !has_finished {
                match stream.write(&outgoing) {
                    Ok(count) => {
                        outgoing.drain(..count);
                        is_busy = true;
                    }
                    Err(error) if would_block(&error) => {}
                    // It reads no more; what it has answered is still to be read.
                    Err(_) => outgoing.clear(),
                }
            }
            let mut buffer = [0; 16 * 1024];
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    client.incoming(&buffer[..count]);
                    is_busy = true;
                }
                Err(error) if would_block(&error) => {}
                Err(_) => break,
            }
            if is_busy || self.wait(Some((stream.tcp(), !outgoing.is_empty())), QUIET) {
                continue;
            }
            match client.quiet(self.seen.len()) {
                Quiet::Finish if !has_finished => {
                    stream.finish();
                    has_finished = true;
                    outgoing.clear();
                }
                Quiet::End => break,
                _ => {}
            }
            assert!(started.elapsed() < PATIENCE, "the gateway neither answers nor ends the connection");
        }
        while self.serve() || self.wait(None, Duration::ZERO) {}
        // What is still in the middle of a request would be read with the next input's.
        self.connections.retain(|connection| connection.pending.is_none() && connection.held.is_empty());
        std::mem::take(&mut self.seen)
    }

    /// Waits until something can be done; false if nothing can.
    fn wait(&self, client: Option<(&TcpStream, bool)>, longest: Duration) -> bool {
        let mut polled = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.connections.iter().map(|one| PollFd::new(one.stream.as_fd(), PollFlags::POLLIN)));
        if let Some((stream, is_writing)) = client {
            let writing = if is_writing { PollFlags::POLLOUT } else { PollFlags::empty() };
            polled.push(PollFd::new(stream.as_fd(), PollFlags::POLLIN | writing));
        }
        let timeout = PollTimeout::try_from(longest).expect("a short time");
        poll(&mut polled, timeout).is_ok_and(|ready| ready > 0)
    }

    /// Does what can be done without waiting; false if that is nothing.
    fn serve(&mut self) -> bool {
        let mut is_busy = false;
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).expect("a socket");
            self.connections.push(Connection {
                stream,
                held: Vec::new(),
                pending: None,
                was_continued: false,
            });
            is_busy = true;
        }
        let seen = &mut self.seen;
        self.connections.retain_mut(|connection| {
            let mut buffer = [0; 16 * 1024];
            loop {
                match connection.stream.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(count) => {
                        connection.held.extend_from_slice(&buffer[..count]);
                        is_busy = true;
                    }
                    Err(error) if would_block(&error) => break,
                    Err(_) => return false,
                }
            }
            connection.read(seen);
            true
        });
        is_busy
    }
}

impl Connection {
    fn read(&mut self, seen: &mut Vec<Request>) {
        while !self.held.is_empty() {
            let (request, length, end) = match request(&self.held) {
                Ok(found) => found,
                Err(Fault::Short) => return,
                Err(fault) => panic!("the platform got {fault:?}: {:?}", String::from_utf8_lossy(&self.held)),
            };
            assert!(!request.is_odd(), "the platform got {request:?}");
            let is_complete = match end {
                Ok(()) => true,
                Err(Fault::Short) => false,
                Err(fault) => panic!("the platform got {fault:?}: {:?}", String::from_utf8_lossy(&self.held)),
            };
            let expects = request.head.values("expect") == [&b"100-continue"[..]];
            let answer = answer(&request);
            let place = *self.pending.get_or_insert(seen.len());
            match seen.get_mut(place) {
                Some(known) => *known = request,
                None => seen.push(request),
            }
            if !is_complete {
                if expects && !self.was_continued {
                    self.was_continued = true;
                    let _ = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                return;
            }
            self.pending = None;
            self.was_continued = false;
            self.held.drain(..length);
            let _ = self.stream.write_all(&answer);
        }
    }
}

fn answer(request: &Request) -> Vec<u8> {
    let body = &request.target;
    let head = format!("HTTP/1.1 200 OK\r\nX-Platform: yes\r\nContent-Length: {}\r\n\r\n", body.len());
    let body: &[u8] = if request.method == b"HEAD" { b"" } else { body };
    [head.as_bytes(), body].concat()
}

/// Connects, and waits for a port where all are taken.
pub fn connect(address: SocketAddr) -> TcpStream {
    for _ in 0..200 {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).expect("a socket");
                return stream;
            }
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                thread::sleep(Duration::from_millis(50))
            }
            Err(error) => panic!("the gateway does not listen: {error}"),
        }
    }
    panic!("no free port");
}

pub fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Where nothing has happened for so long, nothing more may come.
const QUIET: Duration = Duration::from_millis(2);

/// Longer than any limit of the gateway that ends a connection.
const PATIENCE: Duration = Duration::from_secs(90);
