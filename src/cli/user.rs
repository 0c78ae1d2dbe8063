//! `ds-gateway user`: writes to the store beside a running gateway, which sees the change by itself.

use std::collections::HashMap;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::context::{ConfigArgs, InitArgs, execute};
use super::output::{Failure, read_input, say};
use crate::app::block_on;
use crate::auth::identity::Identity;
use crate::auth::name::{Name, check_email};
use crate::auth::password::{HashMemory, Phc};
use crate::auth::secret::Secret;
use crate::store::Store;
use crate::store::command::{
    AddUser, ChangeOutcome, ChangeUser, ImportUsers, NameConflict, NewUser, UserChange,
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
    /// Add many users: one JSON object a line with name, email, organization and password
    ///
    /// All lines are checked first; if one is wrong, nothing is imported. An import that was interrupted can be run again.
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
                if block_on(store.user(&name))?.is_some() {
                    return Err(explain(&NameConflict::Exists, &name));
                }
                let user = NewUser { identity, phc: password.read()? };
                execute(&store, AddUser { user })?.map_err(|conflict| explain(&conflict, &name))?;
                say(format_args!("added {name}"))?;
            }
            Action::Set { name, email, organization, config } => {
                if email.is_none() && organization.is_none() {
                    return Err(Failure::usage("nothing to set: give --email or --organization"));
                }
                let email = email.as_deref().map(email_of).transpose()?;
                let organization = organization.as_deref().map(organization_of).transpose()?;
                apply(&config, &name, UserChange::Claims { email, organization }, "changed")?;
            }
            Action::Passwd { name, password, config } => {
                let store = config.open_patiently()?.store;
                require(&store, &name)?;
                let change = UserChange::Password(password.read()?);
                change_user(&store, &name, change, "changed the password of")?;
            }
            Action::Disable { name, config } => apply(&config, &name, UserChange::Disable, "disabled")?,
            Action::Enable { name, config } => apply(&config, &name, UserChange::Enable, "enabled")?,
            Action::Remove { name, config } => apply(&config, &name, UserChange::Remove, "removed")?,
            Action::List { json, config } => {
                let rows = list(&config.open_store()?)?;
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

fn unknown(name: &str) -> Failure {
    Failure::no_such(format!("there is no user {name:?}"))
}

fn require(store: &Store, name: &str) -> Result<records::User, Failure> {
    let found = block_on(store.user(name))?;
    found.map(|record| record.user).ok_or_else(|| unknown(name))
}

fn apply(config: &ConfigArgs, name: &str, change: UserChange, done: &str) -> Result<(), Failure> {
    change_user(&config.open_patiently()?.store, name, change, done)
}

fn change_user(store: &Store, name: &str, change: UserChange, done: &str) -> Result<(), Failure> {
    match execute(store, ChangeUser { name: name.into(), change })? {
        ChangeOutcome::Changed => say(format_args!("{done} {name}")),
        ChangeOutcome::Unchanged => {
            say(format_args!("nothing to change: {name} is that already; no token was revoked"))
        }
        ChangeOutcome::Unknown => Err(unknown(name)),
    }
}

fn list(store: &Store) -> Result<Vec<Row>, Failure> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map_or("", |row| &row.name);
        let page = block_on(store.users(after, PAGE))?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page.into_iter().map(Row::from));
    }
}

fn explain(conflict: &NameConflict, name: &str) -> Failure {
    match conflict {
        NameConflict::Exists => Failure::usage(format!("there is a user {name:?} already")),
        NameConflict::Confusable(other) => {
            Failure::usage(format!("{name:?} could be taken for the user {other:?}: choose another name"))
        }
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
    let mut import = Import::parse(&text);
    drop(text);
    import.find_conflicts(store)?;
    if !import.faults.is_empty() {
        return Err(Failure::no_such(format!("nothing was imported\n{}", import.explain(file))));
    }
    let count = import.users.len();
    let done = import.write(store)?;
    if done < count {
        // Somebody else added one of them in between.
        let text = import.explain(file);
        return Err(Failure::no_such(format!("only the first {done} of {count} were imported\n{text}")));
    }
    say(format_args!("imported {count} users"))
}

/// Users to be imported and what stands against it, each with the number of its line.
struct Import {
    users: Vec<(usize, NewUser)>,
    faults: Vec<(usize, String)>,
    progress: bool,
}

impl Import {
    fn parse(text: &str) -> Self {
        let (mut users, mut faults) = (Vec::new(), Vec::new());
        let mut names: HashMap<String, String> = HashMap::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let parsed = import_line(line).and_then(|user| {
                let name = user.identity.user.to_string();
                match names.insert(user.identity.user.folded(), name.clone()) {
                    None => Ok(user),
                    Some(other) if other == name => Err(explain(&NameConflict::Exists, &name).text),
                    Some(other) => Err(explain(&NameConflict::Confusable(other), &name).text),
                }
            });
            match parsed {
                Ok(user) => users.push((number, user)),
                Err(text) => faults.push((number, text)),
            }
        }
        let progress = io::stderr().is_terminal() && users.len() > SLICE;
        Self { users, faults, progress }
    }

    /// Before anything is written: one fault, and nothing is imported.
    fn find_conflicts(&mut self, store: &Store) -> Result<(), Failure> {
        for (checked, slice) in self.users.chunks(SLICE).enumerate() {
            let new = slice.iter().map(|(_, user)| user.clone()).collect();
            let conflicts = block_on(store.conflicts(new))?;
            self.faults.extend(faults(slice, &conflicts));
            self.show_progress("checked", checked, slice.len());
        }
        Ok(())
    }

    /// Imports slice by slice, so that nobody else waits for long. Says how many users were imported; the faults say
    /// why not all of them.
    fn write(&mut self, store: &Store) -> Result<usize, Failure> {
        for (written, slice) in self.users.chunks(SLICE).enumerate() {
            let users = slice.iter().map(|(_, user)| user.clone()).collect();
            if let Err(conflicts) = execute(store, ImportUsers { users })? {
                self.faults.extend(faults(slice, &conflicts));
                return Ok(written * SLICE);
            }
            self.show_progress("imported", written, slice.len());
        }
        Ok(self.users.len())
    }

    fn show_progress(&self, what: &str, slices: usize, last: usize) {
        if !self.progress {
            return;
        }
        let (done, all) = (slices * SLICE + last, self.users.len());
        eprint!("\r{what} {done} of {all}{}", if done == all { "\n" } else { "" });
        let _ = io::stderr().flush();
    }

    fn explain(&mut self, file: &Path) -> String {
        self.faults.sort();
        let lines: Vec<String> =
            self.faults.iter().map(|(number, text)| format!("{}:{number}: {text}", file.display())).collect();
        lines.join("\n")
    }
}

/// What stands against users of a slice, with the numbers of their lines.
fn faults(slice: &[(usize, NewUser)], conflicts: &[(usize, NameConflict)]) -> Vec<(usize, String)> {
    let explained = conflicts.iter().filter_map(|(place, conflict)| {
        let (number, user) = slice.get(*place)?;
        Some((*number, explain(conflict, user.identity.user.as_str()).text))
    });
    explained.collect()
}

fn import_line(line: &str) -> Result<NewUser, String> {
    // serde's messages name members and places, not the values.
    let line: ImportLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let identity = identity(&line.name, &line.email, &line.organization).map_err(|fault| fault.text)?;
    let phc = Phc::parse(&line.password).map_err(|error| format!("the password {error}"))?;
    Ok(NewUser { identity, phc })
}

/// Users that are read at once.
const PAGE: usize = 1000;

/// Users that are imported in one transaction.
const SLICE: usize = 500;
