//! The command line: subcommands, one file a noun, and what their ends mean to a script.

mod audit;
mod check;
mod demo;
mod key;
mod completions;
mod revoke;
mod run;
mod token;
mod user;

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nix::unistd::getuid;
use once_cell::sync::Lazy;
use zeroize::Zeroizing;

use crate::app::state::{Creation, Services, State};
use crate::app::{StartError, block_on};
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::Gate;
use crate::auth::keys::KeyRing;
use crate::auth::policy::Policy;
use crate::auth::token::TokenRules;
use crate::clock::Clock;
use crate::config::{Config, Fault, PREFIX};
use crate::store::command::Actor;
use crate::store::{Executable, Opening, Store, StoreError};

/// The authentication gateway in front of the Datasentinel platform API.
///
/// It answers /ds-api/user-token itself (HTTP Basic in, a 24-hour token out) and checks the user-token
/// header on everything else before a byte reaches the platform.
///
/// Try it: `ds-gateway demo`. Run it: `ds-gateway run --config FILE`.
#[derive(Debug, Parser)]
#[command(name = "ds-gateway", version = VERSION, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run(run::Run),
    /// Check a configuration: every fault at once, and warnings of dangerous choices
    Check(check::Check),
    /// Run a gateway to play with: loopback only, a stand-in platform, a user, all gone at the end
    Demo(demo::Demo),
    /// Add, change, list and remove users
    User(user::User),
    /// Mint, inspect and explain tokens
    Token(token::Token),
    /// Make and list signing keys
    Key(key::Key),
    /// End tokens before their time
    Revoke(revoke::Revoke),
    /// Who did what, when and from where
    Audit(audit::Audit),
    /// Print completions for a shell
    Completions(completions::Completions),
}

/// `0.1.0 (commit, profile, compiler)`
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("BUILD_COMMIT"),
    ", ",
    env!("BUILD_PROFILE"),
    ", ",
    env!("BUILD_RUSTC"),
    ")"
);

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   cannot start
  64  wrong usage, or faults in the configuration
  65  no such thing, or faults in imported data
  75  try again
  77  not permitted";

/// Which configuration a command reads.
#[derive(Args, Debug)]
struct ConfigArgs {
    /// The configuration file
    #[arg(long, env = "DS_GATEWAY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, Failure> {
        load(&self.config)
    }

    /// What a running gateway works with, or a new store by the same rule as the gateway's.
    fn open(&self) -> Result<Opened, Failure> {
        self.open_with(Creation::IfNew)
    }

    fn open_with(&self, creation: Creation) -> Result<Opened, Failure> {
        let config = self.load()?;
        let folder = &config.server.state_dir;
        let services = Services { clock: Clock::start(), metrics: Arc::default() };
        let state = State::open(folder, &config.store, config.keys, Opening::Command, creation, services)?;
        Ok(Opened {
            heartbeat_interval: config.store.heartbeat_interval,
            store: state.store,
            keys: state.keys,
            key_folder: state.key_folder,
            rules: config.token,
            routes: config.routes,
        })
    }

    /// Its store alone.
    fn open_store(&self) -> Result<Store, Failure> {
        Ok(self.open()?.store)
    }
}

/// May a store be created?
#[derive(Args, Debug)]
struct InitArgs {
    /// Create a store even though signing keys exist: every token ends, and there are no users
    #[arg(long)]
    init: bool,
}

impl InitArgs {
    fn creation(&self) -> Creation {
        if self.init { Creation::Init } else { Creation::IfNew }
    }
}

/// What a running gateway works with.
struct Opened {
    store: Store,
    keys: KeyRing,
    key_folder: Option<PathBuf>,
    rules: TokenRules,
    routes: Policy,
    heartbeat_interval: Duration,
}

impl Opened {
    /// A gate as a gateway that starts now would have it.
    fn into_gate(self) -> Result<(Gate, Policy), Failure> {
        let standing = block_on(self.store.load())?;
        let cache = Cache::new(CacheLimits { entries: 0, bytes: 0 }, 1, 0);
        let gate = Gate::new(self.keys, self.rules, cache, Duration::MAX, standing, Duration::ZERO);
        Ok((gate, self.routes))
    }
}

/// Who runs this command, for the audit trail. Asked before anything else: root may become another.
static ACCOUNT: Lazy<String> = Lazy::new(|| {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| format!("uid {}", getuid()))
});

/// Carries out a command of the store's for the account that runs this one.
fn execute<C: Executable>(store: &Store, command: C) -> Result<C::Outcome, StoreError> {
    block_on(store.execute(command, Actor::new(ACCOUNT.as_str(), "command line")))
}

fn load(path: &Path) -> Result<Config, Failure> {
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

/// The text of a file, `-` for standard input, up to so many bytes. It may hold a secret.
fn read_input(file: &Path, most: u64) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    Ok(text)
}

/// Prints a line of the answer.
fn say(line: impl fmt::Display) -> Result<(), Failure> {
    print(format_args!("{line}\n").to_string().as_bytes())
}

/// Writes to standard output. A reader that went away is no fault; an answer that is lost is one.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::cannot_start(format!("the answer cannot be written to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Why a command did not do what it was asked, and the exit code that says so.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn cannot_start(text: impl fmt::Display) -> Self {
        Self { code: 1, text: text.to_string() }
    }

    fn usage(text: impl fmt::Display) -> Self {
        Self { code: 64, text: text.to_string() }
    }

    fn no_such(text: impl fmt::Display) -> Self {
        Self { code: 65, text: text.to_string() }
    }

    fn faults(path: &Path, faults: &[Fault]) -> Self {
        let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let count = match faults.len() {
            1 => "one fault".to_owned(),
            count => format!("{count} faults"),
        };
        Self::usage(format!("{} has {count}:\n{}", path.display(), lines.join("\n")))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::NotPermitted(_) => 77,
            _ if error.is_transient() => 75,
            _ => 1,
        };
        Self { code, text: error.to_string() }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let text = error.to_string();
        match error {
            StartError::Store(_, error) => Self { text, ..error.into() },
            _ => Self::cannot_start(text),
        }
    }
}

/// Parses the arguments, does what they say, and says how it went.
pub fn main() -> ExitCode {
    Lazy::force(&ACCOUNT);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors.
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let outcome = match cli.command {
        Command::Run(run) => run.execute(),
        Command::Check(check) => check.execute(),
        Command::Demo(demo) => demo.execute(),
        Command::User(user) => user.execute(),
        Command::Token(token) => token.execute(),
        Command::Key(key) => key.execute(),
        Command::Revoke(revoke) => revoke.execute(),
        Command::Audit(audit) => audit.execute(),
        Command::Completions(completions) => completions.execute(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            eprintln!("ds-gateway: {text}");
            ExitCode::from(code)
        }
    }
}
