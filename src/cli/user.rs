//! `ds-gateway user`: writes to the store beside a running gateway, which sees the change by itself.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::context::{ConfigArgs, InitArgs, execute, execute_to_revoke, not_revoked};
use super::import::{self, Import};
use super::new_user::{email_of, explain, identity, organization_of};
use super::output::{Failure, print, say};
use crate::auth::password::{HashMemory, Phc};
use crate::auth::secret::Secret;
use crate::store::Store;
use crate::store::block_on;
use crate::store::command::{
    AddUser, ChangeOutcome, ChangeUser, NameConflict, NewUser, UnlockOutcome, UnlockUser, UserChange,
};
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
                let identity = identity(&name, &email, &organization)?;
                let store = config.open_with(init.creation())?.store;
                // Before the password is asked for, so that nobody types one in vain.
                if block_on(store.user(&name))?.is_some() {
                    return Err(explain(&NameConflict::Exists, &name));
                }
                let user = NewUser { identity, phc: password.read()? };
                execute(&store, AddUser { user })?.map_err(|conflict| explain(&conflict, &name))?;
                say(format_args!("added {name}"))?;
            }
            Action::Set { name, email, organization, config } => {
                if email.is_none() && organization.is_none() {
                    return Err(Failure::usage("nothing to set: use --email or --organization"));
                }
                let email = email.as_deref().map(email_of).transpose()?;
                let organization = organization.as_deref().map(organization_of).transpose()?;
                revoke(&config, &name, UserChange::Claims { email, organization }, "changed")?;
            }
            Action::Passwd { name, password, config } => {
                let store = config.open_to_revoke()?.store;
                block_on(store.user(&name)).map_err(not_revoked)?.ok_or_else(|| unknown(&name))?;
                revoke_with(
                    &store,
                    &name,
                    UserChange::Password(password.read()?),
                    "changed the password of",
                )?;
            }
            Action::Disable { name, config } => revoke(&config, &name, UserChange::Disable, "disabled")?,
            Action::Enable { name, config } => {
                let change = ChangeUser { name: name.as_str().into(), change: UserChange::Enable };
                print_change(execute(&config.open_store()?, change)?, &name, "enabled")?;
            }
            Action::Unlock { name, config } => {
                let unlock = UnlockUser { name: name.as_str().into() };
                match execute(&config.open_store()?, unlock)? {
                    UnlockOutcome::Unlocked => say(format_args!("unlocked {name}"))?,
                    UnlockOutcome::Unknown => return Err(unknown(&name)),
                }
            }
            Action::Remove { name, config } => revoke(&config, &name, UserChange::Remove, "removed")?,
            Action::List { json, config } => {
                let store = config.open_store()?;
                if json { list_json(&store)? } else { list_table(&store)? }
            }
            Action::Show { name, json, config } => {
                let row = Row::from(require(&config.open_store()?, &name)?);
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

fn require(store: &Store, name: &str) -> Result<records::User, Failure> {
    let found = block_on(store.user(name))?;
    found.map(|record| record.user).ok_or_else(|| unknown(name))
}

/// Opens the store for a change that revokes the user's tokens, and makes it.
fn revoke(config: &ConfigArgs, name: &str, change: UserChange, done: &str) -> Result<(), Failure> {
    revoke_with(&config.open_to_revoke()?.store, name, change, done)
}

fn revoke_with(store: &Store, name: &str, change: UserChange, done: &str) -> Result<(), Failure> {
    print_change(execute_to_revoke(store, ChangeUser { name: name.into(), change })?, name, done)
}

fn print_change(outcome: ChangeOutcome, name: &str, done: &str) -> Result<(), Failure> {
    match outcome {
        ChangeOutcome::Changed => say(format_args!("{done} {name}")),
        ChangeOutcome::Unchanged => say(format_args!("nothing to change; no token of {name} was revoked")),
        ChangeOutcome::Unknown => Err(unknown(name)),
    }
}

/// Every user, a page at a time: nothing is locked, and no more is held, while a page is printed.
fn pages(store: &Store, mut print: impl FnMut(Vec<Row>) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let page = block_on(store.users(&after, PAGE))?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.identity.user.to_string();
        print(page.into_iter().map(Row::from).collect())?;
    }
}

impl PasswordArgs {
    fn read(&self) -> Result<Phc, Failure> {
        let password = if self.password_stdin { read_line()? } else { prompt()? };
        let bytes = password.expose_secret();
        if bytes.is_empty() {
            return Err(Failure::usage("the password must not be empty"));
        }
        if bytes.len() > Phc::MAX_PASSWORD {
            return Err(Failure::usage("the password must not be longer than 1024 bytes"));
        }
        if std::str::from_utf8(bytes).map_or(true, |text| text.chars().any(char::is_control)) {
            // RFC 7617 could not transport it.
            return Err(Failure::usage("the password must be UTF-8 without control characters"));
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(Failure::cannot_start)?;
        Phc::hash(&password, salt, &mut HashMemory::default())
            .ok_or_else(|| Failure::cannot_start("the password cannot be hashed"))
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
fn list_json(store: &Store) -> Result<(), Failure> {
    let mut is_first = true;
    pages(store, |rows| {
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
fn list_table(store: &Store) -> Result<(), Failure> {
    let mut widths = None;
    let line = |[name, organization, email]: [usize; 3], cells: [&str; 4]| {
        let [of_name, of_organization, of_email, state] = cells;
        format!("{of_name:name$}  {of_organization:organization$}  {of_email:email$}  {state}\n")
    };
    let head = ["NAME", "ORGANIZATION", "EMAIL", "STATE"];
    let title_widths = [head[0].len(), head[1].len(), head[2].len()];
    pages(store, |rows| {
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

/// Users that are read at once.
const PAGE: usize = 1000;
