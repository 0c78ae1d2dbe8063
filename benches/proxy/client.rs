//! The platform's clients, all in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_openssl::SslStream;

use crate::http2;
use crate::message;
use crate::platform;

/// What a case must get, each time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 200 with the platform's body: what was sent, if there was something.
    Forwarded,
    /// 401 with an `error` in JSON, and the connection kept.
    Refused,
    /// 401, and the connection kept.
    RefusedSomehow,
}

/// How clients come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Http,
    Https,
    /// For every request a connection and a full handshake.
    HttpsAnew,
    /// Over TLS.
    Http2,
}

/// As it goes over the wire.
pub struct Request {
    bytes: Vec<u8>,
    head: usize,
    /// Once it has been asked so.
    http2: OnceLock<Box<http::Request<()>>>,
}

/// What a burst asks, drawn again and again.
pub type Requests = Arc<[Request]>;

impl Request {
    /// The GET of every case: only the token differs.
    pub fn get(token: Option<&str>) -> Self {
        Self::new("GET", token, 0)
    }

    /// With a body of so many bytes.
    pub fn post(token: Option<&str>, body_bytes: usize) -> Self {
        Self::new("POST", token, body_bytes)
    }

    fn new(method: &str, token: Option<&str>, body_bytes: usize) -> Self {
        let token = token.map(|token| format!("user-token: {token}\r\n")).unwrap_or_default();
        let length =
            if body_bytes == 0 { String::new() } else { format!("content-length: {body_bytes}\r\n") };
        let head = format!(
            "{method} /ds-api/pool/42?fields=all HTTP/1.1\r\nhost: bench.example\r\nuser-agent: bench/1\r\naccept: */*\r\n{token}{length}\r\n"
        );
        let mut bytes = head.into_bytes();
        let head = bytes.len();
        bytes.extend((0_u8..251).cycle().take(body_bytes));
        Self { bytes, head, http2: OnceLock::new() }
    }

    /// As HTTP/2 has it.
    fn http2(&self) -> Result<http::Request<()>> {
        if let Some(request) = self.http2.get() {
            return Ok((**request).clone());
        }
        let request = http2::request(&self.bytes)?;
        Ok((**self.http2.get_or_init(|| Box::new(request))).clone())
    }

    fn body(&self) -> &[u8] {
        self.bytes.get(self.head..).unwrap_or_default()
    }
}

/// The POST of somebody who wants a token.
pub fn login(user: &str, password: &str) -> Vec<u8> {
    login_with(user, password, "")
}

/// The same with more fields, each with the end of its line.
pub fn login_with(user: &str, password: &str, fields: &str) -> Vec<u8> {
    let basic = STANDARD.encode(format!("{user}:{password}"));
    format!(
        "POST /ds-api/user-token HTTP/1.1\r\nhost: bench\r\nauthorization: Basic {basic}\r\ncontent-length: 0\r\n{fields}\r\n"
    )
    .into_bytes()
}

/// One request on a connection of its own, without TLS: status and body.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut client = Client::new(address, Transport::Http, 0)?;
    let answer = client.exchange(request).await?;
    Ok((answer.status, answer.body.to_vec()))
}

pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>)> {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await
}

/// Whether somebody there answers `request` as it should be; for servers that come up.
pub async fn answers(address: SocketAddr, transport: Transport, request: &Request, outcome: Outcome) -> bool {
    let Ok(mut client) = Client::new(address, transport, 0) else { return false };
    client.ask(request, outcome).await.is_ok()
}

/// One that asks again and again.
pub struct Client {
    address: SocketAddr,
    /// So many share the ports of one source: connections that are closed hold a port for a minute.
    source: IpAddr,
    tls: Option<SslConnector>,
    transport: Transport,
    stream: Option<Box<dyn Stream>>,
    http2: Option<http2::Sender>,
    answer: Vec<u8>,
}

/// What came back; its body is with the client until the next.
pub struct Answer<'c> {
    pub status: u16,
    /// The status line and all fields.
    pub head: &'c [u8],
    pub body: &'c [u8],
    /// From the first byte sent to the last received, and with the handshake where a request has one.
    pub took: Duration,
}

impl Client {
    /// Clients of different numbers come from different addresses, up to a point.
    pub fn new(address: SocketAddr, transport: Transport, number: usize) -> Result<Self> {
        let tls = (transport != Transport::Http).then(connector).transpose()?;
        let source = Ipv4Addr::new(127, 0, 0, (number % 64) as u8 + 1);
        Ok(Self { tls, transport, ..Self::from_source(address, source) })
    }

    /// One without TLS that comes from that address.
    pub fn from_source(address: SocketAddr, source: Ipv4Addr) -> Self {
        Self {
            address,
            source: source.into(),
            tls: None,
            transport: Transport::Http,
            stream: None,
            http2: None,
            answer: Vec::with_capacity(4096),
        }
    }

    /// Opens its connection, of which others may then take streams.
    pub async fn connect_http2(&mut self) -> Result<()> {
        self.http2 = Some(http2::open(self.open().await?).await?);
        Ok(())
    }

    /// Another that takes its streams of the same connection.
    pub fn on_same_connection(&self) -> Self {
        Self {
            address: self.address,
            source: self.source,
            tls: self.tls.clone(),
            transport: self.transport,
            stream: None,
            http2: self.http2.clone(),
            answer: Vec::with_capacity(4096),
        }
    }

    /// How long it took; the answer is checked.
    pub async fn ask(&mut self, request: &Request, outcome: Outcome) -> Result<Duration> {
        let answer = match self.transport {
            Transport::Http2 => self.exchange_http2(request).await?,
            Transport::Http | Transport::Https | Transport::HttpsAnew => {
                self.exchange(&request.bytes).await?
            }
        };
        outcome.check(&answer, request)?;
        let took = answer.took;
        if self.transport == Transport::HttpsAnew
            && let Some(mut stream) = self.stream.take()
        {
            stream.shutdown().await?;
        }
        Ok(took)
    }

    /// After an error the next one is asked on a new connection.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        let began = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open().await?,
        };
        stream.write_all(request).await?;
        let head = message::read(&mut stream, &mut self.answer).await?;
        let took = began.elapsed();
        self.stream = Some(stream);
        let head = head.context("the connection was closed without an answer")?;
        let (head, body) = self.answer.split_at(head);
        let status = std::str::from_utf8(head)?.get(9..12).context("no status line")?.parse()?;
        Ok(Answer { status, head, body, took })
    }

    async fn exchange_http2(&mut self, request: &Request) -> Result<Answer<'_>> {
        let began = Instant::now();
        if self.http2.is_none() {
            self.connect_http2().await?;
        }
        let sender = self.http2.as_mut().context("a connection")?;
        let status = http2::exchange(sender, request.http2()?, &mut self.answer).await?;
        Ok(Answer { status, head: &[], body: &self.answer, took: began.elapsed() })
    }

    /// The next request opens a connection.
    pub fn close(&mut self) {
        self.stream = None;
    }

    async fn open(&self) -> Result<Box<dyn Stream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.source, 0).into())?;
        let plain = socket.connect(self.address).await?;
        plain.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(plain));
        };
        let mut tls = tls.configure()?.verify_hostname(false);
        if self.transport == Transport::Http2 {
            tls.set_alpn_protos(b"\x02h2")?;
        }
        let ssl = tls.into_ssl("bench.example")?;
        let mut stream = SslStream::new(ssl, plain)?;
        Pin::new(&mut stream).connect().await?;
        Ok(Box::new(stream))
    }
}

impl Outcome {
    fn check(self, answer: &Answer<'_>, request: &Request) -> Result<()> {
        let (status, body) = match self {
            Self::Forwarded if request.body().is_empty() => (200, answer.body == platform::BODY),
            Self::Forwarded => (200, answer.body == request.body()),
            Self::Refused => (401, answer.body.starts_with(b"{\"error\":")),
            Self::RefusedSomehow => (401, true),
        };
        if answer.status == status && body {
            return Ok(());
        }
        let body = answer.body.get(..200).unwrap_or(answer.body);
        bail!("expected {status}, got {} {}", answer.status, String::from_utf8_lossy(body))
    }
}

/// TLS 1.3 with one suite and one group, so that all servers negotiate the same. Nobody checks a certificate of the bench.
fn connector() -> Result<SslConnector> {
    // One for all: each would read the system's certificates.
    static CONNECTOR: OnceLock<SslConnector> = OnceLock::new();
    if let Some(connector) = CONNECTOR.get() {
        return Ok(connector.clone());
    }
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_ciphersuites("TLS_AES_128_GCM_SHA256")?;
    builder.set_groups_list("X25519")?;
    Ok(CONNECTOR.get_or_init(|| builder.build()).clone())
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}
