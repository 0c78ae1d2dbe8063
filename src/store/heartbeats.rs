//! Heartbeats: a gateway says that it runs, how far it has come and which keys it has, and hears which of them all others have.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Store;
use super::command::{Actor, Heartbeat};
use super::error::StoreError;
use crate::auth::gate::Gate;
use crate::auth::keys::Fingerprint;
use crate::clock::Clock;

/// Under which name heartbeats are sent, and how often.
#[derive(Clone, Debug)]
pub struct Rhythm {
    /// The gateway's name, unique to its process.
    pub gateway: String,
    /// How often it says that it runs.
    pub interval: Duration,
    /// Longer without a read of the store, and its gate admits nothing.
    pub max_staleness: Duration,
}

/// Heartbeats, one at a time and never waited for.
pub(super) struct Heartbeats {
    store: Store,
    gate: Arc<Gate>,
    clock: Clock,
    rhythm: Rhythm,
    sent_at: Option<Instant>,
    /// The key set that was last reported.
    reported: Option<u64>,
    /// Acknowledged up to this sequence.
    acknowledged: u64,
    running: Option<Running>,
    is_failing: bool,
    /// Uptime when the last was sent that was written.
    written_at: Duration,
    /// Since when keys of ours are not everywhere.
    unshared_since: Option<Instant>,
    /// Keys that are ours and not everywhere, as logged.
    unshared: Vec<String>,
}

/// A heartbeat that was sent.
struct Running {
    task: JoinHandle<Result<HashSet<Fingerprint>, StoreError>>,
    /// Up to where it acknowledges.
    applied: u64,
    /// Uptime.
    sent_at: Duration,
}

impl Heartbeats {
    /// None is sent yet.
    pub(super) fn new(store: Store, gate: Arc<Gate>, clock: Clock, rhythm: &Rhythm) -> Self {
        let written_at = clock.uptime();
        Self {
            store,
            gate,
            clock,
            rhythm: rhythm.clone(),
            sent_at: None,
            reported: None,
            acknowledged: 0,
            running: None,
            is_failing: false,
            written_at,
            unshared_since: None,
            unshared: Vec::new(),
        }
    }

    /// Sends the first and waits for it.
    pub(super) async fn send_first(&mut self) -> Result<(), StoreError> {
        let heartbeat = self.next();
        let shared = self.store.execute(heartbeat, Actor::gateway()).await?;
        self.take_in(shared);
        Ok(())
    }

    /// As of when what was read at that uptime counts. On another machine a gateway that cannot write is given up when its lease has ended, so
    /// what it reads after the next heartbeat was due counts for nothing: a server that is no longer the primary still answers.
    pub(super) fn bound(&self, uptime: Duration) -> Duration {
        match self.store.is_shared() {
            true => uptime.min(self.written_at + self.rhythm.interval + LATENESS),
            false => uptime,
        }
    }

    /// The next is sent as soon as it can be.
    pub(super) const fn hurry(&mut self) {
        self.sent_at = None;
    }

    /// Sends one if it is time, if acknowledgements are requested up to a sequence that none has acknowledged, or if there are other keys.
    pub(super) async fn send_if_due(&mut self, requested: u64) {
        self.settle().await;
        let interval = if self.is_failing { self.rhythm.interval.min(RETRY) } else { self.rhythm.interval };
        let is_time = self.sent_at.is_none_or(|at| at.elapsed() >= interval);
        let has_other_keys = !self.is_failing && self.reported != Some(self.gate.keys().generation());
        let is_due = is_time || has_other_keys || requested > self.acknowledged;
        if self.running.is_some() || !is_due {
            return;
        }
        let sent_at = self.clock.uptime();
        let (store, heartbeat) = (self.store.clone(), self.next());
        let applied = heartbeat.applied;
        let task = tokio::spawn(async move { store.execute(heartbeat, Actor::gateway()).await });
        self.running = Some(Running { task, applied, sent_at });
    }

    fn next(&mut self) -> Heartbeat {
        self.sent_at = Some(Instant::now());
        let keys = self.gate.keys();
        self.reported = Some(keys.generation());
        // The last read may have come as late as the next heartbeat that failed.
        let lease = self.rhythm.interval + LATENESS + self.rhythm.max_staleness;
        Heartbeat {
            gateway: self.rhythm.gateway.clone(),
            applied: self.gate.sequence(),
            lease: lease.as_secs() + 1,
            keys: keys.iter().map(|key| key.fingerprint()).collect(),
        }
    }

    /// Takes the result of the one that was sent, if it is there.
    pub(super) async fn settle(&mut self) {
        let Some(running) = self.running.take_if(|running| running.task.is_finished()) else { return };
        match running.task.await.unwrap_or(Err(StoreError::Stopped)) {
            Ok(shared) => {
                self.acknowledged = running.applied;
                self.written_at = running.sent_at;
                self.is_failing = false;
                self.take_in(shared);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    log::warn!("the heartbeat cannot be written: {error}");
                }
            }
        }
    }

    /// Lets no key sign that another gateway does not have, and says which those are.
    fn take_in(&mut self, shared: HashSet<Fingerprint>) {
        let (keys, snapshot) = (self.gate.keys(), self.gate.snapshot());
        let missing = |kid: &&str| keys.by_kid(kid).is_some_and(|key| !shared.contains(&key.fingerprint()));
        let unshared: Vec<String> =
            keys.iter().map(|key| key.kid()).filter(missing).map(str::to_owned).collect();
        if snapshot.shared_keys() != Some(&shared) {
            self.gate.apply(|snapshot| snapshot.set_shared_keys(Some(shared)));
        }
        // A key that was just made is on its way to all of them.
        let since = *self.unshared_since.get_or_insert_with(Instant::now);
        if unshared.is_empty() {
            self.unshared_since = None;
        } else if since.elapsed() < self.rhythm.interval {
            return;
        }
        if unshared != self.unshared {
            match unshared.as_slice() {
                [] => log::info!("every gateway has the same keys again"),
                missing => log::warn!(
                    "another gateway of this store does not have the key {}: it refuses what that key signs; the first key that all have signs",
                    missing.join(", ")
                ),
            }
            self.unshared = unshared;
        }
    }
}

/// How much later than it is due a heartbeat may be known to be written: it is looked for with each look at the store.
const LATENESS: Duration = Duration::from_secs(3);

/// How often a heartbeat that could not be written is tried again, at least.
const RETRY: Duration = Duration::from_secs(1);
