//! What of a gateway the database knows: store, gate and replica, as the program wires them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ds_gateway::auth::cache::{Cache, CacheLimits};
use ds_gateway::auth::gate::{Gate, TokenField};
use ds_gateway::auth::keys::{Algorithm, Key, KeySet};
use ds_gateway::auth::secret::Secret;
use ds_gateway::auth::token::TokenRules;
use ds_gateway::clock::Clock;
use ds_gateway::config::{Config, StorePlace};
use ds_gateway::metrics::Metrics;
use ds_gateway::store::heartbeats::Rhythm;
use ds_gateway::store::replica::{Replica, Settings};
use ds_gateway::store::{Opening, Store, block_on};
use ds_gateway::thread_slot;

use crate::postgres_server::TestServer;

/// One of several in this process.
pub struct Gateway {
    pub store: Store,
    gate: Arc<Gate>,
    clock: Clock,
    _replica: Replica,
}

impl Gateway {
    /// Starts the first one of a database.
    pub fn create(place: &StorePlace) -> Self {
        let clock = Clock::start();
        let store = Store::create(place, clock.clone(), Arc::new(Metrics::new())).unwrap();
        Self::start(store, clock, 0)
    }

    /// Starts another one.
    pub fn open(place: &StorePlace, number: usize) -> Self {
        let clock = Clock::start();
        let store = Store::open(place, Opening::Run, clock.clone(), Arc::new(Metrics::new())).unwrap();
        Self::start(store, clock, number)
    }

    fn start(store: Store, clock: Clock, number: usize) -> Self {
        let uptime = clock.uptime();
        let snapshot = block_on(store.load()).unwrap();
        let cache = Cache::new(CacheLimits { entries: 10_000, bytes: 8 << 20 }, 1, thread_slot::current, 42);
        let gate = Gate::new(keys(), TokenRules::DEFAULT, cache, MAX_STALENESS, snapshot, uptime);
        let gate = Arc::new(gate);
        // As a configuration has them that says nothing of it.
        let settings = Settings {
            poll_interval: Duration::from_millis(100),
            heartbeats: Rhythm {
                gateway: format!("bench-{number}"),
                interval: Duration::from_secs(5),
                max_staleness: MAX_STALENESS,
            },
            reload: None,
            gap: Arc::default(),
            sequence_waits: Arc::default(),
        };
        let replica = Replica::start(store.clone(), Arc::clone(&gate), clock.clone(), settings);
        Self { store, gate, clock, _replica: block_on(replica).unwrap() }
    }

    /// Does its gate admit the token?
    pub fn admits(&self, token: &str) -> bool {
        self.gate.admit(TokenField::One(token.as_bytes()), self.clock.read()).is_ok()
    }

    /// Its rules.
    pub fn rules(&self) -> TokenRules {
        self.gate.rules()
    }
}

/// The key of all of them.
pub fn keys() -> KeySet {
    let secret = Secret::new((0..48).collect());
    KeySet::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).unwrap()]).unwrap()
}

/// A database as a configuration names it.
pub fn place(url: &str) -> StorePlace {
    let text = configuration(url);
    let (config, _) = Config::parse(&text, Path::new("/"), std::iter::empty());
    config.unwrap_or_else(|errors| panic!("{errors:?}")).0.store.place
}

/// Of a gateway whose store is there, and that gets no requests.
pub fn configuration(url: &str) -> String {
    let key = TestServer::certificates().join("signing.key");
    format!(
        r#"
[server]
http = ["127.0.0.1:0"]
state_dir = "state"
threads = 1

[admin]
listen = "127.0.0.1:0"

[platform]
servers = ["http://127.0.0.1:9"]

[token]
keys = [{{ kid = "k", algorithm = "HS256", file = {key:?} }}]

[store]
url = {url:?}
"#
    )
}

const MAX_STALENESS: Duration = Duration::from_secs(300);
