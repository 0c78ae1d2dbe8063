//! Load held: many clients on connections that they keep, with tokens good, expired, forged and none, first by themselves
//! and then beside a storm of logins. Nothing may be answered that was not due, and memory must not grow.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::Outcome::{self, Forwarded, Refused};
use crate::client::{Client, Request, Transport};
use crate::gateway::{self, Gateway, Logs, PASSWORD, USER};
use crate::number;
use crate::platform::Platform;
use crate::process::Running;
use crate::report::{Report, print_table, verdict};

/// Clients that log in again and again during the storm: more than the queue of logins holds.
const STORMING: usize = 64;
/// What they wait after an answer that bids them wait.
const PATIENCE: Duration = Duration::from_millis(100);
/// Before anything is measured: connections, caches and pools fill.
const WARM_UP: Duration = Duration::from_secs(5);
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// How often memory is looked at: a login takes 19 MiB for a moment, so its most in a quarter of a phase is what counts.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
const QUARTERS: usize = 4;

/// The storm may make the 99th percentile of proxied requests so many times as long.
const STORM_BAR: f64 = 2.0;
/// How much more memory the process may have in the last quarter of a phase than in its second, in MB.
const GROWTH_BAR_MB: f64 = 4.0;

/// What there was while a phase lasted.
#[derive(Default)]
struct Tally {
    /// Of requests that reached the platform.
    proxied: Latencies,
    /// Admitted, expired, forged, without a token.
    answered: [u64; 4],
    logins: Logins,
    /// Answers that were not due, and connections lost; the first few in words.
    faults: u64,
    first_faults: Vec<String>,
}

#[derive(Default)]
struct Logins {
    minted: u64,
    refused: u64,
    /// The user has minted enough: 429.
    limited: u64,
    /// The queue was full: 503.
    busy: u64,
}

struct Phase {
    name: &'static str,
    tally: Tally,
    seconds: f64,
    /// The most in each quarter.
    resident_mb: [f64; QUARTERS],
}

pub async fn hold(folder: &Path) -> Result<()> {
    let (clients, rate) = (number("CLIENTS", 2_000)?, number("RATE", 10_000)?);
    let length = Duration::from_secs(number("DURATION", 60)? as u64);
    let platform = Platform::start().await?;
    let gateway = Gateway::prepare(folder.join("gateway"), platform.address(), Logs::Events).await?;
    let (server, _) = gateway.start().await?;

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
    for number in 0..clients {
        let client = Client::new(server.http, Transport::Http)?;
        // Evenly over the pause, so that the rate is even.
        let first = start + pause.mul_f64(number as f64 / clients as f64);
        running.spawn(ask_for_ever(client, number, asks.clone(), first, pause, tally.clone()));
    }
    eprintln!("{clients} clients, {rate} requests a second; the first {WARM_UP:?} do not count");
    sleep_until(start + WARM_UP).await;

    let quiet = phase("quiet", length / 2, &server.process, &tally).await?;
    for number in 0..STORMING {
        let client = Client::new(server.http, Transport::Http)?;
        running.spawn(log_in_for_ever(client, number, tally.clone()));
    }
    let storm = phase("storm of logins", length / 2, &server.process, &tally).await?;
    running.shutdown().await;

    let mut report = Report::new("held.json")?;
    report.about("command", format!("CLIENTS={clients} RATE={rate} DURATION={}", length.as_secs()));
    conclude(report, &quiet, &storm)
}

/// Lets the time pass, and says every few seconds how it goes.
async fn phase(
    name: &'static str,
    length: Duration,
    process: &Running,
    tally: &Mutex<Tally>,
) -> Result<Phase> {
    drop(std::mem::take(&mut *tally.lock()));
    let start = Instant::now();
    let mut resident_mb = [0.0_f64; QUARTERS];
    let mut progress = start + PROGRESS_EVERY;
    while start.elapsed() < length {
        sleep(SAMPLE_EVERY).await;
        let now = process.resident_mb()?;
        let quarter = start.elapsed().div_duration_f64(length) * QUARTERS as f64;
        resident_mb.iter_mut().skip(quarter as usize).take(1).for_each(|most| *most = most.max(now));
        if Instant::now() >= progress {
            progress += PROGRESS_EVERY;
            let tally = tally.lock();
            eprintln!(
                "{name}: {:.0} s of {:.0}, p99 {} µs, {} faults, {now:.1} MB",
                start.elapsed().as_secs_f64(),
                length.as_secs_f64(),
                tally.proxied.quantile_us(0.99),
                tally.faults
            );
        }
    }
    let tally = std::mem::take(&mut *tally.lock());
    Ok(Phase { name, tally, seconds: start.elapsed().as_secs_f64(), resident_mb })
}

/// A request each `pause`, whatever came of the one before: who is answered late asks late, and that counts as waiting.
async fn ask_for_ever(
    mut client: Client,
    number: usize,
    asks: Arc<[(Request, Outcome)]>,
    first: Instant,
    pause: Duration,
    tally: Arc<Mutex<Tally>>,
) {
    let (mut due, mut turn) = (first, number);
    loop {
        let was_late = Instant::now() > due;
        sleep_until(due).await;
        // A timer may be late too, by up to a millisecond: that is not the gateway's.
        let began = if was_late { due } else { Instant::now() };
        let kind = turn % asks.len();
        let Some((request, outcome)) = asks.get(kind) else { return };
        let result = client.ask(request, *outcome).await;
        let mut tally = tally.lock();
        match result {
            Ok(()) => {
                tally.answered.iter_mut().skip(kind).take(1).for_each(|count| *count += 1);
                if *outcome == Forwarded {
                    tally.proxied.add(began.elapsed());
                }
            }
            Err(error) => tally.fault(format!("{error:#}")),
        }
        due += pause;
        turn += 1;
    }
}

/// Every other one with a wrong password.
async fn log_in_for_ever(mut client: Client, number: usize, tally: Arc<Mutex<Tally>>) {
    let is_right = number.is_multiple_of(2);
    let password = if is_right { PASSWORD } else { "a wrong one" };
    let request = format!(
        "POST /ds-api/user-token HTTP/1.1\r\nhost: bench\r\nauthorization: Basic {}\r\ncontent-length: 0\r\n\r\n",
        STANDARD.encode(format!("{USER}:{password}"))
    );
    loop {
        let status = client.exchange(request.as_bytes()).await.map(|answer| answer.status);
        let must_wait = matches!(status, Ok(429 | 503));
        {
            let mut tally = tally.lock();
            match (status, is_right) {
                (Ok(201), true) => tally.logins.minted += 1,
                (Ok(401), false) => tally.logins.refused += 1,
                (Ok(429), true) => tally.logins.limited += 1,
                (Ok(503), _) => tally.logins.busy += 1,
                (Ok(other), _) => tally.fault(format!("a login got {other}")),
                (Err(error), _) => tally.fault(format!("a login: {error:#}")),
            }
        }
        if must_wait {
            sleep(PATIENCE).await;
        }
    }
}

fn conclude(mut report: Report, quiet: &Phase, storm: &Phase) -> Result<()> {
    println!();
    print_table(
        "phase | requests/s | p50, p99, p99.9 of proxied ones in µs | admitted, expired, forged, no token | \
         logins: minted, refused, 429, 503 | faults | resident in each quarter, MB",
        [quiet, storm].map(Phase::cells),
    );
    let p99 = |phase: &Phase| phase.tally.proxied.quantile_us(0.99) as f64;
    let ratio = p99(storm) / p99(quiet);
    let growth = [quiet, storm].map(Phase::growth_mb);
    let growth = growth.into_iter().fold(0.0, f64::max);
    let faults = quiet.tally.faults + storm.tally.faults;
    print_table(
        "what | value | bar",
        [
            format!("answers that were not due | {faults} | 0: {}", verdict(faults == 0)),
            format!(
                "p99 in the storm | {ratio:.2} × quiet | ≤ {STORM_BAR} ×: {}",
                verdict(ratio <= STORM_BAR)
            ),
            format!(
                "memory, last quarter over second | {growth:.1} MB | ≤ {GROWTH_BAR_MB} MB: {}",
                verdict(growth <= GROWTH_BAR_MB)
            ),
        ],
    );
    report.about("phases", [quiet, storm].map(Phase::json).to_vec());
    report.save()?;
    let first: Vec<_> = [quiet, storm].iter().flat_map(|phase| &phase.tally.first_faults).cloned().collect();
    ensure!(faults == 0, "{faults} answers were not due; the first: {first:#?}");
    ensure!(storm.tally.logins.minted > 0, "no login went through");
    ensure!(growth <= GROWTH_BAR_MB, "memory grew by {growth:.1} MB");
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

impl Phase {
    fn growth_mb(&self) -> f64 {
        let [_, second, _, last] = self.resident_mb;
        last - second
    }

    fn quantiles_us(&self) -> [u64; 3] {
        [0.5, 0.99, 0.999].map(|share| self.tally.proxied.quantile_us(share))
    }

    fn cells(&self) -> String {
        let [p50, p99, p999] = self.quantiles_us();
        let [admitted, expired, forged, none] = self.tally.answered;
        let Logins { minted, refused, limited, busy } = self.tally.logins;
        let resident = self.resident_mb.map(|most| format!("{most:.1}")).join(", ");
        format!(
            "{} | {:.0} | {p50}, {p99}, {p999} | {admitted}, {expired}, {forged}, {none} | \
             {minted}, {refused}, {limited}, {busy} | {} | {resident}",
            self.name,
            self.tally.answered.iter().sum::<u64>() as f64 / self.seconds,
            self.tally.faults,
        )
    }

    fn json(&self) -> Value {
        let Logins { minted, refused, limited, busy } = self.tally.logins;
        json!({
            "phase": self.name,
            "seconds": self.seconds,
            "quantiles_us": self.quantiles_us(),
            "answered": self.tally.answered,
            "logins": { "minted": minted, "refused": refused, "limited": limited, "busy": busy },
            "faults": self.tally.faults,
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
        self.0.iter_mut().skip(step).take(1).for_each(|count| *count += 1);
    }

    /// What so large a share took at most.
    fn quantile_us(&self, share: f64) -> u64 {
        let wanted = (self.0.iter().sum::<u64>() as f64 * share) as u64;
        let mut seen = 0;
        let step = self.0.iter().position(|count| {
            seen += count;
            seen > wanted
        });
        (step.unwrap_or_default() as u64 + 1) * STEP_US
    }
}
