//! What is deleted, a slice at a time, so that no mint waits for long. Lived time decides, never a clock on the wall.

use super::time;
use super::transaction::{Apply, Transaction};
use crate::auth::time::Lived;
use crate::store::command::{Prune, Purge};
use crate::store::decision::{self, SLICE};
use crate::store::error::StoreError;

impl Apply for Purge {
    fn apply(self, transaction: &Transaction<'_>) -> Result<usize, StoreError> {
        let Some(before) = transaction.lived.0.checked_sub(self.retention) else { return Ok(0) };
        time::expire(transaction, Lived(before))?;
        let tokens = transaction
            .prepare_cached(
                "DELETE FROM revoked_tokens WHERE token_id IN (
                   SELECT token_id FROM revoked_tokens WHERE lived <= ?1 ORDER BY lived LIMIT ?2)",
            )?
            .execute((before, SLICE))?;
        // What has to stay is as if it were of today, so that it is looked at once in a long time and not at each purge.
        let stays = transaction
            .prepare_cached(
                "UPDATE marks SET lived = ?3 WHERE (kind, name) IN (
                   SELECT kind, name FROM (
                     SELECT kind, name, closed FROM marks WHERE lived <= ?1 ORDER BY lived LIMIT ?2) AS old
                   WHERE kind = 'everybody'
                     OR (kind = 'user' AND closed
                         AND EXISTS (SELECT 1 FROM users WHERE users.name = old.name AND disabled)))",
            )?
            .execute((before, SLICE, transaction.lived.0))?;
        let cutoffs = transaction
            .prepare_cached(
                "DELETE FROM marks WHERE (kind, name) IN (
                   SELECT kind, name FROM marks WHERE lived <= ?1 ORDER BY lived LIMIT ?2)",
            )?
            .execute((before, SLICE.saturating_sub(stays as u64)))?;
        Ok(tokens + stays + cutoffs)
    }
}

impl Apply for Prune {
    fn apply(self, transaction: &Transaction<'_>) -> Result<usize, StoreError> {
        // Ids are given out in order and taken from the front, so their span is the number of rows, and the first are the oldest.
        let rows: u64 = transaction
            .prepare_cached(
                "SELECT coalesce((SELECT max(id) FROM audit) - (SELECT min(id) FROM audit) + 1, 0)",
            )?
            .query_row([], |row| row.get(0))?;
        let excess = decision::excess_rows(self, rows).min(SLICE);
        let mut oldest = transaction
            .prepare_cached("DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?1)")?;
        let deleted = oldest.execute([excess])?;
        let Some(before) = transaction.lived.0.checked_sub(self.age) else { return Ok(deleted) };
        let mut old = transaction.prepare_cached(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?2) AND lived <= ?1",
        )?;
        Ok(deleted + old.execute((before, SLICE - excess))?)
    }
}
