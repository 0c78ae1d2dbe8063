//! Real servers behind the gateway: none of them is sent what it takes for the endpoint's path, and in none of them is a
//! field of a client what the gateway says.
//!
//! With `REAL_SERVERS=FOLDER`, where `.ci/servers` has installed what comes from PyPI and npm, all of them run (`make servers`),
//! and one that is missing fails the test. Otherwise only HAProxy does, which every run has. Each server is asked twice:
//! without the gateway, where other spellings must mislead it, so that it is known to notice; and behind it, where none may.

mod apache;
mod corpus;
mod haproxy;
mod hosts;
mod lighttpd;
mod nginx;
mod node;
mod php;
mod python;
pub mod running;
#[path = "../../../src/auth/policy/spellings.rs"]
mod spellings;
mod tomcat;

use self::corpus::corpus;
use self::running::{Asker, Server};
use crate::client::Answer;
use crate::contract::ENDPOINT;
use crate::gateway::{Gateway, USER};
use crate::options::Options;
use crate::paths::is_endpoint;
use crate::platform::Platform;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

/// The names that only the gateway may set, those of the identity first.
pub const NAMES: [&str; 17] = [
    "x-ds-user",
    "x-ds-email",
    "x-ds-organization",
    "user-token",
    "authorization",
    "client-ip",
    "forwarded",
    "proxy",
    "remote-user",
    "true-client-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
    "x-http-method-override",
];

/// Starts the servers of one kind.
type Kind = fn() -> Vec<Server>;

const ALL_PATHS: [Kind; 8] = [
    haproxy::paths,
    nginx::paths,
    apache::paths,
    lighttpd::paths,
    php::servers,
    tomcat::servers,
    python::servers,
    node::servers,
];

const ALL_FIELDS: [Kind; 8] = [
    haproxy::fields,
    nginx::fields,
    apache::fields,
    lighttpd::fields,
    php::servers,
    tomcat::servers,
    python::servers,
    node::servers,
];

fn is_long() -> bool {
    std::env::var_os("REAL_SERVERS").is_some()
}

/// What `.ci/servers` has installed.
fn installed(path: &str) -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("REAL_SERVERS").expect("REAL_SERVERS"));
    let path = std::path::absolute(folder.join(path)).expect("a path");
    assert!(path.exists(), "{} is missing: `make servers` installs it", path.display());
    path
}

/// Calls `check` for every server, for two at a time, and prints what it says of each.
fn of_all(kinds: &[Kind; 8], check: impl Fn(&Server) -> Result<String, String> + Sync) {
    let waiting = Mutex::new(kinds.iter().take(if is_long() { kinds.len() } else { 1 }));
    let faults = Mutex::new(Vec::new());
    let work = || {
        while let Some(kind) = { waiting.lock().expect("a lock").next() } {
            for server in kind() {
                match check(&server) {
                    Ok(figures) => eprintln!("{}: {figures}", server.name),
                    Err(fault) => faults.lock().expect("a lock").push(format!("{}: {fault}", server.name)),
                }
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let faults = faults.into_inner().expect("a list");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The address of a server as the gateway's platform, and a token.
fn gateway(server: &Server) -> (Gateway, String) {
    let gateway = Options::servers(&[&format!("http://{}", server.address)]).start();
    let token = gateway.mint();
    (gateway, token)
}

/// "Still healthy", with a platform that is not the tests' own.
#[track_caller]
fn is_still_healthy(gateway: &Gateway) {
    assert_eq!(gateway.admin("/healthz").status, 200);
    assert_eq!(gateway.admin("/readyz").status, 200);
    gateway.mint();
}

fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n");
    if method == "POST" {
        bytes += "Content-Length: 0\r\n";
    }
    for (name, value) in fields {
        bytes += &format!("{name}: {value}\r\n");
    }
    (bytes + "\r\n").into_bytes()
}

/// The route that a server says it took, and the paths that it says it read.
fn readings(answer: &Answer) -> Vec<String> {
    let of_fields = answer.head.fields.iter();
    let of_fields = of_fields.filter(|field| field.0.to_ascii_lowercase().starts_with("x-read-"));
    let mut all: Vec<String> = of_fields.map(|field| field.1.clone()).collect();
    for line in answer.text().split('\n') {
        let reading = line.strip_prefix("read ").and_then(|rest| rest.split_once(' '));
        all.extend(reading.map(|(_, value)| value.to_owned()));
    }
    all
}

/// The reading that is the endpoint, in whatever case, if any is.
fn read_as_endpoint(answer: &Answer) -> Option<String> {
    let of_endpoint = |reading: &String| reading == "endpoint" || is_endpoint(&reading.to_ascii_lowercase());
    readings(answer).into_iter().find(of_endpoint)
}

/// Is it the endpoint's path as published, or below it? The gateway answers that itself, and no server behind it does.
fn is_published(target: &str) -> bool {
    is_endpoint(target.split(['?', '#']).next().unwrap_or_default())
}

/// By turns, since a server may route each of them elsewhere.
fn method(number: usize, target: &str) -> &'static str {
    // A DELETE at the endpoint ends the token.
    if is_published(target) { "GET" } else { ["GET", "POST", "DELETE"][number % 3] }
}

#[test]
fn no_real_server_is_sent_the_endpoint() {
    let targets = if is_long() { corpus(1_500) } else { corpus(300).into_iter().step_by(8).collect() };
    let goes_on = what_goes_on(&targets);
    assert!(goes_on.len() > 100, "{} go on", goes_on.len());
    of_all(&ALL_PATHS, |server| check_paths(server, &targets, &goes_on));
}

/// The targets that the gateway forwards, by their numbers: as they were sent, up to a `#`. It answers all others itself.
fn what_goes_on(targets: &[String]) -> Vec<usize> {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let mut asker = Asker::new(gateway.http());
    let mut goes_on = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let method = method(number, target);
        let request = request(method, target, &[("user-token", &token)]);
        let answer = asker.ask(method, &request).expect("an answer of the gateway");
        match answer.status {
            200 if answer.values("x-platform") == ["yes"] => {
                let sent = target.split('#').next().expect("a part");
                let seen: String = answer.json()["target"].as_str().expect("a target").chars().collect();
                let sent: String = sent.bytes().map(char::from).collect();
                assert_eq!(seen, sent, "{target}");
                goes_on.push(number);
            }
            _ if is_published(target) => {}
            status => {
                assert!(matches!(status, 400 | 404), "{method} {target}: {status}");
                answer.is_error(status);
            }
        }
    }
    assert_eq!(platform.requests().len(), goes_on.len());
    gateway.still_healthy();
    goes_on
}

fn check_paths(server: &Server, targets: &[String], goes_on: &[usize]) -> Result<String, String> {
    let mut asker = Asker::new(server.address);
    for target in [ENDPOINT, server.naive] {
        let answer = asker.ask("GET", &request("GET", target, &[])).ok_or("no answer")?;
        if read_as_endpoint(&answer).is_none() {
            return Err(format!("does not take {target} for the endpoint: {answer:?} {}", answer.text()));
        }
    }
    let (mut statuses, mut routed, mut read) = (Vec::new(), 0, 0);
    for (number, target) in targets.iter().enumerate() {
        let method = method(number, target);
        let answer = asker.ask(method, &request(method, target, &[]));
        statuses.push(answer.as_ref().map(|answer| answer.status));
        if let Some(answer) = answer.filter(|_| !is_published(target)) {
            read += usize::from(read_as_endpoint(&answer).is_some());
            routed += usize::from(readings(&answer).iter().any(|reading| reading == "endpoint"));
        }
    }

    let (gateway, token) = gateway(server);
    let mut asker = Asker::new(gateway.http());
    let (mut faults, mut told) = (Vec::new(), 0);
    for &number in goes_on {
        let target = &targets[number];
        let method = method(number, target);
        let Some(answer) = asker.ask(method, &request(method, target, &[("user-token", &token)])) else {
            faults.push(format!("{target:?}: the gateway closed without an answer"));
            continue;
        };
        told += usize::from(!readings(&answer).is_empty());
        if let Some(reading) = read_as_endpoint(&answer) {
            faults.push(format!("{method} {target:?} went on and was read as {reading:?}"));
        }
        // What says nothing of the path is the server's own answer; where it closes without one, the gateway has to say so.
        let expected = statuses[number].unwrap_or(502);
        if matches!(answer.status, 401 | 403 | 429 | 500..) && answer.status != expected {
            faults.push(format!("{method} {target:?}: {} {}", answer.status, answer.text()));
        }
    }
    if told < goes_on.len() / 4 {
        faults.push(format!("the server says of only {told} how it read them"));
    }
    is_still_healthy(&gateway);
    let figures = format!(
        "of {} spellings {routed} routed to the endpoint without the gateway, {read} read as it; {} went on, {told} of them answered",
        targets.len(),
        goes_on.len(),
    );
    if faults.is_empty() { Ok(figures) } else { Err(format!("{figures}\n  {}", faults.join("\n  "))) }
}

/// Ways to write a name that one reader or another takes for the same.
fn spellings_of(name: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([name.to_owned(), name.to_uppercase()]);
    // What a field's name may hold (RFC 9110 §5.6.2) besides letters and digits.
    for other in "!#$%&'*+-.^_`|~".chars().map(String::from) {
        all.insert(name.replace('-', &other));
        all.insert(name.replacen('-', &other, 1));
        all.insert(name.to_uppercase().replace('-', &other));
    }
    all
}

/// The values that an application finds under the name, as CGI's variable or as a field.
fn values_of(answer: &Answer, name: &str) -> Vec<String> {
    let variable = format!("HTTP_{}", name.to_uppercase().replace('-', "_"));
    let text = answer.text();
    let pairs = text.lines().filter_map(|line| line.split_once([':', '=']));
    let named = pairs.filter(|(key, _)| *key == variable || key.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
}

#[test]
fn no_real_server_has_a_clients_field_for_the_gateways() {
    of_all(&ALL_FIELDS, check_fields);
}

fn check_fields(server: &Server) -> Result<String, String> {
    let mut asker = Asker::new(server.address);
    let (gateway, token) = gateway(server);
    let mut behind = Asker::new(gateway.http());
    let (mut faults, mut fooled, mut sent, mut refused) = (Vec::new(), 0, 0, 0);
    for name in NAMES {
        let mut is_alive = false;
        for spelling in spellings_of(name) {
            sent += 1;
            let direct = asker.ask("GET", &request("GET", "/fields", &[(&spelling, "canary")]));
            let is_read =
                direct.is_some_and(|answer| values_of(&answer, name).contains(&"canary".to_owned()));
            is_alive |= is_read;
            fooled += usize::from(is_read && !spelling.eq_ignore_ascii_case(name));

            let fields =
                [("user-token", token.as_str()), (&spelling, "canary"), (&spelling, "canary, canary")];
            let Some(answer) = behind.ask("GET", &request("GET", "/fields", &fields)) else {
                faults.push(format!("{spelling}: the gateway closed without an answer"));
                continue;
            };
            let is_refusal = matches!(name, "user-token" | "x-http-method-override");
            if is_refusal && matches!(answer.status, 400 | 401) {
                refused += 1;
                continue;
            }
            if answer.status != 200 || answer.text().contains("canary") {
                faults.push(format!("{spelling}: {} {}", answer.status, answer.text()));
            }
            for (of_gateway, value) in [("x-ds-user", USER), ("user-token", &token)] {
                let found = values_of(&answer, of_gateway);
                if found.is_empty() || found.iter().any(|found| found != value) {
                    faults.push(format!("{spelling}: {of_gateway} is {found:?}"));
                }
            }
        }
        if is_alive == HIDDEN.contains(&(server.name, name)) {
            faults.push(format!("{name}: seen without the gateway: {is_alive}"));
        }
    }
    is_still_healthy(&gateway);
    let figures =
        format!("of {sent} spellings {fooled} read as another name without the gateway; {refused} refused");
    if faults.is_empty() { Ok(figures) } else { Err(format!("{figures}\n  {}", faults.join("\n  "))) }
}

/// What a server hides from applications, no matter who sent it.
const HIDDEN: [(&str, &str); 4] = [
    ("Apache, CGI", "authorization"),
    ("Apache, CGI", "proxy"),
    ("lighttpd, CGI", "proxy"),
    ("lighttpd header-strict off, CGI", "proxy"),
];
