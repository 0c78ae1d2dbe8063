//! What a command works with: the configuration, the state that it names, and the account that it acts for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nix::unistd::getuid;
use once_cell::sync::Lazy;

use super::output::Failure;
use crate::app::block_on;
use crate::app::state::{Creation, LockWait, Services, State};
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::Gate;
use crate::auth::keys::KeyRing;
use crate::auth::policy::Policy;
use crate::auth::token::TokenRules;
use crate::clock::Clock;
use crate::config::{Config, PREFIX};
use crate::store::command::Actor;
use crate::store::{Executable, Opening, Store, StoreError};

/// Which configuration a command reads.
#[derive(Args, Debug)]
pub(super) struct ConfigArgs {
    /// The configuration file
    #[arg(long, env = "DS_GATEWAY_CONFIG", value_name = "FILE")]
    pub(super) config: PathBuf,
}

impl ConfigArgs {
    pub(super) fn load(&self) -> Result<Config, Failure> {
        load(&self.config)
    }

    /// What a running gateway works with, or a new store by the same rule as the gateway's.
    pub(super) fn open(&self) -> Result<Opened, Failure> {
        self.open_with(Creation::IfNew)
    }

    pub(super) fn open_with(&self, creation: Creation) -> Result<Opened, Failure> {
        let config = self.load()?;
        let folder = &config.server.state_dir;
        let clock = Clock::observer();
        let services = Services { clock: clock.clone(), metrics: Arc::default(), lock_wait: LOCK_WAIT };
        let state = State::open(folder, &config.store, config.keys, Opening::Command, creation, services)?;
        let time = block_on(state.store.time())?;
        clock.advance(time.lived, time.floor);
        Ok(Opened {
            clock,
            heartbeat_interval: config.store.heartbeat_interval,
            store: state.store.with_timeout(COMMAND_TIMEOUT),
            keys: state.keys,
            key_folder: state.key_folder,
            rules: config.token,
            routes: config.routes,
        })
    }

    /// Its store alone.
    pub(super) fn open_store(&self) -> Result<Store, Failure> {
        Ok(self.open()?.store)
    }
}

/// How `run` treats the store that it finds.
#[derive(Args, Debug)]
pub(super) struct RestoredArgs {
    /// The store was restored from a backup or copied: revoke every token issued so far, once
    #[arg(long)]
    restored: bool,
}

impl RestoredArgs {
    pub(super) fn opening(&self) -> Opening {
        if self.restored { Opening::Restored } else { Opening::Run }
    }
}

/// May a store be created?
#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// Create a store even though signing keys exist: every token ends, and there are no users
    #[arg(long)]
    pub(super) init: bool,
}

impl InitArgs {
    pub(super) fn creation(&self) -> Creation {
        if self.init { Creation::Init } else { Creation::IfNew }
    }
}

/// What a running gateway works with.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) keys: KeyRing,
    pub(super) key_folder: Option<PathBuf>,
    pub(super) rules: TokenRules,
    pub(super) routes: Policy,
    pub(super) heartbeat_interval: Duration,
    /// As a gateway would read it.
    pub(super) clock: Clock,
}

impl Opened {
    /// A gate as a gateway that starts now would have it.
    pub(super) fn into_gate(self) -> Result<(Gate, Policy), Failure> {
        let standing = block_on(self.store.load())?;
        let cache = Cache::new(CacheLimits { entries: 0, bytes: 0 }, 1, 0);
        let gate = Gate::new(self.keys, self.rules, cache, Duration::MAX, standing, Duration::ZERO);
        Ok((gate, self.routes))
    }
}

/// Who runs this command, for the audit trail. Asked before anything else: root may become another.
pub(super) static ACCOUNT: Lazy<String> = Lazy::new(|| {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| format!("uid {}", getuid()))
});

/// Carries out a command of the store's for the account that runs this one.
pub(super) fn execute<C: Executable>(store: &Store, command: C) -> Result<C::Outcome, StoreError> {
    block_on(store.execute(command, Actor::new(ACCOUNT.as_str(), "command line")))
}

/// How a command waits for whoever has the state folder locked.
pub(super) const LOCK_WAIT: LockWait =
    LockWait { timeout: Duration::from_secs(10), tell: |text| eprintln!("ds-gateway: {text}") };

/// How long it waits for a commit: somebody is watching, and a revocation should not be the one that gives up.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn load(path: &Path) -> Result<Config, Failure> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        // A name that is no UTF-8 cannot be one of ours.
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) if name.starts_with(PREFIX) => {
                return Err(Failure::usage(format!("{name}: the value is not UTF-8: correct or unset it")));
            }
            Err(_) => {}
        }
    }
    Config::load(path, variables.into_iter()).map_err(|faults| Failure::faults(path, &faults))
}
