//! What is deleted, a slice at a time, so that no mint waits for long. Lived time decides, never a clock on the wall.
//!
//! A slice is a transaction that takes little time, whatever the disk and the rows are like, and the writer begins one only
//! when nobody else waits.

use std::time::Duration;

use super::slice::{self, Slice};
use super::transaction::{Apply, Transaction};
use super::{audit_shares, known_sources, logins, time};
use crate::auth::time::Lived;
use crate::store::command::{Prune, Purge};
use crate::store::decision::{self, SOURCE_RETENTION};
use crate::store::error::StoreError;

impl Apply for Purge {
    const IS_UPKEEP: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<usize, StoreError> {
        let Lived(before) = time::expire(transaction, self.retention)?;
        let last_seen = transaction.lived.0.checked_sub(SOURCE_RETENTION);
        slice::in_steps(SHORT, |rows| {
            let tokens = purge_tokens(transaction, before, rows)?;
            let cutoffs = purge_cutoffs(transaction, before, rows.saturating_sub(tokens))?;
            let gateways = purge_gateways(transaction, before, rows.saturating_sub(tokens + cutoffs))?;
            let done = tokens + cutoffs + gateways;
            let sources = last_seen.map_or(Ok(0), |last_seen| {
                known_sources::purge(transaction, last_seen, rows.saturating_sub(done))
            })?;
            Ok(done + sources)
        })
    }
}

impl Apply for Prune {
    const IS_UPKEEP: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<usize, StoreError> {
        let before = transaction.lived.0.checked_sub(self.age);
        slice::in_steps(SHORT, |rows| {
            let old = before.map_or(Ok(0), |before| prune_old(transaction, before, rows))?;
            let counted = audit_shares::count(transaction, rows - old)?;
            match old + counted {
                // Only where every row is counted: whose are the most?
                0 => prune_excess(transaction, self, rows),
                rows => Ok(rows),
            }
        })
    }
}

/// From the front, up to the first that stays.
fn prune_old(transaction: &Transaction<'_>, before: u64, rows: usize) -> Result<usize, StoreError> {
    let front: Vec<(i64, u64)> =
        transaction.all("SELECT id, lived FROM audit ORDER BY id LIMIT ?1", [rows], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let mut last = None;
    for (id, lived) in front {
        if lived > before {
            break;
        }
        last = Some(id);
    }
    last.map_or(Ok(0), |last| transaction.change("DELETE FROM audit WHERE id <= ?1", [last]))
}

/// The oldest rows of the largest shares, so that all of them fit again.
fn prune_excess(transaction: &Transaction<'_>, command: Prune, rows: usize) -> Result<usize, StoreError> {
    let mut deleted = 0;
    while deleted < rows {
        let counted = audit_shares::counted(transaction)?;
        let Some((role, excess)) = decision::excess_rows(command, counted) else { break };
        let Some((share, next)) = audit_shares::largest(transaction, role)? else { break };
        let cut = decision::cut_of_share(share.size, next, excess).min((rows - deleted) as u64);
        match audit_shares::cut(transaction, role, &share, cut)? {
            0 => break,
            cut => deleted += cut,
        }
    }
    Ok(deleted)
}

fn purge_tokens(transaction: &Transaction<'_>, before: u64, rows: usize) -> Result<usize, StoreError> {
    transaction.change(
        "DELETE FROM revoked_tokens WHERE token_id IN (
           SELECT token_id FROM revoked_tokens WHERE lived < ?1 ORDER BY lived LIMIT ?2)",
        (before, rows),
    )
}

fn purge_cutoffs(transaction: &Transaction<'_>, before: u64, rows: usize) -> Result<usize, StoreError> {
    // What has to stay is as if it were of today, so that it is looked at once in a long time and not at each purge.
    let stays = transaction.change(
        "UPDATE marks SET lived = ?3 WHERE (kind, name) IN (
               SELECT kind, name FROM (
                 SELECT kind, name, closed FROM marks WHERE lived < ?1 ORDER BY lived LIMIT ?2) AS old
               WHERE kind = 'everybody'
                 OR (kind = 'user' AND closed
                     AND EXISTS (SELECT 1 FROM users WHERE users.name = old.name AND disabled)))",
        (before, rows, transaction.lived.0),
    )?;
    logins::forget_ended(transaction, before, rows.saturating_sub(stays))?;
    Ok(stays
        + transaction.change(
            "DELETE FROM marks WHERE (kind, name) IN (
           SELECT kind, name FROM marks WHERE lived < ?1 ORDER BY lived LIMIT ?2)",
            (before, rows.saturating_sub(stays)),
        )?)
}

/// Gateways that never said that they stopped: no token that they could admit has not expired.
fn purge_gateways(transaction: &Transaction<'_>, before: u64, rows: usize) -> Result<usize, StoreError> {
    transaction.change(
        "DELETE FROM gateways WHERE id IN (SELECT id FROM gateways WHERE lived < ?1 ORDER BY lived LIMIT ?2)",
        (before, rows),
    )
}

/// With its commit it takes about twice as long.
const SHORT: Slice = Slice { rows: decision::SLICE as usize, time: Duration::from_millis(10) };
