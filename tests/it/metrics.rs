//! The series that an operator was promised: all of them, from the start, well-formed, bounded, and true.

use crate::client::{basic, request, request_with};
use crate::command::{binary, eventually, finish, in_time};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt;
use crate::options::{Key, Options, User};
use crate::platform::{Behaviour, Platform};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};

/// Every name of ours; histograms by the name of their family.
const NAMES: [&str; 35] = [
    "ds_gateway_config_last_reload_successful",
    "ds_gateway_config_last_reload_success_timestamp_seconds",
    "ds_gateway_config_settings_awaiting_restart",
    "ds_gateway_requests_total",
    "ds_gateway_decisions_total",
    "ds_gateway_would_refuse_total",
    "ds_gateway_observe_until_timestamp_seconds",
    "ds_gateway_token_requests_total",
    "ds_gateway_body_bytes_total",
    "ds_gateway_platform_faults_total",
    "ds_gateway_platform_tries_total",
    "ds_gateway_platform_tries_failed_total",
    "ds_gateway_platform_addresses",
    "ds_gateway_platform_retries_total",
    "ds_gateway_store_commit_errors_total",
    "ds_gateway_log_lines_dropped_total",
    "ds_gateway_request_duration_seconds",
    "ds_gateway_platform_duration_seconds",
    "ds_gateway_login_duration_seconds",
    "ds_gateway_store_commit_duration_seconds",
    "ds_gateway_in_flight_requests",
    "ds_gateway_requests_ended_total",
    "ds_gateway_connections",
    "ds_gateway_login_queue_length",
    "ds_gateway_logins_total",
    "ds_gateway_store_number",
    "ds_gateway_sequence_waits_total",
    "ds_gateway_store_feed_age_seconds",
    "ds_gateway_store_stale",
    "ds_gateway_users",
    "ds_gateway_keys",
    "ds_gateway_certificate_not_after_timestamp_seconds",
    "ds_gateway_build_info",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

fn lines(gateway: &Gateway) -> Vec<String> {
    gateway.admin("/metrics").text().lines().map(str::to_owned).collect()
}

/// Names and labels, without their values.
fn series(gateway: &Gateway) -> BTreeSet<String> {
    let samples = lines(gateway).into_iter().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series.to_owned())).collect()
}

#[test]
fn promtool_has_nothing_to_say() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    gateway.still_healthy();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]);
    let done = finish(command, &gateway.admin("/metrics").text());
    assert_eq!((done.code, done.stdout.trim(), done.stderr.trim()), (Some(0), "", ""));
}

#[test]
fn every_series_is_there_from_the_start_and_none_is_added_by_what_clients_send() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().public("[\"/public/*\"]").start();
    let before = series(&gateway);
    let text = lines(&gateway);
    for name in NAMES {
        assert!(text.iter().any(|line| line.starts_with(&format!("# HELP {name} "))), "{name} has no help");
        let prefixes = [format!("{name} "), format!("{name}{{"), format!("{name}_bucket{{")];
        let found = text.iter().any(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)));
        assert!(found, "{name} has no sample");
    }
    let paper = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let paper = fs::read_to_string(paper).expect("the operations page");
    for line in text.iter().filter_map(|line| line.strip_prefix("# TYPE ds_gateway_")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(paper.contains(&format!("`ds_gateway_{name}")), "{name} is not in docs/operations.md");
    }
    gateway.still_healthy();
    for number in 0..50 {
        let target = format!("/number/{number}");
        let password = format!("password-{number}");
        let user = format!("user-{number}");
        let method = ["GET", "POST", "PATCH", "PROPFIND", "X-NUMBER"][number % 5];
        gateway.exchange(request(method, &target, &[("user-token", &user)]));
        gateway.exchange(request("GET", &format!("/public{target}"), &[]));
        if number % 10 == 0 {
            gateway.log_in(&user, &password);
        }
    }
    let added: Vec<String> = series(&gateway).difference(&before).cloned().collect();
    assert!(added.is_empty(), "{added:?}");
}

#[test]
fn what_is_counted_is_what_happened() {
    let platform = Platform::start(Behaviour::Mirror { chunked: false });
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let token = gateway.mint();
    let count = |name: &str| gateway.metric(&format!("ds_gateway_{name}"), &[]);
    let bytes = |direction: &str| gateway.metric("ds_gateway_body_bytes_total", &[direction]);
    let names = [
        "platform_duration_seconds_count",
        "login_duration_seconds_count",
        "store_commit_duration_seconds_count",
        "request_duration_seconds_count",
    ];
    let step = |act: &dyn Fn(), grown: [f64; 4], received: f64, sent: Option<f64>| {
        let before = (names.map(count), bytes("received"), bytes("sent"));
        act();
        let wanted = (grown, received, sent);
        let mut last = None;
        let settled = in_time(|| {
            let counts = names.map(count);
            let mut grown: [f64; 4] = std::array::from_fn(|at| counts[at] - before.0[at]);
            // Heartbeats and upkeep are committed too, whenever they are due.
            grown[2] = grown[2].min(wanted.0[2]);
            let sent = sent.map(|_| bytes("sent") - before.2);
            last = Some((grown, bytes("received") - before.1, sent));
            (last == Some(wanted)).then_some(())
        });
        assert!(settled.is_some(), "{last:?} instead of {wanted:?}");
    };
    let put = |token: &str, size: usize| {
        gateway.exchange(request_with("PUT", "/x", &[("user-token", token)], &vec![b'x'; size]));
    };
    step(&|| put(&token, 12_345), [1.0, 0.0, 0.0, 1.0], 12_345.0, Some(12_345.0));
    step(&|| drop(gateway.exchange(request("GET", "/public/x", &[]))), [1.0, 0.0, 0.0, 1.0], 0.0, Some(0.0));
    // A small refused body is read, and counts as received.
    step(&|| put("x", 1_000), [0.0, 0.0, 0.0, 1.0], 1_000.0, None);
    step(&|| drop(gateway.login(USER, "wrong")), [0.0, 1.0, 0.0, 1.0], 0.0, None);
    step(&|| drop(gateway.mint()), [0.0, 1.0, 1.0, 1.0], 0.0, None);
    let inspect = request(
        "GET",
        &format!("/ds-api/user-token?token={token}"),
        &[("Authorization", &basic(USER, PASSWORD))],
    );
    step(&|| drop(gateway.exchange(&inspect)), [0.0, 1.0, 0.0, 1.0], 0.0, None);
    let sums = ["platform", "login", "store_commit", "request"];
    for name in sums.map(|name| format!("{name}_duration_seconds_sum")) {
        assert!(count(&name) > 0.0, "{name}");
    }
    // A password costs tens of milliseconds wherever this runs.
    assert!(count("login_duration_seconds_sum") / count("login_duration_seconds_count") > 0.005);
    assert_eq!(gateway.metric("ds_gateway_login_duration_seconds_bucket", &["le=\"0.0025\""]), 0.0);
}

#[test]
fn levels_go_up_and_come_down_again() {
    let (go_on, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let platform = Platform::start(Behaviour::Custom(Arc::new(move |_, _| {
        told.lock().expect("a lock").recv().ok();
        Ok(())
    })));
    let gateway = Options::new(&platform).set("limits", "login_workers", "1").start();
    let token = gateway.mint();
    let level = |name: &str| gateway.metric(&format!("ds_gateway_{name}"), &[]);
    let becomes = |name: &str, value: f64| {
        eventually(&format!("{name} to be {value}"), || (level(name) == value).then_some(()));
    };
    becomes("connections", 0.0);
    becomes("in_flight_requests", 0.0);
    let mut clients: Vec<_> = (0..5).map(|_| gateway.client()).collect();
    becomes("connections", 5.0);
    for client in &mut clients[..3] {
        client.send(request("GET", "/held", &[("user-token", &token)]));
    }
    becomes("in_flight_requests", 3.0);
    drop(go_on);
    for client in &mut clients[..3] {
        drop(client.answer());
    }
    becomes("in_flight_requests", 0.0);
    drop(clients);
    becomes("connections", 0.0);

    let mut clients: Vec<_> = (0..15).map(|_| gateway.client()).collect();
    let wrong = basic(USER, "wrong");
    for client in &mut clients {
        client.send(request("POST", "/ds-api/user-token", &[("Authorization", &wrong)]));
    }
    eventually("logins that wait", || (level("login_queue_length") > 1.0).then_some(()));
    for client in &mut clients {
        drop(client.answer());
    }
    becomes("login_queue_length", 0.0);
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn what_is_read_at_a_scrape_is_true() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().key(Key::ours("k1")).key(Key::foreign("k2")).start();
    let value = |name: &str, labels: &[&str]| gateway.metric(&format!("ds_gateway_{name}"), labels);
    eventually("one user", || (value("users", &[]) == 1.0).then_some(()));
    gateway.folder.add(&User::new("another", "pw", EMAIL, ORGANIZATION));
    eventually("two users", || (value("users", &[]) == 2.0).then_some(()));
    gateway.folder.cli(&["user", "disable", "another"], "").ok();
    eventually("one enabled user", || (value("users", &[]) == 1.0).then_some(()));
    assert_eq!((value("keys", &["signing"]), value("keys", &["verifying"])), (1.0, 1.0));
    assert_eq!((value("store_stale", &[]), value("log_lines_dropped_total", &[])), (0.0, 0.0));
    assert!((0.0..5.0).contains(&value("store_feed_age_seconds", &[])));
    let number = value("store_number", &[]);
    let (_, claims) = jwt::read(&gateway.mint());
    eventually("the number of the mint", || (value("store_number", &[]) == number + 1.0).then_some(()));
    assert_eq!(
        claims["jti"].as_str().and_then(|jti| jti.split('.').next()),
        Some((number + 1.0).to_string().as_str())
    );

    let mut command = Command::new("bash");
    let certificate = gateway.folder.state().join("tls/self-signed.crt");
    let script = "date +%s -d \"$(openssl x509 -noout -enddate -in \"$0\" | cut -d= -f2)\"";
    command.args(["-c", script]).arg(certificate);
    let end: f64 = finish(command, "").ok().trim().parse().expect("a number");
    assert_eq!(value("certificate_not_after_timestamp_seconds", &[]), end);
    assert_eq!(value("build_info", &["version=\"", "commit=\"", "profile=\""]), 1.0);
}

#[test]
fn the_version_says_what_was_built_and_completions_complete() {
    let run = |arguments: &[&str]| {
        let mut command = binary();
        command.args(arguments);
        finish(command, "")
    };
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let version = run(&["--version"]).ok();
    let info = lines(&gateway)
        .into_iter()
        .find(|line| line.starts_with("ds_gateway_build_info{"))
        .expect("a sample");
    for label in ["version", "commit", "profile"] {
        let value = info.split(&format!("{label}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        assert!(
            value.is_some_and(|value| !value.is_empty() && version.contains(value)),
            "{label}: {info} {version}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).ok();
        for word in ["user", "token", "explain", "audit", "--config"] {
            assert!(script.contains(word.trim_start_matches('-')), "{word} in {shell}");
        }
    }
    let mut bash = Command::new("bash");
    bash.args(["-n", "-c", &run(&["completions", "bash"]).ok()]);
    finish(bash, "").ok();
    assert_eq!(run(&["completions", "ksh88"]).code, Some(64));
    assert!(run(&["--help"]).ok().contains("64"), "the help teaches the exit codes");
}
