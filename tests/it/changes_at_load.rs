//! Everything that changes while a gateway serves, at once: a client that counts every request and checks every answer drives HTTP/1.1, HTTP/2, uploads, event streams,
//! logins and revocations through reloads, rotations, other certificates and upgrades, with errors thrown in. None fails and none is wrong.

use crate::certificates::{ecdsa, pair, with, write};
use crate::client::{Client, basic, request};
use crate::command::{Folder, Stop, eventually, private};
use crate::contract::ENDPOINT;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::h2_client::{H2Client, Outcome, outcomes};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::process_upgrade::{process_in, started_as};
use crate::reload_load::{Counts, plain};
use crate::reload_settings::LOCAL;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often each is done: `CHANGES=100` is what docs/benchmarks.md has the numbers of.
fn changes() -> usize {
    std::env::var("CHANGES").map_or(30, |text| text.parse().expect("a number"))
}

/// An event stream of a second, each event with its number.
fn events() -> Platform {
    Platform::start(Behaviour::Custom(Arc::new(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        for number in 10..30 {
            write!(stream, "a\r\ndata: {number}\n\n\r\n")?;
            thread::sleep(Duration::from_millis(50));
        }
        stream.write_all(b"0\r\n\r\n")
    })))
}

fn stream_events(address: SocketAddr, token: &str, counts: &Counts, stop: &AtomicBool) {
    let expected: String = (10..30).map(|number| format!("data: {number}\n\n")).collect();
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::connect(address);
        client.send(request("GET", "/events/x", &[("user-token", token)]));
        match client.answer() {
            Ok(answer) if answer.status == 200 && answer.text() == expected => counts.add("events", "all"),
            other => counts.add("events", format!("{other:?}")),
        }
    }
}

/// An upload of half a second, in pieces.
fn upload(address: SocketAddr, token: &str, counts: &Counts, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::connect(address);
        client.send(format!(
            "POST /ds-api/upload HTTP/1.1\r\nHost: gateway.test\r\nuser-token: {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        let sent = (0..10).try_for_each(|_| {
            thread::sleep(Duration::from_millis(50));
            client.try_send(format!("3e8\r\n{}\r\n", "x".repeat(1000)))
        });
        let answer = sent.and_then(|()| client.try_send("0\r\n\r\n")).map(|()| client.answer());
        match answer {
            Ok(Ok(answer)) if answer.status == 200 && answer.json()["length"] == 10_000 => {
                counts.add("slow upload", 200)
            }
            other => counts.add("slow upload", format!("{other:?}")),
        }
    }
}

/// A connection that is told to go away takes no new streams. Those that it has are answered, or, where they have crossed with the last word on that, are said
/// not to have been looked at: clients send them again (RFC 9113 §8.7).
fn streams(address: SocketAddr, token: &str, counts: &Counts, stop: &AtomicBool) {
    let mut again = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut client = H2Client::connect(LOCAL, address, 65_535);
        for _ in 0..50 {
            let answers: Vec<_> =
                (0..again.max(10)).map_while(|_| client.try_get_as("/ds-api/x", token)).collect();
            let is_over = answers.len() < 10;
            let kind = if again > 0 { "stream again" } else { "stream" };
            again = 0;
            for outcome in outcomes(answers) {
                match outcome {
                    Outcome::Refused => again += 1,
                    Outcome::Status(status) => counts.add(kind, status),
                    Outcome::Failed(error) => counts.add(kind, error),
                }
            }
            if is_over || again > 0 {
                break;
            }
        }
    }
}

/// Logs in, uses the token, ends it, and uses it once more; each on a connection of its own, which any process may serve.
fn log_in_and_out(address: SocketAddr, counts: &Counts, stop: &AtomicBool) {
    let ask = |bytes: Vec<u8>| {
        let mut client = Client::try_connect(address).map_err(|error| error.to_string())?;
        client.try_send(bytes).map_err(|error| error.to_string())?;
        client.answer().map_err(|fault| format!("{fault:?}"))
    };
    while !stop.load(Ordering::Relaxed) {
        let login = ask(request("POST", ENDPOINT, &[("Authorization", &basic(USER, PASSWORD))]));
        let token = match login {
            Ok(answer) if answer.status == 201 => {
                answer.json()["user-token"].as_str().expect("a token").to_owned()
            }
            // No thread has had time for it on this busy machine: it comes again, as it is told to.
            Ok(answer) if answer.status == 503 && answer.text().contains("too many logins") => continue,
            other => {
                counts.add("login", format!("{other:?}"));
                continue;
            }
        };
        counts.add("login", 201);
        let asked = [
            ("used", "GET", "/ds-api/x"),
            ("ended", "DELETE", ENDPOINT),
            ("used after its end", "GET", "/ds-api/x"),
        ];
        for (what, method, target) in asked {
            match ask(request(method, target, &[("user-token", &token)])) {
                Ok(answer) => counts.add(what, answer.status),
                Err(error) => counts.add(what, error),
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Another key signs from now on, and the one before verifies what it has signed.
fn rotate(folder: &Folder, signing: &mut Option<String>) {
    let key = |arguments: &[&str]| {
        // While an old process ends, it may be asked for what it says no more.
        eventually("a key", || {
            let done = folder.cli(&[&["key"], arguments].concat(), "");
            match done.code {
                Some(0) => Some(done.stdout),
                Some(75) => None,
                _ => panic!("{done:?}"),
            }
        })
    };
    let kid = key(&["generate"]).trim().replace("made ", "");
    key(&["activate", &kid]);
    if let Some(before) = signing.replace(kid) {
        key(&["retire", &before]);
    }
}

fn upgrade(gateway: &mut Gateway) {
    let done = gateway.folder.cli(&["upgrade"], "");
    assert_eq!(done.code, Some(0), "{done:?}");
    gateway.successors.push(process_in(&done));
}

#[test]
fn nothing_is_lost_while_everything_changes() {
    let (platform, events, count) = (Platform::echo(), events(), changes());
    let place = tempfile::tempdir().expect("a folder");
    let (program, new) = (place.path().join("ds-gateway"), place.path().join("new"));
    let leads_to = |target: &str| {
        symlink(target, &new).expect("a link");
        fs::rename(&new, &program).expect("a link");
    };
    let real = env!("CARGO_BIN_EXE_ds-gateway");
    leads_to(real);
    write(place.path(), "gw", &["gw.test"], &ecdsa());
    let options = with(Options::new(&platform), place.path(), "gw", &[])
        .set("[platforms]", "prefix", "\"/events\"")
        .set("[platforms]", "servers", format!("[{:?}]", events.url()))
        .set("limits", "mint_rate", "1000")
        .set("limits", "mint_burst", "1000")
        .set("limits", "revocations_per_user", "1000000")
        .set("log", "access", "false");
    let mut gateway = started_as(&program, options.clone());
    let (token, stop, counts) = (gateway.mint(), AtomicBool::new(false), Counts::default());
    let (http, https) = (gateway.http(), gateway.https());
    let other = Platform::echo();
    let variants = [
        options.clone().public("[\"/toggled\"]"),
        options.clone().set("platform", "servers", format!("[{:?}]", other.url())),
        options.clone().public("[\"/toggled\"]").set("limits", "requests", "500"),
        options.clone(),
    ];
    thread::scope(|scope| {
        let (token, counts, stop) = (&*token, &counts, &stop);
        scope.spawn(move || plain(http, token, counts, stop));
        scope.spawn(move || plain(http, token, counts, stop));
        scope.spawn(move || streams(https, token, counts, stop));
        scope.spawn(move || stream_events(http, token, counts, stop));
        scope.spawn(move || upload(http, token, counts, stop));
        scope.spawn(move || log_in_and_out(http, counts, stop));
        let _stop = Stop(stop);
        let mut signing = None;
        for number in 0..count {
            variants[number % variants.len()].clone().write(&gateway.folder);
            gateway.folder.cli(&["reload"], "").ok();
            if number % 5 == 0 {
                rotate(&gateway.folder, &mut signing);
                renew(place.path(), &format!("certificate {number}"));
            }
            match number % 10 {
                3 => {
                    let text = fs::read_to_string(gateway.folder.config()).expect("a configuration");
                    fs::write(gateway.folder.config(), "[server]\nhttp = [\"127.0.0.1:0\"]\n")
                        .expect("a configuration");
                    let state = gateway.folder.state();
                    for command in ["reload", "upgrade"] {
                        let done = gateway
                            .folder
                            .cli(&[command, "--state-dir", state.to_str().expect("a path")], "");
                        assert!(matches!(done.code, Some(1 | 64)), "{done:?}");
                    }
                    fs::write(gateway.folder.config(), text).expect("a configuration");
                }
                6 => {
                    leads_to("/bin/false");
                    let done = gateway.folder.cli(&["upgrade"], "");
                    assert!(
                        done.code == Some(1) && done.stderr.contains("ended before it was ready"),
                        "{done:?}"
                    );
                    leads_to(real);
                }
                8 => {
                    private(&place.path().join("gw.key"), b"half of a");
                    let done = gateway.folder.cli(&["upgrade"], "");
                    assert!(done.code == Some(1) && done.stderr.contains("gw.key"), "{done:?}");
                    renew(place.path(), &format!("certificate {number}"));
                }
                _ => {}
            }
            upgrade(&mut gateway);
        }
    });
    let asked = [
        ("protected", &["200"][..]),
        ("toggled", &["200", "401"]),
        ("upload", &["200"]),
        ("foreign", &["401"]),
        ("stream", &["200"]),
        ("events", &["all"]),
        ("slow upload", &["200"]),
        ("login", &["201"]),
        ("used", &["200"]),
        ("ended", &["204"]),
        ("used after its end", &["401"]),
    ];
    for (what, expected) in asked {
        let number = counts.are(what, expected);
        println!("{what}: {number}");
        assert!(number >= count, "{number} {what}");
    }
    assert_eq!(gateway.successors.len(), count);
    gateway.still_healthy();
}

/// Puts another pair in its place.
fn renew(folder: &Path, label: &str) {
    let (certificate, key) = pair(label, &["gw.test"], &ecdsa(), 200);
    private(&folder.join("gw.crt"), &certificate);
    private(&folder.join("gw.key"), &key);
}
