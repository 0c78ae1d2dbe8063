//! Upgrades of the binary: a new process takes over, and nothing is lost, neither a request nor a revocation; one that cannot start changes nothing.

use crate::client::{Client, request};
use crate::command::{
    Done, Folder, eventually, finish, finish_within, started_by, told_of_full_disks, within,
};
use crate::contract::ENDPOINT;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER, is_alive};
use crate::options::{Options, User};
use crate::platform::{Behaviour, Platform};
use command_fds::{CommandFdExt as _, FdMapping};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

impl Gateway {
    /// Has the process replaced, as an operator does; says what was told meanwhile.
    #[track_caller]
    pub fn upgraded(&mut self) -> String {
        let done = self.folder.cli(&["upgrade"], "");
        assert_eq!(done.code, Some(0), "{done:?}");
        self.successors.push(process_in(&done));
        done.stderr
    }
}

/// Which process has taken over.
#[track_caller]
pub fn process_in(done: &Done) -> u32 {
    let (_, rest) = done.stdout.split_once("(process ").unwrap_or_else(|| panic!("{done:?}"));
    rest.split(')').next().expect("a number").parse().expect("a number")
}

/// A gateway whose binary is found by this name, which may lead to another one later.
pub fn started_as(program: &Path, options: Options) -> Gateway {
    let folder = options.folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let like = folder.command(&["run"]);
    let mut command = Command::new(program);
    command.args(like.get_args());
    if let Some(place) = like.get_current_dir() {
        command.current_dir(place);
    }
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Gateway::start(folder, command)
}

pub fn send(signal: &str, process: u32) {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("kill -s {signal} {process}")]);
    finish(command, "").ok();
}

pub fn get(token: &str) -> Vec<u8> {
    request("GET", "/ds-api/x", &[("user-token", token)])
}

/// A platform that answers `/ds-api/held` once it is let go, and everything else at once.
pub struct Held(Arc<(Mutex<bool>, Condvar)>);

impl Held {
    pub fn start() -> (Self, Platform) {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let waiting = Arc::clone(&gate);
        let platform = Platform::start(Behaviour::Custom(Arc::new(move |seen, stream| {
            if seen.target.contains("held") {
                let (is_open, opened) = &*waiting;
                drop(
                    opened.wait_while(is_open.lock().expect("a lock"), |is_open| !*is_open).expect("a lock"),
                );
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Platform: yes\r\nContent-Length: 2\r\n\r\n{}")
        })));
        (Self(gate), platform)
    }

    pub fn let_go(&self) {
        *self.0.0.lock().expect("a lock") = true;
        self.0.1.notify_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A request that the platform holds until it is let go.
fn hold(gateway: &Gateway, platform: &Platform, token: &str) -> Client {
    let mut client = gateway.client();
    client.send(request("GET", "/ds-api/held", &[("user-token", token)]));
    platform.waits_for("/ds-api/held");
    client
}

#[test]
fn a_new_process_takes_over_and_the_old_one_ends_with_its_last_connection() {
    let platform = Platform::echo();
    let mut gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let before = gateway.process();
    let mut kept: Vec<Client> = (0..5).map(|_| gateway.client()).collect();
    for client in &mut kept {
        assert_eq!(client.exchange(get(&token)).status, 200);
    }
    gateway.upgraded();
    assert_ne!(gateway.process(), before);
    gateway.still_healthy();
    thread::sleep(Duration::from_millis(1500));
    assert!(is_alive(before), "it has connections");
    // Each has one more answer, which is the last.
    for (number, client) in kept.iter_mut().enumerate() {
        let answer = client.exchange(get(&token));
        assert_eq!((answer.status, answer.says_close()), (200, true), "{number}");
        client.is_closed();
    }
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
    eventually("its line", || {
        gateway.log.lines().iter().any(|line| line.contains("\"stopped\"")).then_some(())
    });
    // And so on: the new one can be replaced, by a signal as well.
    let second = gateway.process();
    gateway.signal("USR2");
    let third = eventually("a third process", || {
        let lines = gateway.log.messages("a new process serves; this one ends once what it has is done");
        lines
            .iter()
            .map(|line| line["process"].as_u64().expect("a number") as u32)
            .find(|process| *process != second)
    });
    gateway.successors.push(third);
    eventually("the second to end", || (!is_alive(second)).then_some(()));
    gateway.still_healthy();
    assert_eq!(gateway.status(&token), 200);
}

#[test]
fn what_one_process_has_acknowledged_the_other_has_applied() {
    let (held, platform) = Held::start();
    // It would not hear of anything by itself.
    let mut options = Options::new(&platform).set("limits", "mint_burst", "200");
    for (key, value) in [("poll_interval", "1m"), ("heartbeat_interval", "2m"), ("max_staleness", "10m")] {
        options = options.set("store", key, format!("{value:?}"));
    }
    let mut gateway = options.start();
    let token = gateway.mint();
    let slow = hold(&gateway, &platform, &token);
    const COUNT: usize = 20;
    let tokens: Vec<String> = (0..2 * COUNT).map(|_| gateway.mint()).collect();
    let mut kept: Vec<Client> = (0..2 * COUNT).map(|_| gateway.client()).collect();
    kept.iter_mut().for_each(|client| assert_eq!(client.exchange(get(&token)).status, 200));
    let before = gateway.process();
    gateway.upgraded();
    let delete = |token: &str| request("DELETE", ENDPOINT, &[("user-token", token)]);
    let (first, second) = kept.split_at_mut(COUNT);
    for (client, token) in first.iter_mut().zip(&tokens) {
        assert_eq!(gateway.exchange(delete(token)).status, 204);
        assert_eq!(client.exchange(get(token)).status, 401, "revoked at the new one, asked at the old one");
    }
    for (client, token) in second.iter_mut().zip(&tokens[COUNT..]) {
        assert_eq!(gateway.status(token), 200);
        assert_eq!(client.exchange(delete(token)).status, 204);
        assert_eq!(gateway.status(token), 401, "revoked at the old one, asked at the new one");
    }
    assert!(is_alive(before), "it was there all the time");
    // One that is paused, for longer than a client is let wait: nothing is acknowledged that it does not know of.
    let last = gateway.mint();
    send("STOP", before);
    let began = Instant::now();
    let answer = gateway.exchange(delete(&last));
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(gateway.status(&last), 401, "but it is in force here");
    assert_eq!(gateway.log_in(USER, PASSWORD).status, 503, "a token is not handed out either");
    thread::sleep(Duration::from_secs(6));
    assert_eq!(gateway.metric("ds_gateway_revocations_pending", &[]), 1.0);
    send("CONT", before);
    eventually("it to be acknowledged", || {
        (gateway.metric("ds_gateway_revocations_pending", &[]) == 0.0).then_some(())
    });
    gateway.mint();
    held.let_go();
    drop(slow);
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
    gateway.still_healthy();
}

#[test]
fn the_next_upgrade_waits_until_the_process_before_has_ended() {
    let (held, platform) = Held::start();
    let mut gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let first = gateway.process();
    let mut slow = hold(&gateway, &platform, &token);
    gateway.upgraded();
    let second = gateway.process();
    let upgrade = gateway.folder.command(&["upgrade"]);
    let next = thread::spawn(move || finish(upgrade, ""));
    thread::sleep(Duration::from_secs(3));
    assert!(!next.is_finished() && is_alive(first) && is_alive(second));
    // Nobody else begins one meanwhile.
    let done = gateway.folder.cli(&["upgrade"], "");
    assert!(done.code == Some(1) && done.stderr.contains("under way already"), "{done:?}");
    held.let_go();
    let answer = slow.answer().expect("an answer");
    assert_eq!((answer.status, answer.says_close()), (200, true));
    let done = next.join().expect("a command");
    assert!(done.stderr.contains("waiting for gateway"), "{done:?}");
    gateway.successors.push(process_in(&done));
    assert!(!is_alive(first));
    gateway.still_healthy();
}

#[test]
fn the_old_process_is_stopped_by_its_time_or_by_a_signal() {
    for (grace, signal) in [("2s", None), ("10m", Some("TERM"))] {
        let (_held, platform) = Held::start();
        let options = Options::new(&platform).set("server", "grace", "\"1s\"");
        let mut gateway = options.set("server", "upgrade_grace", format!("{grace:?}")).start();
        let token = gateway.mint();
        let mut idle = gateway.client();
        assert_eq!(idle.exchange(get(&token)).status, 200);
        let mut slow = hold(&gateway, &platform, &token);
        let before = gateway.process();
        gateway.upgraded();
        let began = Instant::now();
        if let Some(signal) = signal {
            send(signal, before);
        }
        eventually("the old process to end", || (!is_alive(before)).then_some(()));
        assert!(began.elapsed() >= Duration::from_secs(1), "{grace}");
        assert!(slow.answer().is_err() && idle.answer().is_err(), "{grace}");
        let is_told = |line: &String| line.contains("did not finish within server.");
        eventually("a line", || gateway.log.lines().iter().any(is_told).then_some(()));
        gateway.still_healthy();
    }
}

#[test]
fn a_process_that_cannot_start_changes_nothing() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let place = TempDir::new().expect("a folder");
    // As deployments do it: a link, which leads to another binary later.
    let link = place.path().join("ds-gateway");
    let leads_to = |target: &str| {
        let new = link.with_extension("new");
        symlink(target, &new).expect("a link");
        fs::rename(&new, &link).expect("a link");
    };
    let real = env!("CARGO_BIN_EXE_ds-gateway");
    leads_to(real);
    let mut gateway = started_as(&link, options.clone());
    let (token, before) = (gateway.mint(), gateway.process());
    let mut kept = gateway.client();
    let mut refused = |gateway: &Gateway, why: &str, code: i32| {
        let state = gateway.folder.state();
        let done = gateway.folder.cli(&["upgrade", "--state-dir", state.to_str().expect("a path")], "");
        assert!(done.code == Some(code) && done.stderr.contains(why), "{why}: {done:?}");
        let answer = kept.exchange(get(&token));
        assert_eq!((answer.status, answer.says_close()), (200, false), "{why}");
        assert_eq!(
            gateway.exchange(request("DELETE", ENDPOINT, &[("user-token", &gateway.mint())])).status,
            204
        );
        assert!(is_alive(before));
    };
    // Binaries that are none, end at once, or are another program's.
    for (target, why) in [
        ("/nowhere/at/all", "cannot be started"),
        ("/etc/passwd", "cannot be started"),
        ("/bin/false", "ended before it was ready"),
        ("/bin/true", "ended before it was ready"),
    ] {
        leads_to(target);
        refused(&gateway, why, 1);
    }
    leads_to(real);
    // Configurations that are none, or of another gateway.
    let wrong = [
        (options.clone().set("limits", "header_bytes", "1"), "limits.header_bytes: must be"),
        (options.clone().set("server", "state_dir", "\"other\""), "another state folder needs a restart"),
        (options.clone().set("store", "url", "\"sqlite:other.db\""), "other.db"),
        (options.clone().set("platform", "servers", "[\"http://nowhere.invalid:1\"]"), "nowhere.invalid"),
    ];
    for (wrong, why) in wrong {
        wrong.write(&gateway.folder);
        refused(&gateway, why, 1);
    }
    // What takes a restart is taken with it.
    let port = gateway.http().port();
    options.set("server", "threads", "3").public("[\"/open\"]").write(&gateway.folder);
    gateway.upgraded();
    assert_eq!((gateway.http().port(), gateway.exchange(request("GET", "/open", &[])).status), (port, 200));
    eventually("the old process to end", || {
        // Its last connection.
        let _ = kept.try_send(get(&token));
        (!is_alive(before)).then_some(())
    });
    gateway.still_healthy();
}

#[test]
fn where_a_reload_does_the_same_it_is_one() {
    let platform = Platform::echo();
    let place = TempDir::new().expect("a folder");
    let program = place.path().join("ds-gateway");
    let install = || {
        let new = program.with_extension("new");
        fs::copy(env!("CARGO_BIN_EXE_ds-gateway"), &new).expect("a binary");
        fs::rename(&new, &program).expect("a name");
    };
    install();
    let options = Options::new(&platform);
    let mut gateway = started_as(&program, options.clone());
    let first = gateway.process();
    let ask = |gateway: &Gateway| gateway.folder.cli(&["upgrade", "--if-needed"], "");
    let options = options.public("[\"/open\"]");
    options.clone().write(&gateway.folder);
    let done = ask(&gateway);
    assert!(done.code == Some(0) && done.stdout.contains("- applied at once: routes.public"), "{done:?}");
    options.clone().set("limits", "header_bytes", "1").write(&gateway.folder);
    let done = ask(&gateway);
    assert!(done.code == Some(64) && done.stderr.contains("limits.header_bytes: must be"), "{done:?}");
    assert_eq!((gateway.process(), is_alive(first)), (first, true));
    // A setting that takes a restart, and another file of the program, whatever is in it.
    let options = options.set("server", "threads", "3");
    options.write(&gateway.folder);
    for _ in 0..2 {
        let done = ask(&gateway);
        assert_eq!(done.code, Some(0), "{done:?}");
        let before = gateway.process();
        gateway.successors.push(process_in(&done));
        eventually("the old process to end", || (!is_alive(before)).then_some(()));
        install();
    }
    gateway.still_healthy();
}

/// It is given its time, and then it is killed.
#[test]
fn a_process_that_never_is_ready_is_given_up() {
    let platform = Platform::echo();
    let place = TempDir::new().expect("a folder");
    let script = place.path().join("starts-or-hangs");
    let real = env!("CARGO_BIN_EXE_ds-gateway");
    let write = |text: String| {
        fs::write(&script, format!("#!/bin/bash\n{text}\n")).expect("a script");
        let mode = PermissionsExt::from_mode(0o700);
        fs::set_permissions(&script, mode).expect("its mode");
    };
    write(format!("exec -a \"$0\" {real} \"$@\""));
    let mut gateway = started_as(&script, Options::new(&platform));
    let before = gateway.process();
    let note = place.path().join("hangs");
    write(format!("echo $$ > {}; exec sleep 1000", note.display()));
    let done = finish_within(90, gateway.folder.command(&["upgrade"]), "");
    assert!(done.code == Some(1) && done.stderr.contains("was not ready within 60 s"), "{done:?}");
    gateway.still_healthy();
    let hangs: u32 = fs::read_to_string(&note).expect("a number").trim().parse().expect("a number");
    assert!(!is_alive(hangs) && is_alive(before));
    write(format!("exec -a \"$0\" {real} \"$@\""));
    gateway.upgraded();
    gateway.still_healthy();
}

#[test]
fn revocations_that_wait_for_the_store_and_failed_logins_are_handed_over() {
    let (held, platform) = Held::start();
    let folder = Options::new(&platform).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let command = told_of_full_disks(&folder.command(&["run"]));
    let mut gateway = Gateway::start(folder, command);
    let (token, revoked, later) = (gateway.mint(), gateway.mint(), gateway.mint());
    let slow = hold(&gateway, &platform, &token);
    let mut kept = gateway.client();
    assert_eq!(kept.exchange(get(&token)).status, 200);
    let wrong = |gateway: &Gateway| gateway.log_in(USER, "wrong").status;
    let guesses = within(60, || (wrong(&gateway) == 429).then_some(()));
    assert!(guesses.is_some(), "guesses are throttled");
    let delete = |token: &str| request("DELETE", ENDPOINT, &[("user-token", token)]);
    gateway.disk("4096");
    assert_eq!(gateway.exchange(delete(&revoked)).status, 503);
    let before = gateway.process();
    gateway.upgraded();
    assert_eq!(wrong(&gateway), 429, "what was counted is known");
    assert_eq!(gateway.status(&revoked), 401, "revoked before the new process was there");
    assert_eq!(kept.exchange(delete(&later)).status, 503);
    eventually("the other process to hear of it", || (gateway.status(&later) == 401).then_some(()));
    assert_eq!(gateway.metric("ds_gateway_revocations_pending", &[]), 2.0);
    // The old one is gone before its store has taken anything.
    send("KILL", before);
    drop((slow, held));
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
    assert_eq!([gateway.status(&revoked), gateway.status(&later), gateway.status(&token)], [401, 401, 200]);
    gateway.disk("unlimited");
    eventually("both to be durable", || {
        (gateway.metric("ds_gateway_revocations_pending", &[]) == 0.0).then_some(())
    });
    let gateway = gateway.kill().run(&[]);
    assert_eq!([gateway.status(&revoked), gateway.status(&later), gateway.status(&token)], [401, 401, 200]);
}

#[test]
fn systemd_is_told_who_is_ready_and_who_has_taken_over() {
    let platform = Platform::echo();
    let place = TempDir::new().expect("a folder");
    let path = place.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
    let next = || {
        let mut bytes = [0; 1000];
        let length = systemd.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let folder = Options::new(&platform).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let mut command = folder.command(&["run"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut gateway = Gateway::start(folder, command);
    assert_eq!(next(), "READY=1\n");
    for _ in 0..2 {
        gateway.upgraded();
        // Of the new process nothing: systemd listens to the main process alone.
        assert_eq!(next(), format!("MAINPID={}\n", gateway.process()));
    }
    gateway.still_healthy();
}

/// Starts a gateway as systemd does that has sockets for it.
fn activated(options: Options, sockets: &[&TcpListener]) -> (Folder, Command) {
    let folder = options.folder();
    let script = "export LISTEN_PID=$$; exec \"$@\"";
    let mut command = started_by(&["bash", "-c", script, "bash"], &folder.command(&["run"]));
    command.env("LISTEN_FDS", sockets.len().to_string());
    let mapping = |(child_fd, socket): (i32, &&TcpListener)| FdMapping {
        parent_fd: socket.try_clone().expect("a socket").into(),
        child_fd,
    };
    command.fd_mappings((3..).zip(sockets).map(mapping).collect()).expect("each once");
    (folder, command)
}

#[test]
fn sockets_that_systemd_has_opened_are_used_and_handed_on() {
    let platform = Platform::echo();
    let [traffic, admin, other] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let address = |socket: &TcpListener| socket.local_addr().expect("an address");
    let options = Options::new(&platform).set("server", "http", format!("[\"{}\"]", address(&traffic))).set(
        "admin",
        "listen",
        format!("\"{}\"", address(&admin)),
    );
    // They come in any order, and connections wait in them from the first moment on.
    let mut early = Client::connect(address(&traffic));
    early.send(request("GET", "/ds-api/early", &[]));
    let (folder, command) = activated(options.clone(), &[&admin, &traffic]);
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let mut gateway = Gateway::start(folder, command);
    assert_eq!(early.answer().expect("an answer").status, 401);
    assert_eq!(gateway.http(), address(&traffic));
    gateway.still_healthy();
    gateway.upgraded();
    gateway.still_healthy();
    drop(gateway);
    // One that no listener is for would leave its clients waiting.
    let (_folder, command) = activated(options.clone(), &[&admin, &traffic, &other]);
    let done = finish(command, "");
    let named = format!("{} was handed over", address(&other));
    assert!(done.code == Some(1) && done.stderr.contains(&named), "{done:?}");
    // What is handed to another process is not taken, and what is no socket is named.
    drop((traffic, admin));
    let (folder, mut command) = activated(options.clone(), &[]);
    command.env("LISTEN_FDS", "1").stdin(std::process::Stdio::null());
    let file = fs::File::open("/dev/null").expect("a file");
    command.fd_mappings(vec![FdMapping { parent_fd: file.into(), child_fd: 3 }]).expect("once");
    let done = finish(command, "");
    assert!(
        done.code == Some(1) && done.stderr.contains("socket 1 of LISTEN_FDS cannot be used"),
        "{done:?}"
    );
    let mut command = folder.command(&["check"]);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    assert_eq!(finish(command, "").code, Some(0));
}

#[test]
fn who_was_not_started_by_an_upgrade_takes_nothing_over() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let folder = gateway.folder.state().join("control");
    let id =
        fs::read_dir(&folder).expect("a folder").next().expect("a socket").expect("an entry").file_name();
    for request in [
        r#"{"command":"take_over","id":"1-a","store":"x"}"#.to_owned(),
        format!(
            r#"{{"command":"take_over","id":{id:?},"store":{:?}}}"#,
            gateway.folder.state().join("gateway.db")
        ),
        r#"{"command":"serving"}"#.to_owned(),
    ] {
        let mut stream = UnixStream::connect(folder.join(&id)).expect("a socket");
        writeln!(stream, "{request}").expect("a request");
        let mut text = String::new();
        BufReader::new(stream).read_line(&mut text).expect("an answer");
        assert!(text.contains("\"error\""), "{request}: {text}");
    }
    let mut stream = UnixStream::connect(folder.join(&id)).expect("a socket");
    writeln!(stream, r#"{{"command":"cannot_start","errors":"x"}}"#).expect("a request");
    gateway.mint();
    gateway.still_healthy();
}
