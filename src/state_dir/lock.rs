//! The lock that lets one process at a time open the store or make keys.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::error::{StartError, file_error};
use super::privileges::check_access;

/// How a start waits for another process that works on the state folder.
#[derive(Clone, Copy, Debug)]
pub struct LockWait {
    /// For how long.
    pub timeout: Duration,
    /// Tells the operator, once and before the wait, for what; and what else is done in the folder that nobody asked for.
    pub tell: fn(&str),
}

/// Locks the folder; it is locked until what is returned is dropped.
pub(super) fn lock(folder: &Path, wait: LockWait) -> Result<File, StartError> {
    let path = folder.join("lock");
    let fault = file_error(&path);
    let file = options().create(true).open(&path).map_err(&fault)?;
    let deadline = Instant::now() + wait.timeout;
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let holder = holder(&file).map_or_else(|| "another process".into(), |id| format!("process {id}"));
        let text = format!(
            "{} is locked by {holder}, which is opening the store or generating keys",
            path.display()
        );
        if Instant::now() >= deadline {
            return Err(StartError::Busy(format!(
                "{text}: try again, or end that process if it hangs or is stopped"
            )));
        }
        if !std::mem::replace(&mut is_told, true) {
            (wait.tell)(&format!("waiting: {text}"));
        }
        thread::sleep(LOCK_AGAIN);
    }
}

/// Could this process open the lock? Makes none.
pub(super) fn check_lock(folder: &Path) -> Result<(), StartError> {
    let path = folder.join("lock");
    let checked = match options().open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_access(folder),
        other => other.map(drop),
    };
    checked.map_err(file_error(&path))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    options
}

/// The process that has the file locked, where the system says so.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_ours =
            words.get(1) == Some(&"FLOCK") && words.get(5)?.rsplit(':').next()?.parse() == Ok(inode);
        is_ours.then(|| words.get(4)?.parse().ok())?
    };
    locks.lines().find_map(of_line)
}

/// How often a lock that somebody else has is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(20);
