//! Files are looked at every second. With `server.watch` a change of the configuration's that has come to rest is a reload; one of the certificates of
//! the TLS listeners is taken over in any case, and alone.
//!
//! What the name leads to is looked at, so that a file that is renamed over, a link that is turned round (as certbot and clusters do it) and
//! a file that is written in place are all seen. One that is being written changes from look to look, and is not read before it rests: the first half of a
//! configuration may be a valid one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::certificates::{Attempts, Expiry};
use super::reload::Reloader;
use crate::clock::wall;

/// Starts the thread that looks. It costs a few calls a second.
pub(super) fn start(reloader: &Arc<Reloader>) -> io::Result<()> {
    let reloader = Arc::clone(reloader);
    thread::Builder::new().name("watch".into()).spawn(move || {
        let mut watched: Option<Watched> = None;
        let mut certificates = Certificates::new(&reloader);
        loop {
            thread::sleep(INTERVAL);
            certificates.look(&reloader);
            if !reloader.is_watching() {
                watched = None;
                continue;
            }
            let found = look(&reloader.files());
            // Whatever has changed since the configuration in force was read is found by reading it once more.
            let watched = watched.get_or_insert_default();
            if watched.is_due(found, Instant::now()) {
                let verdict = reloader.reload();
                // Where that took over other files, they are the ones to look at.
                let again = (!verdict.is_ok()).then(|| Instant::now() + AGAIN);
                watched.done(look(&reloader.files()), again);
            }
        }
    })?;
    Ok(())
}

/// The certificates of the TLS listeners.
struct Certificates {
    watched: Watched,
    attempts: Attempts,
    expiry: Expiry,
}

impl Certificates {
    fn new(reloader: &Reloader) -> Self {
        let expiry = Expiry::told(reloader.certificate_warnings(wall()), Instant::now());
        Self { watched: Watched::default(), attempts: Attempts::default(), expiry }
    }

    fn look(&mut self, reloader: &Reloader) {
        let now = Instant::now();
        let is_changed = self.watched.is_due(look(&reloader.certificate_files()), now);
        // One that cannot be made is tried again as files are that cannot be read.
        if is_changed || (self.watched.again.is_none() && reloader.is_renewal_due(wall())) {
            let again = self.attempts.try_now(reloader, now);
            self.watched.done(look(&reloader.certificate_files()), again);
        }
        for warning in self.expiry.due(reloader.certificate_warnings(wall()), now) {
            log::warn!("{warning}");
        }
    }
}

/// What there is to see of each file without reading it.
type Seen = Vec<(PathBuf, Option<State>)>;

/// Device, inode, size, and the times of the last change of the content and of the inode, which nobody can set back.
type State = [i128; 5];

fn look(files: &[PathBuf]) -> Seen {
    files.iter().map(|file| (file.clone(), state(file))).collect()
}

fn state(file: &Path) -> Option<State> {
    let found = fs::metadata(file).ok()?;
    let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    Some([
        found.dev().into(),
        found.ino().into(),
        found.len().into(),
        time(found.mtime(), found.mtime_nsec()),
        time(found.ctime(), found.ctime_nsec()),
    ])
}

/// What was seen, and what was done about it.
#[derive(Default)]
struct Watched {
    /// When a configuration was read last.
    read: Seen,
    /// At the last look.
    last: Seen,
    /// When a reload that failed is tried again: what it lacks may be in a file that is not looked at yet.
    again: Option<Instant>,
}

impl Watched {
    /// Is there something new, which has been the same for two looks?
    fn is_due(&mut self, found: Seen, now: Instant) -> bool {
        let rests = found == self.last;
        self.last = found;
        rests && (self.last != self.read || self.is_to_be_tried_again(now))
    }

    fn is_to_be_tried_again(&self, now: Instant) -> bool {
        self.again.is_some_and(|again| now >= again)
    }

    /// After a reload, with what is seen then: what has changed since the look before it is looked at again.
    fn done(&mut self, seen: Seen, again: Option<Instant>) {
        let before = |path: &PathBuf| self.last.iter().find(|(known, _)| known == path);
        self.read = seen.iter().map(|new| before(&new.0).unwrap_or(new).clone()).collect();
        self.last = seen;
        self.again = again;
    }
}

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long after a failure a reload is tried again though no file has changed.
const AGAIN: Duration = Duration::from_secs(10);
