//! Disks that are full, stores that vanish, are damaged or are held by somebody else, while the gateway runs: what it
//! knows goes on, what it cannot know is refused with a word on when to come back, and no restart is needed.

use crate::client::{Answer, Client, request};
use crate::command::{eventually, told_of_full_disks, within};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `store.max_staleness` of these tests, in seconds: short to wait for, and long for a thread that cannot run.
const MAX_STALENESS: f64 = 3.0;

/// A gateway that soon refuses what it cannot check.
fn doubting(platform: &Platform) -> Gateway {
    Options::new(platform)
        .set("store", "max_staleness", format!("\"{MAX_STALENESS}s\""))
        .set("store", "heartbeat_interval", "\"1s\"")
        .start()
}

fn get(gateway: &Gateway, token: &str) -> Answer {
    gateway.exchange(request("GET", "/protected", &[("user-token", token)]))
}

/// A protected request while the store cannot be read, so that its age only grows: admitted until it is
/// `max_staleness` and refused from then on, by the gateway's own clock.
#[track_caller]
fn get_by_age(gateway: &Gateway, token: &str) -> Answer {
    let age = || gateway.metric("ds_gateway_store_feed_age_seconds", &[]);
    let before = age();
    let answer = get(gateway, token);
    let after = age();
    if answer.status == 200 {
        assert!(before <= MAX_STALENESS, "admitted by what was read {before} s ago");
    } else {
        assert!(after >= MAX_STALENESS, "what is known serves until then, and it was read {after} s ago");
    }
    answer
}

/// Waits until protected requests are refused, and holds all that should be said then against the contract.
#[track_caller]
fn doubts(platform: &Platform, gateway: &Gateway, token: &str) {
    let refusal = || Some(get_by_age(gateway, token)).filter(|answer| answer.status != 200);
    eventually("a refusal", refusal).is_away();
    let before = platform.requests().len();
    get(gateway, token).is_away();
    assert_eq!(get(gateway, "x").status, 503, "nothing is known of any token");
    assert_eq!(platform.requests().len(), before);
    let ready = gateway.admin("/readyz");
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &false.into()));
    assert!(ready.json()["reasons"].to_string().contains("max_staleness"), "{}", ready.text());
    assert_eq!(gateway.admin("/healthz").status, 200);
    assert_eq!(gateway.metric("ds_gateway_store_stale", &[]), 1.0);
    assert!(gateway.metric("ds_gateway_store_feed_age_seconds", &[]) > MAX_STALENESS);
    assert!(gateway.metric("ds_gateway_decisions_total", &["state_stale"]) >= 3.0);
    let told = || gateway.log.lines().iter().filter(|line| line.contains("the store cannot be read")).count();
    eventually("a line that says so", || (told() > 0).then_some(()));
    assert_eq!(told(), 1, "once, not ten times a second");
}

#[track_caller]
fn recovers(gateway: &Gateway, token: &str) {
    eventually("recovery without a restart", || (get(gateway, token).status == 200).then_some(()));
    assert_eq!(gateway.metric("ds_gateway_store_stale", &[]), 0.0);
    gateway.still_healthy();
}

#[test]
fn while_the_disk_is_full_nothing_is_minted_and_everything_else_goes_on() {
    let platform = Platform::echo();
    let folder = Options::new(&platform).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let command = told_of_full_disks(&folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let token = gateway.mint();
    let errors = || gateway.metric("ds_gateway_store_commit_errors_total", &[]);
    assert_eq!(errors(), 0.0);
    let number = gateway.metric("ds_gateway_store_number", &[]);
    for round in 1..=2 {
        gateway.disk("4096");
        let mut refused = 0;
        for _ in 0..4 {
            let answer = gateway.log_in(USER, PASSWORD);
            // Pages that the store has already may still be written over.
            if answer.status == 201 {
                continue;
            }
            answer.is_away();
            refused += 1;
            assert_eq!(get(&gateway, &token).status, 200, "protected requests go on");
            assert_eq!(gateway.log_in(USER, "wrong").status, 401, "and a wrong password is one");
            assert_eq!(gateway.admin("/readyz").status, 200);
        }
        assert!(refused > 0, "the disk was full");
        assert!(errors() >= f64::from(refused), "{} of {refused}", errors());
        let outcome = ["action=\"mint\"", "outcome=\"store_unavailable\""];
        assert!(gateway.metric("ds_gateway_token_requests_total", &outcome) >= f64::from(refused));
        gateway.disk("unlimited");
        assert_eq!(gateway.log_in(USER, PASSWORD).status, 201, "and there is room again");
        assert_eq!(get(&gateway, &token).status, 200, "round {round}");
    }
    assert!(gateway.metric("ds_gateway_store_number", &[]) > number);
    assert!(gateway.log.lines().iter().any(|line| line.contains("store commit failed")));
    gateway.still_healthy();
    let gateway = gateway.kill().run(&[]);
    assert_eq!(get(&gateway, &token).status, 200, "and nothing that was acknowledged is lost");
    gateway.still_healthy();
}

/// Holds the locks that every reader of a store needs, as a process that hangs in the middle would.
struct Holder(Child);

impl Holder {
    fn of(store: &Path) -> Self {
        // SQLite's locks on the shared memory: bytes 120 to 127 (walformat.html §2.3), exclusively.
        let script = "use Fcntl; $| = 1; open(my $file, '+<', $ARGV[0]) or die; \
            my $lock = pack('s s x4 q q i', F_WRLCK, 0, 120, 8, 0); \
            until (fcntl($file, F_SETLKW, $lock)) {} print qq(held\\n); <STDIN>;";
        let mut child = Command::new("perl")
            .args(["-e", script])
            .arg(store.with_extension("db-shm"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_store_that_cannot_be_read_ends_admission_after_max_staleness_and_no_sooner() {
    let platform = Platform::echo();
    let gateway = doubting(&platform);
    let token = gateway.mint();
    assert_eq!(get(&gateway, &token).status, 200);
    let holder = Holder::of(&gateway.folder.state().join("gateway.db"));
    doubts(&platform, &gateway, &token);
    drop(holder);
    recovers(&gateway, &token);
}

#[test]
fn a_store_that_is_gone_mints_nothing_and_ends_admission_until_it_is_back() {
    let platform = Platform::echo();
    let gateway = doubting(&platform);
    let token = gateway.mint();
    let state = gateway.folder.state();
    let away = gateway.folder.dir.path().join("away");
    fs::create_dir(&away).expect("a folder");
    let files = ["gateway.db", "gateway.db-wal", "gateway.db-shm"];
    for file in files {
        fs::rename(state.join(file), away.join(file)).expect("a file");
    }
    gateway.log_in(USER, PASSWORD).is_away();
    doubts(&platform, &gateway, &token);
    assert!(!state.join("gateway.db").exists(), "and none is made in its place");
    for file in files {
        fs::rename(away.join(file), state.join(file)).expect("a file");
    }
    recovers(&gateway, &token);
}

#[test]
fn a_store_that_was_damaged_is_not_believed() {
    let platform = Platform::echo();
    let gateway = doubting(&platform);
    let token = gateway.mint();
    for file in ["gateway.db", "gateway.db-wal"] {
        let path = gateway.folder.state().join(file);
        let length = fs::metadata(&path).expect("a store").len();
        let mut over = OpenOptions::new().write(true).open(&path).expect("a store");
        over.write_all(&vec![0xa5; usize::try_from(length).expect("a length")]).expect("damage");
    }
    // Whatever is found out by whom: no answer is invented, and the process lives.
    let minted = gateway.log_in(USER, PASSWORD);
    assert!([201, 500, 503].contains(&minted.status), "{minted:?}");
    doubts(&platform, &gateway, &token);
    let minted = gateway.log_in(USER, PASSWORD);
    assert!([500, 503].contains(&minted.status), "{minted:?}");
}

#[test]
fn a_store_that_is_busy_delays_a_mint_and_nobody_else() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let store = gateway.folder.state().join("gateway.db");
    let other = rusqlite::Connection::open(store).expect("a store");
    other.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
    let mut waiting: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut waiting {
        let good = crate::client::basic(USER, PASSWORD);
        client.send(request("POST", "/ds-api/user-token", &[("Authorization", &good)]));
    }
    for _ in 0..50 {
        assert_eq!(get(&gateway, &token).status, 200);
    }
    for client in &mut waiting {
        client.answer().expect("an answer").is_away();
    }
    other.execute_batch("ROLLBACK").expect("an end");
    gateway.still_healthy();
}

#[test]
fn a_gateway_that_slept_does_not_admit_by_what_it_knew_before() {
    let platform = Platform::echo();
    let gateway = doubting(&platform);
    let token = gateway.mint();
    assert_eq!(get(&gateway, &token).status, 200);
    gateway.signal("STOP");
    gateway.folder.cli(&["user", "disable", USER], "").ok();
    let mut client = gateway.client();
    client.send(request("GET", "/protected", &[("user-token", &token)]));
    // Longer than `max_staleness`, by the clock of a process that does not run.
    assert_eq!(within(MAX_STALENESS as u64 + 1, || None::<()>), None);
    let before = platform.requests().len();
    gateway.signal("CONT");
    let status = client.answer().expect("an answer").status;
    assert!([401, 503].contains(&status), "{status}");
    assert_eq!(platform.requests().len(), before);
    eventually("the change to be in force", || (get(&gateway, &token).status == 401).then_some(()));
    gateway.folder.cli(&["user", "enable", USER], "").ok();
    eventually("a log in", || gateway.login(USER, PASSWORD));
    gateway.still_healthy();
}
