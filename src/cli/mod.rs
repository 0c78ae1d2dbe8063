//! The command line: subcommands, one file a noun, and what their ends mean to a script.

mod audit;
mod check;
mod demo;
mod run;
mod user;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::StartError;
use crate::app::state::{Creation, State};
use crate::clock::wall;
use crate::config::{Config, Fault};
use crate::store::sqlite::Opening;
use crate::store::{Store, StoreError};

/// The authentication gateway in front of the Datasentinel platform API.
///
/// It answers /ds-api/user-token itself (HTTP Basic in, a 24-hour token out) and checks the user-token
/// header on everything else before a byte reaches the platform.
///
/// Try it: `ds-gateway demo`. Run it: `ds-gateway run --config FILE`.
#[derive(Debug, Parser)]
#[command(name = "ds-gateway", version, after_help = EXIT_CODES)]
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
    /// Who did what, when and from where
    Audit(audit::Audit),
}

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

    /// The store beside a running gateway, or a new one by the same rule as the gateway's.
    fn open_store(&self) -> Result<Store, Failure> {
        let config = self.load()?;
        let folder = &config.server.state_dir;
        let creation = Creation::IfNew;
        let state = State::open(folder, &config.store, config.keys, Opening::Command, creation, wall())?;
        Ok(state.store)
    }
}

fn load(path: &Path) -> Result<Config, Failure> {
    // A variable that is no UTF-8 cannot be one of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(path, variables).map_err(|faults| Failure::faults(path, &faults))
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
            StoreError::Busy => 75,
            StoreError::NotPermitted(_) => 77,
            _ => 1,
        };
        Self { code, text: error.to_string() }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::cannot_start(error)
    }
}

/// Parses the arguments, does what they say, and says how it went.
pub fn main() -> ExitCode {
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
        Command::Audit(audit) => audit.execute(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            eprintln!("ds-gateway: {text}");
            ExitCode::from(code)
        }
    }
}
