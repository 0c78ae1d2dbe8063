//! What is done beside the requests: revocations that the store did not take are tried again every second, in a task of
//! their own that waits for nothing else; once a minute failed logins become audit rows, and what is old goes, which may take
//! longer and holds nothing up.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::watch;

use super::reload::Directory;
use crate::auth::gate::Gate;
use crate::auth::revocation::RevocationSnapshot;
use crate::service::login::failed_logins::FailedLogins;
use crate::service::login::passwords::Logins;
use crate::service::login::revalidation::Revalidation;
use crate::service::pending_revocations::Pending;
use crate::service::token_endpoint::EndpointSettings;
use crate::service::user_changes::UserChanges;
use crate::state_dir::login_counts::LoginCounts;
use crate::state_dir::presence::Presence;
use crate::store::command::{Actor, Deregister, NoteFailedLogins, Prune, Purge};
use crate::store::replica::Replica;
use crate::store::{Executable, Store, StoreError};

#[derive(Clone)]
pub(super) struct Housekeeping {
    pub(super) id: String,
    /// Says to others on this machine that the process runs.
    pub(super) presence: Option<Arc<Presence>>,
    pub(super) gate: Arc<Gate>,
    pub(super) pending: Arc<Pending>,
    pub(super) endpoint: Arc<ArcSwap<EndpointSettings>>,
    pub(super) failures: Arc<FailedLogins>,
    /// What has been counted of failed logins, and where it is kept.
    pub(super) logins: (Arc<Logins>, LoginCounts),
    pub(super) store: Store,
    /// What of the audit trail is deleted.
    pub(super) prune: Arc<ArcSwap<Prune>>,
    /// Until the gateway stops.
    pub(super) replica: Arc<Mutex<Option<Replica>>>,
    /// Changes on the platform whose end nobody knows are ended.
    pub(super) user_changes: UserChanges,
    /// `store.upkeep_interval`
    pub(super) interval: Duration,
}

#[async_trait]
impl BackgroundService for Housekeeping {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::join!(self.write(shutdown.clone()), async {
            tokio::select! {
                () = self.delete() => {}
                _ = shutdown.changed() => {}
            }
        });
    }
}

impl Housekeeping {
    /// Writes what waits to be written.
    async fn write(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                // What is left is written when the last request is over.
                _ = shutdown.changed() => return,
            };
            // What fails now is tried again next time; the writer has said why.
            let _ = self.write_failures().await;
            let _ = self.user_changes.end_forgotten().await;
            let housekeeping = self.clone();
            // A disk may hang.
            let _ = tokio::task::spawn_blocking(move || housekeeping.save_login_counts()).await;
            self.endpoint.load().mints.retain_recent();
        }
    }

    /// Revocations that wait for the store.
    pub(super) async fn retry(&self) {
        self.pending.retry(&self.store, &self.gate).await;
    }

    pub(super) async fn write_failures(&self) -> Result<(), StoreError> {
        let taken = self.failures.take();
        if taken.is_empty() {
            return Ok(());
        }
        let note = NoteFailedLogins { failures: taken.rows() };
        let written = self.store.execute(note, Actor::gateway()).await;
        if written.is_err() {
            // At worst they are counted twice, where the disk failed after it took them.
            self.failures.put_back(taken);
        }
        written
    }

    /// Keeps what has been counted of failed logins for the next start.
    pub(super) fn save_login_counts(&self) {
        let (logins, counts) = &self.logins;
        counts.write(&logins.save());
    }

    /// Deletes what is old, in memory and in the store.
    async fn delete(&self) {
        loop {
            tokio::time::sleep(self.interval).await;
            let (retention, prune) = (self.gate.rules().retention(), **self.prune.load());
            self.expire();
            // A slice of each in turn, so that neither waits for the end of the other.
            let (mut is_purging, mut is_pruning) = (true, true);
            while is_purging || is_pruning {
                is_purging = is_purging && self.delete_slice(Purge { retention }).await;
                is_pruning = is_pruning && self.delete_slice(prune).await;
            }
        }
    }

    /// Deletes a slice; says whether there may be more. What fails is tried again next time; the writer has said why.
    async fn delete_slice<C: Executable<Outcome = usize>>(&self, slice: C) -> bool {
        let deleted = self.store.execute(slice, Actor::gateway()).await.unwrap_or(0);
        if deleted > 0 {
            // Another process that waits to write looks again only every so often.
            tokio::time::sleep(PAUSE).await;
        }
        deleted > 0
    }

    /// Forgets what no token can ask about any more, as far as the store has said so.
    fn expire(&self) {
        for slice in 0..RevocationSnapshot::SLICES {
            drop(self.gate.apply(|snapshot| snapshot.expire(slice)));
        }
    }

    /// Says that this gateway is gone.
    pub(super) async fn deregister(&self) {
        let replica = self.replica.lock().take();
        if let Some(replica) = replica {
            replica.stop().await;
        }
        let deregistered =
            self.store.execute(Deregister { gateway: self.id.clone() }, Actor::gateway()).await;
        // While the store still has it, the free lock tells that it has ended.
        if let (Ok(()), Some(presence)) = (deregistered, &self.presence) {
            presence.withdraw();
        }
    }
}

/// Tries again to write the revocations that wait for the store.
pub(super) struct PendingRetry {
    pub(super) pending: Arc<Pending>,
    pub(super) store: Store,
    pub(super) gate: Arc<Gate>,
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
            self.pending.retry(&self.store, &self.gate).await;
        }
    }
}

/// Asks for users of the directory again.
pub(super) struct Revalidate {
    store: Store,
    directory: watch::Receiver<Directory>,
}

impl Revalidate {
    /// Of the directory that there is, once in its interval for each.
    pub(super) const fn new(store: Store, directory: watch::Receiver<Directory>) -> Self {
        Self { store, directory }
    }
}

#[async_trait]
impl BackgroundService for Revalidate {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut directory = self.directory.clone();
        loop {
            let known = directory.borrow_and_update().clone();
            let rounds = async {
                match known {
                    Some((source, interval)) => {
                        Revalidation::new(self.store.clone(), source, interval).run().await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = rounds => {}
                changed = directory.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
                _ = shutdown.changed() => return,
            }
        }
    }
}

/// How often revocations that wait for the store are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Between two slices that are deleted, about as long as one takes.
const PAUSE: Duration = Duration::from_millis(20);
