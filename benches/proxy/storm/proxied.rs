//! Proxied requests meanwhile, and some that ask the platform itself: what those wait for is not the gateway's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::burst::Pace;
use crate::client::{Client, Outcome, Request, Transport};
use crate::stats::{median, quantile};

/// Clients that ask until this is dropped.
pub struct Proxied {
    took: Arc<Mutex<Took>>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Took {
    through_us: Vec<f64>,
    direct_us: Vec<f64>,
    faults: u64,
    first_fault: Option<String>,
}

/// What was measured in windows of the same length; a median over them is not moved by one bad moment of the machine.
#[derive(Default)]
pub struct Windows {
    pub p50_us: Vec<f64>,
    pub p99_us: Vec<f64>,
    pub direct_p99_us: Vec<f64>,
    /// Requests through the gateway a second.
    pub rates: Vec<f64>,
    pub faults: u64,
}

impl Proxied {
    /// Warm when it returns.
    pub async fn start(
        gateway: SocketAddr,
        platform: SocketAddr,
        token: &str,
        clients: usize,
        pace: Pace,
    ) -> Result<Self> {
        let took = Arc::<Mutex<Took>>::default();
        let mut running = JoinSet::new();
        let start = Instant::now();
        let request: Arc<Request> = Request::get(Some(token)).into();
        let groups = [(gateway, clients, pace, false), (platform, DIRECT, Pace::Steady(DIRECT_RATE), true)];
        for (address, count, pace, is_direct) in groups {
            let pause = match pace {
                Pace::Steady(rate) => Some(Duration::from_secs_f64(count as f64 / rate)),
                Pace::Full => None,
            };
            for number in 0..count {
                let client = Client::new(address, Transport::Http, number)?;
                let first = start + pause.unwrap_or_default().mul_f64(number as f64 / count as f64);
                running.spawn(ask_for_ever(client, request.clone(), first, pause, is_direct, took.clone()));
            }
        }
        sleep(WARM_UP).await;
        Ok(Self { took, clients: running })
    }

    /// Lets so many windows of that length pass, and adds what was measured in each.
    pub async fn watch(&mut self, windows: &mut Windows, count: usize, each: Duration) -> Result<()> {
        drop(std::mem::take(&mut *self.took.lock()));
        for _ in 0..count {
            let start = Instant::now();
            sleep(each).await;
            let Took { through_us, direct_us, faults, first_fault } = std::mem::take(&mut *self.took.lock());
            windows.p50_us.push(quantile(&through_us, 0.5));
            windows.p99_us.push(quantile(&through_us, 0.99));
            windows.direct_p99_us.push(quantile(&direct_us, 0.99));
            windows.rates.push(through_us.len() as f64 / start.elapsed().as_secs_f64());
            windows.faults += faults;
            if let Some(fault) = first_fault {
                eprintln!("a proxied request: {fault}");
            }
        }
        ensure!(self.clients.try_join_next().is_none(), "a client ended");
        Ok(())
    }
}

impl Windows {
    /// How much longer the 99th percentile is than that of the others.
    pub fn ratio_to(&self, quiet: &Self) -> f64 {
        median(&self.p99_us) / median(&quiet.p99_us)
    }

    /// p50 and p99.
    pub fn cell(&self) -> String {
        format!("{:.0}, {:.0}", median(&self.p50_us), median(&self.p99_us))
    }

    pub fn json(&self) -> Value {
        json!({
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "p99_without_a_proxy_us": self.direct_p99_us,
            "requests_per_second": self.rates,
            "faults": self.faults,
        })
    }
}

async fn ask_for_ever(
    mut client: Client,
    request: Arc<Request>,
    first: Instant,
    pause: Option<Duration>,
    is_direct: bool,
    took: Arc<Mutex<Took>>,
) {
    let mut due = first;
    loop {
        // Who was answered late asks late, and that counts as waiting.
        let late = pause.and_then(|_| Instant::now().checked_duration_since(due)).unwrap_or_default();
        if pause.is_some() {
            sleep_until(due).await;
        }
        let result = timeout(LOST_AFTER, client.ask(&request, Outcome::Forwarded)).await;
        {
            let mut took = took.lock();
            let fault = match result {
                Ok(Ok(answer)) => {
                    let values = if is_direct { &mut took.direct_us } else { &mut took.through_us };
                    values.push((late + answer).as_secs_f64() * 1e6);
                    None
                }
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some(format!("no answer in {LOST_AFTER:?}")),
            };
            if let Some(fault) = fault {
                took.faults += 1;
                took.first_fault.get_or_insert(fault);
            } else {
                due += pause.unwrap_or_default();
                continue;
            }
        }
        // One whose connection is refused must not try as fast as it can.
        sleep(AFTER_FAULT).await;
        due = Instant::now() + pause.unwrap_or_default();
    }
}

/// Clients of the platform itself, and how often they ask in all.
const DIRECT: usize = 25;
const DIRECT_RATE: f64 = 250.0;
/// A request without an answer by then gets none.
const LOST_AFTER: Duration = Duration::from_secs(10);
const AFTER_FAULT: Duration = Duration::from_millis(100);
/// Connections, caches and pools fill.
const WARM_UP: Duration = Duration::from_secs(1);
