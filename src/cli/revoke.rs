//! `ds-gateway revoke`: ends tokens before their time, and says where that is in force.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::context::{ConfigArgs, Opened, not_revoked, run};
use super::gateways::{Of, Reach};
use super::output::{Failure, note, say};
use super::revocations::List;
use super::token::read_token;
use crate::auth::name::{Name, check_email, fold_email};
use crate::auth::revocation::Subject;
use crate::auth::token::{TokenId, TokenRules};
use crate::service::keys::{NewKeyError, RevokeKeyError, RevokedKey};
use crate::service::revocations::{Revocations, RevokeTokenError, SubjectRevoked, TokenRevoked};
use crate::store::StoreError;

/// `ds-gateway revoke …`
#[derive(Args, Debug)]
pub(super) struct Revoke {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// One token, by its TokenId (`ds-gateway token list`, the log, the audit trail) or by the token itself
    ///
    /// Says whose it was. One that was not issued here, as far as the audit trail knows, is revoked all the same, with a warning.
    Token {
        /// The TokenId: 32 hexadecimal digits
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
    /// Every token issued so far with an e-mail address, whoever the user is
    Email {
        /// The address; upper and lower case are the same
        address: String,
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
    /// Every token issued so far; asks first on a terminal
    All {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        how: How,
    },
    /// Show what is revoked and not yet expired, the newest first
    List(List),
}

/// How a change that gateways are waited for is made and shown.
#[derive(Args, Debug)]
pub(super) struct How {
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
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
                let (reach, revocations) = (Reach::of(&opened), opened.revocations());
                let TokenRevoked { sequence, user } = match (token_id, token) {
                    (_, Some(token)) => by_token(&token, opened, &revocations)?,
                    (Some(id), None) => by_id(&id, &opened.rules, &revocations)?,
                    (None, None) => return Err(Failure::usage("specify a TokenId or --token-file")),
                };
                reach.wait_for(sequence, whose(user), how.json)
            }
            Action::User { name, how } => {
                let name = parsed(&name)?;
                all(&how, Subject::User(name.as_str().into()))
            }
            Action::Organization { name, how } => {
                let name = parsed(&name)?;
                all(&how, Subject::Organization(name.as_str().into()))
            }
            Action::Email { address, how } => {
                check_email(&address)
                    .map_err(|error| Failure::usage(format!("the e-mail address {error}")))?;
                all(&how, Subject::Email(fold_email(&address).into()))
            }
            Action::Key { kid, replace, how } => key(kid, replace, &how),
            Action::All { yes, how } => {
                if !yes && io::stdin().is_terminal() {
                    confirm("Revoke every token of every user?")?;
                }
                all(&how, Subject::Everybody)
            }
            Action::List(list) => list.execute(),
        }
    }
}

fn by_token(token: &str, opened: Opened, revocations: &Revocations) -> Result<TokenRevoked, Failure> {
    let (gate, _) = opened.into_gate_for(token).map_err(not_revoked)?;
    run(revocations.token(token, &gate))
}

fn by_id(text: &str, rules: &TokenRules, revocations: &Revocations) -> Result<TokenRevoked, Failure> {
    let id = TokenId::parse(text)
        // Not repeated: somebody may have given the token itself.
        .ok_or_else(|| {
            Failure::usage("not a TokenId (expected 32 hex digits); for a token use --token-file")
        })?;
    run(revocations.token_id(id, rules)).map_err(not_revoked)
}

/// Says whose token was revoked, so that a TokenId with a slip in it is noticed. It is revoked all the same: the platform may have issued
/// it, or the audit trail may no longer have it.
fn whose(user: Result<Option<String>, StoreError>) -> Of {
    match user {
        Ok(Some(user)) => {
            note(format_args!("ds-gateway: a token of the user {user:?}"));
            Of { known: Some(true), user: Some(user), ..Of::default() }
        }
        Ok(None) => {
            note("ds-gateway: warning: not issued here, as far as the audit trail knows; revoked anyway");
            Of { known: Some(false), ..Of::default() }
        }
        Err(error) => {
            note(format_args!("ds-gateway: whose token it is cannot be read: {error}"));
            Of::default()
        }
    }
}

fn parsed(name: &str) -> Result<Name, Failure> {
    Name::parse(name).map_err(|error| Failure::usage(format!("the name {error}")))
}

/// Asks a person, who may think better of it.
fn confirm(question: &str) -> Result<(), Failure> {
    let mut answer = String::new();
    let mut stderr = io::stderr();
    let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    asked
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|error| not_revoked(Failure::usage(error)))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(not_revoked(Failure::usage("answer y, or use --yes"))),
    }
}

fn all(how: &How, subject: Subject) -> Result<(), Failure> {
    let opened = how.open()?;
    let reach = Reach::of(&opened);
    let unknown = match &subject {
        Subject::User(name) => Some(format!("user {name:?} not found")),
        Subject::Organization(name) => Some(format!("no user has the organization {name:?}")),
        Subject::Email(email) => Some(format!("no user has the e-mail address {email:?}")),
        Subject::Everybody => None,
    };
    let SubjectRevoked { sequence, is_known } =
        run(opened.revocations().subject(subject)).map_err(not_revoked)?;
    let is_known = is_known.unwrap_or_else(|error| {
        note(format_args!("ds-gateway: whether the name is known cannot be read: {error}"));
        true
    });
    let of = Of { known: unknown.is_some().then_some(is_known), ..Of::default() };
    let Some(warning) = unknown.filter(|_| !is_known) else {
        return reach.wait_for(sequence, of, how.json);
    };
    note(format_args!("ds-gateway: warning: {warning}; its tokens are revoked anyway"));
    match reach.wait_for(sequence, of, how.json) {
        Err(failure) if !failure.is_quiet() => Err(failure),
        // The warning has said why.
        _ => Err(Failure::no_such("")),
    }
}

/// Revokes a key.
pub(super) fn key(kid: String, replace: bool, how: &How) -> Result<(), Failure> {
    let opened = how.open()?;
    let reach = Reach::of(&opened);
    let RevokedKey { sequence, successor } = run(opened.into_keys().revoke(kid, replace))?;
    let outcome = reach.wait_for(sequence, Of::default(), how.json);
    match successor {
        Some(made) if !how.json => outcome.and(say(format_args!("made {made}"))),
        _ => outcome,
    }
}

impl From<RevokeTokenError> for Failure {
    fn from(error: RevokeTokenError) -> Self {
        match error {
            RevokeTokenError::NotOurs(_) => Self::no_such(error),
            RevokeTokenError::Store(error) => not_revoked(error),
        }
    }
}

impl From<RevokeKeyError> for Failure {
    fn from(error: RevokeKeyError) -> Self {
        match error {
            RevokeKeyError::LastSigner(_) => {
                Self::usage(format!("{error}: give --replace to make another in its place"))
            }
            RevokeKeyError::Unknown(_) => Self::no_such(format!("{error}; `ds-gateway key list` shows them")),
            RevokeKeyError::Successor(error @ NewKeyError::Conflict(_)) => error.into(),
            RevokeKeyError::Successor(error) => not_revoked(error),
            RevokeKeyError::Store(error) => not_revoked(error),
        }
    }
}
