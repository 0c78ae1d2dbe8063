//! The copy itself: table by table, in the order of each one's key, so that the last row in the target says where to go on.

use sha2::{Digest as _, Sha256};

use super::digest::{self, TableDigest};
use super::outcome::{Began, Copied, CopiedTable, CopyError, CopyOptions, OnProgress, Progress};
use super::target::{Note, Target};
use crate::config::StorePlace;
use crate::store::engine::Kind;
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::tables::{self, NUMBERED, Table};

/// A copy that is equal to its source, and not yet a store.
pub(super) struct Transferred {
    target: Target,
    copied: Copied,
    /// What state the source was in.
    state: [u8; 32],
}

/// Copies all that `source` reads, and compares it.
pub(super) fn transfer(
    source: &Connection<'_>,
    engine: Kind,
    place: &StorePlace,
    is_store: bool,
    options: &CopyOptions,
    on_progress: &mut OnProgress,
) -> Result<Transferred, CopyError> {
    let state = state_of(source, engine).map_err(CopyError::Source)?;
    let (target, found) = Target::open(place, is_store)?;
    let note = Note { source: options.source.clone(), state, is_sound: true };
    let began = match found {
        None => Began::New,
        Some(found) if found.source != note.source => return Err(CopyError::OtherSource(found.source)),
        Some(found) if found.is_sound && found.state == state => Began::Continued,
        Some(_) => Began::Again,
    };
    target.check_place(source).map_err(CopyError::Target)?;
    match began {
        Began::New => target.begin(&note),
        Began::Continued => Ok(()),
        Began::Again => target.begin_again(&note),
    }
    .map_err(CopyError::Target)?;
    for table in tables::all() {
        copy_table(source, &target, table, options.rows, on_progress)?;
    }
    let tables = compare(source, &target, options.rows, on_progress)?;
    Ok(Transferred { target, copied: Copied { tables, began, is_outdated: false }, state })
}

/// Makes a store of a copy, unless the source is another one by now.
pub(super) fn finish(
    source: &Connection<'_>,
    engine: Kind,
    transferred: Transferred,
    may_change: bool,
) -> Result<Copied, CopyError> {
    let Transferred { target, mut copied, state } = transferred;
    copied.is_outdated = state_of(source, engine).map_err(CopyError::Source)? != state;
    if copied.is_outdated && !may_change {
        return Err(CopyError::Changed);
    }
    let issued = issued_ids(source, engine).map_err(CopyError::Source)?;
    target.finish(&issued).map_err(CopyError::Target)?;
    Ok(copied)
}

fn copy_table(
    source: &Connection<'_>,
    target: &Target,
    table: &'static Table,
    limit: usize,
    on_progress: &mut OnProgress,
) -> Result<(), CopyError> {
    let rows = table.count(source).map_err(CopyError::Source)?;
    let connection = target.connection();
    let (mut last, mut done) = table
        .last(&connection)
        .and_then(|last| Ok((last, table.count(&connection)?)))
        .map_err(CopyError::Target)?;
    let (together, overriding) = target.inserting();
    loop {
        let records = table.page(source, last.as_ref(), limit).map_err(CopyError::Source)?;
        if records.is_empty() {
            return Ok(());
        }
        target
            .write(|| table.insert(&connection, &records, together, overriding))
            .map_err(CopyError::Target)?;
        done += records.len() as u64;
        last = records.into_iter().next_back();
        on_progress(Progress { is_comparing: false, table: table.name, done, rows })
            .map_err(CopyError::Source)?;
    }
}

/// Reads both sides again.
fn compare(
    source: &Connection<'_>,
    target: &Target,
    limit: usize,
    on_progress: &mut OnProgress,
) -> Result<Vec<CopiedTable>, CopyError> {
    let (mut equal, mut different) = (Vec::new(), Vec::new());
    for table in tables::all() {
        let expected = digest::of_table(source, table, limit, |_| Ok(())).map_err(CopyError::Source)?;
        let rows = expected.rows;
        let found = digest::of_table(&target.connection(), table, limit, |done| {
            on_progress(Progress { is_comparing: true, table: table.name, done, rows })
        });
        let found = found.map_err(CopyError::Target)?;
        if found == expected {
            equal.push(copied(table, &found));
        } else {
            different.push(table.name);
        }
    }
    if different.is_empty() {
        return Ok(equal);
    }
    target.distrust().map_err(CopyError::Target)?;
    Err(CopyError::Differs(different))
}

fn copied(table: &Table, digest: &TableDigest) -> CopiedTable {
    let digits: Vec<String> = digest.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    CopiedTable { name: table.name, rows: digest.rows, digest: digits.concat() }
}

/// What is another after every change: each takes a sequence, moves the time on or writes to the audit trail.
fn state_of(source: &Connection<'_>, engine: Kind) -> Result<[u8; 32], StoreError> {
    let mut hash = Sha256::new();
    for table in tables::all().filter(|table| matches!(table.name, "sequence" | "clock" | "audit_counted")) {
        table.page(source, None, 1)?.iter().for_each(|row| row.feed(|bytes| hash.update(bytes)));
    }
    for (_, id) in issued_ids(source, engine)? {
        hash.update(id.to_be_bytes());
    }
    for table in NUMBERED {
        hash.update(tables::highest_id(source, table)?.to_be_bytes());
    }
    Ok(hash.finalize().into())
}

/// The highest ids that were ever given out.
fn issued_ids(source: &Connection<'_>, engine: Kind) -> Result<Vec<(&'static str, i64)>, StoreError> {
    let issued = |table: &'static str| {
        let highest = tables::highest_id(source, table)?;
        Ok((table, engine.issued_id(source, table)?.max(highest)))
    };
    NUMBERED.into_iter().map(issued).collect()
}
