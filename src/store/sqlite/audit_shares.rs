//! How many rows of the audit trail each share has: the rows of one actor and of one action. Counted by whatever prunes, behind
//! the commands that write them; the schema's trigger takes off what is deleted.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::store::command::Role;
use crate::store::decision::CountedRows;
use crate::store::error::StoreError;

/// One of the largest shares.
pub(super) struct Share {
    actor: String,
    action: String,
    /// Its rows.
    pub(super) size: u64,
}

/// Counts the next rows that are not counted yet, at most so many; says how many it were.
pub(super) fn count(connection: &Connection, rows: usize) -> Result<usize, StoreError> {
    let mut through: i64 =
        connection.prepare_cached("SELECT through FROM audit_counted")?.query_row([], |row| row.get(0))?;
    let mut uncounted = connection
        .prepare_cached("SELECT id, operator, actor, action FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let mut uncounted = uncounted.query((through, rows))?;
    let mut shares: HashMap<(bool, String, String), usize> = HashMap::new();
    while let Some(row) = uncounted.next()? {
        through = row.get(0)?;
        *shares.entry((row.get(1)?, row.get(2)?, row.get(3)?)).or_default() += 1;
    }
    let mut add = connection.prepare_cached(
        "INSERT INTO audit_shares (operator, actor, action, size) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (operator, actor, action) DO UPDATE SET size = size + excluded.size",
    )?;
    let [mut clients, mut operators] = [0; 2];
    for ((operator, actor, action), size) in &shares {
        add.execute((operator, actor, action, size))?;
        *if *operator { &mut operators } else { &mut clients } += size;
    }
    if clients + operators > 0 {
        connection
            .prepare_cached(
                "UPDATE audit_counted SET through = ?1, clients = clients + ?2, operators = operators + ?3",
            )?
            .execute((through, clients, operators))?;
    }
    Ok(clients + operators)
}

/// How many rows are counted.
pub(super) fn counted(connection: &Connection) -> Result<CountedRows, StoreError> {
    let mut statement = connection.prepare_cached("SELECT clients, operators FROM audit_counted")?;
    Ok(statement.query_row([], |row| Ok(CountedRows { clients: row.get(0)?, operators: row.get(1)? }))?)
}

/// The largest share in that role, and how many rows the next one has.
pub(super) fn largest(connection: &Connection, role: Role) -> Result<Option<(Share, u64)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT actor, action, size FROM audit_shares WHERE operator = ?1 ORDER BY size DESC LIMIT 2",
    )?;
    let shares = statement.query_map([role == Role::Operator], |row| {
        Ok(Share { actor: row.get(0)?, action: row.get(1)?, size: row.get(2)? })
    })?;
    let mut shares = shares.collect::<Result<Vec<_>, _>>()?.into_iter();
    Ok(shares.next().map(|largest| (largest, shares.next().map_or(0, |next| next.size))))
}

/// Deletes so many of the oldest rows of a share; says how many it were.
pub(super) fn cut(
    connection: &Connection,
    role: Role,
    share: &Share,
    rows: u64,
) -> Result<usize, StoreError> {
    let mut oldest = connection.prepare_cached(
        "DELETE FROM audit WHERE id IN (
           SELECT id FROM audit WHERE operator = ?1 AND actor = ?2 AND action = ?3 ORDER BY id LIMIT ?4)",
    )?;
    Ok(oldest.execute((role == Role::Operator, &share.actor, &share.action, rows))?)
}
