//! A platform on a real socket: it records every byte that reaches it and answers as it is told to.

use crate::command::eventually;
use crate::wire::{Fault, Head, Wire, chunks, find};
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub head: Head,
    pub body: Vec<u8>,
    /// If the body was read to its end.
    pub complete: bool,
}

impl Seen {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.head.values(name)
    }
}

type Custom = Arc<dyn Fn(&Seen, &mut TcpStream) -> io::Result<()> + Send + Sync>;

/// What the platform does with a request. Where it says nothing else, the request is read to its end first.
#[derive(Clone)]
pub enum Behaviour {
    /// 200 with the method, the target, the fields and the length of the body as JSON.
    Echo,
    /// 200 with the body that was sent, sized or in chunks.
    Mirror { chunked: bool },
    /// These bytes as they are; then the connection is closed.
    Raw(Vec<u8>),
    /// Closes without a byte.
    Close,
    /// Closes with the request unread, which resets the connection.
    Reset,
    /// Says nothing until the gateway gives up.
    Never,
    /// Whatever a test needs; the connection is closed afterwards.
    Custom(Custom),
}

#[derive(Default)]
struct Record {
    connections: Vec<Vec<u8>>,
    requests: Vec<Seen>,
}

struct Shared {
    record: Mutex<Record>,
    behaviour: Mutex<Behaviour>,
    stopped: AtomicBool,
}

pub struct Platform {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Platform {
    pub fn echo() -> Self {
        Self::start(Behaviour::Echo)
    }

    pub fn start(behaviour: Behaviour) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), behaviour)
    }

    /// On an address that the test chose.
    pub fn at(address: SocketAddr, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            record: Mutex::default(),
            behaviour: Mutex::new(behaviour),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().expect("a lock") = behaviour;
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.record().requests.clone()
    }

    /// The one request for this target.
    #[track_caller]
    pub fn request(&self, target: &str) -> Seen {
        let mut found = self.requests();
        found.retain(|seen| seen.target == target);
        assert_eq!(found.len(), 1, "requests for {target}: {found:?}");
        found.remove(0)
    }

    /// How many bytes have arrived, on all connections together.
    pub fn bytes(&self) -> usize {
        self.record().connections.iter().map(Vec::len).sum()
    }

    /// If this text arrived, anywhere in the raw bytes of a connection.
    pub fn saw(&self, text: &str) -> bool {
        self.record().connections.iter().any(|raw| find(raw, text.as_bytes()).is_some())
    }

    /// "Attack not forwarded": no connection carried this text.
    #[track_caller]
    pub fn never_saw(&self, text: &str) {
        assert!(!self.saw(text), "{text:?} reached the platform: {:?}", self.requests());
    }

    pub fn waits_for(&self, text: &str) {
        eventually(&format!("{text:?} at the platform"), || self.saw(text).then_some(()));
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.shared.record.lock().expect("a lock")
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// Writes all that is read into the record.
struct Recorder {
    stream: TcpStream,
    shared: Arc<Shared>,
    connection: usize,
}

impl Read for Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let mut record = self.shared.record.lock().expect("a lock");
        record.connections[self.connection].extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// One connection, until either side closes it.
fn serve(shared: &Arc<Shared>, stream: TcpStream) -> Result<(), Fault> {
    let connection = {
        let mut record = shared.record.lock().expect("a lock");
        record.connections.push(Vec::new());
        record.connections.len() - 1
    };
    let mut answers = stream.try_clone().map_err(|_| Fault::Closed)?;
    let mut wire = Wire::new(Recorder { stream, shared: Arc::clone(shared), connection });
    loop {
        // The first bytes are waited for without taking them: with bytes unread, a close is a reset.
        let mut first = [0; 64 * 1024];
        let waiting = wire.inner().stream.peek(&mut first).map_err(|_| Fault::Closed)?;
        let behaviour = shared.behaviour.lock().expect("a lock").clone();
        if waiting > 0 && matches!(behaviour, Behaviour::Reset) {
            shared.record.lock().expect("a lock").connections[connection]
                .extend_from_slice(&first[..waiting]);
            return Ok(());
        }
        let seen = read_request(shared, &mut wire)?;
        if answer(&behaviour, &seen, &mut answers).map_err(|_| Fault::Closed)? {
            continue;
        }
        drop(answers.shutdown(std::net::Shutdown::Both));
        return Ok(());
    }
}

/// Reads a request; its head is in the record before its body has arrived.
fn read_request(shared: &Arc<Shared>, wire: &mut Wire<Recorder>) -> Result<Seen, Fault> {
    let head = wire.head()?;
    let mut words = head.start.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let seen = Seen { method, target, head, body: Vec::new(), complete: false };
    let index = {
        let mut record = shared.record.lock().expect("a lock");
        record.requests.push(seen.clone());
        record.requests.len() - 1
    };
    // Java writes it `100-Continue`.
    if seen.values("expect").iter().any(|value| value.eq_ignore_ascii_case("100-continue")) {
        drop(wire.inner().stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n"));
    }
    let body = match seen.head.length() {
        _ if seen.head.is_chunked() => wire.chunked()?,
        Some(length) => wire.sized(length)?,
        None => Vec::new(),
    };
    let seen = Seen { body, complete: true, ..seen };
    shared.record.lock().expect("a lock").requests[index] = seen.clone();
    Ok(seen)
}

/// Answers, and says if the connection goes on.
fn answer(behaviour: &Behaviour, seen: &Seen, stream: &mut TcpStream) -> io::Result<bool> {
    match behaviour {
        Behaviour::Echo => {
            let echo = json!({
                "method": seen.method, "target": seen.target, "fields": seen.head.fields, "length": seen.body.len(),
            });
            stream.write_all(&sized(echo.to_string().as_bytes(), seen.method != "HEAD"))?;
            Ok(true)
        }
        Behaviour::Mirror { chunked: false } => stream.write_all(&sized(&seen.body, true)).map(|()| true),
        Behaviour::Mirror { chunked: true } => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            stream.write_all(&chunks(&seen.body, 50_000))?;
            Ok(true)
        }
        Behaviour::Raw(bytes) => stream.write_all(bytes).map(|()| false),
        Behaviour::Close | Behaviour::Reset => Ok(false),
        Behaviour::Never => stream.read(&mut [0; 1]).map(|_| false),
        Behaviour::Custom(act) => act(seen, stream).map(|()| false),
    }
}

fn sized(body: &[u8], with_body: bool) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\nX-Platform: yes\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    if with_body {
        bytes.extend(body);
    }
    bytes
}
