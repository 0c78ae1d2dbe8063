//! Imports many users at once, in bounded memory.
//!
//! First all of the input is checked: each line, all names against each other, and against the store. An input with a fault imports
//! nothing. Then it is imported slice by slice, in the order of the names: between two slices everybody else has the store, and an
//! import that was interrupted is run again.
//!
//! ```text
//! Import::read ─► Import::check ─► Checked::write
//! ```

mod fault;
mod lines;
mod sorted;
mod speed;

use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::time::sleep;

pub use self::fault::{Fault, FaultKind, Faults};
pub use self::speed::TooSlow;

use self::lines::Lines;
use self::sorted::{Entry, Sorted, Sorter};
use self::speed::Speed;
use super::retry::Retry;
use crate::store::command::{Actor, ImportEffect, ImportUsers, Imported};
use crate::store::{Store, StoreError};

/// An import that was read and not yet checked against anything.
#[derive(Debug)]
pub struct Import {
    users: Sorted,
    faults: Faults,
}

/// An import without a fault, to be written.
#[derive(Debug)]
pub struct Checked {
    users: Sorted,
    update: bool,
    counts: Counts,
}

/// How many users an import concerns, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users that are new.
    pub added: usize,
    /// Users with other data, whose tokens are revoked.
    pub updated: usize,
    /// Users that are like that already.
    pub unchanged: usize,
}

/// How far an import has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// With so many users, or lines while they are read.
    pub done: usize,
    /// Of so many; `None` while that is not known.
    pub all: Option<usize>,
}

/// What an import does with its users, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Lines are read.
    Read,
    /// Users are checked against each other and the store.
    Checked,
    /// Users are written to the store.
    Imported,
}

/// Why an import was not done, or not to its end.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The input cannot be read, or the temporary file cannot be used.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The store cannot be asked, or cannot write.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The input has faults: nothing was imported.
    #[error("{} lines have faults", .0.count())]
    Faults(Faults),
    /// A user was changed by others since it was checked.
    #[error("line {} conflicts with the store", .0.line)]
    Conflict(Fault),
    /// Only a part was imported: run it again to go on.
    #[error("only {} of {all} users were imported: {cause}", .imported.total())]
    Interrupted {
        /// What was imported.
        imported: Counts,
        /// How many users there are.
        all: usize,
        /// Why it ended; never an `Interrupted`.
        cause: Box<ImportError>,
    },
}

impl Counts {
    /// All users.
    pub const fn total(self) -> usize {
        self.added + self.updated + self.unchanged
    }

    fn add(&mut self, imported: &Imported) {
        self.added += imported.added;
        self.updated += imported.updated;
        self.unchanged += imported.unchanged;
    }
}

impl Import {
    /// Reads all of the input (JSON lines, or CSV with a header), checks each line and sorts the users by name. What does not fit into
    /// memory goes to a temporary file in `folder`. A hash with which a login takes more than `max_hash_time` of a core is a fault.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// If the input cannot be read or the temporary file cannot be written. Faults of lines are kept for [`check`](Self::check).
    pub fn read(
        input: impl Read,
        folder: PathBuf,
        max_hash_time: Duration,
        mut on_progress: impl FnMut(Progress),
    ) -> io::Result<Self> {
        let mut faults = Faults::default();
        let mut lines = Lines::new(BufReader::with_capacity(BUFFER, input));
        let (mut sorter, mut speed) = (Sorter::new(folder, IN_MEMORY), Speed::new(max_hash_time));
        let mut done = 0;
        while let Some((line, parsed)) = lines.next()? {
            let parsed = parsed.map_err(FaultKind::Invalid).and_then(|user| {
                speed.check(&user.user.phc).map_err(FaultKind::TooSlow)?;
                Ok(user)
            });
            match parsed {
                Ok(user) => sorter.add(line, user)?,
                Err(kind) => faults.add(Fault { line, kind }),
            }
            done += 1;
            if done % LINES_A_STEP == 0 {
                on_progress(Progress { stage: Stage::Read, done, all: None });
            }
        }
        on_progress(Progress { stage: Stage::Read, done, all: Some(done) });
        Ok(Self { users: sorter.finish()?, faults })
    }

    /// Checks every name against the others, and every user against the store, as if it had none where `store` is `None`. With `update`,
    /// users that are there with other data are to be changed; without it, they are faults.
    ///
    /// # Errors
    ///
    /// [`ImportError::Faults`] with all that was found in lines, too, or what keeps it from finding out.
    pub async fn check(
        mut self,
        store: Option<&Store>,
        update: bool,
        mut on_progress: impl FnMut(Progress),
    ) -> Result<Checked, ImportError> {
        let all = Some(self.users.count());
        let mut counts = Counts::default();
        let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
        let mut last: Option<Entry> = None;
        let mut done = 0;
        for entry in self.users.iter()? {
            let entry = entry?;
            done += 1;
            match &last {
                Some(first) if first.folded == entry.folded => {
                    self.faults.add(Fault { line: entry.number, kind: repetition(&entry, first) });
                }
                _ => {
                    last = Some(entry.clone());
                    batch.push(entry);
                }
            }
            if batch.len() == BATCH {
                check_batch(&mut batch, store, update, &mut counts, &mut self.faults).await?;
                on_progress(Progress { stage: Stage::Checked, done, all });
            }
        }
        check_batch(&mut batch, store, update, &mut counts, &mut self.faults).await?;
        on_progress(Progress { stage: Stage::Checked, done, all });
        match self.faults.count() {
            0 => Ok(Checked { users: self.users, update, counts }),
            _ => Err(ImportError::Faults(self.faults)),
        }
    }
}

impl Checked {
    /// What an import would do.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Imports slice by slice; says what was done. Waits for a store that others use.
    ///
    /// # Errors
    ///
    /// [`ImportError::Interrupted`] says what was imported before; nothing was where it is another one.
    pub async fn write(
        &self,
        store: &Store,
        actor: &Actor,
        retry: Retry,
        mut on_progress: impl FnMut(Progress),
    ) -> Result<Counts, ImportError> {
        let (mut imported, all, update) = (Counts::default(), self.users.count(), self.update);
        let interrupted = |imported: Counts, cause: ImportError| {
            Err(ImportError::Interrupted { imported, all, cause: Box::new(cause) })
        };
        let mut entries = self.users.iter()?;
        // Those that were given and not done yet come first.
        let mut batch: Vec<Entry> = Vec::new();
        let mut size = FIRST_SLICE;
        let mut last = Instant::now();
        loop {
            while batch.len() < size
                && let Some(entry) = entries.next()
            {
                match entry {
                    Ok(entry) => batch.push(entry),
                    Err(error) => return interrupted(imported, error.into()),
                }
            }
            if batch.is_empty() {
                return Ok(imported);
            }
            let users = batch.iter().take(size).map(|entry| entry.user.clone()).collect();
            // Who waits for the store's lock asks for it more often than this.
            sleep(PAUSE.saturating_sub(last.elapsed())).await;
            let slice = match retry.execute(store, ImportUsers { users, update }, actor).await {
                Ok(slice) => slice,
                Err(error) => return interrupted(imported, error.into()),
            };
            last = Instant::now();
            imported.add(&slice);
            let done = slice.done();
            if let (Some(conflict), Some(entry)) = (slice.conflict, batch.get(done)) {
                // Somebody else changed it in between.
                return interrupted(imported, ImportError::Conflict(entry.conflict(conflict)));
            }
            batch.drain(..done);
            // A bit more than it was able to do.
            size = (done * 5 / 4).clamp(FIRST_SLICE, BATCH);
            on_progress(Progress { stage: Stage::Imported, done: imported.total(), all: Some(all) });
        }
    }
}

/// What a user is whose name is that of `first`, or could be taken for it.
fn repetition(entry: &Entry, first: &Entry) -> FaultKind {
    let (name, other) = (entry.name(), first.name());
    if name == other {
        FaultKind::Repeated { name: name.to_owned(), first: first.number }
    } else {
        FaultKind::Confusable { name: name.to_owned(), other: other.to_owned(), first: first.number }
    }
}

async fn check_batch(
    batch: &mut Vec<Entry>,
    store: Option<&Store>,
    update: bool,
    counts: &mut Counts,
    faults: &mut Faults,
) -> Result<(), StoreError> {
    let Some(store) = store else {
        counts.added += batch.len();
        batch.clear();
        return Ok(());
    };
    let users = batch.iter().map(|entry| entry.user.clone()).collect();
    let effects = store.import_effects(users, update).await?;
    for (entry, effect) in batch.drain(..).zip(effects) {
        match effect {
            ImportEffect::Added => counts.added += 1,
            ImportEffect::Updated => counts.updated += 1,
            ImportEffect::Unchanged => counts.unchanged += 1,
            ImportEffect::Conflict(conflict) => faults.add(entry.conflict(conflict)),
        }
    }
    Ok(())
}

/// Users that are given to the store at once; it takes as many as it can in a slice of time.
const BATCH: usize = 2_000;

/// The least that is given.
const FIRST_SLICE: usize = 200;

/// Between two slices, in which the next one is made ready.
const PAUSE: Duration = Duration::from_millis(5);

/// What is kept in memory before a file is begun, in bytes.
const IN_MEMORY: usize = 8 << 20;

/// Lines between two reports of progress.
const LINES_A_STEP: usize = 2_000;

const BUFFER: usize = 1 << 18;
