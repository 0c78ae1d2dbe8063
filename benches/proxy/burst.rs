//! What the clients of a case do together: connect, and ask as fast as they can or on a schedule.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Client, Outcome, Request, Requests, Transport};

/// How often clients ask.
#[derive(Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many requests a second between them, each on time.
    Steady(f64),
    /// Each as soon as it has its answer.
    Full,
}

/// The clients of a case.
#[derive(Clone, Copy)]
pub struct Shape {
    pub connections: usize,
    /// Of each connection, at the same time: more than one needs HTTP/2.
    pub streams: usize,
    pub pace: Pace,
}

impl Shape {
    /// As much as the proxy takes.
    pub const SATURATED: Self = Self { connections: 64, streams: 1, pace: Pace::Full };

    /// So many connections, on which so many requests a second are sent between them.
    pub const fn paced(connections: usize, per_second: f64) -> Self {
        Self { connections, streams: 1, pace: Pace::Steady(per_second) }
    }
}

/// Clients all of which have asked once at the same time: the proxy has as many connections to the platform as it will
/// need.
pub async fn warm(
    shape: Shape,
    address: SocketAddr,
    transport: Transport,
    requests: &Requests,
    outcome: Outcome,
) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for number in 0..shape.connections {
        let mut client = Client::new(address, transport, number)?;
        if transport == Transport::Http2 {
            client.connect_http2().await?;
        }
        clients.extend((1..shape.streams).map(|_| client.on_same_connection()));
        clients.push(client);
    }
    let mut asking = JoinSet::new();
    for mut client in clients {
        let requests = requests.clone();
        asking.spawn(async move {
            let request = requests.first().context("a request")?;
            client.ask(request, outcome).await?;
            anyhow::Ok(client)
        });
    }
    asking.join_all().await.into_iter().collect()
}

/// Exactly `requests` requests. Which ones is drawn by `seed`: a cache that is too small for all sees the ones it has
/// dropped as often as in practice, not always or never.
///
/// How long each took, in no order: with a schedule, from when it was due.
pub async fn ask(
    clients: Vec<Client>,
    asked: &Requests,
    outcome: Outcome,
    requests: usize,
    pace: Pace,
    seed: u64,
) -> Result<Vec<Duration>> {
    let mut bursts = JoinSet::new();
    let _awake = (pace == Pace::Full).then(stay_awake);
    let (begun, count) = (Arc::new(AtomicUsize::new(0)), clients.len());
    let start = Instant::now() + SCHEDULE_STARTS;
    for (number, client) in clients.into_iter().enumerate() {
        let burst = Burst { client, asked: asked.clone(), outcome, seed, took: Vec::new() };
        match pace {
            Pace::Full => bursts.spawn(burst.at_once(begun.clone(), requests)),
            Pace::Steady(per_second) => {
                let due = (number..requests).step_by(count);
                let due = due.map(move |number| (number, start + seconds(number as f64 / per_second)));
                bursts.spawn(burst.on_time(due))
            }
        };
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

/// What one client asks.
struct Burst {
    client: Client,
    asked: Requests,
    outcome: Outcome,
    seed: u64,
    took: Vec<Duration>,
}

impl Burst {
    /// The next as soon as it has its answer.
    async fn at_once(mut self, begun: Arc<AtomicUsize>, requests: usize) -> Result<Vec<Duration>> {
        loop {
            let number = begun.fetch_add(1, Relaxed);
            if number >= requests {
                return Ok(self.took);
            }
            let took = self.client.ask(drawn(&self.asked, self.seed, number)?, self.outcome).await?;
            self.took.push(took);
        }
    }

    /// Each when it is due, whatever came of the one before: a late answer makes the next request late, and that counts
    /// as waiting.
    async fn on_time(mut self, due: impl Iterator<Item = (usize, Instant)>) -> Result<Vec<Duration>> {
        let timer = Timer::new()?;
        for (number, due) in due {
            timer.wait_until(due).await?;
            self.client.ask(drawn(&self.asked, self.seed, number)?, self.outcome).await?;
            self.took.push(due.elapsed());
        }
        Ok(self.took)
    }
}

fn drawn(asked: &Requests, seed: u64, number: usize) -> Result<&Request> {
    let drawn = fastrand::Rng::with_seed(seed + number as u64).usize(..asked.len());
    asked.get(drawn).context("a request")
}

/// Never asleep until this is dropped, so that no proxy pays for waking clients that ask as fast as they can, or their
/// platform: how often it would depends on its speed.
fn stay_awake() -> JoinSet<()> {
    let mut awake = JoinSet::new();
    awake.spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    awake
}

/// The kernel's timer: tokio's has steps of a millisecond, in which several requests would leave together.
struct Timer(AsyncFd<Descriptor>);

impl Timer {
    #[expect(deprecated, reason = "what replaces it is unsafe: it trusts the descriptor, which is ours")]
    fn new() -> Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        Ok(Self(AsyncFd::new(Descriptor(timer))?))
    }

    async fn wait_until(&self, due: Instant) -> Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let Descriptor(timer) = self.0.get_ref();
        timer.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(expired) = ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from)) {
                return Ok(expired?);
            }
        }
    }
}

/// What tokio asks of a descriptor and nix does not offer.
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// After the clients of a schedule have been spawned.
const SCHEDULE_STARTS: Duration = Duration::from_millis(2);
/// At the most.
const BURST_LASTS: Duration = Duration::from_secs(120);
