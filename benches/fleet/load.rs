//! Revocations that come at a steady rate, whatever becomes of those before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ds_gateway::auth::token::TokenId;
use ds_gateway::clock::wall;
use ds_gateway::store::command::{Actor, Expiry, RevokeToken};
use ds_gateway::store::{Store, StoreError};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Load {
    /// Starts one: `rate` revocations of tokens of others in a second, by each of the stores in turn.
    pub fn start(stores: Vec<Store>, rate: u32) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(send(&stores, rate, &stopped))
        });
        Self { stop, thread }
    }

    /// Ends it; how long each revocation took until it was acknowledged, in milliseconds.
    pub fn end(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn send(stores: &[Store], rate: u32, stopped: &AtomicBool) -> Vec<f64> {
    let mut running = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut next = stores.iter().cycle();
    while !stopped.load(Ordering::Relaxed) {
        ticks.tick().await;
        let store = next.next().unwrap().clone();
        running.spawn(async move {
            let began = Instant::now();
            let revoked = revoke(&store, TokenId(fastrand::u128(..).to_be_bytes())).await;
            revoked.map(|()| millis(began.elapsed()))
        });
    }
    let answers = running.join_all().await;
    let failures = answers.iter().filter(|answer| answer.is_err()).count();
    if failures > 0 {
        eprintln!("{failures} of {} revocations were not acknowledged", answers.len());
    }
    answers.into_iter().flatten().collect()
}

/// Revokes a token of nobody in particular; returns once that is acknowledged.
pub async fn revoke(store: &Store, id: TokenId) -> Result<(), StoreError> {
    let revoke = RevokeToken { id, expiry: Expiry::At(wall().plus(86_400)), user: None };
    store.execute(revoke, Actor::operator("bench", "bench")).await.map(drop)
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
