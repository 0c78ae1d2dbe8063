//! What the statements of a store rely on, as statements that count where it is not so.

use super::connection::Connection;
use super::{audit, feed, keys, sequence, time, user_changes, users};
use crate::store::error::StoreError;
use crate::store::records::AuditFilter;

/// How often a rule is broken.
pub(in crate::store) fn count(connection: &Connection<'_>, broken: &str) -> Result<u64, StoreError> {
    connection.one(broken, (), |row| row.get(0))
}

/// Each with a statement that counts what breaks it.
pub(in crate::store) const RULES: [(&str, &str); 12] = [
    ("one sequence", "SELECT abs(count(*) - 1) FROM sequence"),
    ("one clock", "SELECT abs(count(*) - 1) FROM clock"),
    ("one count of the audit trail", "SELECT abs(count(*) - 1) FROM audit_counted"),
    ("a cutoff on everybody", "SELECT abs(count(*) - 1) FROM marks WHERE kind = 'everybody'"),
    (
        "no number above the sequence",
        "SELECT (SELECT count(*) FROM users WHERE number > (SELECT max(number) FROM sequence))
              + (SELECT count(*) FROM marks WHERE number > (SELECT max(number) FROM sequence))
              + (SELECT count(*) FROM revoked_tokens WHERE number > (SELECT max(number) FROM sequence))
              + (SELECT count(*) FROM keys WHERE number > (SELECT max(number) FROM sequence))
              + (SELECT count(*) FROM audit WHERE number > (SELECT max(number) FROM sequence))
              + (SELECT count(*) FROM hours WHERE number > (SELECT max(number) FROM sequence))",
    ),
    (
        "no time that the store has not lived",
        "SELECT (SELECT count(*) FROM marks WHERE lived > (SELECT max(lived) FROM clock))
              + (SELECT count(*) FROM revoked_tokens WHERE lived > (SELECT max(lived) FROM clock))
              + (SELECT count(*) FROM audit WHERE lived > (SELECT max(lived) FROM clock))
              + (SELECT count(*) FROM hours WHERE lived > (SELECT max(lived) FROM clock))",
    ),
    (
        "the count of each user's revoked tokens",
        "SELECT (SELECT count(*) FROM (
                   SELECT \"user\", count(*) AS tokens FROM revoked_tokens WHERE \"user\" IS NOT NULL GROUP BY \"user\"
                   EXCEPT SELECT \"user\", tokens FROM revocation_counts) AS missing)
              + (SELECT count(*) FROM (
                   SELECT \"user\", tokens FROM revocation_counts
                   EXCEPT SELECT \"user\", count(*) AS tokens FROM revoked_tokens WHERE \"user\" IS NOT NULL GROUP BY \"user\")
                 AS surplus)",
    ),
    (
        "the size of each share of the audit trail",
        "SELECT (SELECT count(*) FROM (
                   SELECT operator, actor, action, count(*) AS size FROM audit
                   WHERE id <= (SELECT max(through) FROM audit_counted) GROUP BY operator, actor, action
                   EXCEPT SELECT operator, actor, action, size FROM audit_shares) AS missing)
              + (SELECT count(*) FROM (
                   SELECT operator, actor, action, size FROM audit_shares
                   EXCEPT SELECT operator, actor, action, count(*) AS size FROM audit
                   WHERE id <= (SELECT max(through) FROM audit_counted) GROUP BY operator, actor, action) AS surplus)",
    ),
    (
        "the size of the audit trail",
        "SELECT count(*) FROM audit_counted WHERE clients + operators <> (SELECT count(*) FROM audit WHERE id <= through)",
    ),
    (
        "what each user's name looks like",
        "SELECT (SELECT count(*) FROM users WHERE NOT EXISTS (SELECT 1 FROM skeletons WHERE skeletons.name = users.name))
              + (SELECT count(*) FROM skeletons WHERE NOT EXISTS (SELECT 1 FROM users WHERE users.name = skeletons.name))",
    ),
    ("a token id has 16 bytes", "SELECT count(*) FROM revoked_tokens WHERE length(token_id) <> 16"),
    ("a key's fingerprint has 32 bytes", "SELECT count(*) FROM keys WHERE length(fingerprint) <> 32"),
];

type Read = fn(&Connection<'_>) -> Result<(), StoreError>;

/// Reads every row as a gateway or a command does.
pub(in crate::store) const READERS: [(&str, Read); 4] = [
    ("every user and its password hash can be read", |connection| users::read_all(connection)),
    ("everything that a gateway loads can be read", |connection| feed::snapshot(connection, |_| Ok(()))),
    ("every row of the audit trail can be read", read_audit),
    ("keys, time and changes of users can be read", |connection| {
        keys::all(connection)?;
        sequence::current_and_requested(connection)?;
        time::read(connection)?;
        user_changes::open(connection).map(drop)
    }),
];

fn read_audit(connection: &Connection<'_>) -> Result<(), StoreError> {
    let mut last = 0;
    loop {
        let rows = audit::page(connection, &AuditFilter::default(), last, PAGE)?;
        let Some(row) = rows.last() else { return Ok(()) };
        last = row.id;
    }
}

/// Rows that are read at once.
const PAGE: usize = 5000;
