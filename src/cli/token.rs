//! `ds-gateway token`: mint, read and explain tokens beside a running gateway, with the gateway's own rules.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::context::{ACCOUNT, ConfigArgs, Opened, run};
use super::output::{Failure, note, read_input, say};
use super::tokens::List;
use crate::auth::explain::{self, Outcome};
use crate::auth::gate::ClockReading;
use crate::auth::policy::Route;
use crate::clock::Clock;
use crate::service::tokens::{self, MintError, Minting};

/// `ds-gateway token …`
#[derive(Args, Debug)]
pub(super) struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Issue a token for a user without its password, and print it
    Mint {
        /// The user
        name: String,
        /// Print a JSON object, with the sequence of the transaction as `number`
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show a token's claims and whether it is valid
    Inspect {
        #[command(flatten)]
        token: TokenArgs,
        /// As a JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List a user's tokens, the newest first, and what has become of each; `revoke token` takes their ids
    List(List),
    /// Show check by check how the gateway would decide on a request; exit code 65 if it would refuse the token
    Explain {
        #[command(flatten)]
        token: TokenArgs,
        /// The method of the request
        #[arg(long, default_value = "GET")]
        method: String,
        /// The path of the request, as a client would send it
        #[arg(long, default_value = "/")]
        path: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Args, Debug)]
struct TokenArgs {
    /// The file with the token; `-` for standard input. Never an argument: others could read it
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

impl TokenArgs {
    fn read(&self) -> Result<Zeroizing<String>, Failure> {
        read_token(&self.token_file)
    }
}

/// A token from a file, `-` for standard input.
pub(super) fn read_token(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = read_input(file, MAX_FILE)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

impl Token {
    pub(super) fn execute(self) -> Result<(), Failure> {
        match self.action {
            Action::Mint { name, json, config } => print_new(&name, json, &config.open()?),
            Action::Inspect { token, json, config } => inspect(&token.read()?, json, config.open()?),
            Action::List(list) => list.execute(),
            Action::Explain { token, method, path, config } => {
                explain(&token.read()?, &method, &path, config.open()?)
            }
        }
    }
}

fn print_new(name: &str, json: bool, opened: &Opened) -> Result<(), Failure> {
    let Opened { store, keys, rules, max_revocations, clock, .. } = opened;
    let minting = Minting { keys, now: clock.now(), rules: *rules, max_revocations: *max_revocations };
    let minted = run(tokens::mint(store, minting, name, &ACCOUNT.actor()))?;
    if json {
        say(serde_json::json!({ "user-token": minted.token, "number": minted.sequence }))
    } else {
        say(minted.token)
    }
}

impl From<MintError> for Failure {
    fn from(error: MintError) -> Self {
        match error {
            MintError::NoUser(_) => Self::no_such(error),
            MintError::NoKey | MintError::Random(_) => Self::cannot_start(error),
            MintError::KeyRevoked | MintError::RevocationLimit(_) => Self::try_again(error),
            MintError::Store(error) => error.into(),
        }
    }
}

/// A store that was read just now is not stale.
fn now(clock: &Clock) -> ClockReading {
    ClockReading { now: clock.now(), uptime: Duration::ZERO }
}

fn inspect(token: &str, json: bool, opened: Opened) -> Result<(), Failure> {
    let reading = now(&opened.clock);
    let (gate, _) = opened.into_gate_for(token)?;
    let permit = gate.inspect(token.as_bytes(), reading).map_err(|denial| {
        Failure::no_such(format!(
            "the token is not valid: {}; see `ds-gateway token explain`",
            denial.as_str()
        ))
    })?;
    let identity = permit.identity();
    if json {
        let shown = serde_json::json!({
            "user": identity.user.as_str(),
            "email": &*identity.email,
            "organization_name": identity.organization.as_str(),
            "expire_time": permit.expires_at().to_string(),
            "token_id": permit.id().to_string(),
        });
        say(format_args!("{shown:#}"))
    } else {
        say(format_args!("user          {}", identity.user))?;
        say(format_args!("email         {}", identity.email))?;
        say(format_args!("organization  {}", identity.organization))?;
        say(format_args!("expires       {} UTC", permit.expires_at()))?;
        say(format_args!("token id      {}", permit.id()))
    }
}

fn explain(token: &str, method: &str, path: &str, opened: Opened) -> Result<(), Failure> {
    let reading = now(&opened.clock);
    if let Some(until) = opened.observed_until {
        note(format_args!(
            "ds-gateway: routes are observed until {until} UTC (routes.mode): on those that routes.enforce does not name, what would be refused is forwarded"
        ));
    }
    let (gate, policy) = opened.into_gate_for(token)?;
    let route = match policy.classify(method.as_bytes(), path.as_bytes(), false) {
        Err(error) => format!("refused: 400, {}", error.as_str()),
        Ok(Route::Endpoint { .. }) => "the token endpoint: answered by the gateway itself".into(),
        Ok(Route::Reserved(_)) => "under the token endpoint: 404, never forwarded".into(),
        Ok(Route::Public(_)) => "public: forwarded without a token".into(),
        Ok(Route::Protected) => "protected: forwarded if the token passes".into(),
    };
    say(format_args!("{:10} {route}", "route"))?;
    let mut refused = false;
    for (check, outcome) in explain::explain(&gate, token.as_bytes(), reading) {
        let text = match outcome {
            Outcome::Passed => "ok".into(),
            Outcome::NotReached => "-".into(),
            Outcome::Failed(failure) => {
                refused = true;
                failure.to_string()
            }
        };
        say(format_args!("{:10} {text}", check.as_str()))?;
    }
    say(format_args!("{:10} {}", "token", if refused { "refused" } else { "holds" }))?;
    // What was printed says why.
    if refused { Err(Failure::no_such("")) } else { Ok(()) }
}

/// More than any token that the gateway would look at.
const MAX_FILE: u64 = 128 * 1024;
