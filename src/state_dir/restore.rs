//! A backup put in the place of what is there, which is moved aside and never deleted.
//!
//! Whatever is interrupted: the store of the state folder is the old one, none, or the restored one, in which nothing that was
//! minted before is trusted.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::backup::{FOLDERS, STORE, read_files, read_manifest, remove_if_there, sync, write_file};
use super::error::{StartError, file_error, store_error};
use super::key_files::{generate_key, read_key_set};
use super::lock::lock;
use super::privileges::{become_owner, narrow, prepare_folder};
use super::{Services, presence};
use crate::config::StorePlace;
use crate::store::after_restore::{AfterRestore, Legacy};
use crate::store::command::Actor;
use crate::store::records::RecordedKey;
use crate::store::{Opening, Store, StoreError, block_on};

/// A backup that was read as far as it must be before this process becomes the state folder's owner.
pub struct Source {
    folder: PathBuf,
    store: File,
    owner: (u32, u32),
    folders: Vec<(&'static str, Files)>,
}

type Files = Vec<(String, Zeroizing<Vec<u8>>)>;

/// What was done.
#[derive(Debug, Default)]
pub struct Restored {
    /// Where what was there lies now.
    pub aside: Vec<PathBuf>,
    /// Keys that were revoked after the backup was made, and stay so.
    pub revoked_keys: Vec<String>,
    /// The key that was made, where every one of the backup is revoked.
    pub made: Option<String>,
    /// Why more keys may have been revoked after the backup was made: those are good again.
    pub fault: Option<StoreError>,
}

/// A copy of the backup's store beside its place.
struct Staged {
    path: PathBuf,
    /// The keys that it has.
    keys: Vec<RecordedKey>,
    /// Those of them that it did not know to be revoked.
    revoked_keys: Vec<String>,
    /// Of the backup.
    sequence: u64,
}

/// Why nothing was restored, or not all of it.
#[derive(Debug)]
pub enum RestoreError {
    /// The folder is not a backup, or not a whole one.
    NotABackup(String),
    /// These gateways run on the state folder.
    Running(Vec<String>),
    /// Anything else.
    Start(StartError),
}

impl From<StartError> for RestoreError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABackup(text) => write!(f, "not a backup of ds-gateway: {text}"),
            Self::Running(gateways) => {
                write!(f, "the gateway {} is running: stop it first", gateways.join(", "))
            }
            Self::Start(error) => error.fmt(f),
        }
    }
}

impl Source {
    /// Opens and reads what is in the folder.
    pub fn open(folder: &Path) -> Result<Self, RestoreError> {
        let not_a_backup = |text: String| RestoreError::NotABackup(text);
        let named = |error: io::Error| not_a_backup(format!("{}: {error}", folder.display()));
        if !read_manifest(folder).map_err(not_a_backup)?.complete {
            return Err(not_a_backup(format!("{}: it was never completed", folder.display())));
        }
        let store = File::open(folder.join(STORE)).map_err(named)?;
        let metadata = store.metadata().map_err(named)?;
        let mut folders = Vec::new();
        for name in FOLDERS {
            let files = read_files(&folder.join(name)).map_err(named)?;
            // What a backup has none of is left as it is.
            if !files.is_empty() {
                folders.push((name, files));
            }
        }
        let owner = (metadata.uid(), metadata.gid());
        Ok(Self { folder: folder.to_owned(), store, owner, folders })
    }

    /// Restores it. The gateway's own keys get another one beside them where none of them signs, with `makes_keys`.
    pub fn restore(
        mut self,
        state_dir: &Path,
        store_path: &Path,
        makes_keys: bool,
        services: &Services,
        actor: Actor,
    ) -> Result<Restored, RestoreError> {
        self.make_state_dir(state_dir).map_err(file_error(state_dir))?;
        prepare_folder(state_dir)?;
        become_owner(state_dir)?;
        narrow(state_dir, services.lock_wait.tell)?;
        let _lock = lock(state_dir, services.lock_wait)?;
        let running = presence::running(state_dir);
        if !running.is_empty() {
            return Err(RestoreError::Running(running));
        }
        let mut legacy = Store::legacy(store_path);
        // Whatever becomes of this attempt, and of what is moved aside.
        Store::note_revoked_keys(store_path, &legacy.revoked_keys);
        let staged = self.stage_store(store_path, &legacy, services, actor)?;
        if legacy.sequence < staged.sequence {
            let (found, known) = (legacy.sequence, staged.sequence);
            legacy.fault = legacy.fault.or(Some(StoreError::Rewound { found, known }));
        }
        for (name, files) in &self.folders {
            stage_files(&state_dir.join(format!("{name}{STAGED}")), files)?;
        }
        let keys = state_dir.join(format!("{KEYS}{STAGED}"));
        let made = match makes_keys && self.folders.iter().any(|(name, _)| *name == KEYS) {
            true => provide_key(&keys, &staged.keys, services)?,
            false => None,
        };
        // Up to here nothing has changed. The store goes first and comes last: in between a gateway that finds keys alone
        // refuses to start.
        let suffix = aside_suffix(state_dir, store_path, services);
        let mut aside = Vec::new();
        let mut move_aside = |path: PathBuf, to: PathBuf| -> Result<(), StartError> {
            match fs::rename(&path, &to) {
                Ok(()) => aside.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(file_error(&path)(error)),
            }
            Ok(())
        };
        let moved = with(store_path, &suffix);
        for end in FILES {
            move_aside(with(store_path, end), with(&moved, end))?;
        }
        for (name, _) in &self.folders {
            let folder = state_dir.join(name);
            move_aside(folder.clone(), with(&folder, &suffix))?;
            fs::rename(with(&folder, STAGED), &folder).map_err(file_error(&folder))?;
        }
        sync(state_dir).map_err(file_error(state_dir))?;
        fs::rename(&staged.path, store_path).map_err(file_error(store_path))?;
        let beside = store_path.parent().unwrap_or(state_dir);
        sync(beside).map_err(file_error(beside))?;
        Ok(Restored { aside, revoked_keys: staged.revoked_keys, made, fault: legacy.fault })
    }

    /// On a new machine: for the account that the backup belongs to.
    fn make_state_dir(&self, state_dir: &Path) -> io::Result<()> {
        if state_dir.exists() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
        if geteuid().is_root() { chown(state_dir, Some(self.owner.0), Some(self.owner.1)) } else { Ok(()) }
    }

    /// Copies the store beside its place, checks it, and makes it one that may be served from.
    fn stage_store(
        &mut self,
        store_path: &Path,
        legacy: &Legacy,
        services: &Services,
        actor: Actor,
    ) -> Result<Staged, RestoreError> {
        let staged = with(store_path, STAGED);
        let place = staged.clone();
        let fault = file_error(&place);
        for end in FILES.iter().chain(&NOTES) {
            remove_if_there(&with(&staged, end)).map_err(&fault)?;
        }
        let mut file =
            OpenOptions::new().create_new(true).write(true).mode(0o600).open(&staged).map_err(&fault)?;
        io::copy(&mut self.store, &mut file).and_then(|_| file.sync_all()).map_err(&fault)?;
        drop(file);
        let checked = Store::verify(&staged).and_then(|()| {
            let Services { clock, metrics, .. } = services.clone();
            let store = Store::open(&StorePlace::Sqlite(staged.clone()), Opening::Run, clock, metrics)?;
            let after = AfterRestore { known: legacy.sequence, revoked_keys: legacy.revoked_keys.clone() };
            let sequence = block_on(store.changes(0, 1))?.sequence;
            let resumed = block_on(store.execute(after, actor))?;
            let keys = block_on(store.keys())?;
            Ok(Staged { path: staged.clone(), keys, revoked_keys: resumed.revoked_keys, sequence })
        });
        let found = match checked {
            Ok(found) => found,
            Err(error) => {
                for end in FILES.iter().chain(&NOTES) {
                    let _ = fs::remove_file(with(&staged, end));
                }
                return Err(match error {
                    error if error.needs_operator() || error == StoreError::Missing => {
                        RestoreError::NotABackup(format!("{}: {error}", self.folder.join(STORE).display()))
                    }
                    error => store_error(&staged, error).into(),
                });
            }
        };
        // The last connection has brought all into the one file.
        if fs::metadata(with(&staged, "-wal")).is_ok_and(|log| log.len() > 0) {
            return Err(StartError::Refused(format!("{}: it is still in use", staged.display())).into());
        }
        // What is noted beside the place that it goes to is about every store that was ever there.
        for end in NOTES {
            remove_if_there(&with(&staged, end)).map_err(&fault)?;
        }
        Ok(found)
    }
}

/// Makes a key beside those that are staged, if every one of them is revoked or retired; says its name.
fn provide_key(
    folder: &Path,
    recorded: &[RecordedKey],
    services: &Services,
) -> Result<Option<String>, StartError> {
    // One that cannot be used ends the start, which says why.
    let Ok(keys) = read_key_set(folder) else { return Ok(None) };
    let has_ended =
        |fingerprint| recorded.iter().any(|key| key.fingerprint == fingerprint && !key.may_sign());
    if keys.iter().any(|key| !has_ended(key.fingerprint())) {
        return Ok(None);
    }
    // The next start records it.
    let path = generate_key(folder, services.clock.now(), recorded).map_err(file_error(folder))?;
    Ok(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned))
}

fn stage_files(folder: &Path, files: &Files) -> Result<(), StartError> {
    let fault = file_error(folder);
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(folder).map_err(&fault)?;
    for (name, content) in files {
        write_file(&folder.join(name), content).map_err(&fault)?;
    }
    sync(folder).map_err(fault)
}

/// An ending that nothing in the state folder has yet.
fn aside_suffix(state_dir: &Path, store_path: &Path, services: &Services) -> String {
    let now = services.clock.now().to_string().replace(' ', "-").replace(':', "");
    let suffixes = (1..).map(|number| match number {
        1 => format!(".before-restore-{now}"),
        _ => format!(".before-restore-{now}-{number}"),
    });
    let is_free = |suffix: &String| {
        let taken = |path: PathBuf| with(&path, suffix).exists();
        !taken(store_path.to_owned()) && !FOLDERS.iter().any(|name| taken(state_dir.join(name)))
    };
    suffixes.into_iter().find(is_free).unwrap_or_default()
}

/// The path with something behind its name.
fn with(path: &Path, end: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(end);
    path.into()
}

/// The files of a store.
const FILES: [&str; 3] = ["", "-wal", "-shm"];

/// What is noted beside it.
const NOTES: [&str; 2] = ["-sequence", "-revoked-keys"];

/// The folder of the gateway's own keys.
const KEYS: &str = "keys";

/// How files are called that are about to be put in place.
const STAGED: &str = ".restoring";
