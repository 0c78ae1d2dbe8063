//! `ds-gateway audit`: who did what, when and from where.

use std::io;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::ConfigArgs;
use super::output::{Failure, print};
use crate::auth::time::UnixTime;
use crate::clock::wall;
use crate::store::block_on;
use crate::store::records::{AuditFilter, AuditRow, FieldChange};

/// `ds-gateway audit …`
#[derive(Args, Debug)]
pub(super) struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List mints, changes of users and keys, and failed logins, oldest first
    List {
        /// Only what this user did or was said to have done (by sudo), or what was done to it
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Only events from this period, e.g. 90s, 24h or 7d
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        since: Option<std::time::Duration>,
        /// Only failed logins: summed by account and network, a row for each in an upkeep interval
        ///
        /// `store.upkeep_interval` (60 s) is also how long the newest may take to appear. A name that no user bears is `unknown`.
        #[arg(long)]
        failed: bool,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

impl Audit {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let Action::List { user, since, failed, json, config } = self.action;
        let store = config.open_store()?;
        let since = since.map_or(UnixTime(0), |span| wall().minus(span.as_secs()));
        let filter = AuditFilter { user: user.map(Into::into), since, failed_logins: failed };
        let mut last = 0;
        loop {
            let page = block_on(store.audit(filter.clone(), last, PAGE))?;
            let Some(row) = page.last() else { return Ok(()) };
            last = row.id;
            let mut text = Vec::new();
            for row in &page {
                if json { write_json(&mut text, row) } else { write_text(&mut text, row) }
                    .map_err(Failure::cannot_start)?;
            }
            print(&String::from_utf8_lossy(&text))?;
        }
    }
}

#[derive(Serialize)]
struct Line<'r> {
    number: u64,
    time: String,
    actor: &'r str,
    claimed_actor: Option<&'r str>,
    action: &'r str,
    subject: &'r str,
    token_id: Option<&'r str>,
    origin: &'r str,
    count: u32,
    changes: &'r [FieldChange],
}

fn write_json(out: &mut impl io::Write, row: &AuditRow) -> io::Result<()> {
    let line = Line {
        number: row.sequence,
        time: row.at.to_string(),
        actor: &row.actor,
        claimed_actor: row.claimed.as_deref(),
        action: &row.action,
        subject: &row.subject,
        token_id: row.token_id.as_deref(),
        origin: &row.origin,
        count: row.count,
        changes: &row.changes,
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)
}

fn write_text(out: &mut impl io::Write, row: &AuditRow) -> io::Result<()> {
    let AuditRow { at, actor, action, subject, origin, .. } = row;
    write!(out, "{at}  {action:12}  {subject}")?;
    if let Some(id) = &row.token_id {
        write!(out, "  token {id}")?;
    }
    if row.count > 1 {
        write!(out, "  {} times", row.count)?;
    }
    for FieldChange { field, from, to } in &row.changes {
        match from.as_str() {
            "" => write!(out, "  {field} {to:?}")?,
            _ => write!(out, "  {field} {from:?} to {to:?}")?,
        }
    }
    if actor != subject || row.claimed.is_some() {
        write!(out, "  by {actor}")?;
    }
    if let Some(claimed) = &row.claimed {
        write!(out, " (sudo: {claimed})")?;
    }
    writeln!(out, "  from {origin}")
}

/// Rows that are read at once: nothing is locked while they are printed.
const PAGE: usize = 1000;
