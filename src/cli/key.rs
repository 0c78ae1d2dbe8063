//! `ds-gateway key`: the signing keys that the gateway makes itself.

use clap::{Args, Subcommand};

use super::context::{ConfigArgs, run};
use super::output::{Failure, say};
use crate::service::keys::{ListedKey, NewKeyError};

/// `ds-gateway key …`
#[derive(Args, Debug)]
pub(super) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a key. It verifies immediately but signs only after older keys are revoked
    Generate {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show every key: its name, what it does, and its fingerprint
    List {
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

impl Key {
    pub(super) fn execute(self) -> Result<(), Failure> {
        match self.action {
            Action::Generate { config } => {
                let kid = run(config.open()?.into_keys().generate())?;
                say(format_args!("made {kid}"))
            }
            Action::List { json, config } => {
                let keys = run(config.open()?.into_keys().list())?;
                keys.iter().try_for_each(|key| show(key, json))
            }
        }
    }
}

fn show(key: &ListedKey, json: bool) -> Result<(), Failure> {
    let (kid, state, algorithm) = (&key.kid, key.state.as_str(), key.algorithm.as_str());
    let fingerprint = key.fingerprint.to_string();
    if json {
        return say(serde_json::json!({
            "kid": kid,
            "state": state,
            "algorithm": algorithm,
            "foreign": key.foreign,
            "fingerprint": fingerprint,
        }));
    }
    let start: String = fingerprint.chars().take(16).collect();
    say(format_args!("{kid:20}  {state:10}  {algorithm}  {start}…"))
}

impl From<NewKeyError> for Failure {
    fn from(error: NewKeyError) -> Self {
        match error {
            NewKeyError::Configured => Self::usage(error),
            NewKeyError::File(error) => error.into(),
            NewKeyError::Store(error) => error.into(),
            NewKeyError::Conflict(_) => Self::cannot_start(error),
        }
    }
}
