//! Readiness: whether traffic should come to this gateway, and what its operator should know.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::shown::Shown;
use crate::auth::gate::Gate;
use crate::auth::time::UnixTime;
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
    /// For what is not enforced yet.
    pub shown: Arc<ArcSwap<Shown>>,
    /// Set once the process is asked to stop.
    pub is_ending: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Health {
    /// Why traffic should go elsewhere, or somebody has to come.
    pub fn unready(&self) -> Vec<&'static str> {
        let log_changed = self.store.health().fault == Some(StoreError::LogChanged);
        let stale = self.gate.is_stale(self.clock.uptime());
        let stopping = (self.is_ending)();
        let skewed = self.store.clock_skew().unsigned_abs() > self.gate.rules().max_skew;
        let forked = matches!(self.store.health().fault, Some(StoreError::Forked { .. }));
        let reasons = [
            (stale, "the store has not been read for longer than store.max_staleness"),
            (!self.pending.is_empty(), "revocations are waiting: the store accepts no writes"),
            (
                log_changed,
                "the store's -wal or -shm file was removed, replaced or truncated: restore it or restart the gateway",
            ),
            (
                skewed,
                "this machine's clock and the database's differ by more than token.max_skew: correct them",
            ),
            (forked, "the database has forgotten what it had committed: see the log"),
            (!self.gate.can_sign(), "every signing key is revoked or retired: no token can be issued"),
            (stopping, "the gateway is stopping"),
        ];
        reasons.into_iter().filter(|(on, _)| *on).map(|(_, reason)| reason).collect()
    }

    /// Until when routes are observed, while they are.
    pub fn observed_until(&self) -> Option<UnixTime> {
        let shown = self.shown.load();
        let observation = shown.observation.as_ref()?;
        observation.is_on(self.clock.read()).then(|| observation.until())
    }

    /// What an operator should know and no balancer should act on. To turn traffic away for it would make an outage of it:
    /// another gateway has the same disk, and the same time service.
    pub fn warnings(&self) -> Vec<String> {
        let health = self.store.health();
        let hangs = health.hangs().then(|| {
            let seconds = health.commit_age.as_secs();
            format!(
                "a store commit has been running for {seconds} s; until it ends, no token is issued and no revocation is durable"
            )
        });
        let fault = health.fault.filter(|fault| *fault != StoreError::LogChanged);
        let clock = self.clock.error().map(describe);
        let observed = self.observed_until().map(|until| {
            format!(
                "requests that would be refused are forwarded until {until} UTC (routes.mode is \"observe\")"
            )
        });
        let (keys, snapshot) = (self.gate.keys(), self.gate.snapshot());
        let unshared = keys.iter().find(|key| !snapshot.is_shared(key.fingerprint())).map(|key| {
            let kid = key.kid();
            format!(
                "another gateway of this store does not have the key {kid}: it refuses what that key signs"
            )
        });
        hangs
            .into_iter()
            .chain(unshared)
            .chain(fault.map(|fault| fault.to_string()))
            .chain(clock)
            .chain(observed)
            .collect()
    }
}
