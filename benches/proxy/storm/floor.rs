//! Logins where no core is ever idle: beside as many requests as the gateway takes, and beside other programs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::promises::Promises;
use super::proxied::{Proxied, Windows};
use super::spin;
use super::waiting::{LOST_AFTER, Tally, Waiting};
use crate::burst::Pace;
use crate::gateway::Gateway;
use crate::report::{Report, print_table};
use crate::server::Server;
use crate::stats::median;

/// What keeps the cores busy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// Requests, as many as the gateway takes.
    Requests,
    /// A busy loop on every core, and some requests.
    Programs,
}

#[derive(Default)]
struct Row {
    name: &'static str,
    without: Windows,
    with: Windows,
    logins: Tally,
    /// Tokens within the phases with logins, and how long those lasted.
    finished: u64,
    lasted: Duration,
    /// CPU time meanwhile of the threads that hash, and of the whole gateway.
    hashing: Duration,
    gateway: Duration,
}

pub async fn measure(
    folder: &Path,
    platform: SocketAddr,
    length: Duration,
    promises: &mut Promises,
    report: &mut Report,
) -> Result<()> {
    let gateway = Gateway::prepare(folder.join("gateway"), platform).await?;
    let users = gateway.import_users(LOGINS)?;
    let mut rows = Vec::new();
    for beside in [Beside::Requests, Beside::Programs] {
        let server = gateway.start_with(&[]).await?;
        let spinning = if beside == Beside::Programs { spin::on_every_core()? } else { Vec::new() };
        let (clients, pace) = match beside {
            Beside::Requests => (FULL_CLIENTS, Pace::Full),
            Beside::Programs => (SOME_CLIENTS, Pace::Steady(SOME)),
        };
        let proxied = Proxied::start(server.http, platform, &gateway.token, clients, pace).await?;
        let mut row = Row { name: beside.as_str(), ..Row::default() };
        row.fill(proxied, &server, &users, length).await?;
        drop(spinning);
        eprintln!("{}", row.cells());
        row.judge(beside, promises);
        rows.push(row);
    }
    println!("\n**Logins where no core is idle**\n");
    print_table(
        "beside | logins finished a second | the longest in s | answers | without an answer | \
         CPU of the threads that hash, of the gateway, in cores | proxied requests/s without logins, with | \
         their p50, p99 in µs without logins | with | p99 with / without",
        rows.iter().map(Row::cells),
    );
    report.note("floor", rows.iter().map(Row::json).collect::<Vec<_>>());
    Ok(())
}

impl Beside {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests at full rate",
            Self::Programs => "a busy loop on every core",
        }
    }
}

impl Row {
    async fn fill(
        &mut self,
        mut proxied: Proxied,
        server: &Server,
        users: &[String],
        length: Duration,
    ) -> Result<()> {
        let each = length / (PAIRS * WINDOWS) as u32;
        for _ in 0..PAIRS {
            proxied.watch(&mut self.without, WINDOWS, each).await?;
            let (hashing, gateway) = (server.process.cpu_of(HASHING)?, server.process.cpu_of("")?);
            let start = Instant::now();
            let waiting = Waiting::start(server.http, users);
            proxied.watch(&mut self.with, WINDOWS, each).await?;
            self.lasted += start.elapsed();
            self.finished += waiting.tally().finished;
            self.hashing += server.process.cpu_of(HASHING)?.saturating_sub(hashing);
            self.gateway += server.process.cpu_of("")?.saturating_sub(gateway);
            self.logins.add(&waiting.end().await);
        }
        Ok(())
    }

    fn judge(&self, beside: Beside, promises: &mut Promises) {
        let name = self.name;
        let (rate, share) = (self.rate(), self.share(self.hashing));
        let ratio = self.with.ratio_to(&self.without);
        promises.hold(
            format!("{name}: logins finished"),
            format!("{rate:.1} a second"),
            format!("≥ {LOGINS_BAR} a second"),
            rate >= LOGINS_BAR,
        );
        promises.hold(
            format!("{name}: CPU of the threads that hash"),
            format!("{:.0} % of a core", share * 100.0),
            format!("≥ {:.0} %", SHARE_BAR * 100.0),
            share >= SHARE_BAR,
        );
        let lost = self.logins.lost;
        let bar = "0".to_owned();
        promises.hold(
            format!("{name}: logins without an answer after {LOST_AFTER:?}"),
            lost.to_string(),
            bar,
            lost == 0,
        );
        let (what, value) = (format!("{name}: proxied p99 with logins"), format!("{ratio:.2} ×"));
        let (bar, is_kept) = (format!("≤ {SLOWER} × without"), ratio <= SLOWER);
        if beside == Beside::Requests {
            promises.hold(what, value, bar, is_kept);
        } else {
            // A request waits for the other program's slice, logins or not.
            promises.warn(what, value, bar, is_kept);
        }
    }

    fn rate(&self) -> f64 {
        self.finished as f64 / self.lasted.as_secs_f64()
    }

    /// Of one core.
    fn share(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.lasted.as_secs_f64()
    }

    fn cells(&self) -> String {
        let Self { name, with, without, logins, .. } = self;
        format!(
            "{name} | {:.1} | {:.1} | {} | {} | {:.2}, {:.2} | {:.0}, {:.0} | {} | {} | {:.2}",
            self.rate(),
            logins.longest.as_secs_f64(),
            logins.cell(),
            logins.lost,
            self.share(self.hashing),
            self.share(self.gateway),
            median(&without.rates),
            median(&with.rates),
            without.cell(),
            with.cell(),
            with.ratio_to(without),
        )
    }

    fn json(&self) -> Value {
        json!({
            "beside": self.name,
            "seconds": self.lasted.as_secs_f64(),
            "logins_finished": self.finished,
            "longest_login_s": self.logins.longest.as_secs_f64(),
            "answers": self.logins.by_status,
            "without_an_answer": self.logins.lost,
            "cpu_of_hashing": self.share(self.hashing),
            "cpu_of_gateway": self.share(self.gateway),
            "without": self.without.json(),
            "with": self.with.json(),
        })
    }
}

/// How the names of threads that hash begin.
const HASHING: &str = "login";
/// Clients that log in without end.
const LOGINS: usize = 16;
/// Clients that ask again at once: more than it takes for the gateway's core to be busy all of the time.
const FULL_CLIENTS: usize = 256;
/// Clients beside other programs, and what they ask in a second.
const SOME_CLIENTS: usize = 50;
const SOME: f64 = 500.0;
/// Of a phase without logins and one with.
const PAIRS: usize = 2;
/// Of a phase.
const WINDOWS: usize = 5;

const LOGINS_BAR: f64 = 8.0;
const SHARE_BAR: f64 = 0.2;
const SLOWER: f64 = 2.0;
