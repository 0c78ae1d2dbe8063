//! `ds-gateway user`: writes to the store beside a running gateway, which sees the change by itself.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ConfigArgs, Failure, InitArgs, by_command, read_input, say};
use crate::auth::identity::Identity;
use crate::auth::name::{Name, check_email};
use crate::auth::password::{HashMemory, Phc};
use crate::auth::secret::Secret;
use crate::store::users::{self, Act, Change, NewUser, UserError};
use crate::store::{Store, StoreError};

/// `ds-gateway user …`
#[derive(Args, Debug)]
pub(super) struct User {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a user; the password is asked for, or read from standard input
    Add {
        /// Unique over all organizations, no colon
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
    /// Change e-mail address or organization; ends the user's tokens
    Set {
        name: String,
        #[arg(long)]
        email: Option<String>,
        #[arg(long)]
        organization: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Change the password; ends the user's tokens
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
    /// No more tokens, and end those that there are
    Disable {
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Allow tokens again; the old ones stay dead
    Enable {
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Remove a user and end its tokens
    Remove {
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Add many users, all or none: one JSON object a line with name, email, organization and password
    ///
    /// The password is a hash: a PHC string (argon2id, argon2i, argon2d, pbkdf2-sha256, pbkdf2-sha512) or
    /// bcrypt. It is replaced by Argon2id at the user's next login.
    Import {
        /// `-` for standard input
        file: PathBuf,
        #[command(flatten)]
        init: InitArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
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
                let taken = users::find(&store.connect()?, &name)?.is_some();
                if taken {
                    return Err(explain(UserError::Exists, &name));
                }
                let user = NewUser { identity, phc: password.read()? };
                act(&store, &name, |connection, act| users::add(connection, &user, act))?;
                say(format_args!("added {name}"))?;
            }
            Action::Set { name, email, organization, config } => {
                if email.is_none() && organization.is_none() {
                    return Err(Failure::usage("nothing to set: give --email or --organization"));
                }
                let email = email.as_deref().map(email_of).transpose()?;
                let organization = organization.as_deref().map(organization_of).transpose()?;
                let change = Change::Set { email, organization };
                apply(&config, &name, &change, "changed")?;
            }
            Action::Passwd { name, password, config } => {
                let store = config.open_store()?;
                require(&store, &name)?;
                let change = Change::Password(password.read()?);
                change_user(&store, &name, &change, "changed the password of")?;
            }
            Action::Disable { name, config } => apply(&config, &name, &Change::Disable, "disabled")?,
            Action::Enable { name, config } => apply(&config, &name, &Change::Enable, "enabled")?,
            Action::Remove { name, config } => apply(&config, &name, &Change::Remove, "removed")?,
            Action::List { json, config } => {
                let rows: Vec<Row> =
                    users::list(&config.open_store()?.connect()?)?.into_iter().map(Row::from).collect();
                if json { print_json(&rows)? } else { print_table(&rows)? }
            }
            Action::Show { name, json, config } => {
                let row = Row::from(require(&config.open_store()?, &name)?);
                if json { print_json(&row)? } else { print_one(&row)? }
            }
            Action::Import { file, init, config } => {
                import(&file, || Ok(config.open_with(init.creation())?.store))?;
            }
        }
        Ok(())
    }
}

fn require(store: &Store, name: &str) -> Result<users::User, Failure> {
    let found = users::find(&store.connect()?, name)?;
    found.map(|(user, _)| user).ok_or_else(|| explain(UserError::Unknown, name))
}

fn apply(config: &ConfigArgs, name: &str, change: &Change, done: &str) -> Result<(), Failure> {
    change_user(&config.open_store()?, name, change, done)
}

fn change_user(store: &Store, name: &str, change: &Change, done: &str) -> Result<(), Failure> {
    act(store, name, |connection, act| users::change(connection, name, change, act))?;
    say(format_args!("{done} {name}"))
}

/// Runs one change as a transaction of its own.
fn act(
    store: &Store,
    name: &str,
    change: impl FnOnce(&rusqlite::Connection, Act<'_>) -> Result<(), UserError>,
) -> Result<(), Failure> {
    let act = by_command();
    let mut refusal = None;
    let outcome = store.transact(|connection| match change(connection, act) {
        Ok(()) => Ok(()),
        Err(UserError::Store(error)) => Err(error),
        Err(error) => {
            refusal = Some(error);
            Err(StoreError::Busy)
        }
    });
    match refusal {
        Some(refusal) => Err(explain(refusal, name)),
        None => Ok(outcome?),
    }
}

fn explain(error: UserError, name: &str) -> Failure {
    match error {
        UserError::Unknown => Failure::no_such(format!("there is no user {name:?}")),
        UserError::Exists => Failure::usage(format!("there is a user {name:?} already")),
        UserError::Twin(twin) => {
            Failure::usage(format!("{name:?} could be taken for the user {twin:?}: choose another name"))
        }
        UserError::Store(error) => error.into(),
    }
}

fn identity(name: &str, email: &str, organization: &str) -> Result<Identity, Failure> {
    Ok(Identity {
        user: Name::parse_user(name).map_err(|error| Failure::usage(format!("the name {error}")))?,
        email: email_of(email)?,
        organization: organization_of(organization)?,
    })
}

fn email_of(text: &str) -> Result<Box<str>, Failure> {
    check_email(text).map_err(|error| Failure::usage(format!("the e-mail address {error}")))?;
    Ok(text.into())
}

fn organization_of(text: &str) -> Result<Name, Failure> {
    Name::parse(text).map_err(|error| Failure::usage(format!("the organization {error}")))
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
        return Err(Failure::usage("no terminal to ask for a password on: give --password-stdin"));
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

impl From<users::User> for Row {
    fn from(user: users::User) -> Self {
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

fn print_table(rows: &[Row]) -> Result<(), Failure> {
    let width = |title: &str, cell: fn(&Row) -> &str| {
        rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0).max(title.len())
    };
    let name = width("NAME", |row| &row.name);
    let organization = width("ORGANIZATION", |row| &row.organization);
    let email = width("EMAIL", |row| &row.email);
    say(format_args!("{:name$}  {:organization$}  {:email$}  STATE", "NAME", "ORGANIZATION", "EMAIL"))?;
    for row in rows {
        let state = if row.disabled { "disabled" } else { "enabled" };
        say(format_args!(
            "{:name$}  {:organization$}  {:email$}  {state}",
            row.name, row.organization, row.email
        ))?;
    }
    Ok(())
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

/// One line of an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportLine {
    name: String,
    email: String,
    organization: String,
    password: String,
}

fn import(file: &Path, open: impl FnOnce() -> Result<Store, Failure>) -> Result<(), Failure> {
    let text = read_input(file, u64::MAX)?;
    // Not before: as whom the store is opened may be somebody who cannot read the file.
    let store = &open()?;

    let mut faults = Vec::new();
    let mut users = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match import_line(line) {
            Ok(user) => users.push((number, user)),
            Err(text) => faults.push((number, text)),
        }
    }
    let act = by_command();
    let progress = io::stderr().is_terminal() && users.len() > 1000;
    let outcome = store.transact(|connection| {
        for (done, (number, user)) in users.iter().enumerate() {
            match users::add(connection, user, act) {
                Ok(()) => {}
                Err(UserError::Store(error)) => return Err(error),
                Err(error) => faults.push((*number, explain(error, user.identity.user.as_str()).text)),
            }
            if progress && done % 1000 == 0 {
                eprint!("\r{done} of {}", users.len());
                let _ = io::stderr().flush();
            }
        }
        // One fault, and nothing is imported.
        if faults.is_empty() { Ok(()) } else { Err(StoreError::Busy) }
    });
    if progress {
        eprintln!();
    }
    if !faults.is_empty() {
        faults.sort();
        let lines: Vec<String> =
            faults.iter().map(|(number, text)| format!("{}:{number}: {text}", file.display())).collect();
        return Err(Failure::no_such(format!("nothing was imported\n{}", lines.join("\n"))));
    }
    outcome?;
    say(format_args!("imported {} users", users.len()))
}

fn import_line(line: &str) -> Result<NewUser, String> {
    // serde's messages name members and places, not the values.
    let line: ImportLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let identity = identity(&line.name, &line.email, &line.organization).map_err(|fault| fault.text)?;
    let phc = Phc::parse(&line.password).map_err(|error| format!("the password {error}"))?;
    Ok(NewUser { identity, phc })
}
