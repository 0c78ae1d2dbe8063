//! `ds-gateway revoke`: ends tokens before their time, and says where that is in force.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::context::{ConfigArgs, Opened, execute_to_revoke, not_revoked};
use super::gateways::Gateways;
use super::key::{conflict, make};
use super::output::{Failure, note, say};
use super::revocations::List;
use super::token::read_token;
use crate::auth::denial::Denial;
use crate::auth::gate::Gate;
use crate::auth::name::Name;
use crate::auth::revocation::Subject;
use crate::auth::token::{TokenId, TokenRules};
use crate::store::Store;
use crate::store::block_on;
use crate::store::command::{Expiry, RevokeKey, RevokeKeyOutcome, RevokeSubject, RevokeToken};

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
    /// Every token of a user issued so far
    User {
        /// User name; it need not exist here (tokens may come from a deleted or platform user), but then the exit code is 65
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Every token of an organization issued so far
    Organization {
        /// As in the claim `database`; if no user here has it, it is revoked all the same and the exit code is 65
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// A signing key; it never verifies a token again
    Key {
        /// Its name, as in `ds-gateway key list`
        kid: String,
        /// Generate a successor if this is the last signing key
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        how: How,
    },
    /// Every token issued so far
    All {
        #[command(flatten)]
        how: How,
    },
    /// Show what is revoked and not yet expired, the newest first
    List(List),
}

#[derive(Args, Debug)]
struct How {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl How {
    fn open(&self) -> Result<Opened, Failure> {
        self.config.open_to_revoke()
    }
}

impl Revoke {
    pub(super) fn execute(self) -> Result<(), Failure> {
        match self.action {
            Action::Token { token_id, token_file, how } => {
                // Before the store is opened, as whom that may be somebody who cannot read it.
                let token = token_file.as_deref().map(read_token).transpose()?;
                let opened = how.open()?;
                let (gateways, store) = (Gateways::of(&opened), opened.store.clone());
                let revocation = match (token_id, token) {
                    (_, Some(token)) => by_token(&token, opened)?,
                    (Some(id), None) => by_id(&id, &opened.rules)?,
                    (None, None) => return Err(Failure::usage("specify a TokenId or --token-file")),
                };
                let sequence = execute_to_revoke(&store, revocation)?;
                gateways.wait_for(sequence, None, how.json)
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
            Action::List(list) => list.execute(),
        }
    }
}

/// Clients that hold the token know its expiry and its user.
fn by_token(token: &str, opened: Opened) -> Result<RevokeToken, Failure> {
    let (gate, _): (Gate, _) = opened.into_gate_for(token).map_err(not_revoked)?;
    let verified = gate.identify(token.as_bytes()).map_err(|denial: Denial| {
        Failure::no_such(format!("not a token of this gateway: {}", denial.as_str()))
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
            Failure::usage("not a TokenId (expected 32 hex digits); for a token use --token-file")
        })?;
    Ok(RevokeToken { id, expiry: Expiry::Within { max_lifetime: rules.max_lifetime }, user: None })
}

fn parsed(name: &str) -> Result<Name, Failure> {
    Name::parse(name).map_err(|error| Failure::usage(format!("the name {error}")))
}

fn all(how: &How, subject: Subject) -> Result<(), Failure> {
    let opened = how.open()?;
    let gateways = Gateways::of(&opened);
    let sequence = execute_to_revoke(&opened.store, RevokeSubject { subject: subject.clone() })?;
    // Asked when it is durable: declining to revoke what nobody here knows would fail open.
    let unknown = find_unknown(&opened.store, &subject).unwrap_or_else(|failure| {
        note(format_args!("ds-gateway: whether the name is known cannot be read: {}", failure.text));
        None
    });
    let known = (subject != Subject::Everybody).then_some(unknown.is_none());
    let Some(warning) = unknown else { return gateways.wait_for(sequence, known, how.json) };
    note(format_args!("ds-gateway: warning: {warning}; its tokens are revoked anyway"));
    match gateways.wait_for(sequence, known, how.json) {
        Err(failure) if !failure.is_quiet() => Err(failure),
        // The warning has said why.
        _ => Err(Failure::no_such("")),
    }
}

/// What the store does not know, if it does not.
fn find_unknown(store: &Store, subject: &Subject) -> Result<Option<String>, Failure> {
    Ok(match subject {
        Subject::User(name) if block_on(store.user(name))?.is_none() => {
            Some(format!("user {name:?} not found"))
        }
        Subject::Organization(name) if !block_on(store.organization_exists(name))? => {
            Some(format!("no user has the organization {name:?}"))
        }
        _ => None,
    })
}

fn key(kid: &str, replace: bool, how: &How) -> Result<(), Failure> {
    let opened = how.open()?;
    let snapshot = opened.keys_alone().map_err(not_revoked)?;
    let revoked = |key| snapshot.is_key_revoked(key);
    let others = opened.keys.iter().any(|key| key.kid() != kid && !revoked(key.fingerprint()));
    let is_signing = snapshot.signer(&opened.keys).is_some_and(|key| key.kid() == kid);
    let mut successor = None;
    if is_signing && !others {
        if !replace {
            return Err(Failure::usage(format!(
                "{kid:?} is the only signing key: use --replace to generate a successor"
            )));
        }
        successor = Some(make(&opened).map_err(not_revoked)?);
    }
    let successors = successor.as_ref().map_or_else(Vec::new, |new| new.records().to_vec());
    let made = successors.first().map(|record| record.kid.clone());
    let gateways = Gateways::of(&opened);
    let outcome = execute_to_revoke(&opened.store, RevokeKey { kid: kid.to_owned(), successors });
    if let Some(new) = successor {
        new.settle(&opened.store);
    }
    let sequence = match outcome? {
        RevokeKeyOutcome::Revoked(sequence) => sequence,
        RevokeKeyOutcome::Conflict(kid) => return Err(conflict(&kid)),
        RevokeKeyOutcome::Unknown => {
            return Err(Failure::no_such(format!("key {kid:?} not found; see `ds-gateway key list`")));
        }
    };
    let outcome = gateways.wait_for(sequence, None, how.json);
    match &made {
        Some(made) if !how.json => outcome.and(say(format_args!("made {made}"))),
        _ => outcome,
    }
}
