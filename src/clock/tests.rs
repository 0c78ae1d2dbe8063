use super::*;
use proptest::prelude::*;

const DAY: u64 = 24 * 3600;

struct World {
    clock: Clock,
    time: Arc<Manual>,
}

/// A process that begins at 1,000,000 by its wall clock, on a store that knows of this.
fn world(lived: u64, floor: u64) -> World {
    let time = Arc::new(Manual { wall: 1_000_000.into(), boot: 77.into() });
    let clock = Clock::manual(&time, false);
    clock.advance(Lived(lived), UnixTime(floor));
    World { clock, time }
}

impl World {
    /// Time passes, a second at a time; then the wall clock is set this far off.
    fn pass(&self, seconds: u64, step: i64) {
        for _ in 0..seconds {
            self.time.boot.fetch_add(1, Ordering::Relaxed);
            self.time.wall.fetch_add(1, Ordering::Relaxed);
            self.clock.advance(Lived(0), UnixTime(0));
        }
        let wall = self.time.wall.load(Ordering::Relaxed).saturating_add_signed(step);
        self.time.wall.store(wall, Ordering::Relaxed);
        self.clock.advance(Lived(0), UnixTime(0));
    }
}

/// A gateway whose clock is fast would make the tokens of all expire early, and for ever.
#[test]
fn the_floor_follows_no_clock_beyond_the_one_that_all_share() {
    let world = world(0, 1_000_000);
    // It is an hour ahead; in the time of the others it is 1,000,000 when it begins.
    world.time.wall.fetch_add(3600, Ordering::Relaxed);
    let mut floor = UnixTime(0);
    for passed in 1..=600 {
        world.time.boot.fetch_add(1, Ordering::Relaxed);
        world.time.wall.fetch_add(1, Ordering::Relaxed);
        floor = world.clock.advance_within(Lived(0), UnixTime(0), Some(UnixTime(1_000_000 + passed))).1;
    }
    assert_eq!(floor, UnixTime(1_000_600));
    world.pass(600, 0);
    assert_eq!(world.clock.advance(Lived(0), UnixTime(0)).1, UnixTime(1_000_600 + 1200));
}

#[test]
fn a_step_moves_now_and_neither_floor_nor_lived_time() {
    for (what, step, now, error) in [
        ("none", 0, 1_000_100, None),
        ("an hour back", -3600, 1_000_100, Some(-3600)),
        ("to 1970", -1_000_100, 1_000_100, Some(-1_000_100)),
        ("two seconds back", -2, 1_000_100, None),
        ("three days on", 3 * 86_400, 1_000_100 + 3 * DAY, Some(3 * 86_400)),
    ] {
        let world = world(500, 1_000_000);
        world.pass(100, step);
        assert_eq!(world.clock.now(), UnixTime(now), "{what}");
        assert_eq!(world.clock.lived(), Lived(600), "{what}");
        assert_eq!(world.clock.error(), error, "{what}");
        assert_eq!(world.clock.issue_time(), UnixTime(1_000_100), "{what}");
    }
}

#[test]
fn a_step_forward_is_believed_after_ten_minutes_and_undone_at_once() {
    let world = world(0, 1_000_000);
    world.pass(10, 7200);
    world.pass(300, 0);
    // As far as the floor has followed.
    assert_eq!(world.clock.issue_time(), UnixTime(1_000_610));
    world.pass(301, 0);
    assert_eq!(world.clock.issue_time(), UnixTime(1_007_811));
    assert_eq!(world.clock.error(), None);
    world.pass(0, -7200);
    // The floor followed at twice the speed of time while the clock was ahead.
    assert_eq!(world.clock.now(), UnixTime(1_001_212));
}

#[test]
fn a_start_with_a_clock_ahead_hides_no_later_step() {
    let time = Arc::new(Manual { wall: (1_000_000 + 3 * DAY).into(), boot: 77.into() });
    let world = World { clock: Clock::manual(&time, false), time };
    world.clock.advance(Lived(0), UnixTime(1_000_000));
    world.pass(60, -(3 * DAY as i64));
    world.pass(DAY, 0);
    assert_eq!((world.clock.error(), world.clock.issue_time()), (None, world.clock.wall()));
    world.pass(10, 2 * DAY as i64);
    assert_eq!(world.clock.error(), Some(2 * DAY as i64));
    assert_eq!(world.clock.issue_time(), UnixTime(1_000_070 + DAY));
}

#[test]
fn a_step_back_is_seen_where_the_floor_is_far_behind() {
    // The machine was off for long.
    let world = world(0, 1_000);
    world.pass(100, -7200);
    assert_eq!(world.clock.error(), Some(-7200));
    // Undone before it was believed: no step.
    world.pass(100, 7200);
    assert_eq!(world.clock.error(), None);
}

#[test]
fn a_step_after_the_last_advance_issues_no_token() {
    let world = world(0, 1_000_000);
    world.pass(100, 0);
    world.time.wall.fetch_add(3 * DAY, Ordering::Relaxed);
    assert_eq!(world.clock.issue_time(), UnixTime(1_000_100));
}

#[test]
fn a_clock_that_runs_too_fast_is_no_step() {
    let world = world(0, 1_000_000);
    for _ in 0..1000 {
        world.pass(10, 1);
    }
    assert_eq!(world.clock.error(), None);
    assert_eq!(world.clock.issue_time(), world.clock.now());
}

#[test]
fn a_start_goes_on_from_what_the_store_has() {
    // The clock is an hour behind the store, and a year ahead of it.
    let behind = world(9, 1_003_600);
    assert_eq!((behind.clock.now(), behind.clock.lived()), (UnixTime(1_003_600), Lived(9)));
    let ahead = world(9, 1_000_000 - 365 * DAY.min(2000));
    assert_eq!((ahead.clock.now(), ahead.clock.lived()), (UnixTime(1_000_000), Lived(9)));
    ahead.pass(3600, 0);
    assert_eq!(ahead.clock.lived(), Lived(3609));
}

#[test]
fn two_gateways_never_add_up() {
    let world = world(0, 1_000_000);
    // The other one has written what this one has lived through as well.
    world.pass(100, 0);
    assert_eq!(world.clock.advance(Lived(100), UnixTime(1_000_100)), (Lived(100), UnixTime(1_000_100)));
    assert_eq!(world.clock.advance(Lived(250), UnixTime(0)).0, Lived(250));
}

#[test]
fn an_observer_moves_nothing() {
    let time = Arc::new(Manual { wall: (1_000_000 + 3 * DAY).into(), boot: 77.into() });
    let clock = Clock::manual(&time, true);
    for _ in 0..3 {
        time.boot.fetch_add(1000, Ordering::Relaxed);
        assert_eq!(clock.advance(Lived(5), UnixTime(1_000_000)), (Lived(5), UnixTime(1_000_000)));
    }
    assert_eq!(clock.now(), UnixTime(1_000_000 + 3 * DAY));
}

proptest! {
    /// Whatever the wall clock does: lived time is what has passed, and the floor never goes back nor runs away.
    #[test]
    fn lived_time_and_floor_hold(steps in prop::collection::vec((0u64..5000, -400_000i64..400_000), 1..60)) {
        let mut state = State::start(Lived(0), UnixTime(1_000_000), Duration::from_secs(1_000_000), Duration::ZERO);
        let (mut wall, mut boot) = (Duration::from_secs(1_000_000), Duration::ZERO);
        for (seconds, step) in steps {
            boot += Duration::from_secs(seconds);
            wall = Duration::from_secs((wall.as_secs() + seconds).saturating_add_signed(step));
            let before = state;
            state.advance(Lived(0), UnixTime(0), wall, boot, None);
            prop_assert_eq!(state.lived, boot);
            let moved = state.floor - before.floor;
            prop_assert!(moved >= Duration::from_secs(seconds) / 2 && moved <= Duration::from_secs(seconds) * 2);
        }
    }
}
