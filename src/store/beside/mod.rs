//! What is noted beside a store, for any that is put in its place: beside a SQLite file, or for a database in the state folder.

pub(super) mod latest_commit;
pub(super) mod revoked_keys;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The path of a file that SQLite, or we, keep beside the store.
pub(in crate::store) fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(store);
    path.push(suffix);
    PathBuf::from(path)
}
