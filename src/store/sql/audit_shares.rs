//! How many rows of the audit trail each share has: the rows of one actor and of one action. Counted by whatever prunes, behind
//! the commands that write them; the schema's trigger takes off what is deleted.

use super::connection::Connection;
use std::collections::HashMap;

use crate::store::command::Role;
use crate::store::decision::CountedRows;
use crate::store::error::StoreError;

/// One of the largest shares.
pub(in crate::store) struct Share {
    actor: String,
    action: String,
    /// Its rows.
    pub(in crate::store) size: u64,
}

/// Counts the next rows that are not counted yet, at most so many; says how many it were.
pub(in crate::store) fn count(connection: &Connection<'_>, rows: usize) -> Result<usize, StoreError> {
    let through: i64 = connection.one("SELECT through FROM audit_counted", (), |row| row.get(0))?;
    let mut last = through;
    let mut shares: HashMap<(bool, String, String), usize> = HashMap::new();
    connection.each(
        "SELECT id, operator, actor, action FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2",
        (through, rows),
        |row| {
            last = row.get(0)?;
            *shares.entry((row.get(1)?, row.get(2)?, row.get(3)?)).or_default() += 1;
            Ok(())
        },
    )?;
    let [mut clients, mut operators] = [0; 2];
    for ((operator, actor, action), size) in &shares {
        connection.write(
            "INSERT INTO audit_shares (operator, actor, action, size) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (operator, actor, action) DO UPDATE SET size = audit_shares.size + excluded.size",
            (operator, actor, action, size),
        )?;
        *if *operator { &mut operators } else { &mut clients } += size;
    }
    if clients + operators > 0 {
        connection.write(
            "UPDATE audit_counted SET through = ?1, clients = clients + ?2, operators = operators + ?3",
            (last, clients, operators),
        )?;
    }
    Ok(clients + operators)
}

/// How many rows are counted.
pub(in crate::store) fn counted(connection: &Connection<'_>) -> Result<CountedRows, StoreError> {
    connection.one("SELECT clients, operators FROM audit_counted", (), |row| {
        Ok(CountedRows { clients: row.get(0)?, operators: row.get(1)? })
    })
}

/// The largest share in that role, and how many rows the next one has.
pub(in crate::store) fn largest(
    connection: &Connection<'_>,
    role: Role,
) -> Result<Option<(Share, u64)>, StoreError> {
    let shares = connection.all(
        "SELECT actor, action, size FROM audit_shares WHERE operator = ?1 ORDER BY size DESC LIMIT 2",
        [role == Role::Operator],
        |row| Ok(Share { actor: row.get(0)?, action: row.get(1)?, size: row.get(2)? }),
    )?;
    let mut shares = shares.into_iter();
    Ok(shares.next().map(|largest| (largest, shares.next().map_or(0, |next| next.size))))
}

/// Deletes so many of the oldest rows of a share; says how many it were.
pub(in crate::store) fn cut(
    connection: &Connection<'_>,
    role: Role,
    share: &Share,
    rows: u64,
) -> Result<usize, StoreError> {
    connection.change(
        "DELETE FROM audit WHERE id IN (
           SELECT id FROM audit WHERE operator = ?1 AND actor = ?2 AND action = ?3 ORDER BY id LIMIT ?4)",
        (role == Role::Operator, &share.actor, &share.action, rows),
    )
}
