//! A client that sends exactly the bytes it is given and says what became of the connection.

use crate::wire::{Fault, Head, Wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;

/// How long any single read may take before a test calls the gateway silent. Never a measure of speed.
const DEADLINE: Duration = Duration::from_secs(20);

pub struct Client<S = TcpStream> {
    wire: Wire<S>,
}

/// What a client speaks over, where that does not matter.
pub trait Channel: Read + Write + Send {}

impl<T: Read + Write + Send> Channel for T {}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.head.values(name)
    }

    /// The one value of a field; none or several stop the test.
    pub fn value(&self, name: &str) -> &str {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "{name} in {self:?}");
        values[0]
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {} {:?}", self.status, self.text()))
    }

    /// Checks that this is one of the gateway's own errors: JSON with the one key that clients look for.
    #[track_caller]
    pub fn is_error(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?} {}", self.text());
        let json = self.json();
        let members = json.as_object().expect("an object");
        assert_eq!(members.keys().collect::<Vec<_>>(), ["error"], "{json}");
        assert!(members["error"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{json}");
        assert!(self.value("content-type").starts_with("application/json"), "{self:?}");
        assert!(self.values("server").is_empty(), "{self:?}");
        self.value("x-request-id");
        // RFC 9110 §15.5.2: every 401 has a challenge, and no other answer here.
        assert_eq!(self.values("www-authenticate").len(), usize::from(status == 401), "{self:?}");
    }

    /// Checks that this is an error that says when to come back.
    #[track_caller]
    pub fn is_away(&self) {
        self.is_error(503);
        assert!(self.value("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{self:?}");
    }

    pub fn says_close(&self) -> bool {
        self.values("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the gateway listens")
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::of(TcpStream::connect(address)?)
    }

    /// From an address of this machine's own, such as 127.0.1.1.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        Self::try_connect_from(source, address).expect("the gateway listens")
    }

    pub fn try_connect_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(source, 0))?;
            let stream = socket.connect(address).await?.into_std()?;
            stream.set_nonblocking(false)?;
            Self::of(stream)
        };
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(connecting)
    }

    fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self { wire: Wire::new(stream) })
    }

    /// A second handle, to send from one thread what another waits for.
    pub fn sender(&mut self) -> TcpStream {
        self.wire.inner().try_clone().expect("a second handle")
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        drop(self.wire.inner().shutdown(Shutdown::Write));
    }

    /// Over this, to forget what it is.
    pub fn plain(self) -> Client<Box<dyn Channel>> {
        Client::over(Box::new(self.wire.into_inner()))
    }

    /// HTTP/1.1 over TLS, whoever answers.
    pub fn secure(self) -> Client<Box<dyn Channel>> {
        let mut connector = SslConnector::builder(SslMethod::tls()).expect("TLS");
        connector.set_verify(SslVerifyMode::NONE);
        let connector = connector.build().configure().expect("TLS").verify_hostname(false);
        let stream = connector.connect("localhost", self.wire.into_inner()).expect("a handshake");
        Client::over(Box::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    fn over(stream: S) -> Self {
        Self { wire: Wire::new(stream) }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the gateway reads");
    }

    /// For requests that the gateway may stop reading in the middle.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.inner().write_all(bytes.as_ref())
    }

    /// The stream alone; nothing may have been read beyond the last message.
    pub fn into_stream(self) -> S {
        self.wire.into_inner()
    }

    /// Reads the head of the next answer; [`Self::wire`] reads what follows.
    pub fn head(&mut self) -> Result<(u16, Head), Fault> {
        let head = self.wire.head()?;
        let mut words = head.start.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse().ok());
        match status {
            Some(status) if version.starts_with("HTTP/1.") => Ok((status, head)),
            _ => Err(Fault::Broken(head.start)),
        }
    }

    pub fn wire(&mut self) -> &mut Wire<S> {
        &mut self.wire
    }

    /// Reads one answer to a request that was not HEAD.
    pub fn answer(&mut self) -> Result<Answer, Fault> {
        self.answer_to("")
    }

    /// Reads one answer; the method decides if a body follows.
    pub fn answer_to(&mut self, method: &str) -> Result<Answer, Fault> {
        let (status, head) = self.head()?;
        let bare = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let body = match head.length() {
            _ if bare => Vec::new(),
            _ if head.is_chunked() => self.wire.chunked()?,
            Some(length) => self.wire.sized(length)?,
            None => self.wire.rest()?,
        };
        Ok(Answer { status, head, body })
    }

    /// As [`Self::answer_to`], past interim answers (1xx).
    pub fn final_answer_to(&mut self, method: &str) -> Result<Answer, Fault> {
        loop {
            let answer = self.answer_to(method)?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    /// As [`Self::exchange`], past interim answers (1xx).
    #[track_caller]
    pub fn exchange_final(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes);
        self.final_answer_to("").expect("an answer")
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        let bytes = bytes.as_ref();
        self.send(bytes);
        let method: String =
            bytes.iter().take_while(|byte| **byte != b' ').map(|byte| char::from(*byte)).collect();
        match self.answer_to(&method) {
            Ok(answer) => answer,
            Err(fault) => {
                panic!("{fault:?} after {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]))
            }
        }
    }

    /// Waits until the gateway closes, and checks that it sent nothing more.
    #[track_caller]
    pub fn is_closed(&mut self) {
        let more = self.wire.rest().expect("the connection closes");
        assert!(more.is_empty(), "unasked for: {:?}", String::from_utf8_lossy(&more));
    }
}

/// A request without a body.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text.into_bytes()
}

/// A request with a body of a stated length.
pub fn request_with(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let mut bytes = request(method, target, &[fields, &[("Content-Length", length.as_str())]].concat());
    bytes.extend(body);
    bytes
}

/// The value of an `Authorization` field.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
