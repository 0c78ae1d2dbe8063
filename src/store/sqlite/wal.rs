//! The write-ahead log beside the file (`-wal`) and its index (`-shm`): synced before anything in them is relied on, and
//! watched while they are open.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::store::beside::beside;
use crate::store::error::StoreError;

/// What a connection's log and index were when it last committed. SQLite would not notice that another file is in their
/// place: it would go on in one that has no name, and what it wrote would be gone with the process.
#[derive(Debug)]
pub(super) struct Wal {
    file: File,
    log: PathBuf,
    index: PathBuf,
    log_identity: (u64, u64),
    index_identity: (u64, u64),
    length: u64,
}

/// How a log is not the one that was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Its name is gone, or another file's: this process still has what was in it.
    LogRemoved,
    /// It is shorter than what was committed.
    LogCut,
    /// Its index is gone, or another file.
    IndexRemoved,
}

impl Wal {
    /// Makes everything durable that a reader of the store sees, and says what to compare with from now on. `connection`
    /// holds the lock for writing, so that nobody else changes the log.
    ///
    /// A sync that failed leaves pages that are clean and not on the disk. The page cache outlives the process, so
    /// the next one finds their transactions in the log, complete and with correct checksums, and a sync has nothing to write.
    /// So every byte of the log is written again, in its place, and then synced.
    pub(super) fn sync(store: &Path) -> Result<Self, StoreError> {
        let (log, index) = (beside(store, "-wal"), beside(store, "-shm"));
        let file = OpenOptions::new().read(true).write(true).open(&log)?;
        let length = file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length.min(PIECE)).unwrap_or_default()];
        let mut at = 0;
        while at < length {
            let read = file.read_at(&mut bytes, at)?;
            let Some(piece) = bytes.get(..read).filter(|piece| !piece.is_empty()) else { break };
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        file.sync_all()?;
        // SQLite syncs the folder for a log that it creates, and does not look whether that succeeded.
        if let Some(folder) = store.parent() {
            File::open(folder)?.sync_all()?;
        }
        let (log_identity, index_identity) =
            (identity(&file.metadata()?), identity(&std::fs::metadata(&index)?));
        Ok(Self { file, log, index, log_identity, index_identity, length })
    }

    /// Waits until what was committed without a sync is on the disk. Needs no lock.
    pub(super) fn sync_data(&self) -> Result<(), StoreError> {
        Ok(self.file.sync_data()?)
    }

    /// Are log and index the ones that were open, and is all there that was committed?
    pub(super) fn change(&self, connection: &Connection) -> Result<Option<Change>, StoreError> {
        let Some(log) = found(&self.log)? else { return Ok(Some(Change::LogRemoved)) };
        if identity(&log) != self.log_identity {
            return Ok(Some(Change::LogRemoved));
        }
        match found(&self.index)? {
            Some(index) if identity(&index) == self.index_identity => {}
            _ => return Ok(Some(Change::IndexRemoved)),
        }
        // It may be cut to nothing by a process that checkpoints it; then its index says that it holds nothing.
        if log.len() < self.length && log.len() < committed_length(connection)? {
            return Ok(Some(Change::LogCut));
        }
        Ok(None)
    }

    /// Takes in the length after a commit.
    pub(super) fn committed(&mut self) -> Result<(), StoreError> {
        self.length = std::fs::metadata(&self.log)?.len();
        Ok(())
    }
}

/// Where the last committed frame of the log ends.
fn committed_length(connection: &Connection) -> Result<u64, StoreError> {
    let frames: i64 = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
    let page: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    Ok(u64::try_from(frames)
        .ok()
        .filter(|frames| *frames > 0)
        .map_or(0, |frames| HEADER + frames * (FRAME + page)))
}

/// Moves what the log holds into the database, also where the log was removed. `true`: all of it is there, and synced.
pub(super) fn checkpoint(connection: &Connection) -> Result<bool, StoreError> {
    let (busy, frames, saved) = connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map(|row: (i64, i64, i64)| row)?;
    Ok(busy == 0 && frames == saved)
}

/// Changes whenever another connection commits.
pub(super) fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
}

/// Device and inode.
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn found(path: &Path) -> Result<Option<Metadata>, StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is written again at once.
const PIECE: u64 = 256 << 10;

/// The header of the log, and that of each frame (fileformat2.html, section 4.1).
const HEADER: u64 = 32;
const FRAME: u64 = 24;
