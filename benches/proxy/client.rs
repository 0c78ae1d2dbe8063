//! The platform's clients, all in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use crate::message;
use crate::platform;

/// Clients of a burst.
pub const CLIENTS: usize = 64;

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
}

/// As it goes over the wire.
pub struct Request {
    bytes: Vec<u8>,
    head: usize,
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
        Self { bytes, head }
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
    keeps: bool,
    stream: Option<Box<dyn Stream>>,
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
        Ok(Self { tls, keeps: transport != Transport::HttpsAnew, ..Self::from_source(address, source) })
    }

    /// One without TLS that comes from that address.
    pub fn from_source(address: SocketAddr, source: Ipv4Addr) -> Self {
        let answer = Vec::with_capacity(4096);
        Self { address, source: source.into(), tls: None, keeps: true, stream: None, answer }
    }

    /// So many, all of which have asked once at the same time: the proxy has as many connections to the platform as it
    /// will need.
    pub async fn warm(
        count: usize,
        address: SocketAddr,
        transport: Transport,
        requests: &Requests,
        outcome: Outcome,
    ) -> Result<Vec<Self>> {
        let mut asking = JoinSet::new();
        for number in 0..count {
            let mut client = Self::new(address, transport, number)?;
            let requests = requests.clone();
            asking.spawn(async move {
                let request = requests.first().context("a request")?;
                client.ask(request, outcome).await?;
                anyhow::Ok(client)
            });
        }
        asking.join_all().await.into_iter().collect()
    }

    /// How long it took; the answer is checked.
    pub async fn ask(&mut self, request: &Request, outcome: Outcome) -> Result<Duration> {
        let answer = self.exchange(&request.bytes).await?;
        outcome.check(&answer, request)?;
        let took = answer.took;
        if !self.keeps
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
        let ssl = tls.configure()?.verify_hostname(false).into_ssl("bench.example")?;
        let mut stream = SslStream::new(ssl, plain)?;
        Pin::new(&mut stream).connect().await?;
        Ok(Box::new(stream))
    }
}

/// Exactly `requests` requests, each client asking its next as soon as it has its answer. Which ones is drawn by `seed`:
/// a cache that is too small for all sees the ones it has dropped as often as in practice, not always or never.
///
/// How long each took, in no order.
pub async fn burst(
    clients: Vec<Client>,
    asked: &Requests,
    outcome: Outcome,
    requests: usize,
    seed: u64,
) -> Result<Vec<Duration>> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut bursts = JoinSet::new();
    for mut client in clients {
        let (begun, asked) = (begun.clone(), asked.clone());
        bursts.spawn(async move {
            let mut took = Vec::with_capacity(requests / CLIENTS * 2);
            loop {
                let number = begun.fetch_add(1, Relaxed);
                if number >= requests {
                    return anyhow::Ok(took);
                }
                let drawn = fastrand::Rng::with_seed(seed + number as u64).usize(..asked.len());
                let request = asked.get(drawn).context("a request")?;
                took.push(client.ask(request, outcome).await?);
            }
        });
    }
    let mut took = Vec::with_capacity(requests);
    let joined = async {
        while let Some(burst) = bursts.join_next().await {
            took.extend(burst??);
        }
        anyhow::Ok(())
    };
    timeout(BURST_LASTS, joined).await.context("some requests were never answered")??;
    Ok(took)
}

/// At the most.
const BURST_LASTS: Duration = Duration::from_secs(120);

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
