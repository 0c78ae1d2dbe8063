//! The gateways that run on a store, and whether a change is in force on each of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::time::sleep;

use super::retry::Retry;
use crate::state_dir::presence::{self, Liveness};
use crate::store::command::{Actor, Deregister, RepairClock, RepairedClock, RequestAcknowledgements};
use crate::store::records::Acknowledgement;
use crate::store::{Store, StoreError};

/// The store, and what tells which gateways run.
#[derive(Clone, Debug)]
pub struct Gateways {
    store: Store,
    state_dir: PathBuf,
    actor: Actor,
}

/// On which gateways a sequence is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// How many running gateways have acknowledged it.
    pub on: usize,
    /// How many gateways run.
    pub running: usize,
    /// The names of those that run and have not acknowledged it in time.
    pub waiting_for: Vec<String>,
}

/// Why the time of the store was not repaired.
#[derive(Debug, Error)]
pub enum RepairError {
    /// So many gateways run: each would bring its own time back.
    #[error("stop the gateways first: {0} run on this store")]
    Running(usize),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Gateways {
    /// The gateways on that store. Those on this machine have locks in `state_dir`; one on another machine counts as running until
    /// its lease has ended. `actor` removes from the store those that have ended.
    pub fn new(store: Store, state_dir: PathBuf, actor: Actor) -> Self {
        Self { store, state_dir, actor }
    }

    /// Waits until every running gateway has acknowledged that sequence, for up to two seconds, and longer where the store cannot be
    /// asked at once.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked; the change is in force wherever it has been read all the same.
    pub async fn wait_for(&self, sequence: u64, retry: Retry) -> Result<Acknowledged, StoreError> {
        retry.execute(&self.store, RequestAcknowledgements, &self.actor).await?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let gateways = self.running().await?;
            let running = gateways.len();
            let missing = gateways.into_iter().filter(|gateway| gateway.applied < sequence);
            let waiting_for: Vec<String> = missing.map(|gateway| gateway.gateway).collect();
            if waiting_for.is_empty() || Instant::now() > deadline {
                return Ok(Acknowledged { on: running - waiting_for.len(), running, waiting_for });
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Every gateway that runs, and how far it has come. One on this machine runs for as long as it holds its lock, however long it
    /// is silent; one that has ended is removed from the store.
    pub async fn running(&self) -> Result<Vec<Acknowledgement>, StoreError> {
        let (running, ended) = self.look().await?;
        for gateway in ended {
            self.deregister(&gateway).await;
        }
        Ok(running)
    }

    /// The gateways that run, and the names of those that have ended and are still in the store. Changes nothing.
    pub(super) async fn look(&self) -> Result<(Vec<Acknowledgement>, Vec<String>), StoreError> {
        let (mut running, mut ended) = (Vec::new(), Vec::new());
        for row in self.store.acknowledgements().await? {
            match presence::liveness(&self.state_dir, &row.gateway) {
                Liveness::Running => running.push(row),
                // Partitioned, it still admits what it knows.
                Liveness::Unknown if row.is_leased => running.push(row),
                Liveness::Unknown => {}
                Liveness::Ended => ended.push(row.gateway),
            }
        }
        Ok((running, ended))
    }

    /// Sets the time of the store to the wall clock's and revokes every token, unless a gateway runs.
    pub async fn repair_clock(&self) -> Result<RepairedClock, RepairError> {
        let running = self.running().await?;
        if !running.is_empty() {
            return Err(RepairError::Running(running.len()));
        }
        Ok(self.store.execute(RepairClock, self.actor.clone()).await?)
    }

    async fn deregister(&self, gateway: &str) {
        let command = Deregister { gateway: gateway.to_owned() };
        // If it fails, the next one that asks finds it again.
        if self.store.execute(command, self.actor.clone()).await.is_ok() {
            presence::remove(&self.state_dir, gateway);
        }
    }
}

/// How long gateways are waited for.
const DEADLINE: Duration = Duration::from_secs(2);

/// How often they are asked.
const ASK_AGAIN: Duration = Duration::from_millis(20);
