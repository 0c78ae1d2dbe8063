//! Clients with the right password that log in again and again.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::login::LoginClient;
use crate::client::login;
use crate::gateway::PASSWORD;

/// Such clients, each with an account and an address of its own.
pub struct Waiting {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    tally: Mutex<Tally>,
}

/// What came of their logins.
#[derive(Default, Clone)]
pub struct Tally {
    /// Tokens.
    pub finished: u64,
    pub by_status: BTreeMap<u16, u64>,
    /// No answer by then, or none at all.
    pub lost: u64,
    /// From the first try of a login until its token; of one that never had it, until its client gave up.
    pub longest: Duration,
}

impl Waiting {
    pub fn start(gateway: SocketAddr, users: &[String]) -> Self {
        let shared = Arc::<Shared>::default();
        let mut clients = JoinSet::new();
        for (user, number) in users.iter().zip(0..) {
            let client = LoginClient::new(gateway, Ipv4Addr::new(127, 22, number, 1));
            clients.spawn(shared.clone().log_in_for_ever(client, login(user, PASSWORD)));
        }
        Self { shared, clients }
    }

    /// So far.
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().clone()
    }

    /// Nobody begins another login; all, when each has had its last answer.
    pub async fn end(mut self) -> Tally {
        self.shared.is_over.store(true, Relaxed);
        while self.clients.join_next().await.is_some() {}
        self.tally()
    }
}

impl Shared {
    async fn log_in_for_ever(self: Arc<Self>, mut client: LoginClient, request: Vec<u8>) {
        let mut begun = Instant::now();
        while !self.is_over.load(Relaxed) {
            let answer = timeout(LOST_AFTER, client.ask(&request)).await;
            let status = answer.ok().and_then(Result::ok).map(|answer| answer.status);
            {
                let mut tally = self.tally.lock();
                match status {
                    Some(status) => *tally.by_status.entry(status).or_default() += 1,
                    None => tally.lost += 1,
                }
                if status == Some(201) {
                    tally.finished += 1;
                    tally.longest = tally.longest.max(begun.elapsed());
                }
            }
            match status {
                Some(201) => begun = Instant::now(),
                Some(_) => sleep(PATIENCE.mul_f64(0.5 + fastrand::f64())).await,
                None => {
                    client.close();
                    sleep(PATIENCE).await;
                }
            }
        }
        let mut tally = self.tally.lock();
        tally.longest = tally.longest.max(begun.elapsed());
    }
}

impl Tally {
    /// Adds what came of others.
    pub fn add(&mut self, other: &Self) {
        self.finished += other.finished;
        self.lost += other.lost;
        self.longest = self.longest.max(other.longest);
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
    }

    pub fn cell(&self) -> String {
        let cells: Vec<_> =
            self.by_status.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        cells.join(", ")
    }
}

/// A login without an answer by then is lost.
pub const LOST_AFTER: Duration = Duration::from_secs(10);
/// Before the next try after a refusal, half of it to one and a half: shorter than `Retry-After`, so that always one waits.
const PATIENCE: Duration = Duration::from_millis(100);
