//! `ds-gateway user`: writes to the store beside a running gateway, which sees the change by itself.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::context::{self, ConfigArgs, InitArgs, not_revoked, run};
use super::import::{self, Import};
use super::output::{Failure, print, say};
use crate::auth::password::Phc;
use crate::auth::secret::Secret;
use crate::service::users::{self, AddError, InvalidField, PasswordError, SetPasswordError, Users};
use crate::store::command::{ChangeOutcome, NameConflict, UnlockOutcome};
use crate::store::records;

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
        /// Unique across all organizations, without a colon
        name: String,
        #[arg(long)]
        email: String,
        #[arg(long)]
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
        name: String,
        #[arg(long)]
        email: Option<String>,
        #[arg(long)]
        organization: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Change the password; revokes the user's tokens
    Passwd {
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List all users
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show one user
    Show {
        name: String,
        /// As a JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Block logins and revoke existing tokens
    Disable {
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Allow logins again; old tokens stay revoked
    Enable {
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Reset a user's failed logins: the user can log in again at once, from anywhere
    ///
    /// Takes effect in every gateway with the next login. Password, tokens and whether the user is disabled stay as they are.
    /// `ds-gateway audit list --failed --user NAME` shows where the failed logins came from.
    Unlock {
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Remove a user and revoke its tokens
    Remove {
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Add or change many users, from JSON lines or CSV with password hashes of other systems
    #[command(after_long_help = import::HELP)]
    Import(Import),
}

#[derive(Args, Debug)]
struct PasswordArgs {
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

impl User {
    pub(super) fn execute(self) -> Result<(), Failure> {
        match self.action {
            Action::Add { name, email, organization, password, init, config } => {
                let identity = users::identity(&name, &email, &organization)?;
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
                let email = email.as_deref().map(users::parse_email).transpose()?;
                let organization = organization.as_deref().map(users::parse_organization).transpose()?;
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
            Action::Remove { name, config } => {
                let users = config.open_users_to_revoke()?;
                print_revocation(run(users.remove(&name)), &name, "removed")?;
            }
            Action::List { json, config } => {
                let users = config.open_users()?;
                if json { list_json(&users)? } else { list_table(&users)? }
            }
            Action::Show { name, json, config } => {
                let found = run(config.open_users()?.find(&name))?;
                let row = Row::from(found.ok_or_else(|| unknown(&name))?);
                if json { print_json(&row)? } else { print_one(&row)? }
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

/// Every user, a page at a time: nothing is locked, and no more is held, while a page is printed.
fn pages(users: &Users, mut print: impl FnMut(Vec<Row>) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let page = run(users.page(&after))?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.identity.user.to_string();
        print(page.into_iter().map(Row::from).collect())?;
    }
}

impl PasswordArgs {
    fn read(&self) -> Result<Secret, Failure> {
        if self.password_stdin { read_line() } else { prompt() }
    }
}

fn read_line() -> Result<Secret, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(2048));
    let mut input = io::stdin().lock().take(Phc::MAX_PASSWORD as u64 + 2);
    input.read_until(b'\n', &mut line).map_err(Failure::usage)?;
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Ok(Secret::new(text.to_vec()))
}

fn prompt() -> Result<Secret, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("cannot prompt without a terminal; use --password-stdin"));
    }
    let ask = |text: &str| -> Result<Secret, Failure> {
        let typed = rpassword::prompt_password(text).map_err(Failure::usage)?;
        Ok(Secret::new(typed.into_bytes()))
    };
    let password = ask("Password: ")?;
    if password != ask("Again: ")? {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(password)
}

/// A user as shown.
#[derive(Serialize)]
struct Row {
    name: String,
    email: String,
    organization: String,
    disabled: bool,
    credential_version: u64,
    created_at: String,
    updated_at: String,
}

impl From<records::User> for Row {
    fn from(user: records::User) -> Self {
        Self {
            name: user.identity.user.to_string(),
            email: user.identity.email.into(),
            organization: user.identity.organization.to_string(),
            disabled: user.disabled,
            credential_version: user.credential_version,
            created_at: user.created_at.to_string(),
            updated_at: user.updated_at.to_string(),
        }
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::cannot_start)?;
    say(text)
}

/// As one array.
fn list_json(users: &Users) -> Result<(), Failure> {
    let mut is_first = true;
    pages(users, |rows| {
        let mut text = String::new();
        for row in rows {
            text.push_str(if std::mem::take(&mut is_first) { "[" } else { "," });
            let object = serde_json::to_string_pretty(&row).map_err(Failure::cannot_start)?;
            object.lines().for_each(|line| text.extend(["\n  ", line]));
        }
        print(&text)
    })?;
    say(if is_first { "[]" } else { "\n]" })
}

/// As a table. The columns are as wide as the first page needs; a longer cell further down moves its own line only.
fn list_table(users: &Users) -> Result<(), Failure> {
    let mut widths = None;
    let line = |[name, organization, email]: [usize; 3], cells: [&str; 4]| {
        let [of_name, of_organization, of_email, state] = cells;
        format!("{of_name:name$}  {of_organization:organization$}  {of_email:email$}  {state}\n")
    };
    let head = ["NAME", "ORGANIZATION", "EMAIL", "STATE"];
    let title_widths = [head[0].len(), head[1].len(), head[2].len()];
    pages(users, |rows| {
        let mut text = String::new();
        let widths = *widths.get_or_insert_with(|| {
            let widths = widths_of(&rows, title_widths);
            text.push_str(&line(widths, head));
            widths
        });
        for row in &rows {
            let state = if row.disabled { "disabled" } else { "enabled" };
            text.push_str(&line(widths, [&row.name, &row.organization, &row.email, state]));
        }
        print(&text)
    })?;
    if widths.is_none() { print(&line(title_widths, head)) } else { Ok(()) }
}

fn widths_of(rows: &[Row], least: [usize; 3]) -> [usize; 3] {
    rows.iter().fold(least, |[name, organization, email], row| {
        let width = |cell: &str| cell.chars().count();
        [name.max(width(&row.name)), organization.max(width(&row.organization)), email.max(width(&row.email))]
    })
}

fn print_one(row: &Row) -> Result<(), Failure> {
    let state = if row.disabled { "disabled" } else { "enabled" };
    say(format_args!("name          {}", row.name))?;
    say(format_args!("email         {}", row.email))?;
    say(format_args!("organization  {}", row.organization))?;
    say(format_args!("state         {state}"))?;
    say(format_args!("created       {} UTC", row.created_at))?;
    say(format_args!("changed       {} UTC", row.updated_at))
}
