//! The keys that were ever revoked, in a file beside the store: by it they stay revoked where the store has forgotten that, since
//! an older one was put in its place or it was lost.
//!
//! Anyone who revokes a key adds it once that is committed, so the file may lag behind the store and is never ahead of it; a start
//! adds what is missing. A line is a fingerprint and a `kid`. One that was torn by a crash counts for nothing.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::beside;
use crate::auth::keys::Fingerprint;
use crate::store::command::KeyRecord;
use crate::store::error::StoreError;

/// The keys in the file beside the store; none if there is no file.
pub(in crate::store) fn read(store: &Path) -> Result<Vec<KeyRecord>, StoreError> {
    Ok(parse(&content(store)?))
}

/// Adds those that are not in it yet. A failure is logged: the store itself has what it promised.
pub(in crate::store) fn add(store: &Path, keys: &[KeyRecord]) {
    if let Err(error) = try_add(store, keys) {
        let path = beside(store, SUFFIX);
        log::warn!("revoked keys cannot be written to {}: {error}", path.display());
    }
}

fn try_add(store: &Path, keys: &[KeyRecord]) -> io::Result<()> {
    let text = content(store)?;
    let there: HashSet<Fingerprint> = parse(&text).into_iter().map(|key| key.fingerprint).collect();
    let missing: Vec<&KeyRecord> = keys.iter().filter(|key| !there.contains(&key.fingerprint)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // Behind a line that was torn.
    let start = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let lines = missing.into_iter().map(|key| format!("{} {}\n", key.fingerprint, key.kid));
    let lines: String = std::iter::once(start.to_owned()).chain(lines).collect();
    let path = beside(store, SUFFIX);
    // In one piece: another process may add as well.
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn content(store: &Path) -> io::Result<String> {
    match fs::read(beside(store, SUFFIX)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Vec<KeyRecord> {
    let of_line = |line: &str| {
        let (fingerprint, kid) = line.split_once(' ')?;
        Some(KeyRecord { kid: kid.to_owned(), fingerprint: Fingerprint::parse(fingerprint)? })
    };
    text.lines().filter_map(of_line).collect()
}

const SUFFIX: &str = "-revoked-keys";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kid: &str, byte: u8) -> KeyRecord {
        KeyRecord { kid: kid.into(), fingerprint: Fingerprint([byte; 32]) }
    }

    #[test]
    fn each_key_is_kept_once_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        assert_eq!(read(&store), Ok(vec![]));
        add(&store, &[]);
        assert!(!beside(&store, SUFFIX).exists());
        add(&store, &[key("a", 1)]);
        add(&store, &[key("b", 2), key("a", 1)]);
        add(&store, &[key("again", 1)]);
        assert_eq!(read(&store), Ok(vec![key("a", 1), key("b", 2)]));
    }

    #[test]
    fn line_that_was_torn_takes_no_other_with_it_and_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        add(&store, &[key("a", 1), key("b", 2)]);
        let path = beside(&store, SUFFIX);
        let text = fs::read(&path).unwrap();
        for torn in [&text[..text.len() - 30], &[&text[..67], &[0xff, 0][..]].concat()[..], b"\0\0\0"] {
            fs::write(&path, torn).unwrap();
            add(&store, &[key("a", 1), key("b", 2), key("c", 3)]);
            assert_eq!(read(&store), Ok(vec![key("a", 1), key("b", 2), key("c", 3)]));
        }
    }
}
