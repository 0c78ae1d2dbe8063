//! The follower: from the file into memory. What any process commits is in force here a moment later.
//!
//! One connection alone watches `PRAGMA data_version`, which changes with every commit of another
//! connection and costs no read of the tables; the sequence number is the truth and is read every few
//! seconds regardless. A read that fails leaves the known standing in force until `max_staleness`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::keys::any_new;
use super::revocations::report;
use super::sqlite::{Store, StoreError, current_and_wanted, read_changes};
use crate::auth::gate::Gate;
use crate::auth::keys::KeyRing;
use crate::clock::wall;

/// Reads the signing keys anew.
pub type Reload = Box<dyn Fn() -> Result<KeyRing, String> + Send>;

/// How often the follower does what.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// Looks for changes.
    pub poll: Duration,
    /// Reads the sequence even if nothing seems to have changed, and says that it is there.
    pub heartbeat: Duration,
}

/// A running follower; dropping it ends its thread.
pub struct Follower {
    _stop: Sender<()>,
}

impl Follower {
    /// Keeps `gate` up to date with `store`; `uptime` is the clock that the gate compares with.
    ///
    /// `id` is the name under which this process says how far it has come; `reload` reads the signing keys
    /// anew, where they may change while the process runs.
    pub fn start(
        store: Store,
        gate: Arc<Gate>,
        id: String,
        reload: Option<Reload>,
        intervals: Intervals,
        uptime: impl Fn() -> Duration + Send + 'static,
    ) -> Result<Self, StoreError> {
        // Before anybody can reach us: whoever revokes from now on waits for us too.
        report(&store.connect()?, &id, gate.number(), wall())?;
        let (stop, stopped) = channel();
        thread::Builder::new()
            .name("store-follower".into())
            .spawn(move || follow(&store, &gate, &id, reload.as_ref(), intervals, uptime, &stopped))?;
        Ok(Self { _stop: stop })
    }
}

fn follow(
    store: &Store,
    gate: &Gate,
    id: &str,
    reload: Option<&Reload>,
    intervals: Intervals,
    uptime: impl Fn() -> Duration,
    stopped: &Receiver<()>,
) {
    let mut place = None;
    let mut failing = false;
    while stopped.recv_timeout(intervals.poll) == Err(RecvTimeoutError::Timeout) {
        // The moment before the read: what is written after it may be missing.
        let moment = uptime();
        match look(store, gate, id, reload, intervals.heartbeat, &mut place) {
            Ok(()) => {
                gate.note_read(moment);
                if std::mem::take(&mut failing) {
                    log::info!("the store can be read again");
                }
            }
            Err(error) => {
                place = None;
                if !std::mem::replace(&mut failing, true) {
                    log::error!("the store cannot be read, what is known stays in force: {error}");
                }
            }
        }
    }
}

/// Where the follower is: its connection, the version it saw, when it last looked at the number regardless,
/// and the number that it last reported.
struct Place {
    connection: Connection,
    version: Option<i64>,
    asked_at: Instant,
    reported: u64,
}

fn look(
    store: &Store,
    gate: &Gate,
    id: &str,
    reload: Option<&Reload>,
    heartbeat: Duration,
    place: &mut Option<Place>,
) -> Result<(), StoreError> {
    store.check_in_place()?;
    let place = match place {
        Some(place) => place,
        None => place.insert(Place {
            connection: store.connect()?,
            version: None,
            asked_at: Instant::now(),
            reported: 0,
        }),
    };
    let version: i64 =
        place.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
    let is_due = place.version.is_none() || place.asked_at.elapsed() >= heartbeat;
    if place.version == Some(version) && !is_due {
        return Ok(());
    }
    let (number, wanted) = current_and_wanted(&place.connection)?;
    if number < gate.number() {
        // Somebody put an older store in place of this one; what it gives out now was given out before.
        return Err(StoreError::Replaced);
    }
    if number > gate.number() {
        if let Some(reload) = reload
            && any_new(&place.connection, gate.number())?
        {
            match reload() {
                Ok(keys) => gate.replace_keys(keys),
                Err(text) => log::error!("the new signing key cannot be read: {text}"),
            }
        }
        let connection = &mut place.connection;
        gate.update(|standing| read_changes(connection, standing.number(), standing))?;
    }
    // Somebody waits to hear of it, or it is time to say that we are there.
    if wanted > place.reported || is_due {
        report(&place.connection, id, gate.number(), wall())?;
        place.reported = gate.number();
    }
    if is_due {
        place.asked_at = Instant::now();
    }
    place.version = Some(version);
    Ok(())
}
