//! What a command works with: the configuration, the state that it names, and the account that it acts for.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use nix::unistd::{User, geteuid, getuid};
use once_cell::sync::Lazy;

use super::output::{Failure, note};
use crate::app::ConfigSource;
use crate::auth::gate::Gate;
use crate::auth::keys::KeySet;
use crate::auth::name::Name;
use crate::auth::policy::Policy;
use crate::auth::time::UnixTime;
use crate::auth::token::TokenRules;
use crate::clock::Clock;
use crate::config::{CONFIG_VARIABLE, Config, Materials, PREFIX};
use crate::service::keys::Keys;
use crate::service::retry::Retry;
use crate::service::revocations::Revocations;
use crate::service::tokens;
use crate::service::users::Users;
use crate::state_dir::{Creation, LockWait, Services, State};
use crate::store::block_on;
use crate::store::command::Actor;
use crate::store::{Opening, Store, StoreError};

/// Which configuration a command reads.
#[derive(Args, Debug)]
pub(super) struct ConfigArgs {
    /// The configuration file [env: DS_GATEWAY_CONFIG] [default: ./gateway.toml, then /etc/ds-gateway/gateway.toml]
    // The variable is read here: an empty one is none.
    #[arg(long, value_name = "FILE", hide_default_value = true)]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    /// The file: the one that is named, or the first that is there of those that are looked for.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        let variable =
            || std::env::var_os(CONFIG_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        if let Some(path) = self.config.clone().or_else(variable) {
            return Ok(path);
        }
        let mut places = DEFAULT_CONFIGS.iter().map(PathBuf::from);
        // A link that leads nowhere is found too: it is refused, not passed over.
        let path = places.find(|path| path.symlink_metadata().is_ok()).ok_or_else(|| {
            Failure::usage(format!(
                "there is no configuration: neither {} exists; name one with --config FILE or {CONFIG_VARIABLE}",
                DEFAULT_CONFIGS.join(" nor ")
            ))
        })?;
        check_unnamed(&path).map_err(|text| {
            let shown = path.display();
            Failure::usage(format!("{shown} {text}, and was not named: confirm it with --config {shown}"))
        })?;
        Ok(path)
    }

    pub(super) fn load(&self) -> Result<(Config, Materials), Failure> {
        load(&self.path()?)
    }

    /// Where a gateway that runs reads its configuration again: whatever folder it is in by then, it is the same file.
    pub(super) fn source(&self) -> Result<ConfigSource, Failure> {
        let path = self.path()?;
        let path = std::path::absolute(&path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        Ok(ConfigSource { path, load: reload })
    }

    /// The state folder alone, whatever else is wrong with the file.
    pub(super) fn state_dir(&self) -> Result<PathBuf, Failure> {
        let path = self.path()?;
        match Config::state_dir(&path, variables().map_err(Failure::usage)?.into_iter()) {
            Some(folder) => Ok(folder),
            // Then there is an error to tell, most often that the file is not TOML.
            None => match load(&path) {
                Ok((config, _)) => Ok(config.server.state_dir),
                Err(failure) => Err(failure.after("not reloaded, and what runs goes on")),
            },
        }
    }

    /// What a running gateway works with, or a new store by the same rule as the gateway's.
    pub(super) fn open(&self) -> Result<Opened, Failure> {
        self.open_with(Creation::IfNew)
    }

    /// The same, for what revokes: what others hold is waited for, and a failure says that nothing was revoked.
    pub(super) fn open_to_revoke(&self) -> Result<Opened, Failure> {
        let opened =
            RETRY.call(|| self.open(), |failure: &Failure| failure.code == 75).map_err(not_revoked)?;
        if let Some(until) = opened.observed_until {
            note(format_args!(
                "ds-gateway: routes are observed until {until} UTC (routes.mode): a revocation has no effect on them, since the platform's own check decides there"
            ));
        }
        Ok(opened)
    }

    pub(super) fn open_with(&self, creation: Creation) -> Result<Opened, Failure> {
        let (config, materials) = self.load()?;
        let folder = &config.server.state_dir;
        let clock = Clock::observer();
        let services = Services { clock: clock.clone(), metrics: Arc::default(), lock_wait: LOCK_WAIT };
        let state = State::open(folder, &config.store, materials.keys, Opening::Command, creation, services)?;
        let time = block_on(state.store.time())?;
        clock.advance(time.lived, time.floor);
        let now = clock.now();
        Ok(Opened {
            observed_until: config.observe.map(|observe| observe.until).filter(|until| *until > now),
            clock,
            max_staleness: config.store.max_staleness,
            state_dir: config.server.state_dir.clone(),
            store: state.store.with_timeout(COMMAND_TIMEOUT),
            keys: state.keys,
            key_folder: state.key_folder,
            rules: config.token,
            max_revocations: config.limits.revocations_per_user,
            routes: config.routes,
        })
    }

    /// Its store alone.
    pub(super) fn open_store(&self) -> Result<Store, Failure> {
        Ok(self.open()?.store)
    }

    /// Its users alone.
    pub(super) fn open_users(&self) -> Result<Users, Failure> {
        Ok(users(self.open()?))
    }

    /// The same, to revoke their tokens.
    pub(super) fn open_users_to_revoke(&self) -> Result<Users, Failure> {
        Ok(users(self.open_to_revoke()?))
    }
}

/// The users in what was opened.
pub(super) fn users(opened: Opened) -> Users {
    Users::new(opened.store, ACCOUNT.actor(), RETRY)
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
    /// Create a store even though signing keys exist: revokes every token and starts without users
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
    pub(super) keys: KeySet,
    pub(super) key_folder: Option<PathBuf>,
    pub(super) rules: TokenRules,
    /// `limits.revocations_per_user`
    pub(super) max_revocations: u64,
    pub(super) routes: Policy,
    /// Until when gateways with this configuration observe routes, if they do.
    pub(super) observed_until: Option<UnixTime>,
    /// As a gateway would read it.
    pub(super) clock: Clock,
    pub(super) max_staleness: Duration,
    pub(super) state_dir: PathBuf,
}

impl Opened {
    /// Its keys, to be shown and changed.
    pub(super) fn into_keys(self) -> Keys {
        Keys {
            store: self.store,
            loaded: self.keys,
            key_folder: self.key_folder,
            state_dir: self.state_dir,
            lock_wait: LOCK_WAIT,
            retry: RETRY,
            actor: ACCOUNT.actor(),
            clock: self.clock,
            longest: self.rules.max_lifetime.saturating_add(self.rules.max_skew),
        }
    }

    /// Its revocations.
    pub(super) fn revocations(&self) -> Revocations {
        Revocations::new(self.store.clone(), ACCOUNT.actor(), RETRY)
    }

    /// A gate that decides on this one token as a gateway that starts now would.
    pub(super) fn into_gate_for(self, token: &str) -> Result<(Gate, Policy), Failure> {
        Ok((run(tokens::gate_for(&self.store, self.keys, self.rules, token))?, self.routes))
    }
}

/// The folder that somebody stands in may be anybody's: what was not named must be one's own or root's, and so must the folder
/// that its relative paths begin at. Where a link leads, and so where they begin, is the choice of the account that made the link.
fn check_unnamed(path: &Path) -> Result<(), String> {
    let fault = |error: std::io::Error| format!("cannot be looked at ({error})");
    let metadata = path.symlink_metadata().map_err(fault)?;
    let folder = path.parent().unwrap_or(Path::new(".")).metadata().map_err(fault)?;
    let is_trusted = |owner: u32| owner == 0 || owner == geteuid().as_raw();
    if metadata.is_symlink() {
        return Err("is a symbolic link".into());
    }
    if !is_trusted(metadata.uid()) {
        return Err(format!("belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("may be written by others (mode {:o})", metadata.mode() & 0o777));
    }
    if !is_trusted(folder.uid()) {
        return Err(format!("is in a folder of user {}", folder.uid()));
    }
    Ok(())
}

/// Who runs this command, for the audit trail.
pub(super) struct Account {
    /// Of the real user id: what the system says.
    name: String,
    /// What sudo says; anybody can set a variable, so this is only shown beside it.
    claimed: Option<String>,
}

impl Account {
    /// As the audit trail names it.
    pub(super) fn actor(&self) -> Actor {
        Actor::operator(self.name.as_str(), "command line").claiming(self.claimed.as_deref().map(Into::into))
    }
}

/// Asked before anything else: root may become another.
pub(super) static ACCOUNT: Lazy<Account> = Lazy::new(|| {
    let user = getuid();
    let found = User::from_uid(user).ok().flatten();
    let name = found.map_or_else(|| format!("uid {user}"), |found| found.name);
    let claimed = std::env::var("SUDO_USER").ok().filter(|claimed| *claimed != name);
    let claimed = claimed.and_then(|claimed| Some(Name::parse(&claimed).ok()?.as_str().to_owned()));
    Account { name, claimed }
});

/// Runs a use case to its end.
pub(super) fn run<T, E: Into<Failure>>(use_case: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    block_on(async { Ok::<_, StoreError>(use_case.await) })?.map_err(E::into)
}

/// Whatever stood against it, the tokens are good.
pub(super) fn not_revoked(failure: impl Into<Failure>) -> Failure {
    failure.into().after("not revoked")
}

/// Once for a command, however often it waits.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

fn tell_of_wait(timeout: Duration) {
    if !IS_TOLD.swap(true, Ordering::Relaxed) {
        note(format_args!(
            "ds-gateway: waiting for the store, up to {} s: another process writes to it, or its disk is slow",
            timeout.as_secs()
        ));
    }
}

/// Where the configuration is looked for, if none is named.
const DEFAULT_CONFIGS: [&str; 2] = ["./gateway.toml", "/etc/ds-gateway/gateway.toml"];

/// How a command waits for others that use the store.
pub(super) const RETRY: Retry = Retry { timeout: Duration::from_secs(30), on_wait: tell_of_wait };

/// How a command waits for a process that has the state folder locked.
pub(super) const LOCK_WAIT: LockWait =
    LockWait { timeout: Duration::from_secs(10), tell: |text| eprintln!("ds-gateway: {text}") };

/// How long it waits for a commit: somebody is watching, and a revocation should not be the one that gives up.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn load(path: &Path) -> Result<(Config, Materials), Failure> {
    let variables = variables().map_err(Failure::usage)?;
    Config::load(path, variables.into_iter()).map_err(|errors| Failure::configuration(path, &errors))
}

/// The same for a gateway that runs, with every error by itself.
fn reload(path: &Path) -> Result<(Config, Materials), Vec<String>> {
    let variables = variables().map_err(|error| vec![error])?;
    let loaded = Config::load(path, variables.into_iter());
    loaded.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// The environment, as far as it can be ours.
fn variables() -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        // A name that is no UTF-8 cannot be one of ours.
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) if name.starts_with(PREFIX) => {
                return Err(format!("{name}: the value is not UTF-8: correct or unset it"));
            }
            Err(_) => {}
        }
    }
    Ok(variables)
}
