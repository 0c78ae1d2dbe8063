//! The latest commit, in a file beside the store: by it a store is recognised that has forgotten something, since
//! an older one was put in its place or its log was lost.
//!
//! Anyone who commits writes it afterwards, so it may lag behind the store and is never ahead of it. It is a line that is
//! written in its place, by the process that has the file's lock and only upwards. Nobody waits for that lock: who does not get
//! it leaves the sequence to its next commit. It is synced once a second at most.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::beside;
use crate::store::error::StoreError;

/// A transaction, as those who come later recognise it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Commit {
    /// Its last sequence.
    pub(in crate::store) sequence: u64,
    /// A random number that no other history of the store has there; 0 where a store has but one history.
    pub(in crate::store) nonce: i64,
}

/// The file, as the one that writes to the store has it.
pub(in crate::store) struct LatestCommit {
    path: PathBuf,
    file: Option<File>,
    /// What it holds at least.
    written: u64,
    is_synced: bool,
    synced_at: Option<Instant>,
    is_failing: bool,
}

impl LatestCommit {
    pub(in crate::store) fn beside(store: &Path) -> Self {
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
    pub(in crate::store) fn record(&mut self, commit: Commit) {
        let result = self.try_record(commit);
        match result {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.is_failing, true) {
                    let path = self.path.display();
                    log::warn!("the latest commit cannot be written to {path}: {error}");
                }
            }
        }
    }

    fn try_record(&mut self, commit: Commit) -> io::Result<()> {
        if commit.sequence > self.written {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(open(&self.path)?),
            };
            if file.try_lock().is_err() {
                return Ok(());
            }
            let written = raise(file, commit);
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

/// What the file beside the store holds; of sequence 0 if there is none.
pub(in crate::store) fn read(store: &Path) -> Result<Commit, StoreError> {
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Commit::default()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the commit unless there is a later one; says the sequence of the one that is there.
fn raise(file: &File, Commit { sequence, nonce }: Commit) -> io::Result<u64> {
    let mut bytes = [0; LENGTH as usize];
    let read = file.read_at(&mut bytes, 0)?;
    let text = bytes.get(..read).map(String::from_utf8_lossy).unwrap_or_default();
    // One that cannot be read is no reason not to write one that can.
    let found = parse(&text).unwrap_or_default().sequence;
    if sequence > found {
        let nonce = if nonce == 0 { String::new() } else { format!(" {nonce:020}") };
        file.write_all_at(format!("{sequence:020}{nonce}\n").as_bytes(), 0)?;
    }
    Ok(sequence.max(found))
}

/// An empty file, or one of zeros, is one that was created just before the power went.
fn parse(text: &str) -> Option<Commit> {
    let text = text.trim_matches(['\0', '\n']);
    if text.is_empty() {
        return Some(Commit::default());
    }
    let (sequence, nonce) = text.split_once(' ').unwrap_or((text, "0"));
    Some(Commit { sequence: sequence.parse().ok()?, nonce: nonce.parse().ok()? })
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

/// Twenty digits twice, a blank between them and the end of the line.
const LENGTH: u64 = 42;

const SYNC_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(sequence: u64) -> Commit {
        Commit { sequence, nonce: 0 }
    }

    #[test]
    fn it_only_rises_no_matter_who_writes() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        assert_eq!(read(&store), Ok(of(0)));
        let [mut one, mut other] = [(); 2].map(|()| LatestCommit::beside(&store));
        one.record(of(40));
        other.record(of(12));
        assert_eq!(read(&store), Ok(of(40)));
        other.record(of(41));
        one.record(of(7));
        assert_eq!(read(&store), Ok(of(41)));
    }

    #[test]
    fn nobody_waits_for_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        let mut file = LatestCommit::beside(&store);
        file.record(of(1));
        let holder = File::open(path_beside(&store)).unwrap();
        holder.lock().unwrap();
        file.record(of(2));
        assert_eq!(read(&store), Ok(of(1)));
        drop(holder);
        file.record(of(2));
        assert_eq!(read(&store), Ok(of(2)));
    }

    #[test]
    fn what_a_power_cut_leaves_of_a_new_file_is_not_a_sequence() {
        for (text, commit) in [
            ("", Some(of(0))),
            ("\0\0\0", Some(of(0))),
            ("00000000000000000042\n", Some(of(42))),
            ("00000000000000000042 00000000000000000007\n", Some(Commit { sequence: 42, nonce: 7 })),
            ("42 7 1", None),
            ("x", None),
        ] {
            assert_eq!(parse(text), commit, "{text:?}");
        }
    }

    #[test]
    fn a_commit_is_found_again_with_its_nonce() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        let mut file = LatestCommit::beside(&store);
        for sequence in [7, u64::MAX >> 1] {
            let commit = Commit { sequence, nonce: i64::MAX };
            file.record(commit);
            assert_eq!(read(&store), Ok(commit));
        }
    }
}
