//! The platform's clients, all in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
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

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// As it goes over the wire.
pub struct Request {
    bytes: Vec<u8>,
    head: usize,
}

/// What a burst asks, one after the other and over again.
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

/// One request on a connection of its own, without TLS.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    Connection::open(address, None).await?.exchange(request).await
}

pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes()).await
}

/// One that asks again and again.
pub struct Client {
    address: SocketAddr,
    tls: Option<SslConnector>,
    keeps: bool,
    connection: Option<Connection>,
}

impl Client {
    pub fn new(address: SocketAddr, transport: Transport) -> Result<Self> {
        let tls = (transport != Transport::Http).then(connector).transpose()?;
        Ok(Self { address, tls, keeps: transport != Transport::HttpsAnew, connection: None })
    }

    /// So many, each of which has asked `request` once: a burst times requests and nothing else.
    pub async fn warm(
        count: usize,
        address: SocketAddr,
        transport: Transport,
        request: &Request,
        outcome: Outcome,
    ) -> Result<Vec<Self>> {
        let first = Self::new(address, transport)?;
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let mut client = Self { tls: first.tls.clone(), connection: None, ..first };
            client.ask(request, outcome).await?;
            clients.push(client);
        }
        Ok(clients)
    }

    /// Its answer is checked.
    pub async fn ask(&mut self, request: &Request, outcome: Outcome) -> Result<()> {
        outcome.check(&self.exchange(&request.bytes).await?, request)
    }

    /// After an error the next one is asked on a new connection.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address, self.tls.as_ref()).await?,
        };
        let answer = connection.exchange(request).await?;
        if self.keeps {
            self.connection = Some(connection);
        } else {
            connection.stream.shutdown().await?;
        }
        Ok(answer)
    }
}

/// Exactly `requests` requests, each client asking its next as soon as it has its answer.
///
/// How long each took, in no order.
pub async fn burst(
    clients: Vec<Client>,
    asked: &Requests,
    outcome: Outcome,
    requests: usize,
) -> Result<Vec<Duration>> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut bursts = JoinSet::new();
    for mut client in clients {
        let (begun, asked) = (begun.clone(), asked.clone());
        bursts.spawn(async move {
            let mut took = Vec::with_capacity(requests / CLIENTS * 2);
            loop {
                let number = begun.fetch_add(1, Relaxed);
                let request = asked.get(number % asked.len()).context("a request")?;
                if number >= requests {
                    return anyhow::Ok(took);
                }
                let began = Instant::now();
                client.ask(request, outcome).await?;
                took.push(began.elapsed());
            }
        });
    }
    let mut took = Vec::with_capacity(requests);
    while let Some(burst) = bursts.join_next().await {
        took.extend(burst??);
    }
    Ok(took)
}

impl Outcome {
    fn check(self, answer: &Answer, request: &Request) -> Result<()> {
        let (status, body) = match self {
            Self::Forwarded if request.body().is_empty() => (200, answer.body == platform::BODY),
            Self::Forwarded => (200, answer.body == request.body()),
            Self::Refused => (401, answer.body.starts_with(b"{\"error\":")),
            Self::RefusedSomehow => (401, true),
        };
        if answer.status == status && body {
            return Ok(());
        }
        let body = answer.body.get(..200).unwrap_or(&answer.body);
        bail!("expected {status}, got {} {}", answer.status, String::from_utf8_lossy(body))
    }
}

/// TLS 1.3 with one suite and one group, so that all servers do the same work. Nobody checks a certificate of the bench.
fn connector() -> Result<SslConnector> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_ciphersuites("TLS_AES_128_GCM_SHA256")?;
    builder.set_groups_list("X25519")?;
    Ok(builder.build())
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr, tls: Option<&SslConnector>) -> Result<Self> {
        let plain = TcpStream::connect(address).await?;
        plain.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(plain),
            Some(tls) => {
                let ssl = tls.configure()?.verify_hostname(false).into_ssl("bench.example")?;
                let mut stream = SslStream::new(ssl, plain)?;
                std::pin::Pin::new(&mut stream).connect().await?;
                Box::new(stream)
            }
        };
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        let head = message::read(&mut self.stream, &mut self.buffer).await?;
        let (head, body) = self.buffer.split_at(head.context("the connection was closed without an answer")?);
        let status = std::str::from_utf8(head)?.get(9..12).context("no status line")?.parse()?;
        Ok(Answer { status, body: body.to_vec() })
    }
}
