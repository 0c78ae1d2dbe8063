//! The platform and its clients, in this process: HTTP/1.1 with fixed lengths, no more than the bench needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Keep-alive connections that a burst is spread over.
pub const CONNECTIONS: usize = 64;
/// What the platform answers to everything.
pub const BODY_BYTES: usize = 100;

/// What a case must get, each time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 200 with the platform's body.
    Forwarded,
    /// 401 with an `error` in JSON, and the connection kept.
    Refused,
    /// 401, and the connection kept.
    RefusedSomehow,
}

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// What a burst asks, one after the other and over again: requests differ in their token.
pub type Requests = Arc<[Arc<[u8]>]>;

/// Answers every request alike and counts them.
pub struct Platform {
    address: SocketAddr,
    seen: Arc<AtomicUsize>,
}

impl Platform {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_all(stream, counter.clone()));
            }
        });
        Ok(Self { address, seen })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far.
    pub fn seen(&self) -> usize {
        self.seen.load(Relaxed)
    }
}

async fn answer_all(mut stream: TcpStream, seen: Arc<AtomicUsize>) -> Result<()> {
    stream.set_nodelay(true)?;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    let answer = [head.as_bytes(), &platform_body()].concat();
    let mut buffer = Vec::with_capacity(4096);
    while stream.read_buf(&mut buffer).await? > 0 {
        if buffer.ends_with(b"\r\n\r\n") {
            seen.fetch_add(1, Relaxed);
            buffer.clear();
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

fn platform_body() -> [u8; BODY_BYTES] {
    [b'x'; BODY_BYTES]
}

/// The request of every case: only the token differs.
pub fn request(token: Option<&str>) -> Arc<[u8]> {
    let token = token.map(|token| format!("user-token: {token}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /ds-api/pool/42?fields=all HTTP/1.1\r\nhost: bench.example\r\nuser-agent: bench/1\r\naccept: */*\r\n{token}\r\n"
    );
    request.into_bytes().into()
}

/// One request on a connection of its own.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    Connection::open(address).await?.exchange(request).await
}

pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes()).await
}

/// Opens the connections of a burst and uses each once, so that a burst times requests and nothing else.
pub async fn connect(address: SocketAddr, request: &[u8], outcome: Outcome) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(address).await?;
        outcome.check(&connection.exchange(request).await?)?;
        connections.push(connection);
    }
    Ok(connections)
}

/// Exactly `requests` requests, each connection sending its next as soon as it has its answer.
///
/// How long each took, in no order.
pub async fn burst(
    connections: Vec<Connection>,
    asked: &Requests,
    outcome: Outcome,
    requests: usize,
) -> Result<Vec<Duration>> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let (begun, asked) = (begun.clone(), asked.clone());
        clients.spawn(async move {
            let mut took = Vec::with_capacity(requests / CONNECTIONS * 2);
            loop {
                let number = begun.fetch_add(1, Relaxed);
                let request = asked.get(number % asked.len()).context("a request")?;
                if number >= requests {
                    return anyhow::Ok(took);
                }
                let began = Instant::now();
                outcome.check(&connection.exchange(request).await?)?;
                took.push(began.elapsed());
            }
        });
    }
    let mut took = Vec::with_capacity(requests);
    while let Some(client) = clients.join_next().await {
        took.extend(client??);
    }
    Ok(took)
}

/// The same, one connection after the other, which are given back.
pub async fn burst_on(
    mut connections: Vec<Connection>,
    asked: &Requests,
    outcome: Outcome,
    requests: usize,
) -> Result<Vec<Connection>> {
    let request = asked.first().context("a request")?;
    for number in 0..requests {
        let at = number % connections.len();
        outcome.check(&connections.get_mut(at).context("a connection")?.exchange(request).await?)?;
    }
    Ok(connections)
}

impl Outcome {
    fn check(self, answer: &Answer) -> Result<()> {
        let (status, body) = match self {
            Self::Forwarded => (200, answer.body == platform_body()),
            Self::Refused => (401, answer.body.starts_with(b"{\"error\":")),
            Self::RefusedSomehow => (401, true),
        };
        if answer.status == status && body {
            return Ok(());
        }
        bail!("expected {status}, got {} {}", answer.status, String::from_utf8_lossy(&answer.body))
    }
}

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the connection was closed without a whole answer"
            );
            if let Some(answer) = parse(&self.buffer)? {
                return Ok(answer);
            }
        }
    }
}

/// `None` while the answer is not complete.
fn parse(bytes: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(end);
    let head = std::str::from_utf8(head)?;
    let status = head.get(9..12).context("no status line")?.parse()?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("no content-length")?
        .1
        .trim()
        .parse::<usize>()?;
    let body = rest.get(4..).unwrap_or_default();
    Ok((body.len() >= length).then(|| Answer { status, body: body.to_vec() }))
}
