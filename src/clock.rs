//! The one place that reads the real clocks, and the rule for what they mean.
//!
//! The wall clock may be stepped, be wrong at a start and be mended later; the boot clock only ever moves at the speed of time, also
//! while the machine is suspended. From both, and from what the store has kept, a [`Clock`] makes three things:
//!
//! - *lived time*: how long gateways have run on the store. It decides what may be deleted.
//! - the *floor*: the wall clock as far as lived time bears it out. It follows the wall clock at half to twice the speed of time, so
//!   that a step moves it little, and never goes back.
//! - *now*: the wall clock, but never before the floor. It decides `exp`, `iat` and `nbf`, and nothing else.
//!
//! It may use `auth` alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use crate::auth::gate::ClockReading;
use crate::auth::time::{Lived, UnixTime};

/// Hands out [`ClockReading`]s; its clones agree on everything.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// The boot clock when the process began.
    began: Duration,
    shared: Arc<Shared>,
}

/// Where a clock reads.
#[derive(Clone, Debug)]
enum Source {
    /// The system's clocks.
    System,
    #[cfg(test)]
    Manual(Arc<Manual>),
}

/// Clocks that a test moves, in seconds.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Manual {
    /// Since 1970.
    pub(crate) wall: AtomicU64,
    /// Since some beginning.
    pub(crate) boot: AtomicU64,
}

/// What clones of a clock share. Requests read the atomics; who moves them holds the lock.
#[derive(Debug)]
struct Shared {
    state: Mutex<Option<State>>,
    is_observer: bool,
    floor: AtomicU64,
    lived: AtomicU64,
    /// How far the wall clock was stepped and not yet believed, in seconds.
    step: AtomicI64,
}

/// What a process carries from one advance to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    lived: Duration,
    /// Since 1970.
    floor: Duration,
    /// The boot clock at the last advance.
    at: Duration,
    /// The wall clock less the boot clock, as it was before any step that is not yet believed; in milliseconds.
    baseline: i128,
    /// The boot clock when a step was first seen, and whether it was one forward.
    stepped: Option<(Duration, bool)>,
}

impl State {
    /// At the start of a process: what the store knows, and no step seen.
    fn start(lived: Lived, floor: UnixTime, wall: Duration, boot: Duration) -> Self {
        let (lived, floor) = (Duration::from_secs(lived.0), Duration::from_secs(floor.0));
        Self { lived, floor, at: boot, baseline: millis(wall) - millis(boot), stepped: None }
    }

    /// Moves everything on to the time of this reading. What the store has comes from other gateways too, and two gateways
    /// never add up. The floor follows the wall clock to `latest` and no further.
    fn advance(
        &mut self,
        lived: Lived,
        floor: UnixTime,
        wall: Duration,
        boot: Duration,
        latest: Option<UnixTime>,
    ) {
        let passed = boot.saturating_sub(self.at);
        self.at = boot;
        self.lived = (self.lived + passed).max(Duration::from_secs(lived.0));
        let latest = latest.map_or(wall, |latest| wall.min(Duration::from_secs(latest.0)));
        let followed = latest.clamp(self.floor + passed / 2, self.floor + passed * 2);
        self.floor = followed.max(Duration::from_secs(floor.0));
        self.watch_for_a_step(wall, boot);
    }

    /// A step is believed after ten minutes, and one that is undone before was none. A start with a clock ahead must not hide the
    /// next step forward, so one back is believed too.
    fn watch_for_a_step(&mut self, wall: Duration, boot: Duration) {
        let step = self.step(wall, boot);
        if is_small(step) {
            // The correction of a clock that runs too fast or too slow.
            (self.stepped, self.baseline) = (None, self.baseline + step);
            return;
        }
        let is_forward = step > 0;
        let since = match self.stepped {
            Some((since, forward)) if forward == is_forward => since,
            _ => boot,
        };
        self.stepped = Some((since, is_forward));
        if boot.saturating_sub(since) >= BELIEVED_AFTER {
            (self.stepped, self.baseline) = (None, self.baseline + step);
        }
    }

    /// How far the wall clock is ahead of where the boot clock says it should be, in milliseconds.
    fn step(&self, wall: Duration, boot: Duration) -> i128 {
        millis(wall) - millis(boot) - self.baseline
    }
}

impl Clock {
    /// A gateway's clock: it moves what the store keeps of time.
    pub fn start() -> Self {
        Self::of(Source::System, false)
    }

    /// The clock of a command beside the gateways: it reads what the store keeps of time and moves nothing.
    pub fn observer() -> Self {
        Self::of(Source::System, true)
    }

    /// A clock that a test moves.
    #[cfg(test)]
    pub(crate) fn manual(manual: &Arc<Manual>, is_observer: bool) -> Self {
        Self::of(Source::Manual(Arc::clone(manual)), is_observer)
    }

    fn of(source: Source, is_observer: bool) -> Self {
        let shared = Shared {
            state: Mutex::new(None),
            is_observer,
            floor: AtomicU64::default(),
            lived: AtomicU64::default(),
            step: AtomicI64::default(),
        };
        let clock = Self { source, began: Duration::ZERO, shared: Arc::new(shared) };
        Self { began: clock.read_boot(), ..clock }
    }

    /// What a database's clock says that was read like this. A test moves that clock with its own.
    pub fn of_database(&self, read: UnixTime) -> UnixTime {
        match &self.source {
            Source::System => read,
            #[cfg(test)]
            Source::Manual(_) => self.wall(),
        }
    }

    /// Is it the clock of a command beside the gateways?
    pub fn is_observer(&self) -> bool {
        self.shared.is_observer
    }

    /// Moves lived time and floor on, given what the store has of them; says what it should have now. An observer takes what
    /// the store has.
    pub fn advance(&self, lived: Lived, floor: UnixTime) -> (Lived, UnixTime) {
        self.advance_within(lived, floor, None)
    }

    /// The same beside a clock that all gateways share and that says `latest`: the floor follows the wall clock no further, so that one that is
    /// fast does not take all others with it.
    pub fn advance_within(
        &self,
        lived: Lived,
        floor: UnixTime,
        latest: Option<UnixTime>,
    ) -> (Lived, UnixTime) {
        let Shared { state, is_observer, .. } = &*self.shared;
        let mut state = state.lock();
        let (wall, boot) = (self.read_wall(), self.read_boot());
        let state = match &mut *state {
            Some(state) if !is_observer => {
                state.advance(lived, floor, wall, boot, latest);
                state
            }
            state => state.insert(State::start(lived, floor, wall, boot)),
        };
        let (lived, floor) = (Lived(state.lived.as_secs()), UnixTime(state.floor.as_secs()));
        self.shared.lived.store(lived.0, Ordering::Relaxed);
        self.shared.floor.store(floor.0, Ordering::Relaxed);
        let step = state.stepped.map_or(0, |_| state.step(wall, boot) / 1000);
        self.shared.step.store(i64::try_from(step).unwrap_or(i64::MAX), Ordering::Relaxed);
        (lived, floor)
    }

    /// Both clocks, now.
    pub fn read(&self) -> ClockReading {
        ClockReading { now: self.now(), uptime: self.uptime() }
    }

    /// The time to compare with and to stamp a change with: the wall clock, but never before the floor.
    pub fn now(&self) -> UnixTime {
        self.wall().max(UnixTime(self.shared.floor.load(Ordering::Relaxed)))
    }

    /// What the wall clock says, right or wrong.
    pub fn wall(&self) -> UnixTime {
        UnixTime(self.read_wall().as_secs())
    }

    /// The time to issue a token at: for ten minutes after a step forward, where the wall clock was before it. The step may have
    /// come after the last advance.
    pub fn issue_time(&self) -> UnixTime {
        let state = self.shared.state.lock();
        let (wall, boot) = (self.read_wall(), self.read_boot());
        let step = state.map_or(0, |state| state.step(wall, boot));
        let ahead = if step > 0 && !is_small(step) { step.unsigned_abs() } else { 0 };
        let ahead = Duration::from_millis(u64::try_from(ahead).unwrap_or(u64::MAX));
        let wall = wall.saturating_sub(ahead).as_secs();
        UnixTime(wall.max(self.shared.floor.load(Ordering::Relaxed)))
    }

    /// How long gateways have run on the store, as of the last advance.
    pub fn lived(&self) -> Lived {
        Lived(self.shared.lived.load(Ordering::Relaxed))
    }

    /// How far the wall clock is off, in seconds, where it seems wrong by more than a minute: after a step that is not yet
    /// believed, or behind the floor.
    pub fn error(&self) -> Option<i64> {
        let step = self.shared.step.load(Ordering::Relaxed);
        let behind = self.shared.floor.load(Ordering::Relaxed).saturating_sub(self.wall().0);
        let behind = i64::try_from(behind).unwrap_or(i64::MAX).max(step.saturating_neg());
        match (step, behind) {
            (step, _) if step > 60 => Some(step),
            (_, behind) if behind > 60 => Some(-behind),
            _ => None,
        }
    }

    /// How far the wall clock is ahead of the floor, in seconds: days after a long stop, and little otherwise.
    pub fn ahead_of_floor(&self) -> u64 {
        self.wall().0.saturating_sub(self.shared.floor.load(Ordering::Relaxed))
    }

    /// How long the process has run, the machine's suspensions included.
    pub fn uptime(&self) -> Duration {
        self.read_boot().saturating_sub(self.began)
    }

    fn read_wall(&self) -> Duration {
        match &self.source {
            Source::System => system_wall(),
            #[cfg(test)]
            Source::Manual(manual) => Duration::from_secs(manual.wall.load(Ordering::Relaxed)),
        }
    }

    fn read_boot(&self) -> Duration {
        match &self.source {
            Source::System => system_boot(),
            #[cfg(test)]
            Source::Manual(manual) => Duration::from_secs(manual.boot.load(Ordering::Relaxed)),
        }
    }
}

/// An [error](Clock::error) of the wall clock as a sentence.
pub fn describe(error: i64) -> String {
    let seconds = error.unsigned_abs();
    match error {
        0.. => format!("the wall clock was stepped {seconds} s forward: check it and the time service"),
        _ => {
            format!("the wall clock is {seconds} s behind: check it and the time service")
        }
    }
}

/// What this thread has had of a core. Zero where the system does not tell.
pub fn core_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// The bare wall clock. Before 1970 it is 1970: everything is then in the future, and refused.
pub fn wall() -> UnixTime {
    UnixTime(system_wall().as_secs())
}

fn system_wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The clock that goes on while the machine is suspended. Where there is none, the monotonic one.
fn system_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const BOOT: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const BOOT: ClockId = ClockId::CLOCK_MONOTONIC;
    // Some sandboxes know no boot clock; a clock that stands still would let nothing go stale.
    let reading = clock_gettime(BOOT).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
    reading.map(Duration::from).unwrap_or_default()
}

/// Is that step, in milliseconds, none?
fn is_small(step: i128) -> bool {
    step.abs() <= millis(SMALL_STEP)
}

fn millis(duration: Duration) -> i128 {
    i128::try_from(duration.as_millis()).unwrap_or(i128::MAX)
}

/// Less than this is the ordinary correction of a clock.
const SMALL_STEP: Duration = Duration::from_secs(60);

/// How long a step must last to be believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
