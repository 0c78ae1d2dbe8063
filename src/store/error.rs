//! Why the store could not do what it was asked; a refusal is an outcome of its command, never one of these.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// One variant for each cause. Details come from the database library and name tables and files, never values.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// There is no store at this place.
    #[error("the store does not exist")]
    Missing,
    /// The file is something else.
    #[error("the file is not a store of ds-gateway ({0}); restore it from a backup")]
    Foreign(String),
    /// The file, or a row in it, breaks the rules that every store keeps.
    #[error("the file is not a store of ds-gateway, or is damaged ({0}); restore it from a backup")]
    Damaged(String),
    /// Written by a newer version of this program.
    #[error("the store has schema {found}, this program supports up to {known}; use a newer ds-gateway")]
    Newer {
        /// The schema found in the store.
        found: u32,
        /// The schema of this program.
        known: u32,
    },
    /// Written by an older version; `run` migrates it.
    #[error("the store has schema {found}, this program needs {needed}; `ds-gateway run` migrates it")]
    Older {
        /// The schema found in the store.
        found: u32,
        /// The schema of this program.
        needed: u32,
    },
    /// A copy of another store that was not finished, or not verified.
    #[error(
        "the store is an unfinished copy of {0}: run the same `ds-gateway store copy` again, which continues where it stopped; or remove what was \
         copied (the file, or the database) and use another store"
    )]
    UnfinishedCopy(String),
    /// The operating system refuses access.
    #[error(
        "access to the store is refused ({0}); it, its -wal and -shm files and their folder must be owned by the gateway's user"
    )]
    NotPermitted(String),
    /// Another process has held the store's lock for too long.
    #[error("the store is busy: another process is writing to it")]
    Locked,
    /// More commands wait than the queue holds.
    #[error("the store is busy: too many changes are waiting")]
    QueueFull,
    /// The file at this path is not the one that was opened, or is gone: what is written would be lost.
    #[error("the store's file was removed or replaced while it was open: restore it or restart the gateway")]
    Replaced,
    /// The log of the store, or its index, is not the one that was open.
    #[error(
        "the store's -wal or -shm file was removed, replaced or truncated while it was open: a crash would lose what is written now; restore it or restart the gateway"
    )]
    LogChanged,
    /// The store has forgotten what was committed once.
    #[error(
        "the store is older than expected (its last sequence is {found}, and it has forgotten {known}): a backup was put in its place, its -wal was lost or a standby that lagged behind was promoted, and revocations are lost. If gateways of this store run elsewhere, try again first: they may be writing back what was lost. Otherwise start the gateway once with `ds-gateway run --restored`, \
         which revokes every token that was issued so far"
    )]
    Rewound {
        /// The last sequence of the store.
        found: u64,
        /// The last sequence that was committed to a store in this place.
        known: u64,
    },
    /// The database has another history than the one that was read from it.
    #[error(
        "the database has forgotten what it had committed (its last sequence is {found}, and it is not the history of sequence {known}): a standby that \
         lagged behind was promoted, or a backup was put in its place; the gateways that run are writing back what they know of revocations"
    )]
    Forked {
        /// The last sequence of the database.
        found: u64,
        /// A sequence that it had committed once.
        known: u64,
    },
    /// The store has forgotten that a key was revoked.
    #[error(
        "the store is older than expected (it does not record that the key {0:?} is revoked): a backup was put in its place, or its \
         -wal was lost. Start the gateway once with `ds-gateway run --restored`, which revokes that key, and every token that \
         was issued so far"
    )]
    KeyForgotten(String),
    /// No answer within the time that the caller waits.
    #[error(
        "the store did not answer in time; its disk is slow or hangs: the change is not acknowledged, but may still be made"
    )]
    TimedOut,
    /// The change is durable, and the other process of an upgrade has not said in this time that it has it.
    #[error("the other process of the upgrade did not apply the change within {} s: it is made, and not acknowledged", .0.as_secs())]
    NotEverywhere(Duration),
    /// The schema is older, and a process of the program before could not go on beside its migration.
    #[error(
        "the store has schema {found} and this program changes it to {needed}, which the gateway that runs cannot go on with: this upgrade needs a restart"
    )]
    NeedsRestart {
        /// The schema found in the store.
        found: u32,
        /// The schema of this program.
        needed: u32,
    },
    /// No room is left.
    #[error("the store's disk is full ({0}): free some space")]
    DiskFull(String),
    /// The disk fails.
    #[error("the store's disk is failing ({0}): see the system's log")]
    DiskFailed(String),
    /// The thread that works for the store has ended, or could not be started.
    #[error("the store's thread has ended: restart the gateway")]
    Stopped,
    /// A token could not be signed.
    #[error("the token could not be signed")]
    Signing,
    /// No server of the database can be reached, or none of those that can is ready.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The server does not let the gateway in, or does not let it do its work.
    #[error("the database refuses the gateway: {0}")]
    Refused(String),
    /// The server has no TLS, or its certificate is not accepted.
    #[error("no TLS connection to the database: {0}")]
    NoTls(String),
    /// The server accepts no writes.
    #[error("the database is read-only: {0}")]
    ReadOnly(String),
    /// Two transactions were in each other's way, and this one was given up.
    #[error("another change was made at the same moment ({0}): try again")]
    Conflict(String),
    /// Anything else that the database says.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// May the same command succeed a little later, with nobody having done anything?
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Locked
                | Self::QueueFull
                | Self::TimedOut
                | Self::NotEverywhere(_)
                | Self::Unavailable(_)
                | Self::ReadOnly(_)
                | Self::Conflict(_)
                | Self::Forked { .. }
        )
    }

    /// Can only an operator mend it, by restoring the store, or changing the program or what the database allows?
    pub const fn needs_operator(&self) -> bool {
        matches!(
            self,
            Self::Foreign(_)
                | Self::Damaged(_)
                | Self::Newer { .. }
                | Self::Older { .. }
                | Self::NeedsRestart { .. }
                | Self::Rewound { .. }
                | Self::KeyForgotten(_)
                | Self::UnfinishedCopy(_)
                | Self::Refused(_)
                | Self::NoTls(_)
        )
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::NotPermitted(error.to_string()),
            // A quota, or a limit on the size of files, leaves as little room as a full disk.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn whatever_leaves_no_room_is_a_full_disk() {
        for (errno, is_full) in [
            (Errno::ENOSPC, true),
            (Errno::EDQUOT, true),
            (Errno::EFBIG, true),
            (Errno::EIO, false),
            (Errno::EROFS, false),
        ] {
            let error = StoreError::from(io::Error::from(errno));
            assert_eq!(matches!(error, StoreError::DiskFull(_)), is_full, "{errno}: {error}");
        }
    }
}
