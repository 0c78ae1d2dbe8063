//! `ds-gateway user import`: many users at once, from a file.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::context::{ACCOUNT, ConfigArgs, InitArgs, RETRY, run};
use super::output::{Failure, say};
use crate::service::import::{self, Counts, Fault, FaultKind, Faults, ImportError, Progress, Stage, TooSlow};
use crate::store::Store;
use crate::store::command::{Difference, ImportConflict};

/// `ds-gateway user import …`
#[derive(Args, Debug)]
pub(super) struct Import {
    /// JSON lines or CSV with a header; `-` for standard input
    file: PathBuf,
    /// Change users that exist with other data, and revoke their tokens; without it, they are errors
    #[arg(long)]
    update: bool,
    /// Check everything and print what would be done, but change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Accept hashes that cost up to this much CPU time per login; anyone can trigger such logins
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = humantime::parse_duration)]
    max_hash_time: Duration,
    #[command(flatten)]
    init: InitArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What `--help` says of it.
pub(super) const HELP: &str = r#"Format of FILE:

Two forms of FILE are recognised by the first line, with or without a byte order mark, with line ends of any system:

  {"name":"anna","email":"anna@example.com","organization":"Main Org.","password":"$2b$12$…"}
  {"name":"bert","email":"bert@example.com","organization":"Main Org.","password":"$argon2id$…","disabled":true}

  name,email,organization,password,disabled
  anna,anna@example.com,Main Org.,$2b$12$…,
  bert,bert@example.com,"Main Org., North",pbkdf2_sha256$600000$…,true

The columns may be in any order, between commas, semicolons or tabs. "disabled" may be left out: then a new user is enabled, and one that exists
stays what it is.

The password is a hash, as the other system stored it; plain text is refused. A login that succeeds replaces it by Argon2id, unless the old
algorithm read only a part of the password (bcrypt: 72 bytes). Accepted are

  Argon2              $argon2id$ $argon2i$ $argon2d$ (PHC), argon2$argon2id$ (Django)
  bcrypt              $2a$ $2b$ $2x$ $2y$, bcrypt$ and bcrypt_sha256$ (Django), $bcrypt-sha256$ (passlib)
  PBKDF2              $pbkdf2-sha256$ $pbkdf2-sha512$ $pbkdf2-sha1$ (PHC), and $pbkdf2$ (passlib), pbkdf2_sha256$ pbkdf2_sha1$ (Django),
                      pbkdf2:sha256: and :sha512: and :sha1: (Werkzeug)
  scrypt              $scrypt$ (PHC, passlib), scrypt$ (Django), scrypt: (Werkzeug)
  SHA-crypt           $5$ $6$
  apr1                $apr1$ (htpasswd)
  salted SHA          {SSHA} {SSHA256} {SSHA512}, and {CRYPT} before any of those that crypt(3) has (LDAP)

if a login with them takes no more than --max-hash-time on this machine. The rest is refused by name.

Everything is checked before anything is changed: each line, all names against each other, and against the store. Then users are imported slice by
slice, so that a running gateway goes on minting and revoking. An import that was interrupted is run again: users that are there with the
same data are left alone.

  ds-gateway user import users.csv --dry-run
  ds-gateway user import users.csv
  ds-gateway user import users.csv --update"#;

/// The result as JSON.
#[derive(Serialize)]
struct Report {
    users: usize,
    added: usize,
    updated: usize,
    unchanged: usize,
    dry_run: bool,
}

impl Import {
    pub(super) fn execute(self) -> Result<(), Failure> {
        // Opened before the store: as whom that is opened may be somebody who cannot read the file.
        let input = Input::open(&self.file)?;
        let (store, folder) = self.open()?;
        let show = progress();
        let explain = |error: ImportError| explain(&self.file, error);
        let import = import::Import::read(input.0, folder, self.max_hash_time, show);
        let import = import.map_err(Failure::cannot_start)?;
        let checked = run(async { import.check(store.as_ref(), self.update, show).await.map_err(explain) })?;
        let counts = match store {
            Some(store) if !self.dry_run => {
                let actor = ACCOUNT.actor();
                run(async { checked.write(&store, &actor, RETRY, show).await.map_err(explain) })?
            }
            _ => checked.counts(),
        };
        self.print(counts)
    }

    /// The store, and a folder for what does not fit into memory. `None` for a store that only a real import would create.
    fn open(&self) -> Result<(Option<Store>, PathBuf), Failure> {
        if self.dry_run && self.config.load()?.0.store.place.file().is_some_and(|path| !path.exists()) {
            return Ok((None, std::env::temp_dir()));
        }
        let opened = self.config.open_with(self.init.creation())?;
        Ok((Some(opened.store), opened.state_dir))
    }

    fn print(&self, counts: Counts) -> Result<(), Failure> {
        let Counts { added, updated, unchanged } = counts;
        let (users, dry_run) = (counts.total(), self.dry_run);
        if self.json {
            let report = Report { users, added, updated, unchanged, dry_run };
            return say(serde_json::to_string_pretty(&report).map_err(Failure::cannot_start)?);
        }
        let what = if dry_run { "nothing was changed; of" } else { "imported" };
        let would = if dry_run { " would be" } else { "" };
        let noun = if users == 1 { "user" } else { "users" };
        say(format_args!(
            "{what} {users} {noun},{would} added: {added}, updated: {updated}, unchanged: {unchanged}"
        ))
    }
}

/// What is imported, as it was given.
struct Input(Box<dyn io::Read>);

impl Input {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self(Box::new(io::stdin())));
        }
        let named = |error: io::Error| Failure::usage(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        if file.metadata().map_err(named)?.is_dir() {
            return Err(Failure::usage(format!("{}: is a folder", path.display())));
        }
        Ok(Self(Box::new(file)))
    }
}

/// Why an import was not done, with what stands against it by line.
fn explain(file: &Path, error: ImportError) -> Failure {
    match error {
        ImportError::File(error) => Failure::cannot_start(error),
        ImportError::Store(error) => error.into(),
        ImportError::Faults(faults) => {
            Failure::no_such(format!("nothing was imported\n{}", explain_all(file, faults)))
        }
        ImportError::Conflict(fault) => Failure::no_such(explain_line(file, &fault)),
        ImportError::Interrupted { imported, all, cause } => {
            let done = imported.total();
            explain(file, *cause).after(&format!(
                "only {done} of {all} users were imported; run the command again to continue"
            ))
        }
    }
}

fn explain_all(file: &Path, faults: Faults) -> String {
    let more = faults.more();
    let mut lines: Vec<String> = faults.into_kept().iter().map(|fault| explain_line(file, fault)).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

fn explain_line(file: &Path, fault: &Fault) -> String {
    let text = match &fault.kind {
        FaultKind::Invalid(text) => text.clone(),
        FaultKind::TooSlow(slow) => explain_slow(slow),
        FaultKind::Repeated { name, first } => format!("{name:?} is on line {first} already"),
        FaultKind::Confusable { name, other, first } => {
            format!("{name:?} could be taken for {other:?} on line {first}: choose another name")
        }
        FaultKind::Conflict { name, conflict } => explain_conflict(conflict, name),
    };
    format!("{}:{}: {text}", file.display(), fault.line)
}

fn explain_slow(slow: &TooSlow) -> String {
    format!(
        "the password is {}: a login would take {}{} ms on this machine, and {} ms are allowed (--max-hash-time)",
        slow.cost,
        if slow.is_more { "more than " } else { "" },
        slow.took.as_millis(),
        slow.longest.as_millis()
    )
}

fn explain_conflict(conflict: &ImportConflict, name: &str) -> String {
    match conflict {
        ImportConflict::Confusable(other) => {
            format!("{name:?} could be taken for the user {other:?}: choose another name")
        }
        ImportConflict::Differs(difference) => {
            let Difference { email, organization, password, disabled } = *difference;
            let what: Vec<&str> = [
                (email, "another e-mail address"),
                (organization, "another organization"),
                (password, "another password hash"),
                (disabled, "another state (enabled or disabled)"),
            ]
            .into_iter()
            .filter_map(|(is_other, what)| is_other.then_some(what))
            .collect();
            format!("there is a user {name:?} already, with {}: use --update to change it", what.join(", "))
        }
    }
}

/// Shows how far an import has come to a person who waits.
fn progress() -> impl Fn(Progress) + Copy {
    let is_shown = io::stderr().is_terminal();
    move |Progress { stage, done, all }| {
        if !is_shown || all.is_some_and(|all| all <= SMALL) {
            return;
        }
        let what = match stage {
            Stage::Read => "read",
            Stage::Checked => "checked",
            Stage::Imported => "imported",
        };
        let of = all.map(|all| format!(" of {all}")).unwrap_or_default();
        let end = if all == Some(done) { "\n" } else { "" };
        let mut stderr = io::stderr();
        let _ = write!(stderr, "\r{what} {done}{of}{end}");
        let _ = stderr.flush();
    }
}

/// An import of so many users is done before its progress is of interest.
const SMALL: usize = 2_000;
