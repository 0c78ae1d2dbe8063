//! What an operator should know of the database, which is no reason not to start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::database::{self, opened};
use crate::config::PostgresSettings;
use crate::store::error::StoreError;

/// Looks at the server's settings, and whether a notification arrives.
pub(super) fn find(settings: &PostgresSettings) -> Result<Vec<String>, StoreError> {
    let heard = Arc::<AtomicBool>::default();
    let told = Arc::clone(&heard);
    let listener = opened(settings, "check", move || told.store(true, Ordering::Relaxed))?;
    database::listen(&listener)?;
    let sender = opened(settings, "check", || {})?;
    // A pooler that has given the listener's connection away gives it to this transaction, and the listener another one.
    sender.batch("BEGIN")?;
    let listens: bool =
        listener
            .connection()
            .one("SELECT EXISTS (SELECT 1 FROM pg_listening_channels())", (), |row| row.get(0))?;
    sender.batch("COMMIT")?;
    database::notify(&sender)?;
    // Of the server or the role, whatever this session has set.
    let asked = "SELECT name, reset_val FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')";
    let found: Vec<(String, String)> =
        sender.connection().all(asked, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let is = |name: &str, value: &str| found.iter().any(|(found, set)| found == name && set == value);
    let began = Instant::now();
    while listens && !heard.load(Ordering::Relaxed) && began.elapsed() < PATIENCE {
        listener.idle(async { sleep(Duration::from_millis(10)).await });
    }
    let warnings = [
        (
            is("fsync", "off") || is("full_page_writes", "off"),
            "the server has fsync or full_page_writes off: a crash of its machine loses what was acknowledged, or the database",
        ),
        (
            is("synchronous_commit", "off"),
            "the server has synchronous_commit off: the gateway sets it to on in its own transactions, and nobody else's changes are safe",
        ),
        (
            !listens || !heard.load(Ordering::Relaxed),
            "no notification arrives within a second, as behind a pooler: changes of other gateways are heard of every store.poll_interval; let store.url name the server itself",
        ),
    ];
    let shown = warnings.into_iter().filter(|(is_so, _)| *is_so);
    Ok(shown.map(|(_, text)| format!("store.url: {text}")).collect())
}

/// Longer than a notification takes.
const PATIENCE: Duration = Duration::from_secs(1);
