//! A case: what is asked of whom, what must come back, and what it may cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::burst::{self, Pace, Shape};
use crate::client::{self, Outcome, Request, Requests, Transport};
use crate::platform::Platform;
use crate::server::Server;
use crate::stats::quantile;

/// A row of a table.
pub struct Case<'a> {
    pub name: &'static str,
    pub bars: Vec<Bar>,
    server: &'a Server,
    transport: Transport,
    shape: Shape,
    requests: Requests,
    outcome: Outcome,
    is_scraped: bool,
}

/// The most that a case may cost, as a ratio of its CPU time to another case's in the same round.
#[derive(Clone, Copy)]
pub struct Bar {
    pub kind: BarKind,
    pub at_most: f64,
    pub against: &'static str,
}

/// How much a missed bar matters.
#[derive(Clone, Copy)]
pub enum BarKind {
    /// It is promised.
    Promise,
    /// It is where we want to be in the end.
    Aim,
}

/// One case in one round.
pub struct Sample {
    /// CPU time of the whole proxy process for a request, in microseconds.
    pub cpu_us: f64,
    pub requests_per_second: f64,
    /// CPU time against time, if clients asked as fast as they could: below 1 by more than a little, they were the limit
    /// and not the proxy.
    pub busy: Option<f64>,
    /// Of requests, from the first byte sent (or when it was due) to the last received (and with the handshake, if each
    /// has one), in microseconds: half, 99 % and 99.9 % were faster. Not a number where too few were slower.
    pub quantiles_us: [f64; 3],
    /// All of them.
    pub took_us: Vec<f64>,
}

impl<'a> Case<'a> {
    /// GETs on connections that are kept.
    pub fn new(name: &'static str, server: &'a Server, token: Option<&str>, outcome: Outcome) -> Self {
        Self::of(name, server, [Request::get(token)].into(), outcome)
    }

    /// The requests are drawn.
    pub fn of(name: &'static str, server: &'a Server, requests: Requests, outcome: Outcome) -> Self {
        Self {
            name,
            bars: Vec::new(),
            server,
            transport: Transport::Http,
            shape: Shape::SATURATED,
            requests,
            outcome,
            is_scraped: false,
        }
    }

    pub fn over(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    pub fn from(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    pub fn at_most(self, at_most: f64, against: &'static str) -> Self {
        self.with_bar(Bar { kind: BarKind::Promise, at_most, against })
    }

    pub fn with_bar(mut self, bar: Bar) -> Self {
        self.bars.push(bar);
        self
    }

    /// Somebody reads `/metrics` there all the while, every [`SCRAPE_EVERY`].
    pub fn scraped(mut self) -> Self {
        self.is_scraped = true;
        self
    }

    /// Asks each request about three times, so that every cache has had its chance.
    pub async fn warm_up(&self, platform: &Platform, requests: usize) -> Result<()> {
        self.sample(platform, requests.max(3 * self.requests.len()), u64::MAX / 2).await.map(drop)
    }

    /// Sends `requests`, which are drawn by `seed`. Every answer is checked, what the platform saw, and the access log.
    pub async fn sample(&self, platform: &Platform, requests: usize, seed: u64) -> Result<Sample> {
        self.measure(platform, requests, seed).await.with_context(|| format!("case: {}", self.name))
    }

    async fn measure(&self, platform: &Platform, requests: usize, seed: u64) -> Result<Sample> {
        let address = self.server.address(self.transport)?;
        let clients = burst::warm(self.shape, address, self.transport, &self.requests, self.outcome).await?;
        let warming = clients.len();
        let seen = platform.seen();
        let scrapes = Arc::new(AtomicUsize::new(0));
        let scraping = if self.is_scraped {
            let admin = self.server.admin.context("it has no metrics")?;
            Some(tokio::spawn(scrape(admin, scrapes.clone())))
        } else {
            None
        };
        let (cpu, start) = (self.server.process.cpu_times()?, Instant::now());
        let pace = self.shape.pace;
        let took = burst::ask(clients, &self.requests, self.outcome, requests, pace, seed).await?;
        let elapsed = start.elapsed();
        let busy = self.server.process.cpu_since(&cpu)?.div_duration_f64(elapsed);
        let busy = (pace == Pace::Full).then_some(busy);
        if let Some(log) = &self.server.access_log {
            // What it has yet to write is part of the work.
            log.take(requests + warming).await?;
        }
        let cpu = self.server.process.cpu_since(&cpu)?;
        if let Some(scraping) = scraping {
            ensure!(!scraping.is_finished() && scrapes.load(Relaxed) > 0, "a scrape failed");
            scraping.abort();
        }

        let seen = platform.seen() - seen;
        let expected = match self.outcome {
            Outcome::Forwarded => requests,
            Outcome::Refused | Outcome::RefusedSomehow => 0,
        };
        ensure!(seen == expected, "the platform saw {seen} requests, not {expected}");
        let took_us: Vec<_> = took.iter().map(|took| took.as_secs_f64() * 1e6).collect();
        Ok(Sample {
            quantiles_us: SHARES.map(|share| quantile_of_many(&took_us, share)),
            took_us,
            cpu_us: cpu.as_secs_f64() * 1e6 / requests as f64,
            requests_per_second: requests as f64 / elapsed.as_secs_f64(),
            busy,
        })
    }
}

/// A hundred and fifty times as often as Prometheus does by default.
pub const SCRAPE_EVERY: Duration = Duration::from_millis(100);

/// Half, 99 % and 99.9 %.
pub const SHARES: [f64; 3] = [0.5, 0.99, 0.999];

/// Not a number if fewer than ten are beyond.
pub fn quantile_of_many(values: &[f64], share: f64) -> f64 {
    let beyond = (values.len() as f64 * (1.0 - share)).round();
    if beyond < 10.0 { f64::NAN } else { quantile(values, share) }
}

async fn scrape(admin: SocketAddr, scrapes: Arc<AtomicUsize>) -> Result<()> {
    loop {
        let (status, body) = client::get(admin, "/metrics").await?;
        ensure!(status == 200 && !body.is_empty(), "a scrape got {status}");
        scrapes.fetch_add(1, Relaxed);
        tokio::time::sleep(SCRAPE_EVERY).await;
    }
}
