//! A case: what is asked of whom, what must come back, and what it may cost.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::load::{self, Outcome, Platform, Requests};
use crate::process::Server;

/// A row of the table.
pub struct Case<'a> {
    pub name: &'static str,
    pub bar: Option<Bar>,
    server: &'a Server,
    requests: Requests,
    outcome: Outcome,
}

/// The most that a case may cost, as a ratio of its CPU time to another case's in the same round.
#[derive(Clone, Copy)]
pub struct Bar {
    pub at_most: f64,
    pub against: &'static str,
}

/// One case in one round.
pub struct Sample {
    /// CPU time of the whole proxy process for a request, in microseconds.
    pub cpu_us: f64,
    pub requests_per_second: f64,
    /// Of requests, from the first byte sent to the last received, in microseconds: half, 99 % and 99.9 % were faster.
    pub quantiles_us: [f64; 3],
}

impl<'a> Case<'a> {
    pub fn new(name: &'static str, server: &'a Server, token: Option<&str>, outcome: Outcome) -> Self {
        Self::with_tokens(name, server, &[token], outcome)
    }

    /// The tokens take turns.
    pub fn with_tokens(
        name: &'static str,
        server: &'a Server,
        tokens: &[Option<&str>],
        outcome: Outcome,
    ) -> Self {
        let requests = tokens.iter().map(|token| load::request(*token)).collect();
        Self { name, bar: None, server, requests, outcome }
    }

    pub fn at_most(mut self, at_most: f64, against: &'static str) -> Self {
        self.bar = Some(Bar { at_most, against });
        self
    }

    /// Sends `requests` over fresh keep-alive connections. Every answer is checked, and what the platform saw.
    pub async fn sample(&self, platform: &Platform, requests: usize) -> Result<Sample> {
        self.measure(platform, requests).await.with_context(|| format!("case: {}", self.name))
    }

    async fn measure(&self, platform: &Platform, requests: usize) -> Result<Sample> {
        let first = self.requests.first().context("a request")?;
        let connections = load::connect(self.server.http, first, self.outcome).await?;
        let seen = platform.seen();
        let (cpu, start) = (self.server.process.cpu_times()?, Instant::now());
        let mut took = load::burst(connections, &self.requests, self.outcome, requests).await?;
        let (elapsed, cpu) = (start.elapsed(), self.server.process.cpu_since(&cpu)?);

        let seen = platform.seen() - seen;
        let expected = match self.outcome {
            Outcome::Forwarded => requests,
            Outcome::Refused | Outcome::RefusedSomehow => 0,
        };
        ensure!(seen == expected, "the platform saw {seen} requests, not {expected}");
        took.sort_unstable();
        let quantile = |share: f64| {
            let took = took.get((took.len() as f64 * share) as usize).or(took.last());
            took.map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
        };
        Ok(Sample {
            quantiles_us: [0.5, 0.99, 0.999].map(quantile),
            cpu_us: cpu.as_secs_f64() * 1e6 / requests as f64,
            requests_per_second: requests as f64 / elapsed.as_secs_f64(),
        })
    }
}
