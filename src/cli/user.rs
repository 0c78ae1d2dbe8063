//! `ds-gateway user`: writes to the store beside a running gateway, which sees the change by itself.

use clap::{Args, Subcommand};

use super::context::{self, ConfigArgs, InitArgs, not_revoked, run};
use super::import::{self, Import};
use super::output::{Failure, say};
use super::password::PasswordArgs;
use super::users::{self, List};
use crate::service::users::{
    AddError, InvalidField, PasswordError, SetPasswordError, identity, parse_email, parse_organization,
};
use crate::store::command::{ChangeOutcome, NameConflict, UnlockOutcome};
use crate::store::recorded_login::MoveOutcome;

/// `ds-gateway user …`
#[derive(Args, Debug)]
pub(super) struct User {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a user; prompts for the password, or reads it from standard input
    Add {
        /// The user's name: unique across all organizations, without a colon
        name: String,
        /// The user's e-mail address, which the platform sees
        #[arg(long, value_name = "ADDRESS")]
        email: String,
        /// The organization whose data the user may see
        #[arg(long, value_name = "NAME")]
        organization: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        init: InitArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Change e-mail address or organization; revokes the user's tokens
    Set {
        /// The user
        name: String,
        /// The new e-mail address
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// The new organization
        #[arg(long, value_name = "NAME")]
        organization: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Change the password; revokes the user's tokens
    Passwd {
        /// The user
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List users by name, with their last login and how many tokens they could use now
    ///
    /// Both come from the audit trail: a login is a token that was issued for a password. Tokens that the platform issued are not
    /// counted.
    List(List),
    /// Show one user
    Show {
        /// The user
        name: String,
        /// As a JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Block logins and revoke existing tokens
    Disable {
        /// The user
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Allow logins again; old tokens stay revoked
    Enable {
        /// The user
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Reset a user's failed logins: the user can log in again at once, from anywhere
    ///
    /// Takes effect in every gateway with the next login. Password, tokens and whether the user is disabled stay as they are.
    /// `ds-gateway audit list --failed --user NAME` shows where the failed logins came from.
    Unlock {
        /// The user
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Move a user of another source into the store for good; its tokens stay valid
    ///
    /// From then on the gateway checks the user's password by the hash that it remembers (users.platform.remember), and no longer asks the
    /// platform. `ds-gateway user list --source platform --remembered` lists who can be moved. To move any other user, set a password:
    /// `ds-gateway user passwd NAME`.
    Move {
        /// The user
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Remove a user and revoke its tokens
    Remove {
        /// The user
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Add or change many users, from JSON lines or CSV with password hashes of other systems
    #[command(after_long_help = import::HELP)]
    Import(Import),
}

impl User {
    pub(super) fn execute(self) -> Result<(), Failure> {
        match self.action {
            Action::Add { name, email, organization, password, init, config } => {
                let identity = identity(&name, &email, &organization)?;
                let users = context::users(config.open_with(init.creation())?);
                // Before the password is asked for, so that nobody types one in vain.
                if run(users.find(&name))?.is_some() {
                    return Err(explain(&NameConflict::Exists, &name));
                }
                let password = password.read()?;
                run(async { users.add(identity, password).await.map_err(|error| not_added(error, &name)) })?;
                say(format_args!("added {name}"))?;
            }
            Action::Set { name, email, organization, config } => {
                if email.is_none() && organization.is_none() {
                    return Err(Failure::usage("nothing to set: use --email or --organization"));
                }
                let email = email.as_deref().map(parse_email).transpose()?;
                let organization = organization.as_deref().map(parse_organization).transpose()?;
                let users = config.open_users_to_revoke()?;
                print_revocation(run(users.set_claims(&name, email, organization)), &name, "changed")?;
            }
            Action::Passwd { name, password, config } => {
                let users = config.open_users_to_revoke()?;
                run(users.find(&name)).map_err(not_revoked)?.ok_or_else(|| unknown(&name))?;
                let password = password.read()?;
                print_change(run(users.set_password(&name, password))?, &name, "changed the password of")?;
            }
            Action::Disable { name, config } => {
                let users = config.open_users_to_revoke()?;
                print_revocation(run(users.disable(&name)), &name, "disabled")?;
            }
            Action::Enable { name, config } => {
                print_change(run(config.open_users()?.enable(&name))?, &name, "enabled")?;
            }
            Action::Unlock { name, config } => match run(config.open_users()?.unlock(&name))? {
                UnlockOutcome::Unlocked => say(format_args!("unlocked {name}"))?,
                UnlockOutcome::Unknown => return Err(unknown(&name)),
            },
            Action::Move { name, config } => match run(config.open_users()?.move_to_store(&name))? {
                MoveOutcome::Moved => say(format_args!("moved {name} into the store"))?,
                MoveOutcome::Unchanged => say(format_args!("{name} is a user of the store already"))?,
                MoveOutcome::NotRemembered => {
                    return Err(Failure::no_such(format!(
                        "no password of {name:?} is remembered, or its tokens were revoked since: set one with `ds-gateway user passwd {name}`, or wait for the next login"
                    )));
                }
                MoveOutcome::Unknown => return Err(unknown(&name)),
            },
            Action::Remove { name, config } => {
                let users = config.open_users_to_revoke()?;
                print_revocation(run(users.remove(&name)), &name, "removed")?;
            }
            Action::List(list) => list.execute()?,
            Action::Show { name, json, config } => {
                let found = run(config.open_users()?.find_listed(&name))?;
                users::show(found.ok_or_else(|| unknown(&name))?, json)?;
            }
            Action::Import(import) => import.execute()?,
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Failure {
    Failure::no_such(format!("user {name:?} not found"))
}

fn not_added(error: AddError, name: &str) -> Failure {
    match error {
        AddError::Password(error) => error.into(),
        AddError::Conflict(conflict) => explain(&conflict, name),
        AddError::Store(error) => error.into(),
    }
}

/// Why a user cannot be added, as a sentence.
fn explain(conflict: &NameConflict, name: &str) -> Failure {
    match conflict {
        NameConflict::Exists => Failure::usage(format!("there is a user {name:?} already")),
        NameConflict::Confusable(other) => {
            Failure::usage(format!("{name:?} could be taken for the user {other:?}: choose another name"))
        }
    }
}

impl From<InvalidField> for Failure {
    fn from(error: InvalidField) -> Self {
        Self::usage(error)
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Random(_) | PasswordError::NotHashed => Self::cannot_start(error),
            PasswordError::TooShort => Self::usage(format!("{error}; --allow-weak accepts it all the same")),
            PasswordError::Empty | PasswordError::TooLong | PasswordError::NotText => Self::usage(error),
        }
    }
}

impl From<SetPasswordError> for Failure {
    fn from(error: SetPasswordError) -> Self {
        match error {
            SetPasswordError::Password(error) => error.into(),
            SetPasswordError::Store(error) => not_revoked(error),
        }
    }
}

/// Of a change that revokes the user's tokens.
fn print_revocation(outcome: Result<ChangeOutcome, Failure>, name: &str, done: &str) -> Result<(), Failure> {
    print_change(outcome.map_err(not_revoked)?, name, done)
}

fn print_change(outcome: ChangeOutcome, name: &str, done: &str) -> Result<(), Failure> {
    match outcome {
        ChangeOutcome::Changed => say(format_args!("{done} {name}")),
        ChangeOutcome::Unchanged => say(format_args!("nothing to change; no token of {name} was revoked")),
        ChangeOutcome::Unknown => Err(unknown(name)),
    }
}
