//! The log: as text or JSON, as loud as asked for, and never in the way of a request, whatever its reader does.

use crate::client::{request, request_with};
use crate::command::{Folder, eventually};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::observability::changed;
use crate::options::{Options, User};
use crate::platform::Platform;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

/// A folder for a gateway that is started unheard, with a user.
fn folder(platform: &Platform, format: &str, level: &str) -> Folder {
    let folder = Options::new(platform)
        .set("admin", "listen", "\"127.0.0.2:0\"")
        .set("log", "format", format!("{format:?}"))
        .set("log", "level", format!("{level:?}"))
        .folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder
}

/// A gateway whose log goes to a file.
fn to_file(folder: Folder) -> (Gateway, PathBuf) {
    let path = folder.dir.path().join("log");
    let command = folder.command(&["run"]);
    (Gateway::start_unheard(folder, command, File::create(&path).expect("a log")), path)
}

/// A gateway whose log goes to a reader that does not read.
fn unread(platform: &Platform) -> Gateway {
    let folder = folder(platform, "json", "info");
    let command = folder.command(&["run"]);
    Gateway::start_unheard(folder, command, Stdio::piped())
}

/// Something of each kind: forwarded, refused, minted, failed.
fn traffic(gateway: &Gateway) -> String {
    let token = gateway.mint();
    gateway.exchange(request("GET", "/forwarded?x=%0a&user-token=canary", &[("user-token", &token)]));
    gateway.exchange(request("GET", "/refused", &[("user-token", &changed(&token))]));
    gateway.login(USER, "canary-password");
    gateway.exchange(request("GET", "/a\"b\\c{}=d e", &[]));
    token
}

#[test]
fn text_lines_say_what_json_lines_say() {
    let platform = Platform::echo();
    let (gateway, log) = to_file(folder(&platform, "text", "info"));
    let token = traffic(&gateway);
    let text = eventually("the lines", || {
        let text = fs::read_to_string(&log).expect("a log");
        text.contains("GET\"").then_some(())?;
        (text.matches(" access ").count() >= 4).then_some(text)
    });
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let time = words.next().unwrap_or_default();
        assert!(time.len() == 24 && time.ends_with('Z') && time.contains('T'), "{line}");
        assert!(["INFO", "WARN", "ERROR"].contains(&words.next().unwrap_or_default()), "{line}");
        assert!(!line.starts_with('{') && !line.chars().any(char::is_control), "{line}");
    }
    let line = |part: &str| {
        text.lines()
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("no line with {part} in {text}"))
    };
    let forwarded = line("/forwarded");
    for part in [
        "method=\"GET\"",
        "path=\"/forwarded?x=%0a&user-token=REDACTED\"",
        "status=200",
        "route=\"protected\"",
        "decision=\"admitted\"",
        "user=\"myUser\"",
        "token_id=\"",
        "duration_ms=",
        "platform_ms=",
        "bytes_received=0",
        "bytes_sent=",
        "request_id=\"",
        "client=\"127.0.0.1:",
        "protocol=\"HTTP/1.1\"",
        "host=\"",
    ] {
        assert!(forwarded.contains(part), "no {part} in {forwarded}");
    }
    // Time, client, request, status: in this order.
    let places =
        ["T", "INFO", " access ", "client=", "method=", "path=", "protocol=", "status=", "host=", "route="]
            .map(|part| forwarded.find(part).unwrap_or_else(|| panic!("no {part} in {forwarded}")));
    assert!(places.is_sorted(), "{forwarded}");
    assert!(line("/refused").contains("decision=\"token_signature\""));
    assert!(!line("/refused").contains("user="), "what is not known is left out");
    line("listening");
    for secret in [token.rsplit('.').next().unwrap_or_default(), "canary"] {
        assert!(!text.contains(secret), "{text}");
    }
    gateway.still_healthy();
}

#[test]
fn a_level_silences_what_is_below_it() {
    let platform = Platform::echo();
    for (level, warns) in [("warn", true), ("error", false)] {
        let folder = folder(&platform, "json", level);
        // Two things that are warned of at a start: that everything is public, and that there is no user.
        folder.cli(&["user", "remove", USER], "").ok();
        let mut command = folder.command(&["run"]);
        command.env("DS_GATEWAY__ROUTES__PUBLIC", "/*");
        let path = folder.dir.path().join("log");
        let gateway = Gateway::start_unheard(folder, command, File::create(&path).expect("a log"));
        gateway.folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
        eventually("the user", || gateway.login(USER, PASSWORD));
        traffic(&gateway);
        gateway.still_healthy();
        let _folder = gateway.stop();
        let text = fs::read_to_string(&path).expect("a log");
        assert_eq!(text.contains("routes.public"), warns, "{level}: {text}");
        for below in ["\"info\"", "\"access\"", "listening", "stopping"] {
            assert!(!text.contains(below), "{level}: {text}");
        }
    }
}

#[test]
fn the_platforms_time_and_the_bytes_are_in_the_access_line() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let fields = [("user-token", token.as_str())];
    gateway.exchange(request_with("PUT", "/timed", &fields, &[b'x'; 4_321]));
    let refused = gateway.exchange(request("GET", "/refused", &[]));
    let line = |path: &str| {
        eventually("an access line", || {
            gateway.log.messages("access").into_iter().find(|line| line["path"] == path)
        })
    };
    let timed = line("/timed");
    assert_eq!(timed["bytes_received"], 4_321);
    let (all, platforms) = (timed["duration_ms"].as_f64(), timed["platform_ms"].as_f64());
    assert!(platforms.is_some_and(|ms| ms > 0.0) && all >= platforms, "{timed}");
    let line = line("/refused");
    assert!(line["platform_ms"].is_null(), "{line}");
    assert_eq!(line["bytes_sent"], refused.body.len());
    gateway.still_healthy();
}

/// Sends so many requests that every queue between the gateway and a reader that does not read is full. Each is
/// answered while nobody reads.
fn flood(gateway: &Gateway, threads: usize) {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut client = gateway.client();
                for _ in 0..12_000 / threads {
                    assert_eq!(client.exchange(request("GET", "/flood", &[])).status, 401);
                }
            });
        }
    });
}

#[test]
fn a_reader_that_does_not_read_stops_no_request_and_what_it_misses_is_counted() {
    let platform = Platform::echo();
    let mut gateway = unread(&platform);
    let dropped = |gateway: &Gateway| gateway.metric("ds_gateway_log_lines_dropped_total", &[]);
    assert_eq!(dropped(&gateway), 0.0);
    flood(&gateway, 3);
    assert!(dropped(&gateway) > 0.0, "more lines than any queue holds");
    gateway.still_healthy();

    // When it reads again, the log goes on, and each line is whole.
    let reader = BufReader::new(gateway.stderr());
    let lost = dropped(&gateway);
    let last = Arc::new(Mutex::new(String::new()));
    let read = {
        let last = Arc::clone(&last);
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
                *last.lock().expect("a lock") = line;
            }
        })
    };
    eventually("the last line", || {
        gateway.exchange(request("GET", "/read-again", &[]));
        last.lock().expect("a lock").contains("/read-again").then_some(())
    });
    let after = dropped(&gateway);
    assert!(after >= lost);
    gateway.still_healthy();
    assert_eq!(dropped(&gateway), after, "nothing is lost any more");
    drop(gateway);
    read.join().expect("a reader that found whole lines");
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_the_process_from_ending() {
    let platform = Platform::echo();
    let mut gateway = unread(&platform);
    flood(&gateway, 3);
    gateway.signal("TERM");
    assert_eq!(gateway.ends(), Some(0));
}

#[test]
fn a_reader_that_has_gone_costs_nothing() {
    let platform = Platform::echo();
    let mut gateway = unread(&platform);
    drop(gateway.stderr());
    traffic(&gateway);
    // Something that the engine would say on its own account, too.
    let mut half = TcpStream::connect(gateway.http()).expect("the gateway listens");
    half.write_all(b"GET / HTTP/1.1\r\nHost").expect("the gateway reads");
    drop(half);
    gateway.still_healthy();
    drop(gateway.stop());
}

#[test]
fn a_reader_that_does_not_read_costs_little_memory_however_long_the_lines() {
    let platform = Platform::echo();
    let gateway = unread(&platform);
    let resident = || gateway.metric("process_resident_memory_bytes", &[]);
    let long = request("GET", &format!("/?{}", "a".repeat(30_000)), &[]);
    let mut client = gateway.client();
    let mut send = |count: usize| (0..count).for_each(|_| assert_eq!(client.exchange(&long).status, 401));
    send(50);
    let before = resident();
    send(5_000);
    let grown = resident() - before;
    assert!(grown < 40e6, "{grown} bytes");
    assert!(gateway.metric("ds_gateway_log_lines_dropped_total", &[]) > 0.0);
    gateway.still_healthy();
}
