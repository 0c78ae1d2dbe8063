//! Logins as those see them who log in, and those who guess.

use crate::client::{Answer, Client, basic, request};
use crate::command::{Folder, Stop, eventually, finish, started_by};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ENDPOINT: &str = "/ds-api/user-token";

/// Where the tests' own clients come from: after the first mint it is known.
const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// An address of a network of its own.
fn elsewhere(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, u8::try_from(number).expect("a small number"), 1)
}

fn login_request(user: &str, password: &str) -> Vec<u8> {
    request("POST", ENDPOINT, &[("Authorization", &basic(user, password))])
}

fn start(folder: Folder) -> Gateway {
    let command = folder.command(&["run"]);
    Gateway::start(folder, command)
}

/// One login from there, again where no thread had time.
fn log_in(gateway: &Gateway, from: Ipv4Addr, user: &str, password: &str) -> Answer {
    eventually("a login", || {
        let answer =
            Client::connect_from(IpAddr::V4(from), gateway.http()).exchange(login_request(user, password));
        (answer.status != 503).then_some(answer)
    })
}

/// Wrong passwords, each from another network, several at once; how many were checked.
pub fn guess(gateway: &Gateway, user: &str, count: usize) -> usize {
    let numbers: Vec<usize> = (0..count).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = numbers
            .chunks(count.div_ceil(12))
            .map(|chunk| {
                scope.spawn(move || {
                    let answers =
                        chunk.iter().map(|number| log_in(gateway, elsewhere(*number), user, "wrong"));
                    answers.filter(|answer| answer.status == 401).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a guesser")).sum()
    })
}

/// Wrong passwords from the place that is known, several at once; how many were checked.
fn wrong_at_home(gateway: &Gateway, count: usize) -> usize {
    thread::scope(|scope| {
        let one = || log_in(gateway, HOME, USER, "wrong").status == 401;
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().expect("a login"))).sum()
    })
}

#[track_caller]
fn is_throttled(answer: &Answer) {
    answer.is_error(429);
    let seconds: u32 = answer.value("retry-after").parse().expect("seconds");
    assert!((1..=180).contains(&seconds), "{answer:?}");
}

#[test]
fn ten_right_logins_at_once_are_ten_tokens() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("limits", "login_workers", "1").start();
    let mut clients: Vec<Client> = (0..10).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(login_request(USER, PASSWORD));
    }
    for mut client in clients {
        assert_eq!(client.answer().expect("an answer").status, 201);
    }
    gateway.still_healthy();
}

#[test]
fn guesses_from_everywhere_are_few_and_keep_no_owner_out_who_is_known() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let began = Instant::now();
    let checked = guess(&gateway, USER, 90);
    // One more each 36 s, on a machine that takes so long.
    let allowed = || 60..=60 + began.elapsed().as_secs() as usize / 36;
    assert!(allowed().contains(&checked), "{checked}: no more are checked, from however many places");
    // An owner at a place that is known goes on; at a new one it waits.
    assert_eq!(log_in(&gateway, HOME, USER, PASSWORD).status, 201);
    is_throttled(&log_in(&gateway, elsewhere(200), USER, PASSWORD));
    assert_eq!(gateway.status(&token), 200, "tokens are not concerned");
    let throttled = |outcome: &str| gateway.metric("ds_gateway_logins_total", &[outcome]);
    assert_eq!(throttled("outcome=\"throttled_account\""), (90 - checked + 1) as f64);
    assert_eq!(throttled("outcome=\"refused\""), checked as f64);
    // Names that nobody bears are counted as any other.
    assert!(allowed().contains(&guess(&gateway, "nobody", 70)));
    let done = finish(gateway.folder.command(&["user", "unlock", USER]), "").ok();
    assert!(done.contains(USER), "{done}");
    assert_eq!(log_in(&gateway, elsewhere(200), USER, PASSWORD).status, 201);
    gateway.still_healthy();
}

#[test]
fn an_attacker_at_the_owners_address_delays_the_owner_there_alone() {
    let platform = Platform::echo();
    let other = User::new("other", "other password", EMAIL, ORGANIZATION);
    let gateway = Options::new(&platform).user(other).start();
    let token = gateway.mint();
    assert!(gateway.login("other", "other password").is_some());
    assert_eq!(wrong_at_home(&gateway, 20), 20);
    is_throttled(&log_in(&gateway, HOME, USER, PASSWORD));
    let target = format!("{ENDPOINT}?token={token}");
    let inspect = request("GET", &target, &[("Authorization", &basic(USER, PASSWORD))]);
    is_throttled(&gateway.exchange(inspect));
    assert_eq!(gateway.status(&token), 200);
    assert_eq!(log_in(&gateway, HOME, "other", "other password").status, 201, "another account");
    assert_eq!(log_in(&gateway, elsewhere(1), USER, PASSWORD).status, 201, "another place");
}

#[test]
fn a_right_password_gives_back_what_wrong_ones_before_it_took() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    gateway.mint();
    for round in 0..3 {
        assert_eq!(wrong_at_home(&gateway, 15), 15, "round {round}");
        assert_eq!(log_in(&gateway, HOME, USER, PASSWORD).status, 201, "round {round}");
    }
}

#[test]
fn failed_logins_are_counted_on_after_a_restart() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("store", "upkeep_interval", "\"200ms\"").start();
    gateway.mint();
    assert_eq!(wrong_at_home(&gateway, 20), 20);
    let gateway = start(gateway.stop());
    is_throttled(&log_in(&gateway, HOME, USER, PASSWORD));
    // Also where there is no time to write it at the end.
    assert_eq!(guess(&gateway, "nobody", 60), 60);
    thread::sleep(Duration::from_millis(600));
    let gateway = start(gateway.kill());
    is_throttled(&log_in(&gateway, elsewhere(222), "nobody", "wrong"));
    // What cannot be read is said, and counts begin at zero.
    let folder = gateway.stop();
    fs::write(folder.dir.path().join("state/failed-logins"), b"ds-gateway login and nonsense")
        .expect("a file");
    let gateway = start(folder);
    assert!(
        gateway.log.lines().iter().any(|line| line.contains("counts of failed logins")),
        "{:?}",
        gateway.log.lines()
    );
    assert_eq!(log_in(&gateway, HOME, USER, PASSWORD).status, 201);
}

#[test]
fn a_trusted_network_is_known_to_every_account() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("limits.login", "trusted", "[\"127.1.230.0/24\"]").start();
    assert_eq!(guess(&gateway, USER, 70), 60);
    is_throttled(&log_in(&gateway, elsewhere(229), USER, PASSWORD));
    assert_eq!(log_in(&gateway, elsewhere(230), USER, PASSWORD).status, 201);
}

#[test]
fn a_password_is_understood_in_every_encoding_that_clients_send() {
    let platform = Platform::echo();
    let user = |name: &str, password: &str| User::new(name, password, EMAIL, ORGANIZATION);
    let gateway =
        Options::new(&platform).user(user("zoë", "pässwörd")).user(user("decomposed", "pa\u{308}ss")).start();
    let status = |text: &[u8]| {
        let field = format!("Basic {}", STANDARD.encode(text));
        let asked = request("POST", ENDPOINT, &[("Authorization", &field)]);
        gateway.exchange(asked).status
    };
    for text in [
        "zoë:pässwörd".as_bytes(),
        "zoe\u{308}:pa\u{308}sswo\u{308}rd".as_bytes(),
        b"zo\xeb:p\xe4ssw\xf6rd",
        "decomposed:päss".as_bytes(),
        "decomposed:pa\u{308}ss".as_bytes(),
        b"decomposed:p\xe4ss",
    ] {
        assert_eq!(status(text), 201, "{}", text.escape_ascii());
    }
    for text in [&b"zo\xeb:passw\xf6rd"[..], b"decomposed:p\xe4s", "zoë:passwörd".as_bytes()] {
        assert_eq!(status(text), 401, "{}", text.escape_ascii());
    }
}

#[test]
fn a_password_over_the_longest_is_refused_before_anybody_is_asked() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    for user in [USER, "nobody"] {
        for _ in 0..70 {
            assert_eq!(log_in(&gateway, HOME, user, &"x".repeat(1025)).status, 401);
        }
    }
    assert_eq!(gateway.metric("ds_gateway_logins_total", &[]), 0.0, "nothing was hashed");
}

/// Strangers at many addresses without a pause, and others who log in once.
#[test]
fn a_storm_of_wrong_passwords_keeps_nobody_waiting() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let stop = AtomicBool::new(false);
    let served = thread::scope(|scope| {
        let _stop = Stop(&stop);
        for attacker in 0..40_usize {
            let (gateway, stop) = (&gateway, &stop);
            scope.spawn(move || {
                let from = IpAddr::V4(elsewhere(attacker));
                while !stop.load(Ordering::Relaxed) {
                    let mut client = Client::connect_from(from, gateway.http());
                    drop(client.exchange(login_request(&format!("name{attacker}"), "wrong")));
                }
            });
        }
        eventually("a wrong password of each", || {
            let refused = gateway.metric("ds_gateway_logins_total", &["outcome=\"refused\""]);
            (refused > 60.0).then_some(())
        });
        let answers = (0..20).map(|number| {
            let from = IpAddr::V4(elsewhere(120 + number));
            Client::connect_from(from, gateway.http()).exchange(login_request(USER, PASSWORD)).status
        });
        answers.filter(|status| *status == 201).count()
    });
    // `make storm` counts them where nothing else runs.
    assert!(served >= 15, "{served} of 20");
    gateway.still_healthy();
}

/// With another process that never rests on its only core.
#[test]
fn logins_go_on_where_no_core_is_idle() {
    let platform = Platform::echo();
    struct Spinner(std::process::Child);
    impl Drop for Spinner {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
    let folder = Options::new(&platform).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let command = started_by(&["taskset", "--cpu-list", "0"], &folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let mut spin = Command::new("taskset");
    spin.args(["--cpu-list", "0", "sh", "-c", "while :; do :; done"]);
    let _spinner = Spinner(spin.spawn().expect("a process"));
    for _ in 0..8 {
        assert_eq!(log_in(&gateway, HOME, USER, PASSWORD).status, 201);
    }
}
