//! A server that says what a test wants, and remembers what it was sent.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The number of its message.
    pub id: u8,
    /// What it is: one of the constants below.
    pub tag: u8,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Request {
    pub fn contains(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

pub const BIND: u8 = 0x60;
pub const SEARCH: u8 = 0x63;
pub const EXTENDED: u8 = 0x77;

/// What the server does then.
pub enum Reply {
    /// It sends these bytes.
    Bytes(Vec<u8>),
    /// It says nothing, and waits for more.
    Nothing,
    /// It closes the connection.
    Close,
}

/// The server; its threads end with the test's process.
pub struct Fake {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    pub fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let (requests, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (seen, count, reply) = (requests.clone(), connections.clone(), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Relaxed);
                let (seen, reply) = (seen.clone(), reply.clone());
                thread::spawn(move || serve(stream, &seen, &*reply));
            }
        });
        Self { port, requests, connections }
    }

    /// One that binds everybody, and answers a search with these messages.
    pub fn searching(answers: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |request| match request.tag {
            BIND => Reply::Bytes(result(request.id, 0x61, 0, "")),
            SEARCH => Reply::Bytes(answers(request)),
            _ => Reply::Close,
        })
    }

    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("requests").clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    pub fn never_saw(&self, text: &str) {
        let requests = self.requests();
        assert!(!requests.iter().any(|request| request.contains(text)), "{text}: {requests:?}");
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, reply: &dyn Fn(&Request) -> Reply) {
    while let Some(request) = read(&mut stream) {
        seen.lock().expect("requests").push(request.clone());
        match reply(&request) {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
            Reply::Nothing => {}
            Reply::Close => return,
        }
    }
}

/// The next message, or what came instead of one as a request with the tag 0.
fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut head = [0; 6];
    let count = stream.read(&mut head).ok().filter(|count| *count > 0)?;
    if head[0] != 0x30 {
        let mut bytes = head[..count].to_vec();
        let mut more = [0; 4096];
        let count = stream.read(&mut more).unwrap_or(0);
        bytes.extend_from_slice(&more[..count]);
        return Some(Request { id: 0, tag: 0, bytes });
    }
    stream.read_exact(&mut head[count..]).ok()?;
    assert_eq!(head[1], 0x84, "the form that the client writes");
    let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).ok()?;
    // A number of one byte is in front.
    Some(Request { id: bytes[6], tag: bytes[7], bytes })
}

/// A value.
pub fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a length").to_be_bytes();
    [&[tag, 0x84][..], &length, content].concat()
}

/// A message around one.
pub fn message(id: u8, operation: &[u8]) -> Vec<u8> {
    value(0x30, &[&value(2, &[id]), operation].concat())
}

/// How something ended.
pub fn result(id: u8, tag: u8, code: u8, text: &str) -> Vec<u8> {
    message(id, &value(tag, &[value(0x0a, &[code]), value(4, b""), value(4, text.as_bytes())].concat()))
}

/// An entry that was found.
pub fn entry(id: u8, name: &str, attributes: &[(&str, &str)]) -> Vec<u8> {
    let attribute = |(name, text): &(&str, &str)| {
        value(0x30, &[value(4, name.as_bytes()), value(0x31, &value(4, text.as_bytes()))].concat())
    };
    let attributes: Vec<u8> = attributes.iter().flat_map(attribute).collect();
    message(id, &value(0x64, &[value(4, name.as_bytes()), value(0x30, &attributes)].concat()))
}

/// Anna's, and the end of the search.
pub fn anna(id: u8) -> Vec<u8> {
    let attributes = [("uid", "anna"), ("sAMAccountName", "anna"), ("mail", "anna@example.com")];
    [entry(id, "cn=anna,dc=x", &attributes), result(id, 0x65, 0, "")].concat()
}
