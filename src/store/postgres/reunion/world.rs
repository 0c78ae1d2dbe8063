//! Servers and stores of the tests.

use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::denial::Denial;
use crate::auth::gate::Gate;
use crate::auth::revocation::Subject;
use crate::auth::token::{TokenRules, Verified};
use crate::clock::Clock;
use crate::config::{Durability, PostgresSettings, StorePlace};
use crate::metrics::Metrics;
use crate::store::command::{Actor, AddUser, RevokeSubject};
use crate::store::conformance::samples::{SIGNER, key_set, mint_for, minted, new_user, verified};
use crate::store::heartbeats::Rhythm;
use crate::store::postgres::connect::tests::settings;
use crate::store::postgres::test_server::TestServer;
use crate::store::replica::{Replica, Settings};
use crate::store::{Executable, Opening, Store, StoreError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) database: String,
    pub(super) ports: Vec<u16>,
    pub(super) durability: Durability,
}

impl World {
    pub(super) fn new(servers: &[&TestServer], database: String) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let ports = servers.iter().map(|server| server.port()).collect();
        Self { runtime, database, ports, durability: Durability::Local }
    }

    pub(super) fn settings(&self, state_dir: &Path) -> PostgresSettings {
        let hosts: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let url = format!("postgres://postgres@{}/{}?sslmode=disable", hosts.join(","), self.database);
        let mut settings = settings(&url);
        settings.files.state_dir = Some(state_dir.to_owned());
        settings.durability = self.durability;
        settings
    }

    pub(super) fn place(&self, state_dir: &Path) -> StorePlace {
        StorePlace::Postgres(Box::new(self.settings(state_dir)))
    }

    pub(super) fn create(&self, state_dir: &Path) -> Store {
        Store::create(&self.place(state_dir), Clock::start(), Arc::new(Metrics::new())).unwrap()
    }

    pub(super) fn open(&self, state_dir: &Path) -> Result<Store, StoreError> {
        let began = Instant::now();
        loop {
            match Store::open(&self.place(state_dir), Opening::Run, Clock::start(), Arc::new(Metrics::new()))
            {
                Err(error) if error.is_transient() && began.elapsed() < Duration::from_secs(30) => {}
                opened => return opened,
            }
        }
    }

    /// A gate that knows what the store has now, and does not follow it.
    pub(super) fn gate(&self, store: &Store, max_staleness: Duration) -> Arc<Gate> {
        let snapshot = self.runtime.block_on(store.load()).unwrap();
        let cache = Cache::new(CacheLimits { entries: 10, bytes: 1 << 20 }, 1, || 0, 0);
        let (keys, rules) = (key_set(SIGNER.0, SIGNER.1), TokenRules::DEFAULT);
        Arc::new(Gate::new(keys, rules, cache, max_staleness, snapshot, Duration::ZERO))
    }

    pub(super) fn execute<C: Executable>(&self, store: &Store, command: C) -> C::Outcome {
        self.runtime.block_on(store.execute(command, Actor::gateway())).unwrap()
    }

    pub(super) fn add(&self, store: &Store, name: &str) {
        self.execute(store, AddUser { user: new_user(name) }).unwrap();
    }

    pub(super) fn mint(&self, store: &Store, name: &str) -> Verified {
        let user = self.runtime.block_on(store.user(name)).unwrap().unwrap().user;
        verified(&minted(self.execute(store, mint_for(user))))
    }

    pub(super) fn revoke(&self, store: &Store, subject: Subject) -> u64 {
        self.execute(store, RevokeSubject { subject })
    }

    pub(super) fn unite(&self, store: &Store, gate: &Gate) -> Result<(), StoreError> {
        self.runtime.block_on(store.unite(gate)).map(drop)
    }

    pub(super) fn verdict(&self, store: &Store, token: &Verified) -> Result<(), Denial> {
        self.runtime.block_on(store.load()).unwrap().check(token, &TokenRules::DEFAULT)
    }
}

pub(super) fn fail_over(from: &mut TestServer, to: &mut TestServer) {
    from.kill();
    to.start_again();
    to.promote();
}

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) const NEVER: Duration = Duration::MAX;

pub(super) fn follow(
    world: &World,
    store: &Store,
    interval: u64,
    max_staleness: u64,
) -> (Arc<Gate>, Clock, Replica) {
    let gate = world.gate(store, Duration::from_secs(max_staleness));
    let settings = Settings {
        poll_interval: Duration::from_millis(20),
        heartbeats: Rhythm {
            gateway: "gateway".into(),
            interval: Duration::from_secs(interval),
            max_staleness: Duration::from_secs(max_staleness),
        },
        reload: None,
        gap: Arc::default(),
        sequence_waits: Arc::default(),
    };
    let clock = Clock::start();
    let replica = Replica::start(store.clone(), Arc::clone(&gate), clock.clone(), settings);
    let replica = world.runtime.block_on(replica).unwrap();
    (gate, clock, replica)
}
