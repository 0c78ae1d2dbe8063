//! The whole gateway in this process, so that the engine's parsers are under coverage too: on free ports of the loopback, with a
//! user and a token of its own. A panic on any of its threads ends the process.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{panic, process, thread};

use ds_gateway::app::{self, Hooks, Listening};
use ds_gateway::auth::identity::Identity;
use ds_gateway::auth::name::Name;
use ds_gateway::auth::password::{HashMemory, Phc};
use ds_gateway::auth::secret::Secret;
use ds_gateway::clock::Clock;
use ds_gateway::config::{Config, SigningKeys};
use ds_gateway::logging::Sink;
use ds_gateway::state_dir::{Creation, LockWait, Services, State};
use ds_gateway::store::command::{Actor, AddUser, NewUser};
use ds_gateway::store::{Opening, block_on};

pub const USER: &str = "myUser";
pub const PASSWORD: &str = "myPassword";

pub struct Gateway {
    pub http: SocketAddr,
    pub https: SocketAddr,
}

/// Starts it in front of a platform that listens here, with or without its fast lane.
pub fn start(platform: &TcpListener, has_lane: bool) -> Gateway {
    // Not removed: the gateway uses it to its end. It is in the folder that .ci/fuzz removes.
    let folder = tempfile::tempdir().expect("a folder").keep();
    let text = format!(
        r#"
        [server]
        http = ["127.0.0.1:0"]
        https = ["127.0.0.1:0"]
        state_dir = "state"
        threads = 1
        fast_lane = {has_lane}
        # Clients here close their half once they have said everything.
        half_close = true
        [admin]
        listen = "127.0.0.1:0"
        [platform]
        servers = ["http://{}"]
        [routes]
        public = ["/ds-api/", "/ds-api/download/*", {{ path = "/ping", methods = ["OPTIONS"] }}]
        lenient = ["/raw/*"]
        [store]
        poll_interval = "50s"
        heartbeat_interval = "100s"
        upkeep_interval = "1h"
        [log]
        format = "text"
        level = "error"
        access = false
        "#,
        platform.local_addr().expect("an address")
    );
    let configuration = || Config::parse(&text, &folder, std::iter::empty()).0.expect("a configuration");
    add_user(&configuration().0);
    let config = configuration();
    let sink = Sink::install(config.0.log.clone());
    thread::spawn(move || {
        let hooks = Hooks {
            announce: Some(Box::new(|listening: &Listening| {
                let _ = ANNOUNCED.set(Listening {
                    https: listening.https.clone(),
                    http: listening.http.clone(),
                    admin: listening.admin.clone(),
                });
            })),
            ..Hooks::default()
        };
        let ended = app::run(config, Opening::Run, Creation::IfNew, &sink, hooks);
        sink.drain();
        eprintln!("the gateway ended: {ended:?}");
        process::abort();
    });
    let listening = ANNOUNCED.wait();
    // In the place of the gateway's own, which lets a panic cost one connection.
    panic::set_hook(Box::new(|info| {
        eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
        process::abort();
    }));
    Gateway { http: listening.http[0], https: listening.https[0] }
}

static ANNOUNCED: OnceLock<Listening> = OnceLock::new();

fn add_user(config: &Config) {
    let lock_wait = LockWait { timeout: Duration::from_secs(10), tell: |_| () };
    let services = Services { clock: Clock::start(), metrics: Arc::default(), lock_wait };
    let (folder, keys) = (&config.server.state_dir, SigningKeys::Generated);
    let state =
        State::open(folder, &config.store, keys, Opening::Run, Creation::IfNew, services).expect("a store");
    let name = |text| Name::parse(text).expect("a name");
    let identity =
        Identity { user: name(USER), email: "my.user@example.com".into(), organization: name("Main Org.") };
    let password = Secret::new(PASSWORD.into());
    let phc = Phc::hash(&password, [7; 16], &mut HashMemory::default()).expect("a hash");
    let command = AddUser { user: NewUser { identity, phc } };
    let added = block_on(state.store.execute(command, Actor::operator("fuzz", "fuzz")));
    added.expect("the store").expect("a new name");
}
