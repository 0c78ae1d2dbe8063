//! What a command works with: the configuration, the state that it names, and the account that it acts for.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use nix::unistd::{User, getuid};
use once_cell::sync::Lazy;
use tokio::time::{sleep, timeout};

use super::output::{Failure, note};
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::Gate;
use crate::auth::identity::Identity;
use crate::auth::keys::KeySet;
use crate::auth::name::Name;
use crate::auth::policy::Policy;
use crate::auth::revocation::RevocationSnapshot;
use crate::auth::token::TokenRules;
use crate::clock::Clock;
use crate::config::{Config, PREFIX};
use crate::state_dir::{Creation, LockWait, Services, State};
use crate::store::block_on;
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

    /// The same, for what revokes: what others hold is waited for, and a failure says that nothing was revoked.
    pub(super) fn open_to_revoke(&self) -> Result<Opened, Failure> {
        let waiting = Waiting::start();
        loop {
            match self.open() {
                Err(failure) if failure.code == 75 && waiting.goes_on() => thread::sleep(ASK_AGAIN),
                opened => return opened.map_err(not_revoked),
            }
        }
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
    pub(super) heartbeat_interval: Duration,
    /// As a gateway would read it.
    pub(super) clock: Clock,
    pub(super) max_staleness: Duration,
    pub(super) state_dir: PathBuf,
}

impl Opened {
    /// What the store says of keys, and of nothing else.
    pub(super) fn keys_alone(&self) -> Result<RevocationSnapshot, Failure> {
        let mut snapshot = RevocationSnapshot::default();
        for key in block_on(self.store.keys())?.iter().filter(|key| key.revoked) {
            snapshot.revoke_key(key.fingerprint);
        }
        Ok(snapshot)
    }

    /// A gate that decides on this one token as a gateway that starts now would.
    pub(super) fn into_gate_for(self, token: &str) -> Result<(Gate, Policy), Failure> {
        let snapshot = self.keys_alone()?;
        let cache = Cache::new(CacheLimits { entries: 0, bytes: 0 }, 1, || 0, 0);
        let gate = Gate::new(self.keys, self.rules, cache, Duration::MAX, snapshot, Duration::ZERO);
        // One that is not identified is refused for that.
        if let Ok(verified) = gate.identify(token.as_bytes()) {
            let Identity { user, organization, .. } = &verified.identity;
            let about = block_on(self.store.about(user.as_str(), organization.as_str(), verified.id))?;
            gate.apply(|snapshot| about.apply(snapshot));
        }
        Ok((gate, self.routes))
    }
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

/// Carries out a command of the store's for the account that runs this one.
pub(super) fn execute<C: Executable>(store: &Store, command: C) -> Result<C::Outcome, StoreError> {
    block_on(store.execute(command, ACCOUNT.actor()))
}

/// The same for what revokes, and says so where it could not.
pub(super) fn execute_to_revoke<C: Executable + Clone>(
    store: &Store,
    command: C,
) -> Result<C::Outcome, Failure> {
    execute_patiently(store, command).map_err(not_revoked)
}

/// Whatever stood against it, the tokens are good.
pub(super) fn not_revoked(failure: impl Into<Failure>) -> Failure {
    failure.into().after("not revoked")
}

/// Carries out what must not be what gives up: a store that somebody else has locked is waited for, and standard error says
/// so.
pub(super) fn execute_patiently<C: Executable + Clone>(
    store: &Store,
    command: C,
) -> Result<C::Outcome, StoreError> {
    let actor = ACCOUNT.actor();
    block_on(async {
        let waiting = Waiting::start();
        loop {
            let outcome = waiting.run(store.execute(command.clone(), actor.clone())).await;
            match outcome {
                Err(error) if error.is_transient() && waiting.goes_on() => sleep(ASK_AGAIN).await,
                outcome => return outcome,
            }
        }
    })
}

/// Once for a command, however often it waits.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// A wait for others that use the store, of which standard error tells once.
struct Waiting {
    deadline: Instant,
}

impl Waiting {
    fn start() -> Self {
        Self { deadline: Instant::now() + PATIENCE }
    }

    /// Runs an attempt, and tells of the wait while it still runs.
    async fn run<T>(&self, attempt: impl Future<Output = T>) -> T {
        let mut attempt = pin!(attempt);
        if let Ok(done) = timeout(TELL_AFTER, &mut attempt).await {
            return done;
        }
        Self::tell();
        attempt.await
    }

    /// Is there time for another attempt?
    fn goes_on(&self) -> bool {
        Self::tell();
        Instant::now() < self.deadline
    }

    fn tell() {
        if !IS_TOLD.swap(true, Ordering::Relaxed) {
            note(format_args!(
                "ds-gateway: waiting for the store, up to {} s: another process writes to it, or its disk is slow",
                PATIENCE.as_secs()
            ));
        }
    }
}

/// How a command waits for a process that has the state folder locked.
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

/// How long a command waits for others that use the store.
const PATIENCE: Duration = Duration::from_secs(30);

/// Commands that take longer say that they wait.
const TELL_AFTER: Duration = Duration::from_millis(500);

/// Between two attempts; each waits for the store's lock itself.
const ASK_AGAIN: Duration = Duration::from_millis(20);
