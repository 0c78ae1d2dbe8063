//! `ds-gateway revoke`: ends tokens before their time, and says where that is in force.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::time::sleep;

use super::context::{ConfigArgs, Opened, execute};
use super::key::{conflict, make};
use super::output::{Failure, say};
use super::token::read_token;
use crate::app::block_on;
use crate::auth::denial::Denial;
use crate::auth::gate::Gate;
use crate::auth::name::Name;
use crate::auth::revocation::Subject;
use crate::auth::token::{TokenId, TokenRules};
use crate::store::command::{
    Expiry, KeyRecord, RequestAcknowledgements, RevokeKey, RevokeKeyOutcome, RevokeSubject, RevokeToken,
};
use crate::store::records::{Acknowledgement, Revocation};
use crate::store::{Executable, Store, StoreError};

/// `ds-gateway revoke …`
#[derive(Args, Debug)]
pub(super) struct Revoke {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// One token, by its TokenId (from the log or the audit trail) or by the token itself
    Token {
        /// 32 hexadecimal digits
        #[arg(required_unless_present = "token_file", conflicts_with = "token_file")]
        token_id: Option<String>,
        /// The file with the token; `-` for standard input
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// Every token of a user that was minted before now
    User {
        /// Whether or not the store has such a user: tokens of one that it had, or of the platform's, may be about
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Every token of an organization that was minted before now
    Organization {
        /// As in the claim `database`
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// A signing key: it verifies nothing ever again
    Key {
        /// Its name, as in `ds-gateway key list`
        kid: String,
        /// Make another in its place, where it is the last one that signs
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        how: How,
    },
    /// Every token that was minted before now
    All {
        #[command(flatten)]
        how: How,
    },
    /// Show what is revoked
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Args, Debug)]
struct How {
    /// Say what came of it as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Revoke {
    pub(super) fn execute(self) -> Result<(), Failure> {
        match self.action {
            Action::Token { token_id, token_file, how } => {
                // Before the store is opened, as whom that may be somebody who cannot read it.
                let token = token_file.as_deref().map(read_token).transpose()?;
                let opened = how.config.open()?;
                let gateways = Gateways::of(&opened);
                let revocation = match (token_id, token) {
                    (_, Some(token)) => by_token(&token, opened)?,
                    (Some(id), None) => by_id(&id, &opened.rules)?,
                    (None, None) => return Err(Failure::usage("give a TokenId or --token-file")),
                };
                let sequence = gateways.revoke(revocation)?;
                gateways.wait_for(sequence, how.json)
            }
            Action::User { name, how } => {
                let name = parsed(&name)?;
                all(&how, Subject::User(name.as_str().into()))
            }
            Action::Organization { name, how } => {
                let name = parsed(&name)?;
                all(&how, Subject::Organization(name.as_str().into()))
            }
            Action::Key { kid, replace, how } => key(&kid, replace, &how),
            Action::All { how } => all(&how, Subject::Everybody),
            Action::List { json, config } => list(&config.open_store()?, json),
        }
    }
}

/// Clients that hold the token know its expiry and its user.
fn by_token(token: &str, opened: Opened) -> Result<RevokeToken, Failure> {
    let (gate, _): (Gate, _) = opened.into_gate()?;
    let verified = gate.identify(token.as_bytes()).map_err(|denial: Denial| {
        Failure::no_such(format!("this is no token of the gateway's: {}", denial.as_str()))
    })?;
    Ok(RevokeToken {
        id: verified.id,
        expiry: Expiry::At(verified.expires_at),
        user: Some(verified.identity.user.as_str().into()),
    })
}

fn by_id(text: &str, rules: &TokenRules) -> Result<RevokeToken, Failure> {
    let id = TokenId::parse(text)
        // Not repeated: somebody may have given the token itself.
        .ok_or_else(|| {
            Failure::usage("this is no TokenId of 32 hexadecimal digits; for a token use --token-file")
        })?;
    Ok(RevokeToken { id, expiry: Expiry::Within { max_lifetime: rules.max_lifetime }, user: None })
}

fn parsed(name: &str) -> Result<Name, Failure> {
    Name::parse(name).map_err(|error| Failure::usage(format!("the name {error}")))
}

fn all(how: &How, subject: Subject) -> Result<(), Failure> {
    let gateways = Gateways::of(&how.config.open()?);
    let sequence = gateways.revoke(RevokeSubject { subject })?;
    gateways.wait_for(sequence, how.json)
}

fn key(kid: &str, replace: bool, how: &How) -> Result<(), Failure> {
    let opened = how.config.open()?;
    let standing = block_on(opened.store.load())?;
    let revoked = |key| standing.is_key_revoked(key);
    let others = opened.keys.iter().any(|key| key.kid() != kid && !revoked(key.fingerprint()));
    let is_signing = standing.signer(&opened.keys).is_some_and(|key| key.kid() == kid);
    let mut successor = None;
    if is_signing && !others {
        if !replace {
            return Err(Failure::usage(format!(
                "{kid:?} is the only key that signs: give --replace to make another in its place"
            )));
        }
        successor = Some(make(&opened)?);
    }
    let successors = successor.as_ref().map_or_else(Vec::new, |(_, keys)| KeyRecord::all(keys));
    let gateways = Gateways::of(&opened);
    let sequence = match gateways.revoke(RevokeKey { kid: kid.to_owned(), successors })? {
        RevokeKeyOutcome::Revoked(sequence) => sequence,
        RevokeKeyOutcome::Conflict(kid) => return Err(conflict(&kid)),
        RevokeKeyOutcome::Unknown => {
            return Err(Failure::no_such(format!(
                "there is no key {kid:?}; `ds-gateway key list` shows them"
            )));
        }
    };
    let outcome = gateways.wait_for(sequence, how.json);
    if let (Some((made, _)), false) = (&successor, how.json) {
        say(format_args!("made {made}"))?;
    }
    outcome
}

/// What came of it.
#[derive(Serialize)]
struct Outcome {
    number: u64,
    durable: bool,
    in_force_on: usize,
    gateways: usize,
}

/// The store, and how long a gateway may be silent and still count as running.
pub(super) struct Gateways {
    store: Store,
    silence: Duration,
}

impl Gateways {
    pub(super) fn of(opened: &Opened) -> Self {
        // Two heartbeats, and a little for a slow one.
        let silence = opened.heartbeat_interval * 2 + Duration::from_secs(2);
        Self { store: opened.store.clone(), silence }
    }

    /// The gateways that run on this store.
    pub(super) fn running(&self) -> Result<Vec<Acknowledgement>, Failure> {
        Ok(block_on(self.store.acknowledgements(self.silence))?)
    }

    fn revoke<C: Executable>(&self, command: C) -> Result<C::Outcome, Failure> {
        execute(&self.store, command).map_err(|error| {
            let failure = Failure::from(error);
            Failure { code: 75, text: format!("not revoked: {}", failure.text) }
        })
    }

    /// Waits until every running gateway has acknowledged that sequence, and says so.
    fn wait_for(&self, sequence: u64, json: bool) -> Result<(), Failure> {
        execute(&self.store, RequestAcknowledgements)?;
        let outcome = block_on(self.acknowledged(sequence))?;
        if json {
            let text = serde_json::to_string(&outcome).map_err(Failure::cannot_start)?;
            say(text)?;
        } else {
            let Outcome { in_force_on, gateways, .. } = outcome;
            say(format_args!("durable; in force on {in_force_on} of {gateways} gateways"))?;
        }
        if outcome.in_force_on == outcome.gateways {
            return Ok(());
        }
        Err(Failure {
            code: 75,
            text:
                "not every gateway has said that it knows; each does within 5 s, or stops admitting anything"
                    .into(),
        })
    }

    async fn acknowledged(&self, sequence: u64) -> Result<Outcome, StoreError> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let gateways = self.store.acknowledgements(self.silence).await?;
            let outcome = Outcome {
                number: sequence,
                durable: true,
                in_force_on: gateways.iter().filter(|gateway| gateway.applied >= sequence).count(),
                gateways: gateways.len(),
            };
            if outcome.in_force_on == outcome.gateways || Instant::now() > deadline {
                return Ok(outcome);
            }
            sleep(ASK_AGAIN).await;
        }
    }
}

fn list(store: &Store, json: bool) -> Result<(), Failure> {
    let mut last = 0;
    loop {
        let page = block_on(store.revocations(last, PAGE))?;
        let Some(row) = page.last() else { return Ok(()) };
        last = row.sequence;
        page.iter().try_for_each(|row| show(row, json))?;
    }
}

#[derive(Serialize)]
struct Line<'r> {
    kind: &'r str,
    subject: &'r str,
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    closed: bool,
}

fn show(row: &Revocation, json: bool) -> Result<(), Failure> {
    let is_token = row.kind == "token";
    let second = row.time.to_string();
    if json {
        let line = Line {
            kind: row.kind,
            subject: &row.subject,
            number: row.sequence,
            before: (!is_token).then(|| second.clone()),
            until: is_token.then_some(second),
            closed: row.blocked,
        };
        say(serde_json::to_string(&line).map_err(Failure::cannot_start)?)?;
        return Ok(());
    }
    let Revocation { kind, subject, sequence, .. } = row;
    let meaning = match (is_token, row.blocked) {
        (true, _) => format!("remembered until {second} UTC"),
        (false, true) => format!("nothing passes, since {second} UTC"),
        (false, false) => format!("nothing from before {second} UTC passes"),
    };
    say(format_args!("{sequence:>8}  {kind:12}  {subject}  {meaning}"))?;
    Ok(())
}

/// How long the command waits for the gateways.
const DEADLINE: Duration = Duration::from_secs(2);

/// How often it looks which of them have acknowledged.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Revocations that are read at once.
const PAGE: usize = 1000;
