//! The state folder: store and keys, opened together or created together, never one without the other.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use zeroize::Zeroizing;

use super::blocking::block_on;
use super::error::StartError;
use crate::auth::keys::{Algorithm, Key, KeyRing};
use crate::auth::time::UnixTime;
use crate::clock::Clock;
use crate::config::{Links, SigningKeys, StoreSettings, read_secret};
use crate::metrics::Metrics;
use crate::store::command::{Actor, KeyRecord, RecordKeys, RecordKeysOutcome};
use crate::store::records::{RecordedKey, compare_keys};
use crate::store::{Opening, Store, StoreError};

/// May a store be created where there is none?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// Only where there are no keys either: then nothing can have been lost.
    IfNew,
    /// Even so; the operator says that the old one is gone for good.
    Init,
}

/// What the store works with beside its file.
#[derive(Clone)]
pub struct Services {
    /// Stamps every change.
    pub clock: Clock,
    /// Counts commits.
    pub metrics: Arc<Metrics>,
    /// What is done while somebody else has the state folder locked.
    pub lock_wait: LockWait,
}

/// How a start waits for another process that works on the state folder.
#[derive(Clone, Copy, Debug)]
pub struct LockWait {
    /// For how long.
    pub timeout: Duration,
    /// Told once, before the wait, for what it waits.
    pub tell: fn(&str),
}

/// What the folder holds, checked against each other.
#[derive(Debug)]
pub struct State {
    /// Users, marks, audit.
    pub store: Store,
    /// The signing keys.
    pub keys: KeyRing,
    /// Where they lie, if they were made here and may be joined by others.
    pub key_folder: Option<PathBuf>,
}

impl State {
    /// Opens what is there, or creates it.
    pub fn open(
        folder: &Path,
        settings: &StoreSettings,
        keys: SigningKeys,
        opening: Opening,
        creation: Creation,
        services: Services,
    ) -> Result<Self, StartError> {
        prepare_folder(folder)?;
        become_owner(folder)?;
        // Store and keys are made in several steps: one process at a time looks at them or makes them.
        let _lock = lock(folder, services.lock_wait)?;
        let key_folder = folder.join("keys");
        let key_files = list_keys(&key_folder)?;
        let has_keys = matches!(keys, SigningKeys::Configured(_)) || !key_files.is_empty();
        let path = &settings.path;
        let now = services.clock.now();
        let store = open_store(path, has_keys, opening, creation, services)?;
        let recorded = block_on(store.keys()).map_err(|error| store_error(path, error))?;
        let (keys, key_folder) = match keys {
            SigningKeys::Configured(ring) => (ring, None),
            SigningKeys::Generated => {
                let ring = generated_ring(&recorded, &key_folder, key_files, now)?;
                (ring, Some(key_folder))
            }
        };
        settle_keys(&store, &recorded, &keys, path)?;
        Ok(Self { store, keys, key_folder })
    }
}

fn open_store(
    path: &Path,
    has_keys: bool,
    opening: Opening,
    creation: Creation,
    services: Services,
) -> Result<Store, StartError> {
    let Services { clock, metrics, .. } = services;
    match Store::open(path, opening, clock.clone(), Arc::clone(&metrics)) {
        Ok(store) => Ok(store),
        Err(StoreError::Missing) if has_keys && creation == Creation::IfNew => {
            Err(StartError::Refused(format!(
                "the store {} does not exist, but signing keys do: restore the store from a backup, or \
                 say `--init` once (`ds-gateway user add … --init`, or `run --init`), which ends every token and starts without users",
                path.display()
            )))
        }
        Err(StoreError::Missing) => {
            Store::create(path, clock, metrics).map_err(|error| store_error(path, error))
        }
        Err(error) => Err(store_error(path, error)),
    }
}

/// Every key is the one that the store knows by its name, or becomes it.
fn settle_keys(
    store: &Store,
    recorded: &[RecordedKey],
    keys: &KeyRing,
    path: &Path,
) -> Result<(), StartError> {
    let conflict = |kid: String| {
        Err(StartError::Refused(format!(
            "the key {kid:?} is not the one that the store knows by this name: put the old file back, or \
             give the new key another kid"
        )))
    };
    match compare_keys(recorded, keys) {
        // Most starts change nothing, and then they wait for nobody.
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(kid) => return conflict(kid),
    }
    block_on(store.checked()).map_err(|error| store_error(path, error))?;
    let record = RecordKeys { keys: KeyRecord::all(keys) };
    let outcome = block_on(store.execute(record, Actor::operator("ds-gateway", "start")));
    match outcome.map_err(|error| store_error(path, error))? {
        RecordKeysOutcome::Recorded => Ok(()),
        RecordKeysOutcome::Conflict(kid) => conflict(kid),
    }
}

pub(super) fn store_error(path: &Path, error: StoreError) -> StartError {
    StartError::Store(path.to_owned(), error)
}

pub(super) fn file_error(path: &Path) -> impl Fn(io::Error) -> StartError + '_ {
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            StartError::Store(path.to_owned(), StoreError::NotPermitted(error.to_string()))
        }
        _ => StartError::Refused(format!("{}: {error}", path.display())),
    }
}

/// Root becomes whom the folder belongs to, before anything in it is touched: what it makes there must be the gateway's to
/// read, and a link that the gateway's account may have put there leads it nowhere that account could not go.
pub(super) fn become_owner(folder: &Path) -> Result<(), StartError> {
    let owner = fs::metadata(folder).map_err(file_error(folder))?;
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if !geteuid().is_root() || user.is_root() {
        return Ok(());
    }
    let became = setgroups(&[]).and_then(|()| setgid(group)).and_then(|()| setuid(user));
    became.map_err(|error| {
        let text = format!(
            "it belongs to user {user}, whom this process may not become ({error}): run it as that user"
        );
        StartError::Store(folder.to_owned(), StoreError::NotPermitted(text))
    })
}

/// Held until it is dropped.
pub(super) fn lock(folder: &Path, wait: LockWait) -> Result<File, StartError> {
    let path = folder.join("lock");
    let fault = file_error(&path);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(&fault)?;
    let deadline = Instant::now() + wait.timeout;
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let holder = holder(&file).map_or_else(|| "another process".into(), |id| format!("process {id}"));
        let text = format!("{} is locked by {holder}, which opens the store or makes keys", path.display());
        if Instant::now() >= deadline {
            return Err(StartError::Busy(format!("{text}: try again, or end it if it hangs or is stopped")));
        }
        if !std::mem::replace(&mut is_told, true) {
            (wait.tell)(&format!("waiting: {text}"));
        }
        thread::sleep(LOCK_AGAIN);
    }
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

pub(super) fn prepare_folder(folder: &Path) -> Result<(), StartError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file_error(folder))?;
    let mode = fs::metadata(folder).map_err(file_error(folder))?.mode();
    if mode & 0o077 != 0 {
        return Err(StartError::Refused(format!(
            "{0} is open to others (mode {1:o}): run `chmod 700 {0}`",
            folder.display(),
            mode & 0o777
        )));
    }
    Ok(())
}

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

fn generated_ring(
    recorded: &[RecordedKey],
    folder: &Path,
    mut files: Vec<PathBuf>,
    now: UnixTime,
) -> Result<KeyRing, StartError> {
    if files.is_empty() {
        // Key and record are two steps: a key that is not yet recorded is recorded at the next start, one
        // that was recorded and is gone is a loss.
        if recorded.iter().any(|key| !key.revoked) {
            return Err(StartError::Refused(format!(
                "the signing keys in {} are gone, but the store knows of some: restore them from a backup, or \
                 name keys in token.keys",
                folder.display()
            )));
        }
        files.push(generate_key(folder, now, recorded).map_err(file_error(folder))?);
    }
    ring_of(&files)
}

/// The keys that lie in a folder, the oldest first.
pub(super) fn read_ring(folder: &Path) -> Result<KeyRing, StartError> {
    ring_of(&list_keys(folder)?)
}

pub(super) fn ring_of(files: &[PathBuf]) -> Result<KeyRing, StartError> {
    let mut keys = Vec::new();
    for path in files {
        let kid = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let faulty = |text: String| StartError::Refused(format!("the key {kid:?} {text}"));
        let secret = read_secret(path, Links::Refused).map_err(faulty)?;
        let key = Key::new(kid, Algorithm::Hs256, &secret, false);
        keys.push(key.map_err(|error| faulty(error.to_string()))?);
    }
    KeyRing::new(keys).map_err(|error| StartError::Refused(format!("a key {error}")))
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
    let path = free.next().ok_or_else(|| io::Error::other("999 keys on one day are enough"))?;
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

/// How often a lock that somebody else has is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::Fingerprint;
    use crate::clock::Manual;
    use std::sync::atomic::Ordering;

    struct World {
        folder: tempfile::TempDir,
    }

    fn services() -> Services {
        let time = Arc::<Manual>::default();
        time.wall.store(1_700_000_000, Ordering::Relaxed);
        let lock_wait = LockWait { timeout: Duration::from_secs(10), tell: |_| {} };
        Services { clock: Clock::manual(&time, false), metrics: Arc::default(), lock_wait }
    }

    impl World {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn state(&self) -> PathBuf {
            self.folder.path().join("state")
        }

        fn open(&self, creation: Creation) -> Result<State, String> {
            let settings = StoreSettings {
                path: self.state().join("gateway.db"),
                max_staleness: Duration::from_secs(300),
                poll_interval: Duration::from_millis(100),
                heartbeat_interval: Duration::from_secs(5),
                upkeep_interval: Duration::from_secs(60),
            };
            State::open(&self.state(), &settings, SigningKeys::Generated, Opening::Run, creation, services())
                .map_err(|error| error.to_string())
        }
    }

    #[test]
    fn store_and_key_are_made_once_and_found_again() {
        let world = World::new();
        let one = world.open(Creation::IfNew).unwrap();
        assert_eq!(one.keys.signer().kid(), "2023-11-14");
        let two = world.open(Creation::IfNew).unwrap();
        assert_eq!(one.keys.signer().fingerprint(), two.keys.signer().fingerprint());
        assert_eq!(fs::metadata(world.state()).unwrap().mode() & 0o777, 0o700);
        let key = world.state().join("keys/2023-11-14.hs256");
        assert_eq!(fs::metadata(key).unwrap().mode() & 0o777, 0o600);
        let store = world.state().join("gateway.db");
        assert_eq!(fs::metadata(store).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_lost_store_or_key_is_noticed() {
        let world = World::new();
        world.open(Creation::IfNew).unwrap();
        for name in ["gateway.db", "gateway.db-wal", "gateway.db-shm"] {
            let _ = fs::remove_file(world.state().join(name));
        }
        let refusal = world.open(Creation::IfNew).unwrap_err();
        assert!(refusal.contains("does not exist, but signing keys do"), "{refusal}");
        world.open(Creation::Init).unwrap();

        fs::remove_dir_all(world.state().join("keys")).unwrap();
        let refusal = world.open(Creation::IfNew).unwrap_err();
        assert!(refusal.contains("are gone"), "{refusal}");
    }

    #[test]
    fn a_changed_key_is_noticed() {
        let world = World::new();
        world.open(Creation::IfNew).unwrap();
        let key = world.state().join("keys/2023-11-14.hs256");
        fs::write(key, "0123456789abcdef0123456789abcdef").unwrap();
        let refusal = world.open(Creation::IfNew).unwrap_err();
        assert!(refusal.contains("is not the one that the store knows"), "{refusal}");
    }

    #[test]
    fn a_second_key_of_one_day_stands_behind_the_first() {
        let world = World::new();
        let folder = world.open(Creation::IfNew).unwrap().key_folder.unwrap();
        for _ in 0..2 {
            generate_key(&folder, UnixTime(1_700_000_000), &[]).unwrap();
        }
        let ring = read_ring(&folder).unwrap();
        let kids: Vec<&str> = ring.iter().map(Key::kid).collect();
        assert_eq!(kids, ["2023-11-14", "2023-11-14-002", "2023-11-14-003"]);
    }

    #[test]
    fn new_key_has_no_recorded_name_though_its_file_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let recorded = |kid: &str| RecordedKey {
            kid: kid.into(),
            fingerprint: Fingerprint([0; 32]),
            revoked: kid.ends_with('2'),
        };
        let recorded = ["2023-11-14", "2023-11-14-002", "2023-11-14-004"].map(recorded);
        for expected in ["2023-11-14-003", "2023-11-14-005"] {
            let path = generate_key(folder.path(), UnixTime(1_700_000_000), &recorded).unwrap();
            assert_eq!(path.file_stem().unwrap(), expected);
        }
    }

    #[test]
    fn an_open_folder_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let world = World::new();
        fs::create_dir(world.state()).unwrap();
        fs::set_permissions(world.state(), fs::Permissions::from_mode(0o755)).unwrap();
        let refusal = world.open(Creation::IfNew).unwrap_err();
        assert!(refusal.contains("chmod 700"), "{refusal}");
    }
}
