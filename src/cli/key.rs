//! `ds-gateway key`: which keys sign and verify, and their rotation.

use clap::{Args, Subcommand};

use super::context::{ConfigArgs, run};
use super::gateways::{Change, Of, Reach};
use super::output::{Failure, note, say};
use super::revoke::{self, How};
use crate::auth::time::UnixTime;
use crate::service::keys::{
    ActivateKeyError, ActivatedKey, ListedKey, NewKeyError, RetireKeyError, RetiredKey,
};

/// `ds-gateway key …`
#[derive(Args, Debug)]
pub(super) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a key. It verifies immediately and signs once it is activated, or once older keys are revoked
    ///
    /// For keys that the gateway makes itself. Where token.keys names them, make a file with `openssl rand -base64 48`, add it to token.keys on
    /// every machine, and reload.
    Generate {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Sign new tokens with this key. Nobody is logged out: the earlier keys go on verifying
    ///
    /// It signs on every gateway as soon as every running gateway has the key, so that none refuses what another has signed. From then on it is the
    /// key activated last that signs, and no more the first of token.keys.
    ///
    /// A rotation:
    ///   ds-gateway key generate
    ///   ds-gateway key activate 2026-11-27
    ///   ds-gateway key retire 2026-05-02
    #[command(verbatim_doc_comment)]
    Activate {
        /// Its name, as in `ds-gateway key list`
        kid: String,
        /// From when on: a date (UTC) or a time such as 2026-12-01T06:00:00Z [default: at once]
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        at: Option<UnixTime>,
        #[command(flatten)]
        how: How,
    },
    /// End a key once the last token that it signed has expired. Nobody is logged out
    ///
    /// Another key must have been activated. Afterwards the file of the key can be deleted (or taken out of token.keys) as soon as
    /// `ds-gateway key list` says `retired`.
    Retire {
        /// Its name, as in `ds-gateway key list`
        kid: String,
        /// Its secret is known to somebody: end every token that it signed immediately, as `ds-gateway revoke key` does
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        how: How,
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
            Action::Activate { kid, at, how } => activate(&kid, at, &how),
            Action::Retire { kid, now: true, how } => revoke::key(kid, false, &how),
            Action::Retire { kid, now: false, how } => retire(&kid, &how),
            Action::List { json, config } => {
                let keys = run(config.open()?.into_keys().list())?;
                keys.iter().try_for_each(|key| show(key, json))
            }
        }
    }
}

fn parse_time(text: &str) -> Result<UnixTime, &'static str> {
    UnixTime::parse(text).ok_or("give a date such as 2026-12-01, or a time such as 2026-12-01T06:00:00Z")
}

fn activate(kid: &str, at: Option<UnixTime>, how: &How) -> Result<(), Failure> {
    let opened = how.config.open()?;
    let now = opened.clock.now();
    if let Some(past) = at.filter(|at| *at < now) {
        return Err(Failure::usage(format!("--at {past} is past: leave it out to activate the key at once")));
    }
    let (reach, keys) = (Reach::of(&opened), opened.into_keys());
    let ActivatedKey { sequence, from } = run(keys.activate(kid, at))?;
    if from > now {
        note(format_args!("ds-gateway: the key {kid:?} signs from {from} UTC on"));
    }
    reach.wait_for(sequence, Of { change: Change::Activated, ..Of::default() }, how.json)?;
    if run(keys.is_everywhere(kid))? {
        return Ok(());
    }
    Err(Failure::try_again(format!(
        "a running gateway does not have the key {kid:?} yet (its log and /readyz say so); it signs once every gateway has it"
    )))
}

fn retire(kid: &str, how: &How) -> Result<(), Failure> {
    let opened = how.config.open()?;
    let (reach, keys) = (Reach::of(&opened), opened.into_keys());
    let RetiredKey { sequence, ends_at } = run(keys.retire(kid))?;
    note(format_args!("ds-gateway: the key {kid:?} verifies its tokens until {ends_at} UTC"));
    reach.wait_for(sequence, Of { change: Change::Retired, ..Of::default() }, how.json)
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
            "signs_from": key.signs_from.map(UnixTime::to_rfc3339),
            "verifies_until": key.verifies_until.map(UnixTime::to_rfc3339),
        }));
    }
    let start: String = fingerprint.chars().take(16).collect();
    let from = key.signs_from.map(|from| format!("  signs from {from} UTC, once every gateway has it"));
    let until = key.verifies_until.map(|until| format!("  until {until} UTC"));
    let when = from.or(until).unwrap_or_default();
    say(format_args!("{kid:20}  {state:10}  {algorithm}  {start}…{when}"))
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

impl From<ActivateKeyError> for Failure {
    fn from(error: ActivateKeyError) -> Self {
        match error {
            ActivateKeyError::Unknown(_) => Self::no_such(unknown(&error)),
            ActivateKeyError::Revoked(_) | ActivateKeyError::Retired(_) => {
                Self::usage(format!("{error}: activate another one"))
            }
            ActivateKeyError::Store(error) => error.into(),
        }
    }
}

impl From<RetireKeyError> for Failure {
    fn from(error: RetireKeyError) -> Self {
        match error {
            RetireKeyError::Unknown(_) => Self::no_such(unknown(&error)),
            RetireKeyError::Revoked(_) => Self::usage(error),
            RetireKeyError::Signs(_) => Self::usage(format!(
                "{error}: run `ds-gateway key activate` with the key that is to sign first"
            )),
            RetireKeyError::NotEverywhere(_) => Self::try_again(error),
            RetireKeyError::Store(error) => error.into(),
        }
    }
}

/// A key of token.keys is recorded by the gateway that has it.
fn unknown(error: &dyn std::fmt::Display) -> String {
    format!(
        "{error}; `ds-gateway key list` shows them, and one that was added to token.keys is known after `ds-gateway reload`"
    )
}
