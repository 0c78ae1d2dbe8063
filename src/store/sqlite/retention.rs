//! What is deleted, a slice at a time, so that no mint waits for long.

use super::transaction::{Apply, Transaction};
use crate::store::command::{Prune, Purge};
use crate::store::decision::{self, SLICE};
use crate::store::error::StoreError;

impl Apply for Purge {
    fn apply(self, transaction: &Transaction<'_>) -> Result<usize, StoreError> {
        let limits = decision::purge(self, transaction.now);
        let tokens = transaction
            .prepare_cached(
                "DELETE FROM revoked_tokens WHERE token_id IN (
                   SELECT token_id FROM revoked_tokens WHERE keep < iif(dated, ?1, ?2) ORDER BY keep LIMIT ?3)",
            )?
            .execute((limits.expired_before.0, limits.kept_before.0, SLICE))?;
        let cutoffs = transaction
            .prepare_cached(
                "DELETE FROM marks WHERE (kind, name) IN (
                   SELECT kind, name FROM marks WHERE kind != 'everybody' AND second < ?1
                     AND NOT (closed AND EXISTS (SELECT 1 FROM users WHERE users.name = marks.name AND disabled))
                   LIMIT ?2)",
            )?
            .execute((limits.cutoff_before.0, SLICE))?;
        Ok(tokens + cutoffs)
    }
}

impl Apply for Prune {
    fn apply(self, transaction: &Transaction<'_>) -> Result<usize, StoreError> {
        let deleted = transaction
            .prepare_cached(
                "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ?1 ORDER BY id LIMIT ?2)",
            )?
            .execute((transaction.now.minus(self.age).0, SLICE))?;
        if deleted > 0 {
            return Ok(deleted);
        }
        // Ids are given out in order and taken from the front, so their span is the number of rows.
        let rows: u64 = transaction
            .prepare_cached("SELECT coalesce(max(id) - min(id) + 1, 0) FROM audit")?
            .query_row([], |row| row.get(0))?;
        let excess = decision::excess_rows(self, rows).min(SLICE);
        let mut oldest = transaction
            .prepare_cached("DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?1)")?;
        Ok(oldest.execute([excess])?)
    }
}
