//! `ds-gateway revoke`: ends tokens before their time, and says where that is in force.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use rusqlite::Connection;
use serde::Serialize;

use super::key::make;
use super::token::read_token;
use super::{ConfigArgs, Failure, Opened, by_command, say};
use crate::auth::denial::Denial;
use crate::auth::gate::Gate;
use crate::auth::name::Name;
use crate::auth::revocation::Subject;
use crate::auth::token::{TokenId, TokenRules};
use crate::auth::token_set::Keep;
use crate::clock::wall;
use crate::store::keys::record;
use crate::store::revocations::{
    InForce, KeyOutcome, followers, list, revoke_all, revoke_key, revoke_token, want_reports,
};
use crate::store::sqlite;
use crate::store::users::Act;
use crate::store::{Store, StoreError};

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
                let target = match (token_id, token) {
                    (_, Some(token)) => by_token(&token, opened)?,
                    (Some(id), None) => by_id(&id, &opened.rules, opened.store)?,
                    (None, None) => return Err(Failure::usage("give a TokenId or --token-file")),
                };
                let Target { store, id, keep, user } = target;
                revoke(&store, how.json, |connection, act| {
                    revoke_token(connection, id, keep, user.as_deref(), act)
                })
            }
            Action::User { name, how } => {
                let name = parsed(&name)?;
                all(&how, &Subject::User(name.as_str().into()))
            }
            Action::Organization { name, how } => {
                let name = parsed(&name)?;
                all(&how, &Subject::Organization(name.as_str().into()))
            }
            Action::Key { kid, replace, how } => key(&kid, replace, &how),
            Action::All { how } => all(&how, &Subject::Everybody),
            Action::List { json, config } => {
                let rows = list(&config.open_store()?.connect()?)?;
                rows.iter().try_for_each(|row| show(row, json))
            }
        }
    }
}

/// A token that is to be revoked, and the store to do it in.
struct Target {
    store: Store,
    id: TokenId,
    keep: Keep,
    user: Option<Box<str>>,
}

/// Whoever holds the token knows its expiry and its user.
fn by_token(token: &str, opened: Opened) -> Result<Target, Failure> {
    let store = opened.store.clone();
    let (gate, _): (Gate, _) = opened.into_gate()?;
    let verified = gate.identify(token.as_bytes()).map_err(|denial: Denial| {
        Failure::no_such(format!("this is no token of the gateway's: {}", denial.as_str()))
    })?;
    Ok(Target {
        store,
        id: verified.id,
        keep: Keep::Expires(verified.expires_at),
        user: Some(verified.identity.user.as_str().into()),
    })
}

fn by_id(text: &str, rules: &TokenRules, store: Store) -> Result<Target, Failure> {
    let id = TokenId::parse(text)
        // Not repeated: somebody may have given the token itself.
        .ok_or_else(|| {
            Failure::usage("this is no TokenId of 32 hexadecimal digits; for a token use --token-file")
        })?;
    // Nobody here knows when it expires; by then it has, even by a clock that is ahead.
    let keep = Keep::Until(wall().plus(rules.max_lifetime + 24 * 3600));
    Ok(Target { store, id, keep, user: None })
}

fn parsed(name: &str) -> Result<Name, Failure> {
    Name::parse(name).map_err(|error| Failure::usage(format!("the name {error}")))
}

fn all(how: &How, subject: &Subject) -> Result<(), Failure> {
    let store = how.config.open_store()?;
    revoke(&store, how.json, |connection, act| revoke_all(connection, subject, act))
}

fn key(kid: &str, replace: bool, how: &How) -> Result<(), Failure> {
    let opened = how.config.open()?;
    let standing = sqlite::load(&mut opened.store.connect()?)?;
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
    let mut unknown = false;
    let outcome = revoke(&opened.store, how.json, |connection, act| {
        // In one transaction: no moment is without a key that signs.
        if let Some((_, ring)) = &successor {
            record(connection, ring, act)?;
        }
        match revoke_key(connection, kid, act)? {
            KeyOutcome::Revoked(number) => Ok(number),
            KeyOutcome::Unknown => {
                unknown = true;
                Err(StoreError::Missing)
            }
        }
    });
    if unknown {
        return Err(Failure::no_such(format!("there is no key {kid:?}; `ds-gateway key list` shows them")));
    }
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

/// Revokes, and waits until every live gateway has said that it knows.
fn revoke(
    store: &Store,
    json: bool,
    change: impl FnOnce(&Connection, Act<'_>) -> Result<u64, StoreError>,
) -> Result<(), Failure> {
    let act = by_command();
    let number = store
        .transact(|connection| {
            let number = change(connection, act)?;
            want_reports(connection)?;
            Ok(number)
        })
        .map_err(|error| {
            let failure = Failure::from(error);
            Failure { code: 75, text: format!("not revoked: {}", failure.text) }
        })?;
    let outcome = wait(store, number)?;
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
        text: "not every gateway has said that it knows; each does within 5 s, or stops admitting anything"
            .into(),
    })
}

fn wait(store: &Store, number: u64) -> Result<Outcome, Failure> {
    let connection = store.connect()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let applied = followers(&connection, wall().minus(LIVE_SECONDS))?;
        let outcome = Outcome {
            number,
            durable: true,
            in_force_on: applied.iter().filter(|&&applied| applied >= number).count(),
            gateways: applied.len(),
        };
        if outcome.in_force_on == outcome.gateways || Instant::now() > deadline {
            return Ok(outcome);
        }
        thread::sleep(Duration::from_millis(20));
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

fn show(row: &InForce, json: bool) -> Result<(), Failure> {
    let is_token = row.kind == "token";
    let second = row.second.to_string();
    if json {
        let line = Line {
            kind: &row.kind,
            subject: &row.subject,
            number: row.number,
            before: (!is_token).then(|| second.clone()),
            until: is_token.then_some(second),
            closed: row.closed,
        };
        say(serde_json::to_string(&line).map_err(Failure::cannot_start)?)?;
        return Ok(());
    }
    let InForce { kind, subject, number, .. } = row;
    let meaning = match (is_token, row.closed) {
        (true, _) => format!("remembered until {second} UTC"),
        (false, true) => format!("nothing passes, since {second} UTC"),
        (false, false) => format!("nothing from before {second} UTC passes"),
    };
    say(format_args!("{number:>8}  {kind:12}  {subject}  {meaning}"))?;
    Ok(())
}

/// How long the command waits for the gateways.
const PATIENCE: Duration = Duration::from_secs(2);

/// A gateway that was not heard of for longer is not there. Each says that it is every five seconds.
const LIVE_SECONDS: u64 = 12;
