//! The gateways on a store, and whether a revocation is in force on each of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::sleep;

use super::context::{ACCOUNT, Opened, execute_patiently};
use super::output::{Failure, say};
use crate::state_dir::presence::{self, Liveness};
use crate::store::block_on;
use crate::store::command::{Deregister, RequestAcknowledgements};
use crate::store::{Store, StoreError};

/// The store, and what tells which gateways run.
pub(super) struct Gateways {
    store: Store,
    state_dir: PathBuf,
    /// How long a gateway on another machine may be silent and still count as running.
    silence: Duration,
    max_staleness: Duration,
}

/// What came of a revocation.
#[derive(Serialize)]
struct Report {
    number: u64,
    durable: bool,
    in_force_on: usize,
    gateways: usize,
    /// Those that have not acknowledged it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<String>,
    /// Whether the store knows the name; absent for what has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<bool>,
}

impl Gateways {
    pub(super) fn of(opened: &Opened) -> Self {
        // Two heartbeats, and a little for a slow one.
        let silence = opened.heartbeat_interval * 2 + Duration::from_secs(2);
        let (state_dir, max_staleness) = (opened.state_dir.clone(), opened.max_staleness);
        Self { store: opened.store.clone(), state_dir, silence, max_staleness }
    }

    /// Waits until every running gateway has acknowledged that sequence, and says so.
    pub(super) fn wait_for(&self, sequence: u64, known: Option<bool>, json: bool) -> Result<(), Failure> {
        let after = |error: StoreError| {
            Failure::from(error)
                .after("revoked, but the gateways cannot be asked whether they have applied it")
        };
        execute_patiently(&self.store, RequestAcknowledgements).map_err(after)?;
        let mut report = block_on(self.acknowledged(sequence)).map_err(after)?;
        report.known = known;
        let said = if json {
            say(serde_json::to_string(&report).map_err(Failure::cannot_start)?)
        } else {
            let Report { in_force_on, gateways, .. } = report;
            say(format_args!("revoked; active on {in_force_on} of {gateways} gateways"))
        };
        if report.waiting_for.is_empty() {
            return said;
        }
        Err(Failure::try_again(format!(
            "not confirmed by the gateway {}: it may admit the token until it reads the store again, for at most store.max_staleness ({} s) since its last read",
            report.waiting_for.join(", "),
            self.max_staleness.as_secs()
        )))
    }

    async fn acknowledged(&self, sequence: u64) -> Result<Report, StoreError> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let running = self.running().await?;
            let gateways = running.len();
            let missing = running.into_iter().filter(|(_, applied)| *applied < sequence);
            let waiting_for: Vec<String> = missing.map(|(gateway, _)| gateway).collect();
            if waiting_for.is_empty() || Instant::now() > deadline {
                return Ok(Report {
                    number: sequence,
                    durable: true,
                    in_force_on: gateways - waiting_for.len(),
                    gateways,
                    waiting_for,
                    known: None,
                });
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Every gateway that runs, and how far it has come. One on this machine runs for as long as it holds its lock, however long
    /// it is silent; the store is told of one that has ended.
    pub(super) async fn running(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let heard_of = self.store.acknowledgements(self.silence).await?;
        let mut running = Vec::new();
        for row in self.store.acknowledgements(EVER).await? {
            let is_running = match presence::liveness(&self.state_dir, &row.gateway) {
                Liveness::Running => true,
                Liveness::Unknown => heard_of.iter().any(|heard| heard.gateway == row.gateway),
                Liveness::Ended => {
                    self.deregister(&row.gateway).await;
                    false
                }
            };
            if is_running {
                running.push((row.gateway, row.applied));
            }
        }
        Ok(running)
    }

    async fn deregister(&self, gateway: &str) {
        let command = Deregister { gateway: gateway.to_owned() };
        // If it fails, the next one that asks finds it again.
        if self.store.execute(command, ACCOUNT.actor()).await.is_ok() {
            presence::remove(&self.state_dir, gateway);
        }
    }
}

/// How long the command waits for the gateways.
const DEADLINE: Duration = Duration::from_secs(2);

/// How often it looks which of them have acknowledged.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Longer than any gateway is silent.
const EVER: Duration = Duration::MAX;
