//! What is done beside the requests: revocations that the store did not take are tried again every second, in a task of
//! their own that waits for nothing else; once a minute failed logins become audit rows, and what is old goes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::presence::Presence;
use crate::auth::gate::Gate;
use crate::auth::revocation::Standing;
use crate::auth::time::Lived;
use crate::clock::Clock;
use crate::edge::failures::FailedLogins;
use crate::edge::pending::Pending;
use crate::edge::token::MintLimiter;
use crate::store::command::{Actor, Deregister, NoteFailedLogins, Prune, Purge};
use crate::store::replica::Replica;
use crate::store::{Store, StoreError};

#[derive(Clone)]
pub(super) struct Housekeeping {
    pub(super) id: String,
    /// Says to others on this machine that the process runs.
    pub(super) presence: Option<Arc<Presence>>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Clock,
    pub(super) pending: Arc<Pending>,
    pub(super) mints: Arc<MintLimiter>,
    pub(super) failures: Arc<FailedLogins>,
    pub(super) store: Store,
    /// What of the audit trail is deleted.
    pub(super) prune: Prune,
    /// Until the gateway stops.
    pub(super) replica: Arc<Mutex<Option<Replica>>>,
    /// `store.upkeep_interval`
    pub(super) interval: Duration,
}

#[async_trait]
impl BackgroundService for Housekeeping {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                // What is left is written when the last request is over.
                _ = shutdown.changed() => return,
            };
            // What fails now is tried again next time; the writer has said why.
            let _ = self.write_failures().await;
            let _ = self.prune().await;
            let _ = self.forget().await;
            self.mints.retain_recent();
        }
    }
}

impl Housekeeping {
    /// Revocations that wait for the store.
    pub(super) async fn retry(&self) {
        self.pending.retry(&self.store).await;
    }

    pub(super) async fn write_failures(&self) -> Result<(), StoreError> {
        let failures = self.failures.take();
        if failures.is_empty() {
            return Ok(());
        }
        self.store.execute(NoteFailedLogins { failures }, Actor::gateway()).await
    }

    /// Deletes what no token can ask about any more, in the store and in memory.
    async fn forget(&self) -> Result<(), StoreError> {
        let retention = self.gate.rules().retention();
        while self.store.execute(Purge { retention }, Actor::gateway()).await? > 0 {}
        if self.clock.lived() > Lived(retention) {
            let before = self.clock.lived().minus(retention);
            for slice in 0..Standing::SLICES {
                drop(self.gate.apply(|standing| standing.forget(slice, before)));
            }
        }
        Ok(())
    }

    /// Says that this gateway is gone.
    pub(super) async fn sign_off(&self) {
        let replica = self.replica.lock().take();
        if let Some(replica) = replica {
            replica.stop().await;
        }
        let signed_off = self.store.execute(Deregister { gateway: self.id.clone() }, Actor::gateway()).await;
        // While the store still has it, the free lock tells that it has ended.
        if let (Ok(()), Some(presence)) = (signed_off, &self.presence) {
            presence.withdraw();
        }
    }

    async fn prune(&self) -> Result<(), StoreError> {
        while self.store.execute(self.prune, Actor::gateway()).await? > 0 {}
        Ok(())
    }
}

/// Tries again to write the revocations that wait for the store.
pub(super) struct PendingRetry {
    pub(super) pending: Arc<Pending>,
    pub(super) store: Store,
}

#[async_trait]
impl BackgroundService for PendingRetry {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                // The end of the process tries once more.
                _ = shutdown.changed() => return,
            };
            self.pending.retry(&self.store).await;
        }
    }
}

/// How often revocations that wait for the store are tried again.
const RETRY: Duration = Duration::from_secs(1);
