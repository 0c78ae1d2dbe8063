//! What a reunion must not lose, and must not do.

use super::world::{NEVER, World, fail_over, folder};
use crate::auth::token::Verified;
use crate::store::command::{ChangeUser, UserChange};
use crate::store::conformance::samples::user_subject;
use crate::store::postgres::test_server::{Stop, TestServer};
use crate::store::{Store, StoreError};
use std::path::Path;
use std::time::{Duration, Instant};

/// A start passes once its loss was written back, and not once somebody has begun to.
#[test]
fn gateway_that_ends_while_it_unites_has_mended_nothing() {
    let mut primary = TestServer::start();
    let database = primary.create_database();
    let mut standby = primary.replica();
    let world = World::new(&[&primary, &standby], database);
    let one = folder();
    let store = world.create(one.path());
    world.add(&store, "anna");
    let token = world.mint(&store, "anna");
    drop(world.runtime.block_on(store.load()).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    primary.wait_for(&standby);
    standby.stop(Stop::Fast);
    world.revoke(&store, user_subject("anna"));
    let gate = world.gate(&store, NEVER);
    fail_over(&mut primary, &mut standby);
    std::thread::scope(|scope| {
        let (standby, database) = (&standby, &world.database);
        // A database that answers slowly: the gateway reads revoked tokens for longer than it lives.
        scope.spawn(|| {
            standby.psql_in(
                database,
                "BEGIN; LOCK TABLE revoked_tokens IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(16); COMMIT",
            )
        });
        std::thread::sleep(Duration::from_millis(500));
        println!("unite: {:?}", world.unite(&store, &gate));
    });
    println!("forks: {}", standby.psql_in(&world.database, "SELECT * FROM forks"));
    // It is killed here.
    drop((store, gate));
    match world.open(one.path()) {
        Err(refused) => assert!(matches!(refused, StoreError::Rewound { .. }), "{refused}"),
        Ok(store) => assert_ne!(
            world.verdict(&store, &token),
            Ok(()),
            "the start passes, and so does the revoked token"
        ),
    }
}

/// The gateway whose writer came further than its memory has not written back what it had not read.
#[test]
fn what_the_uniting_gateway_had_not_read_is_not_mended() {
    let mut primary = TestServer::start();
    let database = primary.create_database();
    let mut standby = primary.replica();
    let world = World::new(&[&primary, &standby], database);
    let folders = [folder(), folder()];
    let revoking = world.create(folders[0].path());
    world.add(&revoking, "anna");
    world.add(&revoking, "bert");
    let token = world.mint(&revoking, "anna");
    let minting = world.open(folders[1].path()).unwrap();
    let gate = world.gate(&minting, NEVER);
    std::thread::sleep(Duration::from_millis(200));
    primary.wait_for(&standby);
    standby.stop(Stop::Fast);
    let lost = world.revoke(&revoking, user_subject("anna"));
    // Committed by the other one before its feed has come that far.
    world.mint(&minting, "bert");
    drop(revoking);
    fail_over(&mut primary, &mut standby);
    world.unite(&minting, &gate).unwrap();
    println!("lost {lost}; forks: {}", standby.psql_in(&world.database, "SELECT * FROM forks"));
    is_not_forgotten(&world, folders[0].path(), &token);
}

/// A fork of a later history, under the same numbers, says nothing of what an earlier one has lost.
#[test]
fn a_second_fork_does_not_mend_the_first() {
    let mut primary = TestServer::start();
    let database = primary.create_database();
    let mut first = primary.replica();
    let mut world = World::new(&[&primary, &first], database);
    let folders = [folder(), folder()];
    let knowing = world.create(folders[0].path());
    world.add(&knowing, "anna");
    let token = world.mint(&knowing, "anna");
    primary.wait_for(&first);
    first.stop(Stop::Fast);
    let lost = world.revoke(&knowing, user_subject("anna"));
    drop(knowing);
    fail_over(&mut primary, &mut first);
    let mut second = first.replica();
    world.ports.push(second.port());
    // It knows nothing of what was lost.
    let ignorant = world.open(folders[1].path()).unwrap();
    (0..5).for_each(|number| world.add(&ignorant, &format!("user-{number}")));
    first.wait_for(&second);
    second.stop(Stop::Fast);
    world.add(&ignorant, "last");
    let gate = world.gate(&ignorant, NEVER);
    fail_over(&mut first, &mut second);
    world.unite(&ignorant, &gate).unwrap();
    println!("lost {lost}; forks: {}", second.psql_in(&world.database, "SELECT * FROM forks"));
    is_not_forgotten(&world, folders[0].path(), &token);
}

/// What one gateway has written back is not written back again by those that come later: users and operators have gone on.
#[test]
fn a_gateway_that_comes_later_ends_nothing_that_is_newer_than_the_fork() {
    let mut primary = TestServer::start();
    let database = primary.create_database();
    let mut standby = primary.replica();
    let world = World::new(&[&primary, &standby], database);
    let folders = [folder(), folder()];
    let store = world.create(folders[0].path());
    let later = world.open(folders[1].path()).unwrap();
    ["anna", "bert"].iter().for_each(|name| world.add(&store, name));
    for store in [&store, &later] {
        drop(world.runtime.block_on(store.load()).unwrap());
    }
    std::thread::sleep(Duration::from_millis(200));
    primary.wait_for(&standby);
    standby.stop(Stop::Fast);
    world.revoke(&store, user_subject("anna"));
    world.execute(&store, ChangeUser { name: "bert".into(), change: UserChange::Disable });
    let gates = [world.gate(&store, NEVER), world.gate(&later, NEVER)];
    fail_over(&mut primary, &mut standby);
    world.unite(&store, &gates[0]).unwrap();
    let token = world.mint(&store, "anna");
    world.execute(&store, ChangeUser { name: "bert".into(), change: UserChange::Enable });
    assert_eq!(world.verdict(&store, &token), Ok(()));
    // Minutes later: it was paused, or cut off.
    world.unite(&later, &gates[1]).unwrap();
    let rows = standby.psql_in(
        &world.database,
        "SELECT action, subject, count(*) FROM audit WHERE action = 'revocation_restored' GROUP BY 1, 2",
    );
    let disabled = world.runtime.block_on(store.user("bert")).unwrap().unwrap().user.disabled;
    let found = (world.verdict(&store, &token), disabled);
    assert_eq!(found, (Ok(()), false), "{rows}");
}

/// Two failovers in a row: after the first a gateway remembers one commit, and the second standby does not have that.
#[test]
fn a_second_fork_ends_no_token_that_nobody_revoked() {
    let mut primary = TestServer::start();
    let database = primary.create_database();
    let (mut first, mut second) = (primary.replica(), primary.replica());
    let world = World::new(&[&primary, &first, &second], database);
    let one = folder();
    let store = world.create(one.path());
    ["anna", "zoe"].iter().for_each(|name| world.add(&store, name));
    let token = world.mint(&store, "zoe");
    drop(world.runtime.block_on(store.load()).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    for standby in [&mut first, &mut second] {
        primary.wait_for(standby);
        standby.stop(Stop::Fast);
    }
    world.revoke(&store, user_subject("anna"));
    let gate = world.gate(&store, NEVER);
    fail_over(&mut primary, &mut first);
    world.unite(&store, &gate).unwrap();
    assert_eq!(world.verdict(&store, &token), Ok(()));
    fail_over(&mut first, &mut second);
    world.unite(&store, &gate).unwrap();
    assert_eq!(world.verdict(&store, &token), Ok(()));
}

/// A gateway that has written back all that it knew starts again, though another one that knew less had found the fork.
#[test]
fn a_gateway_that_has_united_may_start_again() {
    let mut primary = TestServer::start();
    let database = primary.create_database();
    let mut standby = primary.replica();
    let world = World::new(&[&primary, &standby], database);
    let folders = [folder(), folder()];
    let store = world.create(folders[0].path());
    world.add(&store, "anna");
    let other = world.open(folders[1].path()).unwrap();
    for store in [&store, &other] {
        drop(world.runtime.block_on(store.load()).unwrap());
    }
    std::thread::sleep(Duration::from_millis(200));
    primary.wait_for(&standby);
    standby.stop(Stop::Fast);
    world.revoke(&store, user_subject("bert"));
    let earlier = world.gate(&other, NEVER);
    world.revoke(&store, user_subject("anna"));
    let gate = world.gate(&store, NEVER);
    fail_over(&mut primary, &mut standby);
    world.unite(&other, &earlier).unwrap();
    world.unite(&store, &gate).unwrap();
    // Before its next heartbeat.
    drop(store);
    assert_eq!(world.open(folders[0].path()).map(drop), Ok(()));
}

/// A read that has waited since before the fork was mended finds no other fork.
#[test]
fn a_read_that_waited_while_gateways_united_is_no_fork() {
    let server = TestServer::start();
    let world = World::new(&[&server], server.create_database());
    let one = folder();
    let store = world.create(one.path());
    world.add(&store, "anna");
    let gate = world.gate(&store, NEVER);
    std::thread::scope(|scope| {
        let (server, database, world, store) = (&server, &world.database, &world, &store);
        scope.spawn(|| server.psql_in(database, "BEGIN; LOCK TABLE unlocks, known_sources IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT"));
        std::thread::sleep(Duration::from_millis(300));
        let source = None;
        // A login that the database answers slowly, and another behind it.
        scope.spawn(move || {
            println!("slow: {:?}", world.runtime.block_on(store.login_record("anna", source)).is_ok())
        });
        std::thread::sleep(Duration::from_millis(300));
        scope.spawn(move || println!("behind: {:?}", world.runtime.block_on(store.time()).map(drop)));
        std::thread::sleep(Duration::from_millis(300));
        server.psql_in(database, "DELETE FROM commits; UPDATE sequence SET number = 1");
        world.unite(store, &gate).unwrap();
        assert_eq!(world.runtime.block_on(store.changes(gate.sequence(), 10)).map(drop), Ok(()));
    });
    assert_eq!(
        world.runtime.block_on(store.changes(gate.sequence(), 10)).map(drop),
        Ok(()),
        "it unites once more"
    );
}

/// How long gateways that know the same are not ready when all unite at once, and that each ends.
#[test]
fn gateways_that_unite_at_once_write_each_loss_back_once() {
    let server = TestServer::start();
    let world = World::new(&[&server], server.create_database());
    let folders = [folder(), folder(), folder()];
    let stores: Vec<Store> = folders
        .iter()
        .enumerate()
        .map(
            |(at, folder)| {
                if at == 0 { world.create(folder.path()) } else { world.open(folder.path()).unwrap() }
            },
        )
        .collect();
    for number in 0..200 {
        world.add(&stores[0], &format!("user-{number}"));
    }
    let before = server.psql_in(&world.database, "SELECT number FROM sequence");
    for store in &stores {
        drop(world.gate(store, NEVER));
    }
    std::thread::sleep(Duration::from_millis(200));
    for number in 0..200 {
        world.revoke(&stores[0], user_subject(&format!("user-{number}")));
    }
    let gates: Vec<_> = stores.iter().map(|store| world.gate(store, NEVER)).collect();
    // The state of before, as a backup has it.
    server.psql_in(&world.database, &format!("DELETE FROM commits WHERE number > {before}; UPDATE sequence SET number = {before}; UPDATE marks SET number = {before} WHERE number > {before}; DELETE FROM audit WHERE number > {before}"));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (store, gate) in stores.iter().zip(&gates) {
            let world = &world;
            scope.spawn(move || println!("{:?} after {:?}", world.unite(store, gate), began.elapsed()));
        }
    });
    let rows =
        server.psql_in(&world.database, "SELECT count(*) FROM audit WHERE action = 'revocation_restored'");
    let forks = server.psql_in(&world.database, "SELECT count(*) FROM forks");
    assert_eq!((rows.as_str(), forks.as_str()), ("200", "1"));
}

/// Somebody was led to a standby that lags behind, and back: nothing is lost, and nothing is in the way of going on.
#[test]
fn commits_that_are_there_again_end_the_fork() {
    let server = TestServer::start();
    let (world, folder) = (World::new(&[&server], server.create_database()), folder());
    let store = world.create(folder.path());
    world.add(&store, "anna");
    let gate = world.gate(&store, NEVER);
    let look = || world.runtime.block_on(store.changes(gate.sequence(), 10));
    look().unwrap();
    let sql = |sql: &str| server.psql_in(&world.database, sql);
    sql("CREATE TABLE aside AS SELECT * FROM commits; DELETE FROM commits");
    assert!(matches!(look(), Err(StoreError::Forked { .. })));
    sql("INSERT INTO commits SELECT * FROM aside");
    world.unite(&store, &gate).unwrap();
    look().unwrap();
    world.add(&store, "bert");
    assert_eq!(sql("SELECT count(*) FROM forks"), "0");
}

/// A start is refused, or refuses a token that was revoked.
fn is_not_forgotten(world: &World, state_dir: &Path, token: &Verified) {
    match world.open(state_dir) {
        Err(refused) => assert!(matches!(refused, StoreError::Rewound { .. }), "{refused}"),
        Ok(store) => assert_ne!(
            world.verdict(&store, token),
            Ok(()),
            "the start passes, and so does the revoked token"
        ),
    }
}
