//! The tries of one request: where it was sent, and what it owes the server that it tries out.

use std::sync::Arc;
use std::time::Duration;

use super::health::Health;

/// Where one request was sent, try by try.
#[derive(Default)]
pub struct Tries {
    addresses: [u64; MAX_TRIES],
    count: usize,
    server: usize,
    /// It finds out whether an address that was left out is back.
    trial: Option<Trial>,
    /// Only a new connection will do.
    needs_new: bool,
}

impl Tries {
    /// How often it was sent, or would have been if there had been a connection.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The server of the last try.
    pub fn server(&self) -> Option<usize> {
        (self.count > 0).then_some(self.server)
    }

    pub(super) fn begin(&mut self, address: u64, server: usize, trial: Option<Trial>) {
        if let Some(place) = self.addresses.get_mut(self.count) {
            *place = address;
        }
        self.count += 1;
        self.server = server;
        self.trial = trial;
    }

    pub(super) fn has(&self, address: u64) -> bool {
        self.addresses.iter().take(self.count).any(|tried| *tried == address)
    }

    /// The address of the last try.
    pub(super) fn last(&self) -> Option<u64> {
        self.addresses.get(self.count.checked_sub(1)?).copied()
    }

    pub(super) const fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    pub(super) const fn take_trial(&mut self) -> Option<Trial> {
        self.trial.take()
    }

    /// From now on it has a new connection for each try.
    pub(super) const fn need_new(&mut self) {
        self.needs_new = true;
    }

    pub(super) const fn needs_new(&self) -> bool {
        self.needs_new
    }
}

/// The one request that tries an address which was left out. Dropped without a verdict, it leaves that to another one.
pub(super) struct Trial(Arc<Health>);

impl Trial {
    /// Of an address, if no other request tries it.
    pub(super) fn of(health: &Arc<Health>, now: impl FnOnce() -> Duration) -> Option<Self> {
        health.takes_trial(now).then(|| Self(Arc::clone(health)))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Without effect once there is a verdict.
        self.0.trial_returned();
    }
}

/// Servers that one request is tried on at most.
pub const MAX_TRIES: usize = 3;
