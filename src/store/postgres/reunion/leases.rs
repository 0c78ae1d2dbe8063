//! What gateways are told of each other, and what counts as durable, where a database is replaced.

use super::world::{NEVER, World, fail_over, folder, follow};
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::Gate;
use crate::auth::time::UnixTime;
use crate::auth::token::TokenRules;
use crate::clock::Clock;
use crate::config::{Durability, StorePlace};
use crate::metrics::Metrics;
use crate::store::command::{Actor, ChangeUser, UserChange};
use crate::store::conformance::samples::user_subject;
use crate::store::heartbeats::Rhythm;
use crate::store::postgres::test_server::{Stop, TestServer};
use crate::store::replica::{Replica, Settings};
use crate::store::{Opening, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A change whose wait for the standby was cancelled is not acknowledged, and neither is the same change the second time.
#[test]
fn unchanged_is_an_acknowledgement_too() {
    let primary = TestServer::start();
    let mut standby = primary.replica();
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.psql("SELECT pg_reload_conf()");
    let mut world = World::new(&[&primary], primary.create_database());
    world.durability = Durability::RemoteApply;
    let one = folder();
    let store = world.create(one.path());
    world.add(&store, "anna");
    drop(store);
    // As the command line does it.
    let store =
        Store::open(&world.place(one.path()), Opening::Command, Clock::observer(), Arc::new(Metrics::new()))
            .unwrap();
    let disable = || {
        let change = ChangeUser { name: "anna".into(), change: UserChange::Disable };
        let store = store.clone().with_timeout(Duration::from_secs(9));
        world.runtime.block_on(store.execute(change, Actor::operator("root", "test")))
    };
    disable().unwrap_or_else(|error| panic!("{error}"));
    world.execute(&store, ChangeUser { name: "anna".into(), change: UserChange::Enable });
    standby.stop(Stop::Fast);
    let first = std::thread::scope(|scope| {
        let changing = scope.spawn(disable);
        let cancel = "SELECT count(*) FROM (SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' OFFSET 0) AS it WHERE pg_cancel_backend(pid)";
        while primary.psql(cancel).trim() == "0" {
            std::thread::sleep(Duration::from_millis(20));
        }
        changing.join().unwrap()
    });
    println!("first: {first:?}");
    let second = disable();
    assert!(first.is_err() && second.is_err(), "the standby is away: {second:?}");
}

/// A backup that was copied into a new database: the state folder knows which keys were revoked since.
#[test]
fn a_key_stays_revoked_in_whatever_database_the_state_folder_is_used_with() {
    use crate::store::command::{RecordKeys, RevokeKey};
    use crate::store::conformance::samples::key_record;
    use crate::store::copy::CopyOptions;
    let server = TestServer::start();
    let mut world = World::new(&[&server], server.create_database());
    let one = folder();
    let store = world.create(one.path());
    world.execute(&store, RecordKeys { keys: vec![key_record("leaked", 1)] });
    let backup = one.path().join("backup.db");
    world.runtime.block_on(store.back_up_to_file(&backup, Box::new(|_| Ok(())))).unwrap();
    world.execute(&store, RevokeKey { kid: "leaked".into(), successors: vec![] });
    drop(store);
    let source =
        Store::open(&StorePlace::Sqlite(backup), Opening::Look, Clock::observer(), Arc::new(Metrics::new()))
            .unwrap();
    world.database = server.create_database();
    let options = CopyOptions { source: "backup".into(), rows: 1000, may_change: false };
    world.runtime.block_on(source.copy_to(&world.place(one.path()), options, Box::new(|_| Ok(())))).unwrap();
    let store =
        Store::open(&world.place(one.path()), Opening::Restored, Clock::start(), Arc::new(Metrics::new()))
            .unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(one.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    println!("{names:?}");
    let snapshot = world.runtime.block_on(store.load()).unwrap();
    assert!(snapshot.is_key_revoked(key_record("leaked", 1).fingerprint));
}

/// A gateway that could not send its first heartbeat signs with no key of which it does not know that others have it.
#[test]
fn nothing_is_signed_by_a_key_that_others_lack_before_the_first_heartbeat() {
    use crate::auth::keys::{Algorithm, Key, KeySet};
    use crate::auth::secret::Secret;
    use crate::store::command::Heartbeat;
    let server = TestServer::start();
    let world = World::new(&[&server], server.create_database());
    let one = folder();
    let store = world.create(one.path());
    let key = |kid, secret: u8| {
        let secret = Secret::new((0..48).map(|byte| byte + 4 * secret).collect());
        Key::new(kid, Algorithm::Hs256, &secret, false).unwrap()
    };
    let heartbeat = Heartbeat {
        gateway: "other".into(),
        applied: 1,
        lease: 300,
        keys: vec![key("old", 1).fingerprint()],
    };
    world.execute(&store, heartbeat);
    let cache = Cache::new(CacheLimits { entries: 10, bytes: 1 << 20 }, 1, || 0, 0);
    let snapshot = world.runtime.block_on(store.load()).unwrap();
    let keys = KeySet::new(vec![key("new", 2), key("old", 1)]).unwrap();
    let gate = Arc::new(Gate::new(keys, TokenRules::DEFAULT, cache, NEVER, snapshot, Duration::ZERO));
    std::thread::scope(|scope| {
        let (server, database) = (&server, &world.database);
        scope.spawn(|| {
            server
                .psql_in(database, "BEGIN; LOCK TABLE gateways IN EXCLUSIVE MODE; SELECT pg_sleep(9); COMMIT")
        });
        std::thread::sleep(Duration::from_millis(300));
        let settings = Settings {
            poll_interval: Duration::from_millis(20),
            heartbeats: Rhythm {
                gateway: "this".into(),
                interval: Duration::from_secs(5),
                max_staleness: Duration::from_secs(300),
            },
            reload: None,
            gap: Arc::default(),
            sequence_waits: Arc::default(),
        };
        let replica = world.runtime.block_on(Replica::start(
            store.clone(),
            Arc::clone(&gate),
            Clock::start(),
            settings,
        ));
        println!("started: {:?}", replica.as_ref().map(drop));
        assert_eq!(gate.signs_with(UnixTime(0)).as_deref(), Some("old"));
    });
}

/// A gateway that is cut off counts as running for as long as it admits anything, also on a primary that lagged behind.
#[test]
fn a_lease_holds_for_as_long_as_its_gateway_admits_on_a_promoted_standby_too() {
    let mut primary = TestServer::start();
    let database = primary.create_database();
    let mut standby = primary.replica();
    let (first, both) =
        (World::new(&[&primary], database.clone()), World::new(&[&primary, &standby], database));
    let folders = [folder(), folder()];
    let store = first.create(folders[0].path());
    first.add(&store, "anna");
    let token = first.mint(&store, "anna");
    let (gate, clock, _replica) = follow(&first, &store, 1, 8);
    std::thread::sleep(Duration::from_secs(2));
    primary.wait_for(&standby);
    standby.stop(Stop::Fast);
    // So far it lags behind.
    std::thread::sleep(Duration::from_secs(6));
    fail_over(&mut primary, &mut standby);
    let other = both.open(folders[1].path()).unwrap();
    both.revoke(&other, user_subject("anna"));
    let began = Instant::now();
    loop {
        let found = both.runtime.block_on(other.acknowledgements()).unwrap();
        let is_leased = found.iter().any(|row| row.gateway == "gateway" && row.is_leased);
        let is_admitted =
            !gate.is_stale(clock.uptime()) && gate.snapshot().check(&token, &TokenRules::DEFAULT).is_ok();
        assert!(
            is_leased || !is_admitted,
            "it admits a revoked token, and nobody waits for it, after {:?}",
            began.elapsed()
        );
        if !is_admitted {
            println!("stale after {:?}", began.elapsed());
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
