use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::denial::Denial;
use crate::auth::gate::Gate;
use crate::auth::revocation::Subject;
use crate::auth::token::{TokenRules, Verified};
use crate::clock::Clock;
use crate::config::{PostgresSettings, StorePlace};
use crate::metrics::Metrics;
use crate::store::command::{
    Actor, AddUser, ChangeUser, Expiry, RecordKeys, RevokeKey, RevokeSubject, RevokeToken, UserChange,
};
use crate::store::conformance::samples::{
    SIGNER, key_record, key_set, mint_for, minted, new_user, organization_subject, user_subject, verified,
};
use crate::store::heartbeats::Rhythm;
use crate::store::postgres::connect::tests::settings;
use crate::store::postgres::test_server::{Stop, TestServer};
use crate::store::replica::{Replica, Settings};
use crate::store::{Executable, Opening, Store, StoreError};

/// A primary and its standby, as gateways name both.
struct Servers {
    primary: TestServer,
    standby: TestServer,
    database: String,
    runtime: Runtime,
}

impl Servers {
    fn start() -> Self {
        let primary = TestServer::start();
        let database = primary.create_database();
        let standby = primary.replica();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { primary, standby, database, runtime }
    }

    fn settings(&self, state_dir: &Path) -> PostgresSettings {
        let (one, other) = (self.primary.port(), self.standby.port());
        let database = &self.database;
        let hosts = format!("127.0.0.1:{one},127.0.0.1:{other}");
        let mut settings = settings(&format!("postgres://postgres@{hosts}/{database}?sslmode=disable"));
        settings.files.state_dir = Some(state_dir.to_owned());
        settings
    }

    fn place(&self, state_dir: &Path) -> StorePlace {
        StorePlace::Postgres(Box::new(self.settings(state_dir)))
    }

    fn open(&self, state_dir: &Path, opening: Opening) -> Result<Store, StoreError> {
        Store::open(&self.place(state_dir), opening, Clock::start(), Arc::new(Metrics::new()))
    }

    /// Opens it as soon as a server accepts writes.
    fn open_again(&self, state_dir: &Path, opening: Opening) -> Result<Store, StoreError> {
        let began = Instant::now();
        loop {
            match self.open(state_dir, opening) {
                Err(error) if error.is_transient() && began.elapsed() < PATIENCE => {}
                opened => return opened,
            }
        }
    }

    /// From here on the standby hears of nothing.
    fn part(&mut self) {
        self.primary.wait_for(&self.standby);
        self.standby.stop(Stop::Fast);
    }

    /// The primary is gone, and what the standby has not heard of with it.
    fn fail_over(&mut self) {
        self.primary.kill();
        self.standby.start_again();
        self.standby.promote();
    }

    fn gateway(&self, store: Store) -> Gateway {
        let snapshot = self.runtime.block_on(store.load()).unwrap();
        let cache = Cache::new(CacheLimits { entries: 10, bytes: 1 << 20 }, 1, || 0, 0);
        let (keys, rules) = (key_set(SIGNER.0, SIGNER.1), TokenRules::DEFAULT);
        let gate = Arc::new(Gate::new(keys, rules, cache, Duration::MAX, snapshot, Duration::ZERO));
        let settings = Settings {
            poll_interval: Duration::from_millis(20),
            heartbeats: Rhythm {
                gateway: format!("gateway-{}", fastrand::u64(..)),
                interval: Duration::from_secs(1),
                max_staleness: Duration::from_secs(2),
            },
            reload: None,
            gap: Arc::default(),
            sequence_waits: Arc::default(),
        };
        let replica = Replica::start(store.clone(), Arc::clone(&gate), Clock::start(), settings);
        let replica = self.runtime.block_on(replica).unwrap();
        Gateway { gate, store, _replica: replica }
    }

    fn execute<C: Executable>(&self, store: &Store, command: C) -> Result<C::Outcome, StoreError> {
        self.runtime.block_on(store.execute(command, Actor::gateway()))
    }

    fn add(&self, store: &Store, name: &str) {
        self.execute(store, AddUser { user: new_user(name) }).unwrap().unwrap();
    }

    fn mint(&self, store: &Store, name: &str) -> Verified {
        let user = self.runtime.block_on(store.user(name)).unwrap().unwrap().user;
        verified(&minted(self.execute(store, mint_for(user)).unwrap()))
    }

    fn revoke(&self, store: &Store, subject: Subject) -> u64 {
        self.execute(store, RevokeSubject { subject }).unwrap()
    }
}

struct Gateway {
    gate: Arc<Gate>,
    store: Store,
    _replica: Replica,
}

impl Gateway {
    fn check(&self, token: &Verified) -> Result<(), Denial> {
        self.gate.snapshot().check(token, &TokenRules::DEFAULT)
    }

    fn has(&self, sequence: u64) {
        eventually("the gateway to have read it", || self.gate.sequence() >= sequence);
    }
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A standby that has not seen the last commits is promoted. The gateway that knows them writes back what it knows of revocations, and no
/// cutoff that was set under a number of the lost history lets a token of that history pass.
#[test]
fn what_a_promoted_standby_has_lost_is_written_back_by_the_gateways_that_know_it() {
    let mut servers = Servers::start();
    let folders: [TempDir; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [one, other, late] = &folders.each_ref().map(|folder| folder.path());
    let created = Store::create(&servers.place(one), Clock::start(), Arc::new(Metrics::new())).unwrap();
    let knowing = servers.gateway(created);
    let store = &knowing.store;
    ["anna", "bert", "cleo", "dora", "emil"].iter().for_each(|name| servers.add(store, name));
    let keys = vec![key_record("retired", 1)];
    servers.execute(store, RecordKeys { keys }).unwrap();
    let tokens = ["anna", "bert", "cleo", "dora", "emil"].map(|name| servers.mint(store, name));
    let [of_anna, of_bert, of_cleo, of_dora, of_emil] = &tokens;
    // So that what was committed up to here is remembered by itself.
    std::thread::sleep(Duration::from_millis(200));
    servers.part();

    // What the standby does not hear of.
    servers.revoke(store, user_subject("anna"));
    let disable = ChangeUser { name: "bert".into(), change: UserChange::Disable };
    servers.execute(store, disable).unwrap();
    let expiry = Expiry::At(of_cleo.expires_at);
    servers.execute(store, RevokeToken { id: of_cleo.id, expiry, user: None }).unwrap();
    let undated = Expiry::Within { max_lifetime: 1000 };
    let unknown = RevokeToken { id: of_emil.id, expiry: undated, user: None };
    servers.execute(store, unknown).unwrap();
    servers.execute(store, RevokeKey { kid: "retired".into(), successors: vec![] }).unwrap();
    servers.add(store, "finn");
    let of_finn = servers.mint(store, "finn");
    let late_token_of_dora = servers.mint(store, "dora");
    let lost = servers.revoke(store, organization_subject("nobody"));
    knowing.has(lost);
    servers.fail_over();

    // Somebody who knows of nothing goes on under the same numbers: this cutoff has a lower one than the token that it is about.
    let ignorant = servers.gateway(servers.open_again(other, Opening::Run).unwrap());
    let began = Instant::now();
    let cutoff = loop {
        match servers.execute(&ignorant.store, RevokeSubject { subject: user_subject("dora") }) {
            Ok(sequence) => break sequence,
            Err(error) => assert!(error.is_transient() && began.elapsed() < PATIENCE, "{error}"),
        }
    };
    println!("lost {lost}, cutoff {cutoff}");
    eventually("both to know everything", || {
        [&knowing, &ignorant].iter().all(|gateway| {
            let is_known = [of_anna, of_bert, of_cleo, of_emil, &of_finn, &late_token_of_dora, of_dora]
                .iter()
                .all(|token| gateway.check(token).is_err());
            // What is read says up to where at its end.
            is_known
                && gateway.gate.sequence() > lost + 1_000_000
                && gateway.gate.snapshot().is_key_revoked(key_record("retired", 1).fingerprint)
        })
    });
    for gateway in [&knowing, &ignorant] {
        let found = [of_anna, of_bert, of_cleo, of_emil, &of_finn, &late_token_of_dora, of_dora]
            .map(|token| gateway.check(token).unwrap_err());
        let token = Denial::RevokedToken;
        let user = Denial::RevokedUser;
        assert_eq!(found, [user, user, token, token, user, user, user]);
    }

    // Whoever starts now reads the same, and what was on its machine before is no reason not to.
    drop(knowing);
    let started = servers.gateway(servers.open_again(one, Opening::Run).unwrap());
    let snapshot = started.gate.snapshot();
    assert_eq!(snapshot.check(of_bert, &TokenRules::DEFAULT), Err(Denial::RevokedUser));
    assert!(servers.runtime.block_on(started.store.user("bert")).unwrap().unwrap().user.disabled);
    assert_eq!(snapshot.check(of_cleo, &TokenRules::DEFAULT), Err(Denial::RevokedToken));
    // Who was revoked and is there gets tokens again.
    servers.add(&started.store, "gina");
    for name in ["anna", "cleo", "dora", "gina"] {
        let token = servers.mint(&started.store, name);
        assert_eq!(started.check(&token), Ok(()), "{name}");
    }
    let reopened = servers.gateway(servers.open_again(late, Opening::Run).unwrap());
    assert_eq!(reopened.check(&of_finn), Err(Denial::RevokedUser));
}

/// Nobody who runs knows what is lost. A machine whose state folder does refuses to start, until it is told that the database was restored.
#[test]
fn a_start_notices_what_its_state_folder_knows_and_the_database_has_lost() {
    let mut servers = Servers::start();
    let folders: [TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [one, other] = &folders.each_ref().map(|folder| folder.path());
    let store = Store::create(&servers.place(one), Clock::start(), Arc::new(Metrics::new())).unwrap();
    servers.add(&store, "anna");
    let of_anna = servers.mint(&store, "anna");
    let keys = vec![key_record("retired", 1)];
    servers.execute(&store, RecordKeys { keys }).unwrap();
    servers.part();
    servers.execute(&store, RevokeKey { kid: "retired".into(), successors: vec![] }).unwrap();
    let lost = servers.revoke(&store, user_subject("anna"));
    drop(store);
    servers.fail_over();
    for opening in [Opening::Run, Opening::Command, Opening::Look] {
        let refused = servers.open_again(one, opening).unwrap_err();
        assert!(matches!(refused, StoreError::Rewound { known, .. } if known == lost), "{refused:?}");
    }
    // Somebody who knows of nothing comes further.
    let ignorant = servers.open_again(other, Opening::Run).unwrap();
    (0..9).for_each(|number| servers.add(&ignorant, &format!("user-{number}")));
    assert!(matches!(servers.open(one, Opening::Run), Err(StoreError::Rewound { .. })));
    let running = servers.gateway(ignorant);
    let restored = servers.gateway(servers.open(one, Opening::Restored).unwrap());
    for gateway in [&restored, &running] {
        gateway.has(lost + 1_000_000);
        assert_eq!(gateway.check(&of_anna), Err(Denial::RevokedEverybody));
        let snapshot = gateway.gate.snapshot();
        assert!(snapshot.is_key_revoked(key_record("retired", 1).fingerprint));
    }
    drop(restored);
    servers.add(&servers.open(one, Opening::Run).unwrap(), "bert");
}

/// Longer than servers and gateways take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
