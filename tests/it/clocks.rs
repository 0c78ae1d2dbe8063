//! Clocks that are wrong: stepped while the gateway runs, wrong at a start, wrong for the command line alone, mended afterwards. The real
//! binary runs on a wall clock and a boot clock that a test shifts.

use crate::audit::{rows, token_id};
use crate::command::{Done, Folder, eventually, finish};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt;
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::revocation::delete;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// How long a revocation is remembered with the default `token.max_lifetime`, in lived time.
const RETENTION: i64 = 74 * HOUR;

/// The clocks of one or more processes.
pub struct Clocks {
    shim: PathBuf,
    offsets: PathBuf,
}

impl Clocks {
    pub fn new(folder: &Path, name: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/shims/clock.c");
        let clocks = Self { shim: folder.join("clock.so"), offsets: folder.join(name) };
        if !clocks.shim.exists() {
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
                .arg(&clocks.shim)
                .arg(source)
                .arg("-ldl");
            finish(cc, "").ok();
        }
        clocks.set(0, 0);
        clocks
    }

    /// Shifts both clocks by so many seconds from the machine's.
    pub fn set(&self, wall: i64, boot: i64) {
        // Written in place: the processes have the file mapped.
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.offsets)
            .expect("a file");
        file.write_all(&[wall.to_ne_bytes(), boot.to_ne_bytes()].concat()).expect("offsets");
    }

    pub fn command(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", &self.shim).env("CLOCK_OFFSETS", &self.offsets);
        command
    }
}

/// A gateway on clocks of its own, and the command line on others.
struct World {
    gateway: Gateway,
    clocks: Clocks,
    command_clocks: Clocks,
    _shim: TempDir,
    _platform: Platform,
}

impl World {
    fn new() -> Self {
        let platform = Platform::echo();
        let folder = Options::new(&platform)
            .set("store", "poll_interval", "\"10ms\"")
            .set("store", "heartbeat_interval", "\"20ms\"")
            .set("store", "upkeep_interval", "\"20ms\"")
            .folder();
        folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
        let shim = TempDir::new().expect("a folder");
        let (clocks, command_clocks) =
            (Clocks::new(shim.path(), "gateway"), Clocks::new(shim.path(), "command"));
        let gateway = start(folder, &clocks);
        Self { gateway, clocks, command_clocks, _shim: shim, _platform: platform }
    }

    /// The gateway is stopped and starts again, on the clocks as they are now.
    fn restart(self) -> Self {
        let Self { gateway, clocks, command_clocks, _shim, _platform } = self;
        let gateway = start(gateway.stop(), &clocks);
        Self { gateway, clocks, command_clocks, _shim, _platform }
    }

    /// Runs a command on the clocks of the command line.
    fn cli(&self, arguments: &[&str]) -> Done {
        finish(self.command_clocks.command(self.gateway.folder.command(arguments)), "")
    }

    /// Time passes: the boot clock moves, and the wall clock with it.
    fn pass(&self, wall: i64, seconds: i64) {
        self.clocks.set(wall + seconds, seconds);
        self.command_clocks.set(wall + seconds, seconds);
        self.upkeep();
    }

    /// Waits until a whole round of upkeep is over that began after this. Failed logins are written at the beginning of a
    /// round, so the second of two is written after the end of the round that wrote the first.
    fn upkeep(&self) {
        for _ in 0..2 {
            let failed = || {
                rows(&self.gateway.folder, &[]).iter().filter(|row| row["action"] == "login_failed").count()
            };
            let before = failed();
            assert_eq!(self.gateway.log_in(USER, "wrong").status, 401);
            eventually("a failed login in the audit trail", || (failed() > before).then_some(()));
        }
    }

    /// The status of a protected request, once the store has been read after time has passed.
    fn status(&self, token: &str) -> u16 {
        eventually("a read of the store", || Some(self.gateway.status(token)).filter(|status| *status != 503))
    }

    fn ready(&self) -> Value {
        let ready = self.gateway.admin("/readyz");
        assert_eq!(ready.status, 200, "{}", ready.text());
        ready.json()
    }
}

fn start(folder: Folder, clocks: &Clocks) -> Gateway {
    let command = clocks.command(folder.command(&["run"]));
    Gateway::start(folder, command)
}

#[track_caller]
fn is_revoked(done: Done) {
    assert!(done.ok().contains("active on 1 of 1"));
}

#[test]
fn a_command_with_a_clock_behind_revokes_for_good() {
    let world = World::new();
    for name in ["user", "removed"] {
        world.gateway.folder.add(&User::new(name, "password", EMAIL, ORGANIZATION));
    }
    let login = |name: &str| eventually("a login", || world.gateway.login(name, "password"));
    let (single, user, removed) = (world.gateway.mint(), login("user"), login("removed"));
    world.command_clocks.set(-3 * DAY, 0);
    is_revoked(world.cli(&["revoke", "token", &token_id(&single)]));
    is_revoked(world.cli(&["revoke", "user", "user"]));
    world.cli(&["user", "remove", "removed"]).ok();
    let all_refused = |world: &World| {
        let status =
            |token: &String| eventually("401", || (world.gateway.status(token) == 401).then_some(()));
        [&single, &user, &removed].into_iter().for_each(status);
        world.upkeep();
        for token in [&single, &user, &removed] {
            assert_eq!(world.gateway.status(token), 401);
        }
    };
    all_refused(&world);
    world.command_clocks.set(0, 0);
    let world = world.restart();
    all_refused(&world);
    world.gateway.still_healthy();
}

#[test]
fn a_command_with_a_clock_ahead_locks_nobody_out() {
    let world = World::new();
    let old = world.gateway.mint();
    world.command_clocks.set(3 * DAY, 0);
    // Not asked who is running: to a clock so far ahead nobody has been heard of lately.
    world.cli(&["revoke", "user", USER]);
    eventually("401", || (world.gateway.status(&old) == 401).then_some(()));
    let new = world.gateway.mint();
    assert_eq!(world.gateway.status(&new), 200);
    assert!(jwt::read(&new).1["exp"].as_i64().expect("exp") <= jwt::now() as i64 + DAY);
    world.command_clocks.set(0, 0);
    is_revoked(world.cli(&["revoke", "user", USER]));
    assert_eq!(world.gateway.status(&new), 401);
    assert_eq!(world.gateway.status(&world.gateway.mint()), 200);
    world.gateway.still_healthy();
}

#[test]
fn a_glitch_forward_leaves_nothing_behind() {
    let world = World::new();
    let before = world.gateway.mint();
    world.clocks.set(3 * DAY, 0);
    eventually("the step to be noticed", || {
        (!world.ready()["warnings"].as_array().expect("a list").is_empty()).then_some(())
    });
    assert!(world.gateway.metric("ds_gateway_clock_error_seconds", &[]) > 2.9 * DAY as f64);
    let during = world.gateway.mint();
    // Issued where the clock was before the step, and good for a day from there.
    let claims = jwt::read(&during).1;
    let lives = claims["exp"].as_u64().expect("exp") as i64 - jwt::now() as i64;
    assert!(lives <= DAY + HOUR, "it would live for {lives} s");
    world.clocks.set(0, 0);
    eventually("the clock to be right again", || {
        world.ready()["warnings"].as_array().expect("a list").is_empty().then_some(())
    });
    let world = world.restart();
    assert_eq!((world.gateway.status(&before), world.gateway.status(&during)), (200, 200));
    let after = world.gateway.mint();
    assert_eq!(world.gateway.status(&after), 200);
    is_revoked(world.cli(&["revoke", "token", &token_id(&after)]));
    is_revoked(world.cli(&["revoke", "token", &token_id(&before)]));
    world.upkeep();
    assert_eq!((world.gateway.status(&before), world.gateway.status(&after)), (401, 401));
    world.gateway.still_healthy();
}

#[test]
fn a_start_with_a_clock_days_ahead_purges_nothing() {
    let world = World::new();
    let (deleted, spared) = (world.gateway.mint(), world.gateway.mint());
    assert_eq!(world.gateway.exchange(delete(&deleted)).status, 204);
    world.clocks.set(RETENTION + 2 * DAY, 0);
    let world = world.restart();
    world.upkeep();
    assert_eq!(world.gateway.status(&spared), 401, "expired by this clock");
    world.clocks.set(0, 0);
    let world = world.restart();
    world.upkeep();
    assert_eq!((world.gateway.status(&deleted), world.gateway.status(&spared)), (401, 200));
    assert!(!rows(&world.gateway.folder, &[]).is_empty(), "the audit trail is pruned by lived time as well");
    world.gateway.still_healthy();
}

#[test]
fn a_token_that_a_wrong_clock_minted_lives_no_longer_than_any() {
    let world = World::new();
    let wrong = 365 * DAY;
    // Wrong for so long that it is believed.
    world.clocks.set(wrong, 0);
    world.upkeep();
    world.clocks.set(wrong, HOUR);
    world.upkeep();
    let minted = world.gateway.mint();
    assert_eq!(world.gateway.status(&minted), 200, "for as long as the clock says so");
    world.pass(0, 2 * HOUR);
    assert_eq!(world.status(&minted), 401, "the clock is right again");
    // Every hour is written down by the commits in it.
    world.pass(0, 4 * HOUR);
    world.pass(0, 4 * HOUR + RETENTION);
    // A year later by the wall clock the token would be valid again, were it not for its place in the order.
    world.clocks.set(wrong + HOUR, 5 * HOUR + RETENTION);
    eventually("a denial as expired", || {
        assert_eq!(world.status(&minted), 401);
        (world.gateway.metric("ds_gateway_decisions_total", &["token_expired"]) > 0.0).then_some(())
    });
    world.upkeep();
    // Believed again, so what is minted is good by this clock.
    world.clocks.set(wrong + 2 * HOUR, 6 * HOUR + RETENTION);
    world.upkeep();
    assert_eq!(world.gateway.status(&world.gateway.mint()), 200);
}

#[test]
fn a_revocation_is_remembered_for_its_time_and_then_deleted() {
    let world = World::new();
    let token = world.gateway.mint();
    assert_eq!(world.gateway.exchange(delete(&token)).status, 204);
    let shown = || world.cli(&["revoke", "list", "--json"]).ok().matches("\"token\"").count();
    let held = || world.gateway.metric("ds_gateway_revocations", &["kind=\"token\""]);
    // The hour of the revocation ends: what was revoked in it goes with the last token that was minted in it.
    world.pass(0, HOUR + 60);
    world.pass(0, RETENTION);
    assert_eq!((shown(), held()), (1, 1.0));
    world.pass(0, RETENTION + 2 * HOUR);
    assert_eq!((shown(), held()), (0, 0.0));
    assert_eq!(world.status(&token), 401, "it has expired");
}

#[test]
fn a_clock_that_is_behind_is_an_alarm_and_no_outage() {
    let world = World::new();
    let token = world.gateway.mint();
    world.clocks.set(-2 * HOUR, 0);
    eventually("a warning", || {
        let warnings = world.ready()["warnings"].to_string();
        warnings.contains("behind").then_some(())
    });
    assert!(world.gateway.metric("ds_gateway_clock_error_seconds", &[]) < -7000.0);
    eventually("a log line", || {
        let logged = world.gateway.log.lines().iter().any(|line| line.contains("s behind: check it"));
        logged.then_some(())
    });
    assert_eq!(world.gateway.status(&token), 200);
    assert_eq!(world.gateway.status(&world.gateway.mint()), 200);
    world.clocks.set(0, 0);
    eventually("no warning", || (world.ready()["warnings"] == serde_json::json!([])).then_some(()));
    world.gateway.still_healthy();
}

#[test]
fn a_repaired_clock_begins_again_at_the_wall_clock_with_a_cutoff_on_everybody() {
    let world = World::new();
    // Ten days with a clock that is ten days ahead: the store's time has followed.
    world.clocks.set(10 * DAY, 0);
    world.upkeep();
    world.clocks.set(20 * DAY, 10 * DAY);
    world.upkeep();
    let done = world.cli(&["store", "repair-clock"]);
    assert_eq!(done.code, Some(75), "a gateway runs: {done:?}");
    world.clocks.set(0, 0);
    let ahead = jwt::read(&world.gateway.mint()).1["iat"].as_u64().expect("iat") as i64 - jwt::now() as i64;
    assert!(ahead > 9 * DAY, "the store's time goes on: {ahead}");
    let old = world.gateway.mint();
    let World { gateway, clocks, command_clocks, _shim, _platform } = world;
    let folder = gateway.stop();
    let done = finish(command_clocks.command(folder.command(&["store", "repair-clock"])), "").ok();
    assert!(done.contains("every token is revoked"), "{done}");
    let gateway = start(folder, &clocks);
    assert_eq!(gateway.status(&old), 401);
    let new = gateway.mint();
    let ahead = jwt::read(&new).1["iat"].as_u64().expect("iat") as i64 - jwt::now() as i64;
    assert!(ahead.abs() < HOUR, "{ahead}");
    assert_eq!(gateway.status(&new), 200);
    gateway.still_healthy();
}

#[test]
fn staleness_counts_the_time_that_the_machine_was_suspended() {
    let world = World::new();
    let token = world.gateway.mint();
    let store = world.gateway.folder.state().join("gateway.db");
    fs::rename(&store, store.with_extension("away")).expect("a store");
    eventually("a read that fails", || {
        let failed = world.gateway.log.lines().iter().any(|line| line.contains("the store cannot be read"));
        failed.then_some(())
    });
    assert_eq!(world.gateway.status(&token), 200, "the last known state stays in force");
    // Suspended for an hour: the clock that does not run meanwhile would not notice.
    world.clocks.set(0, HOUR);
    assert_eq!(world.gateway.status(&token), 503);
    fs::rename(store.with_extension("away"), &store).expect("a store");
    eventually("a read", || (world.gateway.status(&token) == 200).then_some(()));
    world.gateway.still_healthy();
}
