//! `ds-gateway store`: what an operator does to the store itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::{ConfigArgs, LOCK_WAIT, run};
use super::gateways::gateways;
use super::output::{Failure, note, say};
use super::store_copy::{Copy, progress};
use crate::clock::Clock;
use crate::config::StorePlace;
use crate::service::gateways::RepairError;
use crate::state_dir;
use crate::state_dir::error::store_error;
use crate::state_dir::store_backup::BackupFile;
use crate::store::inspection::Finding;
use crate::store::{Opening, Store as GatewayStore};

/// `ds-gateway store …`
#[derive(Args, Debug)]
pub(super) struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Copy the store to another place, which may be one of another engine: from SQLite to PostgreSQL, or back
    ///
    /// Everything is copied as of one moment and compared at the end: users with their hashes, revocations, keys' fingerprints, the audit
    /// trail with its ids, the time and the sequence. Tokens stay valid. Nothing of the source is changed, and a target that holds a store
    /// is refused. Stop the gateways first.
    ///
    /// A copy that is interrupted is no store, and the same command continues it. If the source has changed since, it begins again.
    #[command(after_help = COPY_EXAMPLES)]
    Copy(Copy),
    /// Check everything in the store: its pages, the rules that its rows keep, and every row; gateways may run
    Check {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Back up the store alone, whatever its engine, to one file of SQLite; gateways may run
    ///
    /// The file (mode 600) is a store, which `store copy --from sqlite:FILE` copies to wherever it is needed. It does not hold the signing keys:
    /// `ds-gateway backup` copies store and keys. It cannot know what is revoked later: start the first gateway on it with `run --restored`.
    Backup {
        /// The file: one that does not exist, or an older backup, which is replaced once the new one is complete
        file: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Set the store's time to the wall clock's, after a gateway has run with a wrong clock; revokes every token
    ///
    /// The store's time never goes back: after hours with a clock that is ahead, it stays ahead and comes back only
    /// slowly, and revocations made meanwhile have times in the future. This sets it to the wall clock.
    /// Check the clock first.
    RepairClock {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

impl Store {
    pub(super) fn execute(self) -> Result<(), Failure> {
        match self.action {
            Action::Copy(copy) => copy.execute(),
            Action::Check { json, config } => check(&config, json),
            Action::Backup { file, config } => back_up(&config, &file),
            Action::RepairClock { config } => repair_clock(&config),
        }
    }
}

/// Opens the store that the configuration names as it is: none is made.
fn open(config: &ConfigArgs, opening: Opening) -> Result<(GatewayStore, StorePlace), Failure> {
    let (config, _) = config.load()?;
    let place = config.store.place;
    drop(state_dir::enter(&config.server.state_dir, LOCK_WAIT)?);
    let opened = GatewayStore::open(&place, opening, Clock::observer(), Arc::default());
    let store = opened.map_err(|error| store_error(&place.shown(), error))?;
    Ok((store, place))
}

fn check(config: &ConfigArgs, json: bool) -> Result<(), Failure> {
    let (store, place) = open(config, Opening::Look)?;
    let began = Instant::now();
    let found = run(store.inspect(move |rule| {
        if began.elapsed() > Duration::from_secs(1) {
            note(format_args!("ds-gateway: checking: {rule}"));
        }
    }))?;
    let shown = place.shown().display().to_string();
    if json {
        let finding = |finding: &Finding| json!({"rule": finding.rule, "fault": finding.fault});
        let findings: Vec<_> = found.findings.iter().map(finding).collect();
        let tables: Vec<_> =
            found.tables.iter().map(|(name, rows)| json!({"name": name, "rows": rows})).collect();
        say(json!({"store": shown, "sound": found.is_sound(), "tables": tables, "checks": findings}))?;
    } else {
        for Finding { rule, fault } in &found.findings {
            match fault {
                None => say(format_args!("ok      {rule}"))?,
                Some(fault) => say(format_args!("FAULT   {rule}: {fault}"))?,
            }
        }
        for (name, rows) in &found.tables {
            say(format_args!("{rows:>11} rows in {name}"))?;
        }
    }
    if found.is_sound() {
        return if json { Ok(()) } else { say(format_args!("{shown}: OK")) };
    }
    Err(Failure::cannot_start(format!(
        "{shown}: the store is damaged: keep a copy of it, and restore a backup; rows that break a rule were not written by this program"
    )))
}

fn back_up(config: &ConfigArgs, file: &Path) -> Result<(), Failure> {
    // Before this process becomes the state folder's owner, who starts elsewhere.
    let file = std::path::absolute(file).map_err(Failure::usage)?;
    let (store, place) = open(config, Opening::Command)?;
    let target = BackupFile::check(&file, place.file())?;
    let has_replaced = target.write(&store, progress())?;
    let what = if has_replaced { ", in place of the older backup" } else { "" };
    note("ds-gateway: the signing keys are not in it: `ds-gateway backup FOLDER` copies both");
    say(format_args!("backed up the store to {}{what}", file.display()))
}

fn repair_clock(config: &ConfigArgs) -> Result<(), Failure> {
    let opened = config.open()?;
    let repaired = run(gateways(&opened).repair_clock())?;
    say(format_args!("the time of the store was {} UTC, and is {} UTC", repaired.floor, repaired.wall))?;
    say(format_args!("{} cutoffs lay in the future; every token is revoked", repaired.cutoffs))
}

const COPY_EXAMPLES: &str = "\
Examples:
  ds-gateway store copy --to postgres://gateway@db.example/gateway --password-file /etc/ds-gateway/db-password
  ds-gateway store copy --from sqlite:/var/backups/gateway.db --to postgres://gateway@db.example/gateway
  ds-gateway store copy --from postgres://gateway@db.example/gateway --to sqlite:moved.db";

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Running(_) => Self::try_again(error),
            RepairError::Store(error) => error.into(),
        }
    }
}
