//! Readiness: whether traffic should come to this gateway, and what its operator should know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::auth::gate::Gate;
use crate::clock::{Clock, describe};
use crate::service::pending_revocations::Pending;
use crate::store::{Store, StoreError};

/// What readiness depends on.
pub struct Health {
    /// For the age of what it knows, and its keys.
    pub gate: Arc<Gate>,
    /// Reads the clock.
    pub clock: Clock,
    /// Revocations that the store has not taken.
    pub pending: Arc<Pending>,
    /// For its own health.
    pub store: Store,
    /// Set once the process is asked to stop.
    pub stopping: Arc<AtomicBool>,
}

impl Health {
    /// Why traffic should go elsewhere, or somebody has to come.
    pub fn unready(&self) -> Vec<&'static str> {
        let log_changed = self.store.health().fault == Some(StoreError::LogChanged);
        let stale = self.gate.is_stale(self.clock.uptime());
        let stopping = self.stopping.load(Ordering::Relaxed);
        let reasons = [
            (stale, "the store has not been read for longer than store.max_staleness"),
            (!self.pending.is_empty(), "revocations wait for the store, which takes no writes"),
            (
                log_changed,
                "-wal or -shm beside the store was removed, replaced or cut: put it back or restart",
            ),
            (self.gate.signs_with().is_none(), "every signing key is revoked: no token can be minted"),
            (stopping, "the gateway is stopping"),
        ];
        reasons.into_iter().filter(|(on, _)| *on).map(|(_, reason)| reason).collect()
    }

    /// What an operator should know and no balancer should act on. To turn traffic away for it would make an outage of it:
    /// another gateway has the same disk, and the same time service.
    pub fn warnings(&self) -> Vec<String> {
        let health = self.store.health();
        let hangs = health.hangs().then(|| {
            let seconds = health.commit_age.as_secs();
            format!(
                "a commit of the store has not ended for {seconds} s: nothing is minted or revoked meanwhile"
            )
        });
        let fault = health.fault.filter(|fault| *fault != StoreError::LogChanged);
        let clock = self.clock.error().map(describe);
        hangs.into_iter().chain(fault.map(|fault| fault.to_string())).chain(clock).collect()
    }
}
