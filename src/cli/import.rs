//! `ds-gateway user import`: many users at once, in bounded memory.
//!
//! First all of the file is checked: each line, all names against each other, and against the store. A file with an error imports nothing.
//! Then it is imported slice by slice, in the order of the names: between two slices everybody else has the store, and an import that was
//! interrupted is run again.

mod lines;
mod sorted;
mod speed;

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use self::lines::Lines;
use self::sorted::{Entry, Sorted, Sorter};
use self::speed::Speed;
use super::context::{ConfigArgs, InitArgs, execute_patiently};
use super::output::{Failure, say};
use crate::store::block_on;
use crate::store::command::{Difference, ImportConflict, ImportEffect, ImportUsers, Imported};
use crate::store::{Store, StoreError};

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
pub(super) const HELP: &str = r#"Two forms of FILE are recognised by the first line, with or without a byte order mark, with line ends of any system:

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

/// How many users an import concerns, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    added: usize,
    updated: usize,
    unchanged: usize,
}

impl Counts {
    const fn total(self) -> usize {
        self.added + self.updated + self.unchanged
    }

    fn add(&mut self, imported: &Imported) {
        self.added += imported.added;
        self.updated += imported.updated;
        self.unchanged += imported.unchanged;
    }
}

/// The result as JSON.
#[derive(Serialize)]
struct Report {
    users: usize,
    #[serde(flatten)]
    counts: Counts,
    dry_run: bool,
}

impl Import {
    pub(super) fn execute(self) -> Result<(), Failure> {
        // Opened before the store: as whom that is opened may be somebody who cannot read the file.
        let input = Input::open(&self.file)?;
        let (store, folder) = self.open()?;
        let mut faults = Faults { file: self.file.clone(), lines: Vec::new(), more: 0 };
        let sorted = read(input, folder, self.max_hash_time, &mut faults)?;
        let counts = check(&sorted, store.as_ref(), self.update, &mut faults)?;
        if !faults.lines.is_empty() {
            return Err(Failure::no_such(format!("nothing was imported\n{}", faults.explain())));
        }
        let counts = match store {
            Some(store) if !self.dry_run => write(&sorted, &store, self.update, &mut faults)?,
            _ => counts,
        };
        self.print(counts)
    }

    /// The store, and a folder for what does not fit into memory. `None` for a store that only a real import would create.
    fn open(&self) -> Result<(Option<Store>, PathBuf), Failure> {
        if self.dry_run && !self.config.load()?.store.path.exists() {
            return Ok((None, std::env::temp_dir()));
        }
        let opened = self.config.open_with(self.init.creation())?;
        Ok((Some(opened.store), opened.state_dir))
    }

    fn print(&self, counts: Counts) -> Result<(), Failure> {
        let Counts { added, updated, unchanged } = counts;
        let (users, dry_run) = (counts.total(), self.dry_run);
        if self.json {
            let report = Report { users, counts, dry_run };
            return say(serde_json::to_string_pretty(&report).map_err(Failure::cannot_start)?);
        }
        let what = if dry_run { "nothing was changed; of" } else { "imported" };
        let would = if dry_run { " would be" } else { "" };
        say(format_args!(
            "{what} {users} users,{would} added: {added}, updated: {updated}, unchanged: {unchanged}"
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

/// What stands against an import, by line.
struct Faults {
    file: PathBuf,
    lines: Vec<(usize, String)>,
    /// Those that are not kept.
    more: usize,
}

impl Faults {
    fn add(&mut self, number: usize, text: String) {
        if self.lines.len() < MAX_FAULTS { self.lines.push((number, text)) } else { self.more += 1 }
    }

    fn add_conflict(&mut self, entry: &Entry, conflict: &ImportConflict) {
        self.add(entry.number, explain(conflict, entry.user.user.identity.user.as_str()));
    }

    fn explain(&mut self) -> String {
        self.lines.sort();
        let mut lines: Vec<String> = self
            .lines
            .iter()
            .map(|(number, text)| format!("{}:{number}: {text}", self.file.display()))
            .collect();
        if self.more > 0 {
            lines.push(format!("and {} more", self.more));
        }
        lines.join("\n")
    }
}

/// Why a user cannot be imported, as a sentence.
fn explain(conflict: &ImportConflict, name: &str) -> String {
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

/// Reads all of the input, checks each line and sorts the users by name.
fn read(
    input: Input,
    folder: PathBuf,
    max_hash_time: Duration,
    faults: &mut Faults,
) -> Result<Sorted, Failure> {
    let mut lines = Lines::new(BufReader::with_capacity(BUFFER, input.0));
    let (mut sorter, mut speed) = (Sorter::new(folder, IN_MEMORY), Speed::new(max_hash_time));
    let (mut count, mut progress) = (0, Progress::new("read"));
    while let Some((number, parsed)) = lines.next().map_err(Failure::cannot_start)? {
        match parsed.and_then(|user| speed.check(&user.user.phc).map(|()| user)) {
            Ok(user) => sorter.add(number, user).map_err(Failure::cannot_start)?,
            Err(text) => faults.add(number, text),
        }
        count += 1;
        if count % PROGRESS == 0 {
            progress.show(count, None);
        }
    }
    progress.show(count, Some(count));
    sorter.finish().map_err(Failure::cannot_start)
}

/// Checks every name against the others, and every user against the store; says what an import would do.
fn check(
    sorted: &Sorted,
    store: Option<&Store>,
    update: bool,
    faults: &mut Faults,
) -> Result<Counts, Failure> {
    let (mut counts, mut progress) = (Counts::default(), Progress::new("checked"));
    let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
    let mut last: Option<Entry> = None;
    let mut checked = 0;
    for entry in sorted.iter().map_err(Failure::cannot_start)? {
        let entry = entry.map_err(Failure::cannot_start)?;
        checked += 1;
        match &last {
            Some(first) if first.folded == entry.folded => {
                let (name, other) = (&entry.user.user.identity.user, &first.user.user.identity.user);
                faults.add(
                    entry.number,
                    match name == other {
                        true => format!("{:?} is on line {} already", name.as_str(), first.number),
                        false => format!(
                            "{:?} could be taken for {:?} on line {}: choose another name",
                            name.as_str(),
                            other.as_str(),
                            first.number
                        ),
                    },
                );
            }
            _ => {
                last = Some(entry.clone());
                batch.push(entry);
            }
        }
        if batch.len() == BATCH {
            check_batch(&mut batch, store, update, &mut counts, faults)?;
            progress.show(checked, Some(sorted.count()));
        }
    }
    check_batch(&mut batch, store, update, &mut counts, faults)?;
    progress.show(checked, Some(sorted.count()));
    Ok(counts)
}

fn check_batch(
    batch: &mut Vec<Entry>,
    store: Option<&Store>,
    update: bool,
    counts: &mut Counts,
    faults: &mut Faults,
) -> Result<(), Failure> {
    let Some(store) = store else {
        counts.added += batch.len();
        batch.clear();
        return Ok(());
    };
    let users = batch.iter().map(|entry| entry.user.clone()).collect();
    let effects = block_on(store.import_effects(users, update))?;
    for (entry, effect) in batch.drain(..).zip(effects) {
        match effect {
            ImportEffect::Added => counts.added += 1,
            ImportEffect::Updated => counts.updated += 1,
            ImportEffect::Unchanged => counts.unchanged += 1,
            ImportEffect::Conflict(conflict) => faults.add_conflict(&entry, &conflict),
        }
    }
    Ok(())
}

/// Imports slice by slice.
fn write(sorted: &Sorted, store: &Store, update: bool, faults: &mut Faults) -> Result<Counts, Failure> {
    let (mut counts, mut progress) = (Counts::default(), Progress::new("imported"));
    let interrupted = |counts: Counts, failure: Failure| {
        let (done, all) = (counts.total(), sorted.count());
        failure.after(&format!("only {done} of {all} users were imported; run the command again to continue"))
    };
    let mut entries = sorted.iter().map_err(Failure::cannot_start)?;
    // Those that were given and not done yet come first.
    let mut batch: Vec<Entry> = Vec::new();
    let mut size = FIRST_SLICE;
    let mut last = Instant::now();
    loop {
        while batch.len() < size
            && let Some(entry) = entries.next()
        {
            batch.push(entry.map_err(Failure::cannot_start).map_err(|failure| interrupted(counts, failure))?);
        }
        if batch.is_empty() {
            return Ok(counts);
        }
        let users = batch.iter().take(size).map(|entry| entry.user.clone()).collect();
        // Who waits for the store's lock asks for it more often than this.
        thread::sleep(PAUSE.saturating_sub(last.elapsed()));
        let imported = execute_patiently(store, ImportUsers { users, update });
        let imported = imported.map_err(|error: StoreError| interrupted(counts, error.into()))?;
        last = Instant::now();
        counts.add(&imported);
        if let (Some(conflict), Some(entry)) = (&imported.conflict, batch.get(imported.done())) {
            // Somebody else changed it in between.
            faults.add_conflict(entry, conflict);
            return Err(interrupted(counts, Failure::no_such(faults.explain())));
        }
        batch.drain(..imported.done());
        // A bit more than it was able to do.
        size = (imported.done() * 5 / 4).clamp(FIRST_SLICE, BATCH);
        progress.show(counts.total(), Some(sorted.count()));
    }
}

/// How far an import has come, for a person who waits.
struct Progress {
    what: &'static str,
    is_shown: bool,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self { what, is_shown: io::stderr().is_terminal() }
    }

    fn show(&mut self, done: usize, all: Option<usize>) {
        if !self.is_shown || all.is_some_and(|all| all <= BATCH) {
            return;
        }
        let of = all.map(|all| format!(" of {all}")).unwrap_or_default();
        let end = if all == Some(done) { "\n" } else { "" };
        let mut stderr = io::stderr();
        let _ = write!(stderr, "\r{} {done}{of}{end}", self.what);
        let _ = stderr.flush();
    }
}

/// Users that are given to the store at once; it takes as many as it can in a slice of time.
const BATCH: usize = 2_000;

/// The least that is given.
const FIRST_SLICE: usize = 200;

/// Between two slices, in which the next one is made ready.
const PAUSE: Duration = Duration::from_millis(5);

/// What is kept in memory before a file is begun, in bytes.
const IN_MEMORY: usize = 8 << 20;

/// Faults that are shown.
const MAX_FAULTS: usize = 100;

/// Lines between two reports of progress.
const PROGRESS: usize = 2_000;

const BUFFER: usize = 1 << 18;
