//! The replica: what any process commits is in force in this gate's memory a moment later.
//!
//! It only reads the store. A read that fails leaves what is known in force until `max_staleness`; a heartbeat
//! that cannot be written delays no read.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot::{Receiver, Sender, channel};
use tokio::time::sleep;

use super::Store;
use super::command::{Actor, KeyRecord, RecordKeys, RecordKeysOutcome};
use super::error::StoreError;
use super::heartbeats::{Heartbeats, Rhythm};
use super::read_gap::ReadGap;
use super::records::{Changes, compare_keys};
use super::sequence_waits::SequenceWaits;
use crate::auth::gate::Gate;
use crate::auth::keys::KeySet;
use crate::clock::{Clock, describe};

/// Reads the signing keys again.
pub type Reload = Box<dyn Fn() -> Result<KeySet, String> + Send>;

/// What a replica needs beside the store and the gate that it keeps up to date.
pub struct Settings {
    /// How it says that it runs.
    pub heartbeats: Rhythm,
    /// How often it looks for changes, at least.
    pub poll_interval: Duration,
    /// Reads the signing keys again, where they may change while the process runs.
    pub reload: Option<Reload>,
    /// Told of each look.
    pub gap: Arc<ReadGap>,
    /// Told of each change that was applied; asks for a look before its time.
    pub sequence_waits: Arc<SequenceWaits>,
}

/// A running replica; dropping it ends its thread.
pub struct Replica {
    _stop: Sender<()>,
    ended: Receiver<()>,
}

impl Replica {
    /// Sends the first heartbeat, then keeps `gate` up to date with `store`. `clock` is the one that the gate is
    /// asked with.
    pub async fn start(
        store: Store,
        gate: Arc<Gate>,
        clock: Clock,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        // Before anybody can reach us: anyone who revokes from now on waits for us too.
        let mut heartbeats =
            Heartbeats::new(store.clone(), Arc::clone(&gate), clock.clone(), &settings.heartbeats);
        match heartbeats.send_first().await {
            Ok(()) => {}
            // Nobody can revoke anything there either; what is known can be served.
            Err(error) if can_be_served(&error) => {
                log::warn!("the first heartbeat cannot be written; retrying: {error}");
            }
            Err(error) => return Err(error),
        }
        let ((stop, stopped), (end, ended)) = (channel(), channel());
        // What was loaded for the start counts as the first look.
        settings.gap.begin(clock.uptime());
        settings.gap.end();
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let replica = ReplicaLoop { store, gate, clock, settings };
        thread::Builder::new().name("store-replica".into()).spawn(move || {
            run_until(&runtime, replica, heartbeats, stopped);
            // A heartbeat that was not waited for goes with its runtime.
            drop(runtime);
            drop(end);
        })?;
        Ok(Self { _stop: stop, ended })
    }

    /// Ends the thread and waits for that: after it no heartbeat is sent.
    pub async fn stop(self) {
        let Self { _stop: stop, ended } = self;
        drop(stop);
        // Nothing is ever sent: the other side goes.
        let _ = ended.await;
    }
}

/// Does serving, which only reads, work while a command fails so?
const fn can_be_served(error: &StoreError) -> bool {
    error.is_transient() || matches!(error, StoreError::DiskFull(_) | StoreError::DiskFailed(_))
}

fn run_until(runtime: &Runtime, replica: ReplicaLoop, heartbeats: Heartbeats, stopped: Receiver<()>) {
    runtime.block_on(async {
        tokio::select! {
            // The end of the other side is an end too.
            _ = stopped => {}
            () = replica.run(heartbeats) => {}
        }
    });
}

struct ReplicaLoop {
    store: Store,
    gate: Arc<Gate>,
    clock: Clock,
    settings: Settings,
}

impl ReplicaLoop {
    async fn run(self, mut heartbeats: Heartbeats) {
        let mut keys = KeyReload::default();
        let (mut is_failing, mut is_clock_wrong, mut fork) = (false, false, Fork::None);
        let mut pause = Duration::ZERO;
        loop {
            // What is heard of meanwhile is read afterwards.
            sleep(pause).await;
            let interval = match fork {
                Fork::United(_) => SOON,
                Fork::None | Fork::Found => self.store.poll_interval(self.settings.poll_interval),
            };
            tokio::select! {
                () = self.settings.sequence_waits.rest(interval) => {}
                () = self.store.changed() => {}
            }
            self.watch_clock(&mut is_clock_wrong);
            // The time before the read: what is written after it may be missing.
            let uptime = self.clock.uptime();
            self.settings.gap.begin(uptime);
            let look = self.settings.sequence_waits.look_begins();
            let began = Instant::now();
            let caught_up = self.catch_up_or_unite(&mut keys, &mut fork, &mut heartbeats).await;
            pause = pause_after(began.elapsed());
            self.settings.gap.end();
            match caught_up {
                Ok(requested) => {
                    self.settings.sequence_waits.look_done(look);
                    heartbeats.settle().await;
                    match self.is_complete(&mut fork).await {
                        Ok(true) => self.gate.note_read(heartbeats.bound(uptime)),
                        Ok(false) => {}
                        Err(error) => log::warn!("it is not known how far other gateways are: {error}"),
                    }
                    keys.load_if_due(&self).await;
                    if std::mem::take(&mut is_failing) {
                        log::info!("the store can be read again");
                    }
                    heartbeats.send_if_due(requested).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        log::error!("the store cannot be read; the last known state stays in force: {error}");
                    }
                    // It runs all the same, and says up to where.
                    heartbeats.send_if_due(0).await;
                }
            }
        }
    }

    fn watch_clock(&self, is_wrong: &mut bool) {
        match (self.clock.error(), *is_wrong) {
            (Some(error), false) => log::warn!("{}", describe(error)),
            (None, true) => match self.clock.ahead_of_floor() {
                0..=60 => log::info!("the wall clock agrees with the store's time again"),
                ahead => {
                    log::warn!("the wall clock is trusted again; it is {ahead} s ahead of the store's time")
                }
            },
            _ => {}
        }
        *is_wrong = self.clock.error().is_some();
    }

    /// The same as [`catch_up`](Self::catch_up), also where the database has lost what is known here.
    async fn catch_up_or_unite(
        &self,
        keys: &mut KeyReload,
        fork: &mut Fork,
        heartbeats: &mut Heartbeats,
    ) -> Result<u64, StoreError> {
        if *fork != Fork::Found {
            let caught_up = self.catch_up(keys).await;
            if !matches!(caught_up, Err(StoreError::Forked { .. })) {
                return caught_up;
            }
            *fork = Fork::Found;
        }
        *fork = Fork::United(self.store.unite(&self.gate).await?);
        self.record_keys().await?;
        // What was read said nothing of keys that are new.
        keys.is_due = true;
        heartbeats.hurry();
        self.catch_up(keys).await
    }

    /// Records the keys of this gateway that were recorded in what is lost.
    async fn record_keys(&self) -> Result<(), StoreError> {
        let record = RecordKeys { keys: KeyRecord::all(&self.gate.keys()) };
        match self.store.execute(record, Actor::gateway()).await? {
            RecordKeysOutcome::Recorded => {}
            RecordKeysOutcome::Conflict(kid) => {
                log::error!("the database knows another key by the name {kid:?} than this gateway has");
            }
        }
        Ok(())
    }

    /// Has every gateway written back what it knows and the database had lost? Until then something may be missing here.
    async fn is_complete(&self, fork: &mut Fork) -> Result<bool, StoreError> {
        if let Fork::United(number) = *fork {
            let gateways = self.store.acknowledgements().await?;
            if gateways.iter().any(|gateway| gateway.is_leased && gateway.applied < number) {
                return Ok(false);
            }
            *fork = Fork::None;
        }
        Ok(*fork == Fork::None)
    }

    /// Applies every change that there is, a piece at a time; says up to which sequence acknowledgements are requested.
    async fn catch_up(&self, keys: &mut KeyReload) -> Result<u64, StoreError> {
        loop {
            let known = self.gate.sequence();
            let changes = self.store.changes(known, PIECE).await?;
            let (requested, is_last) = (changes.requested, changes.is_last());
            // With every look, also where nothing is written: time passes on a full disk too.
            self.clock.advance(changes.time.lived, changes.time.floor);
            if changes.through > known || changes.time.expired_below > 0 {
                // Before the revocation of a key that they replace, so that at no time there is none that signs.
                keys.expect(&changes);
                keys.load_if_due(self).await;
                self.gate.apply(|snapshot| changes.apply(snapshot));
                self.settings.sequence_waits.note_applied();
            } else if !is_last {
                return Err(StoreError::Failed("the change feed is stuck".into()));
            }
            if is_last {
                return Ok(requested);
            }
        }
    }
}

/// Commits that the database has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fork {
    /// None, as far as is known.
    None,
    /// What is known here is to be written back, and everything to be read again.
    Found,
    /// That is done; the others must have done it as well. The database goes on at this sequence.
    United(u64),
}

/// Signing keys that are to be loaded, for as long as that takes: the sequence goes on without them.
struct KeyReload {
    is_due: bool,
    /// Keys that were recorded and are not loaded yet, by name.
    expected: Vec<String>,
    /// Why they could not be loaded, as logged.
    failure: Option<String>,
}

impl Default for KeyReload {
    /// One may have been made since the gateway read its keys, so the first look is due.
    fn default() -> Self {
        Self { is_due: true, expected: Vec::new(), failure: None }
    }
}

impl KeyReload {
    fn expect(&mut self, changes: &Changes) {
        for key in &changes.keys {
            self.expected.retain(|kid| *kid != key.kid);
            if key.may_sign() {
                self.expected.push(key.kid.clone());
            }
        }
        self.is_due |= changes.has_new_key();
    }

    async fn load_if_due(&mut self, replica: &ReplicaLoop) {
        let Some(reload) = replica.settings.reload.as_ref().filter(|_| self.is_due) else { return };
        match self.load(reload, replica).await {
            Ok(()) => {
                self.is_due = false;
                if self.failure.take().is_some() {
                    log::info!("the signing keys are loaded");
                }
            }
            Err(text) => {
                if self.failure.as_ref() != Some(&text) {
                    log::error!("signing keys cannot be loaded; the previous keys stay in use: {text}");
                }
                self.failure = Some(text);
            }
        }
    }

    /// Loads the keys that are recorded, and only if each is the one that the store knows by its name, as a start does.
    async fn load(&mut self, reload: &Reload, replica: &ReplicaLoop) -> Result<(), String> {
        let (gate, store) = (&replica.gate, &replica.store);
        let found = reload()?;
        let recorded = store.keys().await.map_err(|error| error.to_string())?;
        if let Err(kid) = compare_keys(&recorded, &found) {
            return Err(format!(
                "the key {kid:?} is not the one that the store has recorded under this name: restore the old file"
            ));
        }
        // One that is not recorded yet is about to be, and comes with the feed then.
        let is_recorded = |kid: &str| recorded.iter().any(|key| key.kid == kid);
        let keys = found.filtered(|key| is_recorded(key.kid())).map_err(|error| format!("a key {error}"))?;
        self.expected.retain(|kid| keys.by_kid(kid).is_none());
        if !keys.has_keys_of(&gate.keys()) {
            gate.replace_keys(keys);
        }
        match self.expected.first() {
            None => Ok(()),
            Some(kid) => Err(format!("the file of the key {kid:?} is missing")),
        }
    }
}

/// How soon it is looked again whether others have written back what was lost.
const SOON: Duration = Duration::from_millis(50);

/// How long no changes are looked for after a look that took so long: twice as long, so that a busy store is asked less often, and for more at once.
fn pause_after(look: Duration) -> Duration {
    let pause = look.saturating_mul(2).min(LONGEST_PAUSE);
    // Timers have no shorter steps.
    if pause < Duration::from_millis(1) { Duration::ZERO } else { pause }
}

/// The longest pause between two looks where there are changes.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Rows of one kind that are applied at once.
const PIECE: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_store_is_asked_less_often() {
        let pause = |micros| pause_after(Duration::from_micros(micros)).as_micros();
        assert_eq!([pause(400), pause(3_000), pause(9_000_000)], [0, 6_000, 20_000]);
    }
}
