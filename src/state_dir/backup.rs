//! A backup: the store, the keys and the certificate of a state folder, in a folder of the same form.
//!
//! It can be made again and again in the same folder. At any moment what lies there can be restored: every file is complete
//! under its name or not there, and the keys of a new store come before it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{StartError, file_error, store_error};
use super::privileges::narrow;
use crate::auth::time::UnixTime;
use crate::store::{Store, block_on};

/// A folder for a backup: a new one, an empty one, or one that holds a backup already.
#[derive(Debug)]
pub struct Target {
    folder: PathBuf,
}

/// What says that a folder is a backup, and whether there is one in it yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Of this form.
    pub(super) format: u32,
    /// The program that made it.
    pub(super) version: String,
    /// When it was made.
    pub(super) made_at: String,
    /// The first backup here was completed.
    pub(super) complete: bool,
}

impl Target {
    /// Makes the folder where it is not there, for the account that the state folder belongs to: to be called before this
    /// process becomes that one.
    pub fn prepare(folder: &Path, state_dir: &Path) -> Result<Self, StartError> {
        let fault = file_error(folder);
        match fs::symlink_metadata(folder) {
            Ok(found) if !found.is_dir() => {
                return Err(StartError::Refused(format!("{} is not a folder", folder.display())));
            }
            // What is open to its group alone is narrowed by its owner, as the state folder is.
            Ok(found) if found.mode() & 0o007 != 0 => {
                return Err(StartError::Refused(format!(
                    "{0} is open to others (mode {1:o}): run `chmod 700 {0}`, or name a folder that does not exist",
                    folder.display(),
                    found.mode() & 0o777
                )));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).create(folder).map_err(&fault)?;
                if let Ok(owner) = fs::metadata(state_dir)
                    && geteuid().is_root()
                {
                    chown(folder, Some(owner.uid()), Some(owner.gid())).map_err(&fault)?;
                }
            }
            Err(error) => return Err(fault(error)),
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes the backup, and checks the copy of the store before it takes the place of an older one. `tell` hears what is
    /// narrowed before.
    pub fn write(
        &self,
        store: &Store,
        state_dir: &Path,
        now: UnixTime,
        tell: fn(&str),
    ) -> Result<(), StartError> {
        narrow(&self.folder, tell)?;
        let fault = file_error(&self.folder);
        let manifest = self.folder.join(MANIFEST);
        if read_manifest(&self.folder).is_err() {
            let is_empty = fs::read_dir(&self.folder).map_err(&fault)?.next().is_none();
            if !is_empty {
                return Err(StartError::Refused(format!(
                    "{} is not empty and not a backup of ds-gateway: name another folder",
                    self.folder.display()
                )));
            }
            // First: what is interrupted from here on is a backup that can be made again.
            write_manifest(&manifest, now, false).map_err(&fault)?;
        }
        let (copy, draft) = (self.folder.join(STORE), self.folder.join(draft_of(STORE)));
        remove_if_there(&draft).map_err(&fault)?;
        block_on(store.back_up(&draft)).map_err(|error| store_error(&draft, error))?;
        Store::verify(&draft).map_err(|error| store_error(&draft, error))?;
        // After the store's copy: a key is made before it is recorded, so every one that is recorded there is here.
        let mut surplus = Vec::new();
        for name in FOLDERS {
            surplus.extend(copy_files(&state_dir.join(name), &self.folder.join(name))?);
        }
        fs::rename(&draft, &copy).map_err(&fault)?;
        sync(&self.folder).map_err(&fault)?;
        surplus.iter().try_for_each(fs::remove_file).map_err(&fault)?;
        write_manifest(&manifest, now, true).map_err(&fault)
    }
}

/// Copies the files of a folder, if there is one; returns those that lie in the copy and not in it.
fn copy_files(from: &Path, to: &Path) -> Result<Vec<PathBuf>, StartError> {
    let files = read_files(from).map_err(file_error(from))?;
    let fault = file_error(to);
    if files.is_empty() && !to.exists() {
        return Ok(Vec::new());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(&fault)?;
    for (name, content) in &files {
        write_file(&to.join(name), content).map_err(&fault)?;
    }
    sync(to).map_err(&fault)?;
    let there = read_files(to).map_err(&fault)?;
    let surplus = there.into_iter().filter(|(name, _)| !files.iter().any(|(kept, _)| kept == name));
    Ok(surplus.map(|(name, _)| to.join(name)).collect())
}

/// The name and the content of every file in a folder; none if there is no folder.
pub(super) fn read_files(folder: &Path) -> io::Result<Vec<(String, Zeroizing<Vec<u8>>)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Neither links nor what was not finished.
        if entry.file_type()?.is_file() && !name.ends_with(DRAFT) {
            files.push((name, Zeroizing::new(fs::read(entry.path())?)));
        }
    }
    Ok(files)
}

/// Writes a file that only its owner may read; under its name it is complete.
pub(super) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let draft = path.with_file_name(draft_of(name));
    remove_if_there(&draft)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// Waits until the names in a folder are on the disk.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the folder says of itself; a sentence if it is not a backup.
pub(super) fn read_manifest(folder: &Path) -> Result<Manifest, String> {
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    match manifest.format {
        FORMAT => Ok(manifest),
        other => Err(format!("{}: format {other} is not known; use a newer program", path.display())),
    }
}

fn write_manifest(path: &Path, now: UnixTime, complete: bool) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { format: FORMAT, version, made_at: now.to_string(), complete };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    write_file(path, &text)?;
    path.parent().map_or(Ok(()), sync)
}

fn draft_of(name: &str) -> String {
    format!("{name}{DRAFT}")
}

/// The copy of the store, whatever the store itself is called.
pub(super) const STORE: &str = "gateway.db";

/// The folders beside it, called as in the state folder.
pub(super) const FOLDERS: [&str; 2] = ["keys", "tls"];

const MANIFEST: &str = "backup.json";

/// How a file is called until it is complete.
const DRAFT: &str = ".partial";

const FORMAT: u32 = 1;
