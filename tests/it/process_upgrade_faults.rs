//! Upgrades in which something goes wrong or comes at a bad moment: a process that loads slowly, stops, or leaves something behind.

use crate::client::{Client, request, request_with};
use crate::command::{eventually, finish, finish_within, in_time, started_by, told_of_full_disks};
use crate::contract::ENDPOINT;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER, is_alive};
use crate::options::{Key, Options, User};
use crate::platform::{Behaviour, Platform};
use crate::postgres_server::{Stop, TestServer};
use crate::process_upgrade::{Held, get, process_in, send, started_as};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A gateway whose program, from the second start on, is what the script says that `change` is given.
fn scripted(options: Options, place: &Path) -> (Gateway, impl Fn(&str) + use<>) {
    let script = place.join("program");
    let write = move |before: &str| {
        let real = env!("CARGO_BIN_EXE_ds-gateway");
        let new = script.with_extension("new");
        fs::write(&new, format!("#!/bin/bash\n{before}\nexec -a \"$0\" {real} \"$@\"\n")).expect("a script");
        fs::set_permissions(&new, Permissions::from_mode(0o700)).expect("its mode");
        fs::rename(&new, &script).expect("a name");
    };
    write("");
    (started_as(&place.join("program"), options), write)
}

/// From the moment at which a new process has loaded everything nothing is acknowledged without it.
#[test]
fn a_new_process_that_hangs_when_it_takes_over_is_given_up_soon() {
    let (platform, place) = (Platform::echo(), TempDir::new().expect("a folder"));
    let (mut gateway, change) = scripted(Options::new(&platform), place.path());
    change("exec sleep 1000");
    let tokens = [gateway.mint(), gateway.mint()];
    let sockets = gateway.folder.state().join("control");
    let socket = fs::read_dir(&sockets).expect("a folder").flatten().next().expect("a socket").path();
    let upgrade = gateway.folder.command(&["upgrade"]);
    let upgrade = thread::spawn(move || finish_within(40, upgrade, ""));
    eventually("the new process", || {
        gateway.log.messages("an upgrade has begun: the new process loads").pop()
    });
    // In its place: it never answers.
    let listener = UnixListener::bind(sockets.join("1-a")).expect("a socket");
    let mut old = BufReader::new(UnixStream::connect(socket).expect("a gateway"));
    let mut take_over = |store: &str| {
        let request = format!("{{\"command\":\"take_over\",\"id\":\"1-a\",\"store\":{store:?}}}\n");
        old.get_mut().write_all(request.as_bytes()).expect("a reader");
        let mut answer = String::new();
        old.read_line(&mut answer).expect("an answer");
        answer
    };
    let refused = take_over("another");
    let (_, rest) = refused.split_once("that of the gateway that runs is ").expect("a store");
    let (store, _) = rest.split_once(": another store").expect("a store");
    assert_eq!(take_over(store), "{\"pending\":[]}\n");
    let began = Instant::now();
    let delete = |token: &str| gateway.exchange(request("DELETE", ENDPOINT, &[("user-token", token)])).status;
    assert_eq!(delete(&tokens[0]), 503);
    let done = upgrade.join().expect("a command");
    assert!(done.code == Some(1) && done.stderr.contains("was not ready within"), "{done:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(delete(&tokens[1]), 204);
    eventually("what waited", || {
        (gateway.metric("ds_gateway_revocations_pending", &[]) == 0.0).then_some(())
    });
    drop(listener);
    change("");
    gateway.upgraded();
    gateway.still_healthy();
}

#[test]
fn a_folder_that_is_gone_is_named() {
    let (platform, place) = (Platform::echo(), TempDir::new().expect("a folder"));
    let folder = Options::new(&platform).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let mut command = folder.command(&["run"]);
    command.current_dir(place.path());
    let mut gateway = Gateway::start(folder, command);
    let path = place.path().to_owned();
    drop(place);
    let done = gateway.folder.cli(&["upgrade"], "");
    let named = format!("the folder {} that this process was started in is gone", path.display());
    assert!(done.code == Some(1) && done.stderr.contains(&named), "{done:?}");
    fs::create_dir(&path).expect("a folder");
    gateway.upgraded();
    gateway.still_healthy();
    fs::remove_dir(&path).expect("a folder");
}

/// A change of users that the platform is at, over a process that an upgrade replaces.
fn begin_change(gateway: &Gateway, platform: &Platform, token: &str) -> Client {
    let target = format!("/ds-api/held/{EMAIL}");
    let mut client = gateway.client();
    client.send(request_with("PUT", &target, &[("user-token", token)], b"{}"));
    platform.waits_for("/ds-api/held");
    client
}

const CHANGES: &str = "[{ methods = [\"PUT\"], path = \"/ds-api/held/{email}\", ends = \"{email}\" }]";

#[test]
fn a_process_that_loads_for_long_is_waited_for() {
    let platform = Platform::echo();
    let mut gateway = Options::new(&platform).start();
    let lock = File::options().write(true).open(gateway.folder.state().join("lock")).expect("a lock");
    lock.lock().expect("a lock");
    let upgrade = gateway.folder.command(&["upgrade"]);
    let upgrade = thread::spawn(move || finish(upgrade, ""));
    // As long as a large store takes to be read, for one.
    thread::sleep(Duration::from_secs(4));
    drop(lock);
    let done = upgrade.join().expect("a command");
    assert_eq!(done.code, Some(0), "{done:?}");
    gateway.successors.push(process_in(&done));
    gateway.still_healthy();
}

#[test]
fn changes_of_users_that_the_old_process_cannot_end_are_ended_by_the_new_one() {
    for (grace, signal) in [("2s", None), ("10m", Some("TERM")), ("10m", Some("INT")), ("10m", Some("KILL"))]
    {
        let (_held, platform) = Held::start();
        let options = Options::new(&platform)
            .set("platform", "user_changes", CHANGES)
            .set("server", "grace", "\"1s\"")
            .set("server", "upgrade_grace", format!("{grace:?}"));
        let mut gateway = options.start();
        let token = gateway.mint();
        let _change = begin_change(&gateway, &platform, &token);
        let before = gateway.process();
        gateway.upgraded();
        if let Some(signal) = signal {
            assert_eq!(gateway.status(&token), 200, "the platform is at it");
            send(signal, before);
        }
        eventually("the old process to end", || (!is_alive(before)).then_some(()));
        let is_ended = in_time(|| (gateway.status(&token) == 401).then_some(()));
        assert!(
            is_ended.is_some(),
            "{grace} {signal:?}: nobody knows whether the platform has made the change"
        );
        gateway.still_healthy();
    }
}

#[test]
fn a_change_of_users_that_the_other_process_does_not_apply_in_time_is_made_once() {
    let (_held, platform) = Held::start();
    let changes = "[{ methods = [\"PUT\"], path = \"/ds-api/users/{email}\", ends = \"{email}\" }]";
    let options = Options::new(&platform)
        .user(User::new("other", PASSWORD, "other@example.com", ORGANIZATION))
        .set("platform", "user_changes", changes);
    let mut gateway = options.start();
    let [token, other] = [USER, "other"].map(|name| gateway.login(name, PASSWORD).expect("a token"));
    let mut kept = gateway.client();
    assert_eq!(kept.exchange(get(&token)).status, 200);
    let mut slow = gateway.client();
    slow.send(request("GET", "/ds-api/held", &[("user-token", &other)]));
    platform.waits_for("/ds-api/held");
    let before = gateway.process();
    gateway.upgraded();
    send("STOP", before);
    let target = format!("/ds-api/users/{EMAIL}");
    let answer = gateway.exchange(request_with("PUT", &target, &[("user-token", &other)], b"{}"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.values("x-ds-gateway-warning").len(), 1, "{answer:?}");
    assert_eq!(gateway.status(&token), 401);
    thread::sleep(Duration::from_secs(4));
    send("CONT", before);
    // Its next look comes within store.poll_interval.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(kept.exchange(get(&token)).status, 401);
    let again = gateway.mint();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(gateway.status(&again), 200, "a token that came afterwards");
    let trail = gateway.folder.cli(&["audit", "list"], "").ok();
    assert_eq!(trail.matches("platform_change").count(), 1, "{trail}");
}

/// The client has gone, and the platform is still at it.
#[test]
fn the_old_process_waits_for_changes_whose_clients_have_gone() {
    let (held, platform) = Held::start();
    let mut gateway = Options::new(&platform).set("platform", "user_changes", CHANGES).start();
    let token = gateway.mint();
    let change = begin_change(&gateway, &platform, &token);
    let before = gateway.process();
    gateway.upgraded();
    drop(change);
    thread::sleep(Duration::from_secs(1));
    let is_waiting = is_alive(before);
    let between = gateway.mint();
    held.let_go();
    eventually("the tokens to end", || {
        ([&token, &between].map(|token| gateway.status(token)) == [401, 401]).then_some(())
    });
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
    assert!(is_waiting, "it has a change that has not ended");
    gateway.still_healthy();
}

#[test]
fn a_process_that_is_stopped_while_it_drains_says_what_it_has_counted() {
    let (_held, platform) = Held::start();
    let mut gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let mut guesses: Vec<Client> = (0..30).map(|_| gateway.client()).collect();
    for client in &mut guesses {
        assert_eq!(client.exchange(get(&token)).status, 200);
    }
    let before = gateway.process();
    gateway.upgraded();
    // What the old process alone has seen.
    let wrong = crate::client::basic(USER, "wrong");
    let is_throttled = guesses.drain(..25).any(|mut client| {
        client.exchange(request("POST", ENDPOINT, &[("Authorization", &wrong)])).status == 429
    });
    assert!(is_throttled, "guesses are throttled");
    send("TERM", before);
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
    assert_eq!(gateway.log_in(USER, "wrong").status, 429, "what was counted is known");
    eventually("its end", || gateway.log.messages("the process that was replaced has ended").pop());
}

/// That of a stop is much shorter, and the engine has one of its own.
#[test]
fn the_old_process_has_the_time_of_an_upgrade_and_not_that_of_a_stop() {
    let (held, platform) = Held::start();
    let mut gateway = Options::new(&platform).set("server", "grace", "\"1s\"").start();
    let token = gateway.mint();
    let mut idle = gateway.client();
    assert_eq!(idle.exchange(get(&token)).status, 200);
    let mut slow = gateway.client();
    slow.send(request("GET", "/ds-api/held", &[("user-token", &token)]));
    platform.waits_for("/ds-api/held");
    let before = gateway.process();
    gateway.upgraded();
    thread::sleep(Duration::from_secs(12));
    assert!(is_alive(before));
    held.let_go();
    assert_eq!(slow.answer().expect("an answer").status, 200);
    assert_eq!(idle.exchange(get(&token)).status, 200);
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
}

/// The platform was asked for a change, the gateway died, and the store took no cutoff at the next start.
#[test]
fn what_a_start_holds_is_held_by_the_new_process_too() {
    let platform =
        Platform::start(Behaviour::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()));
    let folder = Options::new(&platform).set("platform", "user_changes", CHANGES).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder.add(&User::new("other", PASSWORD, "other@example.com", ORGANIZATION));
    let gateway = folder.run(&[]);
    let [token, other] = [USER, "other"].map(|name| gateway.login(name, PASSWORD).expect("a token"));
    platform.behave(Behaviour::Never);
    let mut client = gateway.client();
    client.send(request_with("PUT", &format!("/ds-api/held/{EMAIL}"), &[("user-token", &token)], b"{}"));
    platform.waits_for("/ds-api/held");
    platform.behave(Behaviour::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()));
    // What SQLite has in common with it is there at the next start, which so writes nothing before it serves.
    let reader = rusqlite::Connection::open(gateway.folder.state().join("gateway.db")).expect("a store");
    let noted: u64 =
        reader.query_row("SELECT count(*) FROM user_changes", [], |row| row.get(0)).expect("a count");
    assert_eq!(noted, 1);
    let folder = gateway.kill();
    let command = told_of_full_disks(&started_by(&["prlimit", "--fsize=4096:"], &folder.command(&["run"])));
    let mut gateway = Gateway::start(folder, command);
    let statuses = |gateway: &Gateway| [&token, &other].map(|token| gateway.status(token));
    assert_eq!(statuses(&gateway), [401, 200], "held by the start");
    let before = gateway.process();
    gateway.upgraded();
    assert_eq!(statuses(&gateway), [401, 200], "and by its successor");
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
    gateway.disk("unlimited");
    assert_eq!(statuses(&gateway), [401, 200]);
    assert_eq!(
        gateway.status(&gateway.mint()),
        401,
        "until the store has taken it, and that is once a minute"
    );
}

/// It accepts no more, and nobody else does either.
#[test]
fn the_old_process_ends_where_the_new_one_has_ended() {
    for signal in ["KILL", "TERM"] {
        let (_held, platform) = Held::start();
        let mut gateway = Options::new(&platform).set("server", "grace", "\"1s\"").start();
        let token = gateway.mint();
        let mut slow = gateway.client();
        slow.send(request("GET", "/ds-api/held", &[("user-token", &token)]));
        platform.waits_for("/ds-api/held");
        let before = gateway.process();
        gateway.upgraded();
        gateway.signal(signal);
        for process in [gateway.process(), before] {
            eventually(signal, || (!is_alive(process)).then_some(()));
        }
        gateway.kill().run(&[]).still_healthy();
    }
}

#[test]
fn nothing_outlives_a_process_that_ends_while_its_successor_loads() {
    for signal in ["TERM", "INT", "KILL"] {
        let (platform, place) = (Platform::echo(), TempDir::new().expect("a folder"));
        let (gateway, change) = scripted(Options::new(&platform), place.path());
        let note = place.path().join("note");
        change(&format!("echo $$ > {}; sleep 1", note.display()));
        let before = gateway.process();
        gateway.signal("USR2");
        let child: u32 =
            eventually("the new process", || fs::read_to_string(&note).ok()?.trim().parse().ok());
        assert!(is_alive(child));
        send(signal, before);
        for process in [before, child] {
            eventually(signal, || (!is_alive(process)).then_some(()));
        }
        // What the script has started has the sockets for another moment.
        eventually(signal, || TcpStream::connect(gateway.http()).is_err().then_some(()));
        // And the folder is as it was.
        gateway.kill().run(&[]).still_healthy();
    }
}

#[test]
fn an_upgrade_that_waits_for_a_reload_does_not_begin_once_the_process_stops() {
    let (held, platform) = Held::start();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let mut slow = gateway.client();
    slow.send(request("GET", "/ds-api/held", &[("user-token", &token)]));
    platform.waits_for("/ds-api/held");
    // A reload that reads for long.
    let (config, pipe) = (gateway.folder.config(), gateway.folder.dir.path().join("pipe"));
    let text = fs::read_to_string(&config).expect("a configuration");
    let mut command = Command::new("mkfifo");
    command.arg(&pipe);
    finish(command, "").ok();
    fs::rename(&pipe, &config).expect("a pipe");
    fs::hard_link(&config, &pipe).expect("a second name");
    let state = gateway.folder.state();
    let state = state.to_str().expect("a path").to_owned();
    let ask = |command: &str| {
        let command = gateway.folder.command(&[command, "--state-dir", &state]);
        let asked = thread::spawn(move || finish(command, ""));
        thread::sleep(Duration::from_millis(700));
        asked
    };
    let (reload, upgrade) = (ask("reload"), ask("upgrade"));
    let before = gateway.process();
    gateway.signal("TERM");
    thread::sleep(Duration::from_millis(300));
    let new = config.with_extension("new");
    fs::write(&new, &text).expect("a configuration");
    fs::rename(&new, &config).expect("a configuration");
    fs::write(&pipe, &text).expect("a reader");
    let (_, done) = (reload.join().expect("a command"), upgrade.join().expect("a command"));
    assert!(done.code == Some(1) && done.stderr.contains("is stopping"), "{done:?}");
    held.let_go();
    assert_eq!(slow.answer().expect("an answer").status, 200);
    eventually("the process to end", || (!is_alive(before)).then_some(()));
    assert!(TcpStream::connect(gateway.http()).is_err());
}

/// Of the sockets of a process, by the number of each in the kernel; those that listen apart.
fn sockets(process: u32) -> [BTreeSet<String>; 2] {
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let listening: BTreeSet<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (*words.get(3)? == "0A").then(|| format!("socket:[{}]", words[9]))
        })
        .collect();
    let all = links(process).into_iter().filter(|link| link.starts_with("socket:"));
    let (listeners, others) = all.partition(|link| listening.contains(link));
    [listeners, others]
}

fn links(process: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).expect("a process").flatten();
    entries
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok_and(|fd| fd > 2))
        })
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn the_new_process_has_the_listening_sockets_of_the_old_one_and_nothing_else() {
    let (held, platform) = Held::start();
    let mut gateway = Options::new(&platform).https().start();
    let token = gateway.mint();
    let mut slow = gateway.client();
    slow.send(request("GET", "/ds-api/held", &[("user-token", &token)]));
    platform.waits_for("/ds-api/held");
    let mut counts = Vec::new();
    for _ in 0..3 {
        let before = gateway.process();
        let [listening, others] = sockets(before);
        assert_eq!(listening.len(), 3, "{listening:?}");
        gateway.upgraded();
        let [handed_over, own] = sockets(gateway.process());
        assert_eq!(handed_over, listening);
        assert_eq!(own.intersection(&others).count(), 0, "{own:?} {others:?}");
        // The databases are its own.
        let files = links(gateway.process()).iter().filter(|link| link.starts_with('/')).count();
        counts.push(files);
        if is_alive(before) {
            assert!(sockets(before)[0].is_empty(), "it listens no more");
            held.let_go();
            let _ = slow.answer();
        }
        eventually("the old process to end", || (!is_alive(before)).then_some(()));
    }
    assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
}

/// A wildcard of both families is another socket than one of IPv6 alone.
#[test]
fn an_address_that_the_new_process_would_lose_takes_a_restart() {
    let platform = Platform::echo();
    let port = TcpListener::bind("0.0.0.0:0").expect("a port").local_addr().expect("an address").port();
    let options = Options::new(&platform);
    let listen =
        |addresses: &str| options.clone().set("server", "http", addresses.replace("PORT", &port.to_string()));
    let mut gateway = listen("[\"0.0.0.0:PORT\", \"[::]:PORT\"]").start();
    let answers = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    assert!(answers());
    listen("[\"[::]:PORT\"]").write(&gateway.folder);
    let done = gateway.folder.cli(&["upgrade"], "");
    if done.code == Some(0) {
        gateway.successors.push(process_in(&done));
        thread::sleep(Duration::from_secs(1));
    }
    assert!(answers(), "{done:?}");
    assert!(done.code == Some(1) && done.stderr.contains("needs a restart"), "{done:?}");
    // One that is left out on purpose is not listened on any more.
    listen("[\"0.0.0.0:PORT\"]").write(&gateway.folder);
    gateway.upgraded();
    assert!(answers());
}

#[test]
fn with_postgresql_either_process_waits_for_the_other_and_no_upgrade_begins_without_it() {
    let (mut server, (held, platform)) = (TestServer::start(), Held::start());
    let url = format!("{:?}", server.unix_url(&server.create_database()));
    let mut options = Options::new(&platform).set("store", "url", url).key(Key::ours("k1"));
    for (key, value) in [("poll_interval", "1m"), ("heartbeat_interval", "2m"), ("max_staleness", "10m")] {
        options = options.set("store", key, format!("{value:?}"));
    }
    let mut gateway = options.start();
    let token = gateway.mint();
    let mut slow = gateway.client();
    slow.send(request("GET", "/ds-api/held", &[("user-token", &token)]));
    platform.waits_for("/ds-api/held");
    let tokens: Vec<String> = (0..8).map(|_| gateway.mint()).collect();
    let mut kept: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    kept.iter_mut().for_each(|client| assert_eq!(client.exchange(get(&token)).status, 200));
    let before = gateway.process();
    gateway.upgraded();
    let delete = |token: &str| request("DELETE", ENDPOINT, &[("user-token", token)]);
    for (number, (client, token)) in kept.iter_mut().zip(&tokens).enumerate() {
        if number % 2 == 0 {
            assert_eq!(gateway.exchange(delete(token)).status, 204);
            assert_eq!(client.exchange(get(token)).status, 401);
        } else {
            assert_eq!(client.exchange(delete(token)).status, 204);
            assert_eq!(gateway.status(token), 401);
        }
    }
    held.let_go();
    assert_eq!(slow.answer().expect("an answer").status, 200);
    drop(kept);
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
    server.stop(Stop::Fast);
    let done = gateway.folder.cli(&["upgrade"], "");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!((gateway.status(&token), gateway.admin("/healthz").status), (200, 200));
}
