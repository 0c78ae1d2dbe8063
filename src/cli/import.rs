//! `ds-gateway user import`: many users at once, in bounded memory.
//!
//! The file is read twice: once to check all of it, so that a faulty one imports nothing, and once to import it, slice by slice, so
//! that nobody else waits for long. Beside a slice only a hash of each name is kept, 8 bytes, to find names that come twice.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::context::{ConfigArgs, InitArgs, Opened, execute_patiently};
use super::new_user::{explain, identity};
use super::output::{Failure, say};
use crate::app::block_on;
use crate::auth::password::Phc;
use crate::store::Store;
use crate::store::command::{ImportUsers, NameConflict, NewUser};

/// One line of an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportLine {
    name: String,
    email: String,
    organization: String,
    password: String,
}

/// Imports the users of a file, `-` for standard input.
pub(super) fn import(file: &Path, init: &InitArgs, config: &ConfigArgs) -> Result<(), Failure> {
    // Opened before the store: as whom that is opened may be somebody who cannot read the file.
    let input = Input::open(file)?;
    let Opened { store, state_dir, .. } = config.open_with(init.creation())?;
    let mut source = input.settle(&state_dir)?;
    let mut faults = Faults { file: file.to_owned(), lines: Vec::new(), more: 0 };
    let count = check(&mut source, &store, &mut faults)?;
    if !faults.lines.is_empty() {
        return Err(Failure::no_such(format!("nothing was imported\n{}", faults.explain())));
    }
    let done = write(&mut source, &store, count, &mut faults)?;
    if !faults.lines.is_empty() {
        // Somebody else added one of them in between.
        let text = faults.explain();
        return Err(Failure::no_such(format!("only the first {done} of {count} were imported\n{text}")));
    }
    say(format_args!("imported {count} users"))
}

/// What is imported, as it was given.
enum Input {
    /// Can be read twice.
    File(File),
    /// A pipe.
    Stream(Box<dyn io::Read>),
}

impl Input {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stream(Box::new(io::stdin())));
        }
        let named = |error: io::Error| Failure::usage(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        let metadata = file.metadata().map_err(named)?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!("{}: this is a folder", path.display())));
        }
        Ok(if metadata.is_file() { Self::File(file) } else { Self::Stream(Box::new(file)) })
    }

    /// A file to read twice; what comes from a pipe is kept in one without a name, which goes with the process.
    fn settle(self, state_dir: &Path) -> Result<Source, Failure> {
        let file = match self {
            Self::File(file) => file,
            Self::Stream(mut stream) => {
                let mut kept = tempfile::tempfile_in(state_dir).map_err(Failure::cannot_start)?;
                io::copy(&mut stream, &mut kept).map_err(Failure::cannot_start)?;
                kept
            }
        };
        Ok(Source { reader: BufReader::with_capacity(BUFFER, file), number: 0, line: Zeroizing::default() })
    }
}

/// The lines of an import, one after the other.
struct Source {
    reader: BufReader<File>,
    number: usize,
    line: Zeroizing<Vec<u8>>,
}

/// A line with its number, and the user on it or what is wrong with it.
type Parsed = (usize, Result<NewUser, String>);

impl Source {
    fn rewind(&mut self) -> Result<(), Failure> {
        self.number = 0;
        self.reader.rewind().map_err(Failure::cannot_start)
    }

    /// The next line that is not blank.
    fn next(&mut self) -> Result<Option<Parsed>, Failure> {
        loop {
            self.line.clear();
            let mut limited = self.reader.by_ref().take(MAX_LINE);
            let read = limited.read_until(b'\n', &mut self.line).map_err(Failure::cannot_start)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.line.last() != Some(&b'\n') && read as u64 == MAX_LINE {
                self.reader.skip_until(b'\n').map_err(Failure::cannot_start)?;
                return Ok(Some((self.number, Err(format!("the line is longer than {MAX_LINE} bytes")))));
            }
            let Ok(text) = std::str::from_utf8(&self.line) else {
                return Ok(Some((self.number, Err("the line is not UTF-8".into()))));
            };
            if !text.trim().is_empty() {
                return Ok(Some((self.number, parse(text))));
            }
        }
    }
}

fn parse(line: &str) -> Result<NewUser, String> {
    // serde's messages name members and places, not the values.
    let line: ImportLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let identity = identity(&line.name, &line.email, &line.organization).map_err(|fault| fault.text)?;
    let phc = Phc::parse(&line.password).map_err(|error| format!("the password {error}"))?;
    Ok(NewUser { identity, phc })
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

    fn add_conflicts(&mut self, slice: &[(usize, NewUser)], conflicts: &[(usize, NameConflict)]) {
        for (place, conflict) in conflicts {
            if let Some((number, user)) = slice.get(*place) {
                self.add(*number, explain(conflict, user.identity.user.as_str()).text);
            }
        }
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

/// Checks every line, against the others and against the store; returns how many users there are.
fn check(source: &mut Source, store: &Store, faults: &mut Faults) -> Result<usize, Failure> {
    source.rewind()?;
    let mut names = Names::default();
    let mut slice = Vec::with_capacity(SLICE);
    let (mut count, mut progress) = (0, Progress::new("checked"));
    while let Some((number, parsed)) = source.next()? {
        match parsed {
            Ok(user) => {
                names.add(number, user.identity.user.folded());
                slice.push((number, user));
                count += 1;
            }
            Err(text) => faults.add(number, text),
        }
        if slice.len() == SLICE {
            check_slice(&mut slice, store, faults)?;
            progress.show(count, None);
        }
    }
    check_slice(&mut slice, store, faults)?;
    progress.show(count, Some(count));
    names.find_twins(source, faults)?;
    Ok(count)
}

fn check_slice(slice: &mut Vec<(usize, NewUser)>, store: &Store, faults: &mut Faults) -> Result<(), Failure> {
    let new = slice.iter().map(|(_, user)| user.clone()).collect();
    faults.add_conflicts(slice, &block_on(store.conflicts(new))?);
    slice.clear();
    Ok(())
}

/// Hashes of the names so far, and the lines whose name has one of them.
#[derive(Default)]
struct Names {
    keyed: RandomState,
    seen: HashSet<u64>,
    /// Numbers and hashes of lines that seem to repeat a name.
    suspects: Vec<(usize, u64)>,
}

impl Names {
    fn add(&mut self, number: usize, folded: String) {
        let hash = self.keyed.hash_one(folded);
        if !self.seen.insert(hash) && self.suspects.len() <= MAX_FAULTS {
            self.suspects.push((number, hash));
        }
    }

    /// Reads the file again if it seems to have a name twice, and says which.
    fn find_twins(&self, source: &mut Source, faults: &mut Faults) -> Result<(), Failure> {
        if self.suspects.is_empty() {
            return Ok(());
        }
        source.rewind()?;
        let wanted: HashSet<u64> = self.suspects.iter().map(|(_, hash)| *hash).collect();
        let mut first: Vec<(String, String)> = Vec::new();
        while let Some((number, parsed)) = source.next()? {
            let Ok(user) = parsed else { continue };
            let (folded, name) = (user.identity.user.folded(), user.identity.user.to_string());
            if !wanted.contains(&self.keyed.hash_one(&folded)) {
                continue;
            }
            match first.iter().find(|(known, _)| *known == folded) {
                None => first.push((folded, name)),
                Some((_, other)) if *other == name => {
                    faults.add(number, explain(&NameConflict::Exists, &name).text);
                }
                Some((_, other)) => {
                    faults.add(number, explain(&NameConflict::Confusable(other.clone()), &name).text);
                }
            }
        }
        Ok(())
    }
}

/// Imports slice by slice. Says how many users were imported; the faults say why not all of them.
fn write(source: &mut Source, store: &Store, count: usize, faults: &mut Faults) -> Result<usize, Failure> {
    source.rewind()?;
    let (mut done, mut progress) = (0, Progress::new("imported"));
    loop {
        let mut slice = Vec::with_capacity(SLICE);
        while slice.len() < SLICE
            && let Some((number, parsed)) = source.next()?
        {
            match parsed {
                Ok(user) => slice.push((number, user)),
                // The file was changed after it was checked.
                Err(text) => {
                    faults.add(number, text);
                    return Ok(done);
                }
            }
        }
        if slice.is_empty() {
            return Ok(done);
        }
        let users = slice.iter().map(|(_, user)| user.clone()).collect();
        if let Err(conflicts) = execute_patiently(store, ImportUsers { users })? {
            faults.add_conflicts(&slice, &conflicts);
            return Ok(done);
        }
        done += slice.len();
        progress.show(done, Some(count));
        // Whoever waits for the store's lock asks for it more often than this.
        thread::sleep(PAUSE);
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
        if !self.is_shown || all.is_some_and(|all| all <= SLICE) {
            return;
        }
        let of = all.map(|all| format!(" of {all}")).unwrap_or_default();
        let end = if all == Some(done) { "\n" } else { "" };
        let mut stderr = io::stderr();
        let _ = write!(stderr, "\r{} {done}{of}{end}", self.what);
        let _ = stderr.flush();
    }
}

/// Users that are imported in one transaction.
const SLICE: usize = 500;

/// Between two transactions.
const PAUSE: Duration = Duration::from_millis(2);

/// The longest line: more than any user needs.
const MAX_LINE: u64 = 64 * 1024;

/// Faults that are shown.
const MAX_FAULTS: usize = 1000;

const BUFFER: usize = 1 << 18;
