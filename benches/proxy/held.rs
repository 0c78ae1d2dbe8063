//! Load held: many clients on connections that they keep, with tokens good, expired, forged and none, by themselves and
//! beside a storm of logins in turn. Nothing may be answered that was not due, and memory must not grow.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::case::SHARES;
use crate::client::Outcome::{self, Forwarded, Refused};
use crate::client::{Answer, Client, Request, Transport, login};
use crate::gateway::{self, Gateway, Logs, PASSWORD};
use crate::platform::Platform;
use crate::process::Running;
use crate::report::{Report, print_table, verdict};
use crate::stats::{interval, median};

/// Clients that log in again and again during the storm, each as a user of its own: more than the queue of logins holds.
const STORMING: usize = 64;
/// Clients that ask the platform itself, at the same pace: what they wait for is not the gateway's.
const DIRECT: usize = 100;
/// Anyone who has no answer by then gets none.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// And a login, for which the gateway itself has ten.
const LOGIN_LOST_AFTER: Duration = Duration::from_secs(15);
/// The share of the rate asked for that must have been answered.
const KEPT: f64 = 0.95;
/// What they wait after an answer that bids them wait: half of it to one and a half, as they know nothing of each other.
const PATIENCE: Duration = Duration::from_millis(100);
/// Before anything is measured: connections, caches and pools fill.
const WARM_UP: Duration = Duration::from_secs(5);
/// How often memory is looked at: hashing takes 19 MiB for a while, so its most in a phase is what counts.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Of a quiet phase and a storm each.
const PAIRS: usize = 20;
/// Of all phases together: one must last a second, or its 99th percentile is chance.
const SHORTEST: Duration = Duration::from_secs(2 * PAIRS as u64);
/// After a storm its last logins are let through.
const ACCEPT_GRACE: Duration = Duration::from_secs(1);

/// The storm may make the 99th percentile of proxied requests so many times as long.
const STORM_BAR: f64 = 2.0;
/// How much more memory the process may have in the last quarter of phases than in the second, in MB.
const GROWTH_BAR_MB: f64 = 4.0;

/// What there was while a phase lasted.
#[derive(Default)]
struct Tally {
    /// Of requests that reached the platform through the gateway.
    proxied: Latencies,
    /// Of those that went there directly.
    direct: Latencies,
    /// Admitted, expired, forged, without a token.
    answered: [u64; 4],
    logins: Logins,
    /// Answers that were not due, and connections lost; the first few in words.
    faults: u64,
    first_faults: Vec<String>,
}

#[derive(Default, Clone, Copy)]
struct Logins {
    minted: u64,
    refused: u64,
    /// The user has minted enough: 429.
    limited: u64,
    /// The queue was full, or the wait too long: 503.
    busy: u64,
}

/// Who asks, and what.
struct Asking {
    client: Client,
    asks: Arc<[(Request, Outcome)]>,
    /// The first of them.
    turn: usize,
    is_direct: bool,
}

/// All quiet phases, or all storms.
#[derive(Default)]
struct Phases {
    name: &'static str,
    seconds: f64,
    /// Of each phase.
    quantiles_us: Vec<[f64; 3]>,
    direct_p99_us: Vec<f64>,
    /// The most in each.
    resident_mb: Vec<f64>,
    answered: [u64; 4],
    logins: Logins,
    faults: u64,
    first_faults: Vec<String>,
}

/// So many `clients` send `rate` requests a second between them.
pub async fn hold(folder: &Path, clients: usize, rate: usize, length: Duration) -> Result<()> {
    ensure!(length >= SHORTEST, "DURATION must be {} at least: a phase is a part of it", SHORTEST.as_secs());
    let platform = Platform::start().await?;
    let gateway = Gateway::prepare(folder.join("gateway"), platform.address()).await?;
    let users = gateway.import_users(STORMING)?;
    let (server, _) = gateway.start(Logs::Events).await?;

    let asks: Arc<[(Request, Outcome)]> = [
        (Request::get(Some(&gateway.token)), Forwarded),
        (Request::get(Some(&gateway.expired()?)), Refused),
        (Request::get(Some(&gateway::forged(&gateway.token)?)), Refused),
        (Request::get(None), Refused),
    ]
    .into();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let pause = Duration::from_secs_f64(clients as f64 / rate as f64);
    let mut running = JoinSet::new();
    let start = Instant::now() + Duration::from_secs(1);
    for (address, count, is_direct) in [(server.http, clients, false), (platform.address(), DIRECT, true)] {
        for number in 0..count {
            let client = Client::new(address, Transport::Http, number)?;
            let asking = Asking { client, asks: asks.clone(), turn: number, is_direct };
            // Evenly over the pause, so that the rate is even.
            let first = start + pause.mul_f64(number as f64 / count as f64);
            running.spawn(asking.for_ever(first, pause, tally.clone()));
        }
    }
    eprintln!("{clients} clients, {rate} requests a second; the first {WARM_UP:?} do not count");
    sleep_until(start + WARM_UP).await;

    let (mut quiet, mut storm) = (Phases::new("quiet"), Phases::new("storm of logins"));
    let each = length / (2 * PAIRS as u32);
    for pair in 1..=PAIRS {
        quiet.hold(each, &server.process, &tally).await?;
        let mut storming = JoinSet::new();
        for (number, user) in users.iter().enumerate() {
            let client = Client::new(server.http, Transport::Http, number)?;
            // Every other one with a wrong password.
            let is_right = number.is_multiple_of(2);
            let request = login(user, if is_right { PASSWORD } else { "a wrong one" });
            storming.spawn(log_in_for_ever(client, request, is_right, tally.clone()));
        }
        storm.hold(each, &server.process, &tally).await?;
        eprintln!("{pair} of {PAIRS}: {}; {}", quiet.last(), storm.last());
        ensure!(storming.try_join_next().is_none(), "a client ended");
        storming.shutdown().await;
        sleep(ACCEPT_GRACE).await;
    }
    // Who has not been answered by now was lost.
    sleep(LOST_AFTER).await;
    storm.take_faults(std::mem::take(&mut *tally.lock()));
    ensure!(running.try_join_next().is_none(), "a client ended");
    running.shutdown().await;

    let mut report = Report::new("held.json")?;
    report.about("command", format!("make load CLIENTS={clients} RATE={rate} DURATION={}", length.as_secs()));
    conclude(report, &quiet, &storm, rate as f64)
}

impl Asking {
    /// A request each `pause`, whatever came of the one before: who is answered late asks late, and that counts as waiting.
    async fn for_ever(mut self, first: Instant, pause: Duration, tally: Arc<Mutex<Tally>>) {
        let mut due = first;
        loop {
            let late = Instant::now().checked_duration_since(due).unwrap_or_default();
            sleep_until(due).await;
            let kind = if self.is_direct { 0 } else { self.turn % self.asks.len() };
            let Some((request, outcome)) = self.asks.get(kind) else { return };
            let result = timeout(LOST_AFTER, self.client.ask(request, *outcome)).await;
            let mut tally = tally.lock();
            match result {
                // A timer may be late too, by up to a millisecond: that is not the gateway's.
                Ok(Ok(took)) if self.is_direct => tally.direct.add(late + took),
                Ok(Ok(took)) => {
                    if let Some(answered) = tally.answered.get_mut(kind) {
                        *answered += 1;
                    }
                    if *outcome == Forwarded {
                        tally.proxied.add(late + took);
                    }
                }
                Ok(Err(error)) => tally.fault(format!("{error:#}")),
                Err(_) => tally.fault(format!("no answer in {LOST_AFTER:?}")),
            }
            drop(tally);
            due += pause;
            self.turn += 1;
        }
    }
}

async fn log_in_for_ever(mut client: Client, request: Vec<u8>, is_right: bool, tally: Arc<Mutex<Tally>>) {
    loop {
        let answer = timeout(LOGIN_LOST_AFTER, client.exchange(&request)).await;
        let status = answer.map(|answer| answer.map(|Answer { status, .. }| status));
        let must_wait = matches!(status, Ok(Ok(429 | 503)));
        {
            let mut tally = tally.lock();
            match (status, is_right) {
                (Ok(Ok(201)), true) => tally.logins.minted += 1,
                (Ok(Ok(401)), false) => tally.logins.refused += 1,
                (Ok(Ok(429)), true) => tally.logins.limited += 1,
                (Ok(Ok(503)), _) => tally.logins.busy += 1,
                (Ok(Ok(other)), _) => tally.fault(format!("a login got {other}")),
                (Ok(Err(error)), _) => tally.fault(format!("a login: {error:#}")),
                (Err(_), _) => tally.fault(format!("a login: no answer in {LOGIN_LOST_AFTER:?}")),
            }
        }
        if must_wait {
            sleep(PATIENCE.mul_f64(0.5 + fastrand::f64())).await;
        }
    }
}

fn conclude(mut report: Report, quiet: &Phases, storm: &Phases, rate: f64) -> Result<()> {
    println!();
    print_table(
        "phases | requests/s | p50, p99, p99.9 of proxied ones in µs | p99 without a proxy | \
         admitted, expired, forged, no token | logins: minted, refused, 429, 503 | faults | resident at each quarter, MB",
        [quiet, storm].map(Phases::cells),
    );
    let p99 = |[_, p99, _]: &[f64; 3]| *p99;
    let pairs = storm.quantiles_us.iter().map(p99).zip(quiet.quantiles_us.iter().map(p99));
    let ratios: Vec<_> = pairs.map(|(storm, quiet)| storm / quiet).collect();
    let (ratio, (low, high)) = (median(&ratios), interval(&ratios));
    let growth = quiet.growth_mb().max(storm.growth_mb());
    let faults = quiet.faults + storm.faults;
    print_table(
        "what | value | bar",
        [
            format!("answers that were not due | {faults} | 0: {}", verdict(faults == 0)),
            format!(
                "p99 in the storm | {ratio:.2} × quiet ({low:.2}–{high:.2}) | ≤ {STORM_BAR} ×: {}",
                verdict(ratio <= STORM_BAR)
            ),
            format!(
                "memory, the last quarter over the second | {growth:.1} MB | ≤ {GROWTH_BAR_MB} MB: {}",
                verdict(growth <= GROWTH_BAR_MB)
            ),
        ],
    );
    report.note("phases", [quiet, storm].map(Phases::json).to_vec());
    report.save()?;
    let first: Vec<_> = quiet.first_faults.iter().chain(&storm.first_faults).collect();
    ensure!(faults == 0, "{faults} answers were not due; the first: {first:#?}");
    for phases in [quiet, storm] {
        let kept = phases.rate() / rate;
        ensure!(kept >= KEPT, "{}: {:.0} % of the rate was answered", phases.name, kept * 100.0);
    }
    let Logins { minted, busy, .. } = storm.logins;
    ensure!(minted > 0 && busy > 0, "it was no storm: {minted} logins went through, {busy} were too many");
    ensure!(growth <= GROWTH_BAR_MB, "memory grew by {growth:.1} MB");
    // A median near the bar is printed as missed or met; to fail, it must be beyond for sure.
    ensure!(low <= STORM_BAR, "the storm made the 99th percentile {ratio:.2} times as long");
    Ok(())
}

impl Tally {
    fn fault(&mut self, what: String) {
        self.faults += 1;
        if self.first_faults.len() < 5 {
            self.first_faults.push(what);
        }
    }
}

impl Phases {
    fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Lets one phase pass.
    async fn hold(&mut self, length: Duration, process: &Running, tally: &Mutex<Tally>) -> Result<()> {
        // What came before is not timed, but a fault is a fault.
        let before = std::mem::take(&mut *tally.lock());
        self.take_faults(before);
        let (start, mut most_mb) = (Instant::now(), 0.0_f64);
        while start.elapsed() < length {
            sleep(SAMPLE_EVERY).await;
            most_mb = most_mb.max(process.resident_mb()?);
        }
        let tally = std::mem::take(&mut *tally.lock());
        self.seconds += start.elapsed().as_secs_f64();
        self.quantiles_us.push(SHARES.map(|share| tally.proxied.quantile_us(share)));
        self.direct_p99_us.push(tally.direct.quantile_us(0.99));
        self.resident_mb.push(most_mb);
        for (sum, more) in self.answered.iter_mut().zip(tally.answered) {
            *sum += more;
        }
        let Logins { minted, refused, limited, busy } = tally.logins;
        self.logins.minted += minted;
        self.logins.refused += refused;
        self.logins.limited += limited;
        self.logins.busy += busy;
        self.take_faults(tally);
        Ok(())
    }

    fn take_faults(&mut self, tally: Tally) {
        self.faults += tally.faults;
        self.first_faults.extend(tally.first_faults);
    }

    /// A line on the phase just over.
    fn last(&self) -> String {
        let [_, p99, _] = self.quantiles_us.last().copied().unwrap_or_default();
        let resident = self.resident_mb.last().copied().unwrap_or_default();
        format!("{}, p99 {p99} µs, {resident:.1} MB, {} faults so far", self.name, self.faults)
    }

    /// The first quarter is for the process to find its size.
    fn growth_mb(&self) -> f64 {
        let quarters: Vec<_> = self.resident_mb.chunks(self.resident_mb.len().div_ceil(4)).collect();
        let (settled, last) = (quarters.get(1), quarters.last());
        settled.zip(last).map_or(f64::NAN, |(settled, last)| median(last) - median(settled))
    }

    fn rate(&self) -> f64 {
        self.answered.iter().sum::<u64>() as f64 / self.seconds
    }

    fn quantiles_us(&self) -> [f64; 3] {
        [0, 1, 2].map(|index| {
            let values = self.quantiles_us.iter().filter_map(|quantiles| quantiles.get(index).copied());
            median(&values.collect::<Vec<_>>())
        })
    }

    fn cells(&self) -> String {
        let [p50, p99, p999] = self.quantiles_us();
        let [admitted, expired, forged, none] = self.answered;
        let Logins { minted, refused, limited, busy } = self.logins;
        let quarters = [0, 1, 2, 3].map(|quarter| self.resident_mb.get(quarter * self.resident_mb.len() / 4));
        let resident = quarters.into_iter().flatten().chain(self.resident_mb.last());
        let resident: Vec<_> = resident.map(|most| format!("{most:.1}")).collect();
        format!(
            "{} | {:.0} | {p50}, {p99}, {p999} | {} | {admitted}, {expired}, {forged}, {none} | \
             {minted}, {refused}, {limited}, {busy} | {} | {}",
            self.name,
            self.rate(),
            median(&self.direct_p99_us),
            self.faults,
            resident.join(", "),
        )
    }

    fn json(&self) -> Value {
        let Logins { minted, refused, limited, busy } = self.logins;
        json!({
            "phases": self.name,
            "seconds": self.seconds,
            "quantiles_us": self.quantiles_us,
            "p99_without_a_proxy_us": self.direct_p99_us,
            "answered": self.answered,
            "logins": { "minted": minted, "refused": refused, "limited": limited, "busy": busy },
            "faults": self.faults,
            "resident_mb": self.resident_mb,
        })
    }
}

/// How many took how long, in steps of [`STEP_US`]: as large after an hour as after a second.
#[derive(Default)]
struct Latencies(Vec<u64>);

const STEP_US: u64 = 10;
/// Longer ones count as this long.
const LONGEST_US: u64 = 5_000_000;

impl Latencies {
    fn add(&mut self, took: Duration) {
        let step = (took.as_micros().min(u128::from(LONGEST_US)) as u64 / STEP_US) as usize;
        if self.0.len() <= step {
            self.0.resize(step + 1, 0);
        }
        if let Some(count) = self.0.get_mut(step) {
            *count += 1;
        }
    }

    /// What so large a share took at most; not a number if nothing took any time.
    fn quantile_us(&self, share: f64) -> f64 {
        let wanted = (self.0.iter().sum::<u64>() as f64 * share) as u64;
        let mut seen = 0;
        let step = self.0.iter().position(|count| {
            seen += count;
            seen > wanted
        });
        step.map_or(f64::NAN, |step| ((step as u64 + 1) * STEP_US) as f64)
    }
}
