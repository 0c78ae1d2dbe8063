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

use super::sqlite::{Store, StoreError, current_number, read_changes};
use crate::auth::gate::Gate;

/// A running follower; dropping it ends its thread.
pub struct Follower {
    _stop: Sender<()>,
}

impl Follower {
    /// Keeps `gate` up to date with `store`; `uptime` is the clock that the gate compares with.
    pub fn start(
        store: Store,
        gate: Arc<Gate>,
        uptime: impl Fn() -> Duration + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (stop, stopped) = channel();
        thread::Builder::new()
            .name("store-follower".into())
            .spawn(move || follow(&store, &gate, uptime, &stopped))?;
        Ok(Self { _stop: stop })
    }
}

fn follow(store: &Store, gate: &Gate, uptime: impl Fn() -> Duration, stopped: &Receiver<()>) {
    let mut place = None;
    let mut failing = false;
    while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
        // The moment before the read: what is written after it may be missing.
        let moment = uptime();
        match look(store, gate, &mut place) {
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

/// Where the follower is: its connection, the version it saw, and when it last asked for the number.
struct Place {
    connection: Connection,
    version: Option<i64>,
    asked_at: Instant,
}

fn look(store: &Store, gate: &Gate, place: &mut Option<Place>) -> Result<(), StoreError> {
    store.check_in_place()?;
    let place = match place {
        Some(place) => place,
        None => place.insert(Place { connection: store.connect()?, version: None, asked_at: Instant::now() }),
    };
    let version: i64 =
        place.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
    if place.version == Some(version) && place.asked_at.elapsed() < REGARDLESS {
        return Ok(());
    }
    place.asked_at = Instant::now();
    let number = current_number(&place.connection)?;
    if number < gate.number() {
        // Somebody put an older store in place of this one; what it gives out now was given out before.
        return Err(StoreError::Replaced);
    }
    if number > gate.number() {
        let connection = &mut place.connection;
        gate.update(|standing| read_changes(connection, standing.number(), standing))?;
    }
    place.version = Some(version);
    Ok(())
}

/// How often the store is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How often its number is read even if nothing seems to have changed.
const REGARDLESS: Duration = Duration::from_secs(5);
