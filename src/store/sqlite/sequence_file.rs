//! The last committed sequence, in a file beside the store: by it a store is recognised that has forgotten something, since
//! an older one was put in its place or its log was lost.
//!
//! Anyone who commits writes it afterwards, so it may lag behind the store and is never ahead of it. It is 21 bytes that are
//! written in their place, by the process that has the file's lock and only upwards. Nobody waits for that lock: who does not get
//! it leaves the sequence to its next commit. It is synced once a second at most.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wal::beside;
use crate::store::error::StoreError;

/// The file, as the one that writes to the store has it.
pub(super) struct SequenceFile {
    path: PathBuf,
    file: Option<File>,
    /// What it holds at least.
    written: u64,
    is_synced: bool,
    synced_at: Option<Instant>,
    is_failing: bool,
}

impl SequenceFile {
    pub(super) fn beside(store: &Path) -> Self {
        Self {
            path: path_beside(store),
            file: None,
            written: 0,
            is_synced: true,
            synced_at: None,
            is_failing: false,
        }
    }

    /// Takes in what was committed. A failure is logged once: the store itself has what it promised.
    pub(super) fn record(&mut self, sequence: u64) {
        let result = self.try_record(sequence);
        match result {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.is_failing, true) {
                    let path = self.path.display();
                    log::warn!("the last sequence cannot be written to {path}: {error}");
                }
            }
        }
    }

    fn try_record(&mut self, sequence: u64) -> io::Result<()> {
        if sequence > self.written {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(open(&self.path)?),
            };
            if file.try_lock().is_err() {
                return Ok(());
            }
            let written = raise(file, sequence);
            file.unlock()?;
            self.written = written?;
            self.is_synced = false;
        }
        let is_due = self.synced_at.is_none_or(|at| at.elapsed() >= SYNC_INTERVAL);
        if let (Some(file), false, true) = (&self.file, self.is_synced, is_due) {
            file.sync_data()?;
            self.is_synced = true;
            self.synced_at = Some(Instant::now());
        }
        Ok(())
    }
}

/// The sequence that the file beside the store holds; 0 if there is none.
pub(super) fn read(store: &Path) -> Result<u64, StoreError> {
    let path = path_beside(store);
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(LENGTH + 1).read_to_string(&mut text));
    match read {
        Ok(_) => parse(&text).ok_or_else(|| {
            StoreError::Failed(format!(
                "{} contains no sequence: remove it and use --restored",
                path.display()
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Writes the sequence unless there is a later one; says which of them is there.
fn raise(file: &File, sequence: u64) -> io::Result<u64> {
    let mut bytes = [0; LENGTH as usize];
    let read = file.read_at(&mut bytes, 0)?;
    let text = bytes.get(..read).map(String::from_utf8_lossy).unwrap_or_default();
    // One that cannot be read is no reason not to write one that can.
    let found = parse(&text).unwrap_or(0);
    if sequence > found {
        file.write_all_at(format!("{sequence:020}\n").as_bytes(), 0)?;
    }
    Ok(sequence.max(found))
}

/// An empty file, or one of zeros, is one that was created just before the power went.
fn parse(text: &str) -> Option<u64> {
    match text.trim_matches(['\0', '\n']) {
        "" => Some(0),
        digits => digits.parse().ok(),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

fn path_beside(store: &Path) -> PathBuf {
    beside(store, "-sequence")
}

/// Twenty digits and the end of the line.
const LENGTH: u64 = 21;

const SYNC_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_rises_no_matter_who_writes() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        assert_eq!(read(&store), Ok(0));
        let [mut one, mut other] = [(); 2].map(|()| SequenceFile::beside(&store));
        one.record(40);
        other.record(12);
        assert_eq!(read(&store), Ok(40));
        other.record(41);
        one.record(7);
        assert_eq!(read(&store), Ok(41));
    }

    #[test]
    fn nobody_waits_for_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        let mut file = SequenceFile::beside(&store);
        file.record(1);
        let holder = File::open(path_beside(&store)).unwrap();
        holder.lock().unwrap();
        file.record(2);
        assert_eq!(read(&store), Ok(1));
        drop(holder);
        file.record(2);
        assert_eq!(read(&store), Ok(2));
    }

    #[test]
    fn what_a_power_cut_leaves_of_a_new_file_is_not_a_sequence() {
        for (text, sequence) in
            [("", Some(0)), ("\0\0\0", Some(0)), ("00000000000000000042\n", Some(42)), ("x", None)]
        {
            assert_eq!(parse(text), sequence, "{text:?}");
        }
    }
}
