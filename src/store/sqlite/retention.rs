//! What is deleted, a slice at a time, so that no mint waits for long. Lived time decides, never a clock on the wall.
//!
//! A slice is a transaction that takes little time, whatever the disk and the rows are like, and the writer begins one only
//! when nobody else waits.

use std::time::{Duration, Instant};

use super::time;
use super::transaction::{Apply, Transaction};
use crate::auth::time::Lived;
use crate::store::command::{Prune, Purge};
use crate::store::decision::{self, SLICE};
use crate::store::error::StoreError;

impl Apply for Purge {
    const IS_UPKEEP: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<usize, StoreError> {
        let Lived(before) = time::expire(transaction, self.retention)?;
        in_steps(|rows| {
            let tokens = purge_tokens(transaction, before, rows)?;
            let cutoffs = purge_cutoffs(transaction, before, rows.saturating_sub(tokens))?;
            let gateways = purge_gateways(transaction, before, rows.saturating_sub(tokens + cutoffs))?;
            Ok(tokens + cutoffs + gateways)
        })
    }
}

impl Apply for Prune {
    const IS_UPKEEP: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<usize, StoreError> {
        let before = transaction.lived.0.checked_sub(self.age);
        in_steps(|rows| {
            let excess = decision::excess_rows(self, audit_rows(transaction)?).min(rows as u64);
            let mut oldest = transaction.prepare_cached(
                "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?1)",
            )?;
            let deleted = oldest.execute([excess])?;
            let Some(before) = before else { return Ok(deleted) };
            // Up to the first that stays, and none behind it: ids stay without gaps.
            let mut old = transaction.prepare_cached(
                "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?2)
                   AND id < coalesce((SELECT min(id) FROM (SELECT id, lived FROM audit ORDER BY id LIMIT ?2)
                                      WHERE lived > ?1), ?3)",
            )?;
            Ok(deleted + old.execute((before, rows.saturating_sub(deleted), i64::MAX))?)
        })
    }
}

/// Deletes a slice in steps of so many rows: until a step finds none, the slice is full or its time is over. Says how many
/// rows that were.
fn in_steps(mut step: impl FnMut(usize) -> Result<usize, StoreError>) -> Result<usize, StoreError> {
    let (began, mut deleted) = (Instant::now(), 0);
    while deleted < SLICE as usize {
        let rows = step(STEP.min(SLICE as usize - deleted))?;
        deleted += rows;
        if rows == 0 || began.elapsed() >= LONGEST {
            break;
        }
    }
    Ok(deleted)
}

fn purge_tokens(transaction: &Transaction<'_>, before: u64, rows: usize) -> Result<usize, StoreError> {
    let mut old = transaction.prepare_cached(
        "DELETE FROM revoked_tokens WHERE token_id IN (
           SELECT token_id FROM revoked_tokens WHERE lived < ?1 ORDER BY lived LIMIT ?2)",
    )?;
    Ok(old.execute((before, rows))?)
}

fn purge_cutoffs(transaction: &Transaction<'_>, before: u64, rows: usize) -> Result<usize, StoreError> {
    // What has to stay is as if it were of today, so that it is looked at once in a long time and not at each purge.
    let stays = transaction
        .prepare_cached(
            "UPDATE marks SET lived = ?3 WHERE (kind, name) IN (
               SELECT kind, name FROM (
                 SELECT kind, name, closed FROM marks WHERE lived < ?1 ORDER BY lived LIMIT ?2) AS old
               WHERE kind = 'everybody'
                 OR (kind = 'user' AND closed
                     AND EXISTS (SELECT 1 FROM users WHERE users.name = old.name AND disabled)))",
        )?
        .execute((before, rows, transaction.lived.0))?;
    let mut old = transaction.prepare_cached(
        "DELETE FROM marks WHERE (kind, name) IN (
           SELECT kind, name FROM marks WHERE lived < ?1 ORDER BY lived LIMIT ?2)",
    )?;
    Ok(stays + old.execute((before, rows.saturating_sub(stays)))?)
}

/// Gateways that never said that they stopped: no token that they could admit has not expired.
fn purge_gateways(transaction: &Transaction<'_>, before: u64, rows: usize) -> Result<usize, StoreError> {
    let mut old = transaction.prepare_cached(
        "DELETE FROM gateways WHERE id IN (SELECT id FROM gateways WHERE lived < ?1 ORDER BY lived LIMIT ?2)",
    )?;
    Ok(old.execute((before, rows))?)
}

/// How many rows the trail has: ids are given out one after the other and taken from the front, so their span says it.
fn audit_rows(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    let mut span = transaction.prepare_cached(
        "SELECT coalesce((SELECT max(id) FROM audit) - (SELECT min(id) FROM audit) + 1, 0)",
    )?;
    Ok(span.query_row([], |row| row.get(0))?)
}

/// Rows between two looks at the time.
const STEP: usize = 50;

/// No step is begun in a slice that has taken so long.
const LONGEST: Duration = Duration::from_millis(10);
