//! What a login needs to know before a password is hashed, and unlocks.

use rusqlite::{Connection, OptionalExtension};

use super::transaction::{Apply, Transaction};
use super::{audit, known_sources, users};
use crate::auth::source::Source;
use crate::store::command::{UnlockOutcome, UnlockUser};
use crate::store::error::StoreError;
use crate::store::records::LoginRecord;

impl Apply for UnlockUser {
    fn apply(self, transaction: &Transaction<'_>) -> Result<UnlockOutcome, StoreError> {
        // By the look-up of a login, so that both mean the same user.
        if users::find(transaction, &self.name)?.is_none() {
            return Ok(UnlockOutcome::Unknown);
        }
        let stamp = transaction.stamp()?;
        // Nothing for the feed: each login reads the count, and what was counted under another one counts no more.
        transaction
            .prepare_cached(
                "INSERT INTO unlocks (user, count) VALUES (?1, 1)
                 ON CONFLICT (user) DO UPDATE SET count = count + 1",
            )?
            .execute([&self.name])?;
        audit::write(transaction, stamp, "user_unlock", &self.name, None)?;
        Ok(UnlockOutcome::Unlocked)
    }
}

/// What is known of that name and of a login from there. The statements are the same whether or not there is such a user, so that
/// the time they take does not tell.
pub(super) fn record(
    connection: &Connection,
    name: &str,
    source: Option<Source>,
) -> Result<LoginRecord, StoreError> {
    // One moment for all of it.
    let snapshot = connection.unchecked_transaction()?;
    Ok(LoginRecord {
        user: users::find(&snapshot, name)?,
        is_known_source: known_sources::is_known(&snapshot, name, source)?,
        unlocks: unlocks(&snapshot, name)?,
    })
}

/// How often the user of that name was unlocked.
fn unlocks(connection: &Connection, name: &str) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT count FROM unlocks WHERE user = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?.unwrap_or(0))
}
