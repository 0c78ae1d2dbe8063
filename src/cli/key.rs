//! `ds-gateway key`: the signing keys that the gateway makes itself.

use clap::{Args, Subcommand};

use super::context::{ConfigArgs, LOCK_WAIT, Opened, execute};
use super::output::{Failure, say};
use crate::clock::wall;
use crate::state_dir::new_key::NewKey;
use crate::store::command::{RecordKeys, RecordKeysOutcome};

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
                let opened = config.open()?;
                let new = make(&opened)?;
                let kid = new.kid().to_owned();
                let outcome = execute(&opened.store, RecordKeys { keys: new.records().to_vec() });
                new.settle(&opened.store);
                match outcome? {
                    RecordKeysOutcome::Recorded => say(format_args!("made {kid}")),
                    RecordKeysOutcome::Conflict(kid) => Err(conflict(&kid)),
                }
            }
            Action::List { json, config } => list(&config.open()?, json),
        }
    }
}

/// Makes a key beside those of `opened`. It counts once it is recorded.
pub(super) fn make(opened: &Opened) -> Result<NewKey, Failure> {
    let Some(folder) = &opened.key_folder else {
        return Err(Failure::usage(
            "the keys are named in token.keys: make a file with `openssl rand -base64 48`, name it there, restart",
        ));
    };
    Ok(NewKey::make(folder, &opened.state_dir, &opened.store, LOCK_WAIT, wall())?)
}

/// A key file was changed behind the store's back.
pub(super) fn conflict(kid: &str) -> Failure {
    Failure::cannot_start(format!("the key {kid:?} is not the one that the store has recorded by this name"))
}

fn list(opened: &Opened, json: bool) -> Result<(), Failure> {
    let snapshot = opened.keys_alone()?;
    let is_revoked = |key| snapshot.is_key_revoked(key);
    let signing = snapshot.signer(&opened.keys).map(|key| key.kid().to_owned());
    for key in opened.keys.iter() {
        let state = match &signing {
            _ if is_revoked(key.fingerprint()) => "revoked",
            Some(kid) if kid == key.kid() => "signing",
            _ => "verifying",
        };
        let (kid, fingerprint) = (key.kid(), key.fingerprint().to_string());
        if json {
            say(serde_json::json!({
                "kid": kid,
                "state": state,
                "algorithm": key.algorithm().as_str(),
                "foreign": key.foreign(),
                "fingerprint": fingerprint,
            }))?;
        } else {
            let start: String = fingerprint.chars().take(16).collect();
            say(format_args!("{kid:20}  {state:10}  {}  {start}…", key.algorithm().as_str()))?;
        }
    }
    Ok(())
}
