//! The state folder: store and keys, opened together or created together, never one without the other.
//!
//! It may use `store` and the layers that all use.

pub mod backup;
pub mod error;
mod key_files;
mod lock;
pub mod login_counts;
pub mod new_key;
pub mod presence;
pub mod privileges;
pub mod restore;
pub mod store_backup;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::key_files::read_key_set;
pub use self::lock::LockWait;

use self::error::{StartError, file_error, store_error};
use self::key_files::{check_key_folder, generated_key_set, key_set_of, list_keys, refuse_lost_keys};
use self::lock::{check_lock, lock};
use self::privileges::{become_owner, check_access, check_folder, find_widened, narrow, prepare_folder};
use crate::auth::keys::KeySet;
use crate::clock::Clock;
use crate::config::{SigningKeys, StorePlace, StoreSettings};
use crate::metrics::Metrics;
use crate::store::command::{Actor, KeyRecord, RecordKeys, RecordKeysOutcome};
use crate::store::records::{RecordedKey, compare_keys};
use crate::store::{Opening, Store, StoreError, block_on};

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

/// What the folder holds, checked against each other.
#[derive(Debug)]
pub struct State {
    /// Users, cutoffs, audit.
    pub store: Store,
    /// The signing keys.
    pub keys: KeySet,
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
        let (place, shown) = (&settings.place, settings.place.shown());
        let path = shown.as_path();
        prepare_folder(folder)?;
        become_owner(folder)?;
        narrow(folder, services.lock_wait.tell)?;
        // Store and keys are made in several steps: one process at a time looks at them or makes them.
        let _lock = lock(folder, services.lock_wait)?;
        let key_folder = folder.join("keys");
        let key_files = list_keys(&key_folder)?;
        let has_keys = matches!(keys, SigningKeys::Configured(_)) || !key_files.is_empty();
        let now = services.clock.now();
        let store = open_store(place, has_keys, opening, creation, services)?;
        let recorded = block_on(store.keys()).map_err(|error| store_error(path, error))?;
        let (keys, key_folder) = match keys {
            SigningKeys::Configured(key_set) => (key_set, None),
            SigningKeys::Generated => {
                let key_set = generated_key_set(&recorded, &key_folder, key_files, now)?;
                (key_set, Some(key_folder))
            }
        };
        settle_keys(&store, &recorded, &keys, path, "start")?;
        Ok(Self { store, keys, key_folder })
    }
}

/// The state folder, as a process has it that lets nobody else open the store or make keys meanwhile.
#[derive(Debug)]
pub struct Entered {
    _lock: std::fs::File,
}

/// Enters the state folder as [`State::open`] does, and opens nothing: root becomes its owner.
pub fn enter(folder: &Path, wait: LockWait) -> Result<Entered, StartError> {
    prepare_folder(folder)?;
    become_owner(folder)?;
    narrow(folder, wait.tell)?;
    Ok(Entered { _lock: lock(folder, wait)? })
}

/// What a start would find in the state folder.
#[derive(Debug)]
pub struct Found {
    /// The store, its keys and where they lie; none where a start would make them.
    pub state: Option<State>,
    /// Is there no store yet?
    pub is_new: bool,
    /// What a start would do.
    pub notes: Vec<String>,
    /// What a start needs.
    pub condition: Option<String>,
}

impl State {
    /// Looks at what [`State::open`] would open, as the same account and by the same rules. Makes and changes nothing.
    pub fn look(
        folder: &Path,
        settings: &StoreSettings,
        keys: SigningKeys,
        services: Services,
    ) -> Result<Found, StartError> {
        let (place, shown) = (&settings.place, settings.place.shown());
        let path = shown.as_path();
        let is_configured = matches!(keys, SigningKeys::Configured(_));
        let mut notes = Vec::new();
        check_folder(folder)?;
        if !folder.exists() {
            if place.file().and_then(Path::parent).is_some_and(|beside| beside != folder) {
                check_store_folder(place)?;
            }
            // A database may be there already: another machine's gateway has made it.
            let SigningKeys::Configured(key_set) = keys else {
                return Ok(Found { state: None, is_new: true, notes, condition: None });
            };
            let Services { clock, metrics, .. } = services;
            return match place.file().map_or_else(
                || Store::open(place, Opening::Look, clock, metrics),
                |_| Err(StoreError::Missing),
            ) {
                Ok(store) => {
                    let recorded = block_on(store.keys()).map_err(|error| store_error(path, error))?;
                    compare_keys(&recorded, &key_set).map_err(|kid| other_key(&kid))?;
                    let state = Some(Self { store, keys: key_set, key_folder: None });
                    Ok(Found { state, is_new: false, notes, condition: None })
                }
                Err(StoreError::Missing) => {
                    Ok(Found { state: None, is_new: true, notes, condition: Some(init_needed(path)) })
                }
                Err(error) => Err(store_error(path, error)),
            };
        }
        become_owner(folder)?;
        let widened = find_widened(folder)?;
        notes.extend(
            widened.iter().map(|found| format!("{}: {found}; a start narrows them", folder.display())),
        );
        check_lock(folder)?;
        let key_folder = folder.join("keys");
        let key_files = list_keys(&key_folder)?;
        let Services { clock, metrics, .. } = services;
        let store = match Store::open(place, Opening::Look, clock, metrics) {
            Ok(store) => store,
            Err(StoreError::Missing) if !key_files.is_empty() => {
                return Err(StartError::Refused(missing_store(path)));
            }
            Err(StoreError::Missing) => {
                check_store_folder(place)?;
                if !is_configured {
                    check_key_folder(&key_folder)?;
                }
                let condition = is_configured.then(|| init_needed(path));
                return Ok(Found { state: None, is_new: true, notes, condition });
            }
            Err(StoreError::Older { .. }) => {
                notes.push(format!(
                    "{}: is of an older version; a start migrates it: back it up first",
                    path.display()
                ));
                return Ok(Found { state: None, is_new: false, notes, condition: None });
            }
            Err(error) => return Err(store_error(path, error)),
        };
        let recorded = block_on(store.keys()).map_err(|error| store_error(path, error))?;
        let (keys, key_folder) = match keys {
            SigningKeys::Configured(key_set) => (key_set, None),
            SigningKeys::Generated if key_files.is_empty() => {
                refuse_lost_keys(&recorded, &key_folder)?;
                check_key_folder(&key_folder)?;
                return Ok(Found { state: None, is_new: false, notes, condition: None });
            }
            // They are no secret until they are narrowed, and would be refused as such.
            SigningKeys::Generated if widened.is_some() => {
                return Ok(Found { state: None, is_new: false, notes, condition: None });
            }
            SigningKeys::Generated => (key_set_of(&key_files)?, Some(key_folder)),
        };
        compare_keys(&recorded, &keys).map_err(|kid| other_key(&kid))?;
        Ok(Found { state: Some(Self { store, keys, key_folder }), is_new: false, notes, condition: None })
    }
}

/// Can a store be made there?
fn check_store_folder(place: &StorePlace) -> Result<(), StartError> {
    let Some(path) = place.file() else { return Ok(()) };
    let folder = path.parent().unwrap_or(Path::new("."));
    match folder.is_dir() {
        true => check_access(folder).map_err(file_error(folder)),
        false => Err(StartError::Refused(format!(
            "store.url: the folder {} is missing: make it, or name a file in server.state_dir",
            folder.display()
        ))),
    }
}

/// On what condition a start makes a store beside keys that the operator has named.
fn init_needed(path: &Path) -> String {
    format!("`--init` is given at the first start, which makes the store {}", path.display())
}

/// Why a start does not make a store by itself.
fn missing_store(path: &Path) -> String {
    format!(
        "the store {} does not exist, but signing keys do: restore the store from a backup, or use `--init` once (`ds-gateway user add … --init`, or `run --init`), which revokes every token and starts without users",
        path.display()
    )
}

fn open_store(
    place: &StorePlace,
    has_keys: bool,
    opening: Opening,
    creation: Creation,
    services: Services,
) -> Result<Store, StartError> {
    let Services { clock, metrics, .. } = services;
    let shown = place.shown();
    let path = shown.as_path();
    match Store::open(place, opening, clock.clone(), Arc::clone(&metrics)) {
        Ok(store) => Ok(store),
        Err(StoreError::Missing) if has_keys && creation == Creation::IfNew => {
            Err(StartError::Refused(missing_store(path)))
        }
        Err(StoreError::Missing) => {
            check_store_folder(place)?;
            Store::create(place, clock, metrics).map_err(|error| store_error(path, error))
        }
        Err(error) => Err(store_error(path, error)),
    }
}

/// Is every key of a running gateway's new configuration the one that the store knows by its name, if it knows one? Changes nothing.
pub fn check_keys(store: &Store, keys: &KeySet, path: &Path) -> Result<(), StartError> {
    let recorded = block_on(store.keys()).map_err(|error| store_error(path, error))?;
    compare_keys(&recorded, keys).map_or_else(|kid| Err(other_key(&kid)), |_| Ok(()))
}

/// Has the store know the keys of a running gateway's new configuration, as a start does.
pub fn record_keys(store: &Store, keys: &KeySet, path: &Path) -> Result<(), StartError> {
    let recorded = block_on(store.keys()).map_err(|error| store_error(path, error))?;
    settle_keys(store, &recorded, keys, path, "reload")
}

/// Every key is the one that the store knows by its name, or becomes it.
fn settle_keys(
    store: &Store,
    recorded: &[RecordedKey],
    keys: &KeySet,
    path: &Path,
    occasion: &'static str,
) -> Result<(), StartError> {
    match compare_keys(recorded, keys) {
        // Most starts change nothing, and then they wait for nobody.
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(kid) => return Err(other_key(&kid)),
    }
    block_on(store.checked()).map_err(|error| store_error(path, error))?;
    let record = RecordKeys { keys: KeyRecord::all(keys) };
    let outcome = block_on(store.execute(record, Actor::operator("ds-gateway", occasion)));
    match outcome.map_err(|error| store_error(path, error))? {
        RecordKeysOutcome::Recorded => Ok(()),
        RecordKeysOutcome::Conflict(kid) => Err(other_key(&kid)),
    }
}

fn other_key(kid: &str) -> StartError {
    StartError::Refused(format!(
        "the key {kid:?} is not the one that the store has recorded under this name: restore the old file, or give the new key another kid"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;
    use crate::config::StorePlace;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

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
                place: StorePlace::Sqlite(self.state().join("gateway.db")),
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
        assert!(refusal.contains("are missing"), "{refusal}");
    }

    #[test]
    fn a_changed_key_is_noticed() {
        let world = World::new();
        world.open(Creation::IfNew).unwrap();
        let key = world.state().join("keys/2023-11-14.hs256");
        fs::write(key, "0123456789abcdef0123456789abcdef").unwrap();
        let refusal = world.open(Creation::IfNew).unwrap_err();
        assert!(refusal.contains("is not the one that the store has recorded"), "{refusal}");
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
