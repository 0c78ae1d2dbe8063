//! The signing keys that the gateway makes: one file each, named by its `kid`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::{StartError, file_error};
use super::privileges::check_access;
use crate::auth::keys::{Algorithm, Key, KeySet};
use crate::auth::time::UnixTime;
use crate::config::{Links, read_secret};
use crate::store::records::RecordedKey;

/// The key files, by name.
pub(super) fn list_keys(folder: &Path) -> Result<Vec<PathBuf>, StartError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error(folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(file_error(folder))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    // By name without its ending: the first of a day stands before the second.
    paths.sort_by(|one, other| one.file_stem().cmp(&other.file_stem()));
    Ok(paths)
}

/// The keys of the folder; makes the first one where there was never any.
pub(super) fn generated_key_set(
    recorded: &[RecordedKey],
    folder: &Path,
    mut files: Vec<PathBuf>,
    now: UnixTime,
) -> Result<KeySet, StartError> {
    if files.is_empty() {
        refuse_lost_keys(recorded, folder)?;
        files.push(generate_key(folder, now, recorded).map_err(file_error(folder))?);
    }
    key_set_of(&files)
}

/// An error if there were keys, of which no file is left.
pub(super) fn refuse_lost_keys(recorded: &[RecordedKey], folder: &Path) -> Result<(), StartError> {
    // Key and record are two steps: a key that is not yet recorded is recorded at the next start, one
    // that was recorded and is gone is a loss.
    if recorded.iter().any(RecordedKey::may_sign) {
        return Err(StartError::Refused(format!(
            "the signing keys in {} are missing, but the store has recorded some: restore them from a backup, or set token.keys",
            folder.display()
        )));
    }
    Ok(())
}

/// Could a key be made there?
pub(super) fn check_key_folder(folder: &Path) -> Result<(), StartError> {
    let place = if folder.exists() { Some(folder) } else { folder.parent() };
    place.map_or(Ok(()), check_access).map_err(file_error(folder))
}

/// The keys that lie in a folder, the oldest first.
pub fn read_key_set(folder: &Path) -> Result<KeySet, StartError> {
    key_set_of(&list_keys(folder)?)
}

/// The keys in these files.
pub(super) fn key_set_of(files: &[PathBuf]) -> Result<KeySet, StartError> {
    let mut keys = Vec::new();
    for path in files {
        let kid = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let faulty = |text: String| StartError::Refused(format!("the key {kid:?} {text}"));
        let secret = read_secret(path, Links::Refused, None).map_err(faulty)?;
        let key = Key::new(kid, Algorithm::Hs256, &secret, false);
        keys.push(key.map_err(|error| faulty(error.to_string()))?);
    }
    KeySet::new(keys).map_err(|error| StartError::Refused(format!("a key {error}")))
}

/// Makes a key of 48 random bytes, in base64, and returns its path once it is on the disk. Its name is neither that of another
/// file nor one that the store has for a key, whose file may be lost. To be called with the folder locked.
pub(super) fn generate_key(folder: &Path, now: UnixTime, recorded: &[RecordedKey]) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut random = Zeroizing::new([0; 48]);
    getrandom::fill(random.as_mut_slice()).map_err(io::Error::other)?;
    let mut secret = Zeroizing::new(STANDARD.encode(random.as_slice()));
    secret.push('\n');
    let date = now.to_string();
    let date = date.split(' ').next().unwrap_or_default();
    // A second key of one day gets a number, and with it its place behind the first.
    let kids = (1..=999_u32).map(|number| match number {
        1 => date.to_owned(),
        _ => format!("{date}-{number:03}"),
    });
    let path_of = |kid: String| folder.join(format!("{kid}.{EXTENSION}"));
    let paths = kids.filter(|kid| !recorded.iter().any(|key| key.kid == *kid)).map(path_of);
    let mut free = paths.filter(|path| !path.exists());
    let path =
        free.next().ok_or_else(|| io::Error::other("no more than 999 keys can be generated on one day"))?;
    // Complete under its name or not there at all.
    let draft = path.with_extension("draft");
    let written = write_key(&draft, &path, &secret);
    if written.is_err() {
        let _ = fs::remove_file(&draft);
        let _ = fs::remove_file(&path);
    }
    written.map(|()| path)
}

fn write_key(draft: &Path, path: &Path, secret: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(draft)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

const EXTENSION: &str = "hs256";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::Fingerprint;
    use crate::auth::revocation::KeyUse;

    #[test]
    fn a_second_key_of_one_day_stands_behind_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for _ in 0..3 {
            generate_key(folder, UnixTime(1_700_000_000), &[]).unwrap();
        }
        let key_set = read_key_set(folder).unwrap();
        let kids: Vec<&str> = key_set.iter().map(Key::kid).collect();
        assert_eq!(kids, ["2023-11-14", "2023-11-14-002", "2023-11-14-003"]);
    }

    #[test]
    fn new_key_has_no_recorded_name_though_its_file_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let recorded = |kid: &str| RecordedKey {
            kid: kid.into(),
            fingerprint: Fingerprint([0; 32]),
            key_use: if kid.ends_with('2') { KeyUse::REVOKED } else { KeyUse::default() },
        };
        let recorded = ["2023-11-14", "2023-11-14-002", "2023-11-14-004"].map(recorded);
        for expected in ["2023-11-14-003", "2023-11-14-005"] {
            let path = generate_key(folder.path(), UnixTime(1_700_000_000), &recorded).unwrap();
            assert_eq!(path.file_stem().unwrap(), expected);
        }
    }
}
