use super::*;
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::Gate;
use crate::auth::identity::Identity;
use crate::auth::keys::{Algorithm, Key, KeySet};
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::revocation::{RevocationSnapshot, Subject};
use crate::auth::secret::Secret;
use crate::auth::token::TokenRules;
use crate::auth::user_source::SourceName;
use crate::store::Store;
use crate::store::command::{
    FailedLogins, ImportUsers, ImportedUser, NewUser, NoteFailedLogins, RevokeSubject,
};
use crate::store::engine::Engine;
use crate::store::heartbeats::Rhythm;
use crate::store::peers::Peers;
use crate::store::replica::{Replica, Settings};
use std::sync::mpsc;
use std::time::Duration;

/// A worker applies what it has written and asks the gate while the replica waits for the disk: no lock is held meanwhile.
#[test]
fn revocation_is_written_and_applied_while_the_replica_reads() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let engine = Sqlite::create(&folder.path().join("s.db"), clock.clone(), Arc::default()).unwrap();
    let store = Store {
        engine: Arc::new(Engine::Sqlite(engine)),
        clock: clock.clone(),
        peers: Peers::default(),
        timeout: Duration::from_secs(600),
    };
    let secret = Secret::new((0..48).collect());
    let keys = KeySet::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).unwrap()]).unwrap();
    let cache = Cache::new(CacheLimits { entries: 10, bytes: 1 << 20 }, 1, || 0, 0);
    let (snapshot, start) = (RevocationSnapshot::default(), Duration::ZERO);
    let gate = Arc::new(Gate::new(keys, TokenRules::DEFAULT, cache, Duration::MAX, snapshot, start));
    let settings = Settings {
        poll_interval: Duration::from_millis(1),
        heartbeats: Rhythm {
            gateway: "one".into(),
            interval: Duration::from_secs(600),
            max_staleness: Duration::from_secs(600),
        },
        reload: None,
        gap: Arc::default(),
        sequence_waits: Arc::default(),
    };
    // Whatever the feed is asked for from here on waits, as on a disk that stands still.
    let (go_on, waits) = mpsc::channel::<()>();
    let (stands, is_standing) = mpsc::channel();
    let stop = move |_: &mut Feed| {
        stands.send(()).unwrap();
        let _ = waits.recv();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let test = async {
        let replica = Replica::start(store.clone(), Arc::clone(&gate), clock, settings).await.unwrap();
        let Engine::Sqlite(engine) = &*store.engine else { unreachable!() };
        engine.feed.submit(stop).unwrap();
        is_standing.recv().unwrap();
        // More than enough looks for one of them to wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let subject = Subject::User("anna".into());
        let revoke = RevokeSubject { subject: subject.clone() };
        let sequence = store.execute(revoke, Actor::gateway()).await.unwrap();
        assert!(gate.sequence() < sequence, "the replica has not read it");
        gate.apply(|snapshot| snapshot.advance(sequence));
        assert_eq!(gate.sequence(), sequence);
        assert!(store.user("anna").await.unwrap().is_none());
        drop(go_on);
        replica.stop().await;
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await }).expect("no wait");
}

#[test]
fn import_keeps_the_log_short_itself() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = Sqlite::create(&folder.path().join("s.db"), Clock::observer(), Arc::default()).unwrap();
    let imported = |which: u32| {
        let identity = Identity {
            user: Name::parse_user(&format!("user {which:06}")).unwrap(),
            email: "x".repeat(200).into(),
            organization: Name::parse("Main Org.").unwrap(),
        };
        ImportedUser { user: NewUser { identity, phc: Phc::dummy() }, disabled: None }
    };
    let mut left: Vec<ImportedUser> = (0..20 * LOG_PAGES).map(imported).collect();
    while !left.is_empty() {
        let import = ImportUsers { users: left.iter().take(500).cloned().collect(), update: false };
        let done = runtime.block_on(engine.execute(import, Actor::gateway())).unwrap().done();
        left.drain(..done);
    }
    let length = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    let (log, file) = (length("s.db-wal"), length("s.db"));
    assert!(log < u64::from(LOG_PAGES) * 4096 && file > 3 * log, "{log} bytes of {file}");
}

#[test]
fn gateway_keeps_the_log_short_and_the_command_line_leaves_that_to_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let length_of_log = |clock| {
        let folder = tempfile::tempdir().unwrap();
        let engine = Sqlite::create(&folder.path().join("s.db"), clock, Arc::default()).unwrap();
        for _ in 0..4 {
            // More than a gateway lets gather.
            let of = |number| FailedLogins {
                subject: "x".repeat(400),
                origin: format!("{number}"),
                source: SourceName::Store,
                count: 1,
            };
            let failures = (0..5 * LOG_PAGES).map(of).collect();
            runtime.block_on(engine.execute(NoteFailedLogins { failures }, Actor::gateway())).unwrap();
        }
        let length = std::fs::metadata(folder.path().join("s.db-wal")).unwrap().len();
        drop(engine);
        // Who closes last empties it.
        assert!(!folder.path().join("s.db-wal").exists());
        length
    };
    let (gateway, command) = (length_of_log(Clock::start()), length_of_log(Clock::observer()));
    assert!(command > 2 * gateway, "{gateway} bytes, {command} bytes");
}

/// A copy takes the place of nothing, and none is made where there is no folder; reads go on after an error.
#[test]
fn copy_takes_the_place_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy] = ["s.db", "copy.db"].map(|name| folder.path().join(name));
    let engine = Sqlite::create(&path, Clock::start(), Arc::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(engine.back_up(&copy)).unwrap();
    let before = std::fs::read(&copy).unwrap();
    for taken in [&path, &copy] {
        let refused = runtime.block_on(engine.back_up(taken));
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    }
    assert!(runtime.block_on(engine.back_up(&folder.path().join("no").join("s.db"))).is_err());
    assert_eq!(std::fs::read(&copy).unwrap(), before);
    assert_eq!(Sqlite::verify(&copy), Ok(()));
    assert_eq!(runtime.block_on(engine.read(crate::store::sql::sequence::current)), Ok(1));
}
