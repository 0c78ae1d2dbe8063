use super::connect::tests::settings;
use super::test_server::{Stop, TestServer};
use super::*;
use crate::config::{Durability, StorePlace};
use crate::store::Store;
use crate::store::command::{Actor, AddUser, Expiry, MintOutcome, RevokeToken};
use crate::store::conformance::samples::{mint_for, new_user};
use std::time::Instant;
use tokio::task::JoinSet;

fn store(server: &TestServer) -> Store {
    let settings = settings(&server.url(&server.create_database()));
    let place = StorePlace::Postgres(Box::new(settings));
    Store::create(&place, Clock::start(), Arc::new(Metrics::new())).unwrap()
}

#[test]
fn the_skew_of_a_clock_is_what_lies_outside_of_the_question() {
    for (before, after, server, expected) in [
        (100, 100, 100, 0),
        (100, 103, 102, 0),
        (100, 103, 107, -4),
        (100, 103, 90, 10),
        (0, 0, u64::MAX, -i64::MAX),
    ] {
        let found = skew(UnixTime(before), UnixTime(after), UnixTime(server));
        assert!(
            found == expected || (expected == -i64::MAX && found < -1_000_000),
            "{before} {after} {server}: {found}"
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// How many mints and revocations a store carries out in a second, with as many callers as wait in a busy gateway. Shown, not asserted.
#[test]
fn mints_of_many_callers_are_committed_together() {
    let server = TestServer::with(super::test_server::Setup::default().set("fsync", "on"));
    let store = store(&server);
    let runtime = runtime();
    let user = runtime.block_on(async {
        store.execute(AddUser { user: new_user("anna") }, Actor::gateway()).await.unwrap().unwrap();
        store.user("anna").await.unwrap().unwrap().user
    });
    let (callers, each) = (200, 20);
    let began = Instant::now();
    let tokens = runtime.block_on(async {
        let mut running = JoinSet::new();
        for _ in 0..callers {
            let (store, user) = (store.clone(), user.clone());
            running.spawn(async move {
                let mut tokens = Vec::new();
                for _ in 0..each {
                    match store.execute(mint_for(user.clone()), Actor::gateway()).await.unwrap() {
                        MintOutcome::Minted(minted, _) => tokens.push((minted.id, minted.expires_at)),
                        other => panic!("{other:?}"),
                    }
                }
                tokens
            });
        }
        running.join_all().await.concat()
    });
    let took = began.elapsed().as_secs_f64();
    println!("{} mints: {:.0}/s", tokens.len(), tokens.len() as f64 / took);
    let began = Instant::now();
    let count = tokens.len();
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for (id, expires_at) in tokens {
            let store = store.clone().with_timeout(Duration::from_secs(60));
            running.spawn(async move {
                let revoke = RevokeToken { id, expiry: Expiry::At(expires_at), user: None };
                loop {
                    match store.execute(revoke.clone(), Actor::gateway()).await {
                        Err(StoreError::QueueFull) => tokio::time::sleep(Duration::from_millis(5)).await,
                        done => break done.unwrap(),
                    }
                }
            });
        }
        running.join_all().await
    });
    println!("{count} revocations: {:.0}/s", count as f64 / began.elapsed().as_secs_f64());
}

/// A commit counts once the standby has it, and as failed where somebody cancels the wait for that.
#[test]
fn remote_apply_is_refused_without_a_standby_and_fails_where_the_wait_is_cancelled() {
    let primary = TestServer::start();
    let mut standby = primary.replica();
    let database = primary.create_database();
    let mut settings = settings(&primary.url(&database));
    settings.durability = Durability::RemoteApply;
    let place = StorePlace::Postgres(Box::new(settings));
    let create = || Store::create(&place, Clock::start(), Arc::new(Metrics::new()));
    let refused = create().unwrap_err();
    assert!(refused.needs_operator() && refused.to_string().contains("waits for no standby"), "{refused}");
    let wait_for = |names: &str| {
        primary.psql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"));
        primary.psql("SELECT pg_reload_conf()");
    };
    wait_for("*");
    let store = create().unwrap();
    let runtime = runtime();
    let add =
        |name: &str| runtime.block_on(store.execute(AddUser { user: new_user(name) }, Actor::gateway()));
    add("anna").unwrap().unwrap();
    standby.stop(Stop::Fast);
    let cancelled = std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let store = store.clone().with_timeout(Duration::from_secs(60));
            runtime.block_on(store.execute(AddUser { user: new_user("bert") }, Actor::gateway()))
        });
        let waiting = "SELECT count(*) FROM (SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' OFFSET 0) AS it WHERE pg_cancel_backend(pid)";
        let began = Instant::now();
        while primary.psql(waiting).trim() == "0" {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(20));
        }
        adding.join().unwrap()
    });
    let error = cancelled.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("one server alone"), "{error}");
    standby.start_again();
    let began = Instant::now();
    while let Err(error) = add("cleo") {
        assert!(began.elapsed() < Duration::from_secs(60), "{error}");
    }
    wait_for("");
    let began = Instant::now();
    while add("dora").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    assert!(add("emil").unwrap_err().to_string().contains("waits for no standby"));
}

/// Its end is noticed before it is used again, though nobody has used it meanwhile.
#[test]
fn the_first_change_after_the_server_was_restarted_is_made() {
    let mut server = TestServer::start();
    let store = store(&server);
    let runtime = runtime();
    for name in ["anna", "bert", "cleo"] {
        let add = AddUser { user: new_user(name) };
        runtime.block_on(store.execute(add, Actor::gateway())).unwrap().unwrap();
        server.stop(Stop::Fast);
        server.start_again();
    }
}
