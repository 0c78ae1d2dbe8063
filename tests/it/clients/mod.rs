//! Clients in the field, the real programs and libraries: each mints a token, calls with it and without it, sends a little by every method, uploads, and is refused
//! once the token is revoked, by way of its own interface.
//!
//! With `REAL_CLIENTS=FOLDER`, where `.ci/clients` has installed what comes from PyPI and what is compiled, all of them run (`make clients`), and one
//! that is missing fails the test. Otherwise only curl and HAProxy do, which every run has.

mod autobahn;
mod balancers;
mod browser;

use crate::command::{finish_within, within};
use crate::contract::ENDPOINT;
use crate::curl::{BOTH, Protocol, curl};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::http2::token_field;
use crate::options::{Options, has_fast_lane};
use crate::platform::Platform;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn is_long() -> bool {
    std::env::var_os("REAL_CLIENTS").is_some()
}

/// What `.ci/clients` has installed.
fn installed(path: &str) -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("REAL_CLIENTS").expect("REAL_CLIENTS"));
    let path = std::path::absolute(folder.join(path)).expect("a path");
    assert!(path.exists(), "{} is missing: `make clients` installs it", path.display());
    path
}

/// A program beside the tests.
fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name)
}

/// What every client does, and how it is answered.
const STEPS: [(&str, u16); 11] = [
    ("mint", 201),
    ("call", 200),
    ("without", 401),
    ("HEAD", 200),
    ("POST", 200),
    ("PUT", 200),
    ("PATCH", 200),
    ("DELETE", 200),
    ("upload", 200),
    ("revoke", 204),
    ("after", 401),
];

/// Those that the fast lane takes, whatever the client: between `mint` and `upload`, but for `without`, which it answers over HTTP/1.1 alone.
const PLAIN: f64 = 6.0;

/// What may be left to the engine: the token endpoint, and a body that is long, in chunks or behind a `100 Continue`.
const DECLINED: [&str; 3] = ["local", "body", "field"];

/// The size of the body that a client uploads.
const UPLOADED: usize = 100_000;

/// The body of the small ones.
const SMALL: &str = r#"{"name":"a"}"#;

/// A step as a client tells of it.
struct Told {
    step: String,
    status: u16,
    /// `WWW-Authenticate`
    challenge: String,
}

/// The lines that the programs print: the step, the status, and the challenge if they were told one.
fn read(lines: &str) -> Vec<Told> {
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (step, status) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        Some(Told { step, status, challenge: words.next().unwrap_or_default().to_owned() })
    };
    lines.lines().filter_map(line).collect()
}

/// Checks what a client tells, and what reached the platform.
fn check(name: &str, told: &[Told], platform: &Platform) -> Result<(), String> {
    let statuses: Vec<(&str, u16)> = told.iter().map(|told| (told.step.as_str(), told.status)).collect();
    if statuses != STEPS {
        return Err(format!("{name}: {statuses:?}"));
    }
    for Told { step, status, challenge } in told {
        // A browser, and some clients, would ask for a password for the whole site.
        let is_ours = challenge.contains("realm=") && !challenge.to_ascii_lowercase().contains("basic");
        let is_right = match step.as_str() {
            "without" => is_ours && !challenge.contains("error="),
            "after" => is_ours && challenge.contains("error=\"invalid_token\""),
            _ => challenge.is_empty(),
        };
        if !is_right {
            return Err(format!("{name}: {step} {status} with the challenge {challenge:?}"));
        }
    }
    let seen = platform.requests();
    let targets: Vec<&str> = seen.iter().map(|seen| seen.target.as_str()).collect();
    let small = "/ds-api/small";
    if targets != ["/ds-api/agents?x=1", small, small, small, small, small, "/ds-api/upload"] {
        return Err(format!("{name}: the platform saw {targets:?}"));
    }
    match seen.iter().find(|seen| seen.body.len() == UPLOADED && seen.values("x-ds-user") == [USER]) {
        Some(_) => Ok(()),
        None => Err(format!("{name}: the upload did not arrive: {seen:?}")),
    }
}

/// Where a client finds the gateway.
struct Place {
    base: String,
    /// The gateway's certificate, for TLS.
    ca: PathBuf,
}

/// Checks that plain requests are taken by the fast lane, and others left to the engine for no reason but their own.
fn check_lane(name: &str, gateway: &Gateway) -> Result<(), String> {
    if !has_fast_lane() {
        return Ok(());
    }
    let counted = |label: &str| gateway.metric("ds_gateway_fast_lane_requests_total", &[label]);
    let taken = counted("result=\"taken\"");
    let known: f64 = DECLINED.iter().map(|reason| counted(&format!("result=\"{reason}\""))).sum();
    let unknown = counted("") - taken - known;
    if taken >= PLAIN && unknown == 0.0 {
        return Ok(());
    }
    let scrape = gateway.admin("/metrics").text();
    let lines =
        scrape.lines().filter(|line| line.starts_with("ds_gateway_fast_lane") && !line.ends_with(" 0"));
    Err(format!("{name}: {}", lines.collect::<Vec<_>>().join(", ")))
}

/// Has a client do all steps, at a gateway of its own, in the clear and with TLS.
fn of_client(name: &str, run: impl Fn(&Place) -> Vec<Told>) -> Result<(), String> {
    for is_tls in [false, true] {
        let platform = Platform::echo();
        let gateway = Options::new(&platform).https().start();
        let base = if is_tls {
            format!("https://{}", gateway.https())
        } else {
            format!("http://{}", gateway.http())
        };
        let told = run(&Place { base: base.clone(), ca: certificate(&gateway) });
        let name = format!("{name} at {base}");
        check(&name, &told, &platform)?;
        check_lane(&name, &gateway)?;
        gateway.still_healthy();
    }
    Ok(())
}

/// The certificate that the gateway has made for itself.
fn certificate(gateway: &Gateway) -> PathBuf {
    let found = fs::read_dir(gateway.folder.state().join("tls")).expect("a folder").flatten();
    let mut found =
        found.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|name| name == "crt"));
    found.next().expect("a certificate")
}

/// Runs a program to its end: a Java machine, or Go's compiler, takes its time on a machine that is busy.
#[track_caller]
fn output(mut command: Command, place: &Place) -> Vec<Told> {
    command.arg(&place.base).arg(&place.ca).args([USER, PASSWORD]);
    command.env("NODE_EXTRA_CA_CERTS", &place.ca);
    let done = finish_within(120, command, "");
    if done.code != Some(0) {
        eprintln!("{done:?}");
    }
    read(&done.stdout)
}

/// A client by its name, and how it does all steps.
type Client = (String, Box<dyn Fn(&Place) -> Vec<Told>>);

#[track_caller]
fn all_do(clients: &[Client]) {
    let faults: Vec<String> = clients.iter().filter_map(|(name, run)| of_client(name, run).err()).collect();
    assert!(faults.is_empty(), "{} of {} clients:\n{}", faults.len(), clients.len(), faults.join("\n"));
}

/// A client that is a program of the tests with its first arguments.
fn by_program(name: &str, program: PathBuf, arguments: &[&str]) -> Client {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move |place: &Place| {
        let mut command = Command::new(&program);
        command.args(&arguments);
        output(command, place)
    };
    (name.to_owned(), Box::new(run))
}

#[test]
fn curl_is_served() {
    for protocol in BOTH {
        let answered = of_client(&format!("curl {protocol:?}"), |place| with_curl(protocol, place));
        assert_eq!(answered, Ok(()));
    }
}

/// In the clear it speaks HTTP/1.1, and offers HTTP/2 by `Upgrade` if it is told to.
fn with_curl(protocol: Protocol, place: &Place) -> Vec<Told> {
    let is_tls = place.base.starts_with("https");
    let body = "b".repeat(UPLOADED);
    let account = format!("{USER}:{PASSWORD}");
    let fetch = |step: &str, target: &str, arguments: &[&str], input: &str| {
        let url = format!("{}{target}", place.base);
        let offered = if protocol == Protocol::Http2 { &["--http2"][..] } else { &["--http1.1"] };
        let answer = match is_tls {
            true => curl(protocol, &url, arguments, input),
            false => crate::curl::curl_any(&[offered, arguments].concat(), &url, input),
        };
        let challenge = answer.values("www-authenticate").join(", ");
        let status = u16::try_from(answer.status).expect("a status");
        (Told { step: step.to_owned(), status, challenge }, answer.body)
    };
    let (minted, answer) = fetch("mint", ENDPOINT, &["-u", &account, "-X", "POST"], "");
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    let token = token_field(answer["user-token"].as_str().unwrap_or_default());
    let with = ["-H", token.as_str()];
    let small = |method: &'static str| {
        let body = ["-X", method, "-H", "Content-Type: application/json", "-d", SMALL];
        (method, "/ds-api/small", [&with[..], &body].concat(), "")
    };
    let rest = [
        ("call", "/ds-api/agents?x=1", with.to_vec(), ""),
        ("without", "/ds-api/agents?x=2", vec![], ""),
        ("HEAD", "/ds-api/small", [&with[..], &["-I"]].concat(), ""),
        small("POST"),
        small("PUT"),
        small("PATCH"),
        ("DELETE", "/ds-api/small", [&with[..], &["-X", "DELETE"]].concat(), ""),
        ("upload", "/ds-api/upload", [&with[..], &["-H", "Expect: 100-continue", "-T", "-"]].concat(), &body),
        ("revoke", ENDPOINT, [&with[..], &["-X", "DELETE"]].concat(), ""),
        ("after", "/ds-api/agents?x=3", with.to_vec(), ""),
    ];
    let rest =
        rest.into_iter().map(|(step, target, arguments, input)| fetch(step, target, &arguments, input).0);
    [minted].into_iter().chain(rest).collect()
}

#[test]
fn clients_of_java_are_served() {
    if !is_long() {
        return;
    }
    let jars = ["httpclient5", "httpcore5", "httpcore5-h2", "slf4j-api"]
        .map(|jar| format!("/usr/share/java/{jar}.jar"));
    for jar in &jars {
        assert!(Path::new(jar).exists(), "{jar}, which `make clients` installs");
    }
    let path = jars.join(":");
    let (net, apache) = (program("JavaNet.java"), program("ApacheClient.java"));
    let (net, apache) = (net.to_str().expect("a path"), apache.to_str().expect("a path"));
    all_do(&[
        by_program("Java HttpClient, HTTP/2", "java".into(), &["-Xmx128m", net, "HTTP_2"]),
        by_program("Java HttpClient, HTTP/1.1", "java".into(), &["-Xmx128m", net, "HTTP_1_1"]),
        by_program("Apache HttpClient 5", "java".into(), &["-Xmx128m", "-cp", &path, apache]),
    ]);
}

#[test]
fn clients_of_python_are_served() {
    if !is_long() {
        return;
    }
    let (python, calls) = (installed("venv/bin/python"), program("calls.py"));
    let calls = calls.to_str().expect("a path");
    let of_kind = |kind| by_program(&format!("Python {kind}"), python.clone(), &["-B", calls, kind]);
    all_do(&["urllib", "http.client", "requests", "httpx", "httpx-http2"].map(of_kind));
}

#[test]
fn clients_of_node_are_served() {
    if !is_long() {
        return;
    }
    let calls = program("calls.js");
    let calls = calls.to_str().expect("a path");
    let of_kind = |kind| by_program(&format!("Node {kind}"), "node".into(), &[calls, kind]);
    all_do(&["fetch", "http"].map(of_kind));
    // It speaks HTTP/2 with prior knowledge, which the gateway has with TLS only.
    let (name, run) = of_kind("http2");
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let place = Place { base: format!("https://{}", gateway.https()), ca: certificate(&gateway) };
    assert_eq!(check(&name, &run(&place), &platform), Ok(()));
    gateway.still_healthy();
}

#[test]
fn clients_of_go_are_served() {
    if !is_long() {
        return;
    }
    all_do(&[by_program("Go net/http", installed("calls"), &[])]);
}

/// It speaks HTTP/1.0, and keeps a connection only if it asked for that and the answer has a length.
#[test]
fn apache_bench_is_served() {
    if !is_long() {
        return;
    }
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let token = gateway.mint();
    let bases = [format!("http://{}", gateway.http()), format!("https://{}", gateway.https())];
    let ab = |base: &str, target: &str, arguments: &[&str]| {
        let mut command = Command::new("ab");
        command
            .args(["-q", "-n", "200", "-c", "4", "-s", "60"])
            .args(arguments)
            .arg(format!("{base}{target}"));
        let done = finish_within(300, command, "");
        assert_eq!(done.code, Some(0), "{done:?}");
        let figure = |name: &str| {
            let line = done.stdout.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().filter_map(|word| word.parse::<u32>().ok()).next()
        };
        let names = ["Complete requests:", "Failed requests:", "Non-2xx responses:", "Keep-Alive requests:"];
        names.map(|name| figure(name).unwrap_or_default())
    };
    let account = format!("{USER}:{PASSWORD}");
    let with = token_field(&token);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let body = folder.path().join("body");
    fs::write(&body, vec![b'b'; UPLOADED]).expect("a file");
    let body = body.to_str().expect("a path");
    for base in &bases {
        for (kept, keep) in [(0, &[][..]), (200, &["-k"])] {
            let asked = |target: &str, arguments: &[&str]| ab(base, target, &[keep, arguments].concat());
            // The lengths of answers differ by the port that they quote, which it takes for a failure unless told.
            assert_eq!(
                asked("/ds-api/agents", &["-l", "-H", &with]),
                [200, 0, 0, kept],
                "{base} with a token"
            );
            assert_eq!(asked("/ds-api/agents", &["-l"]), [200, 0, 200, kept], "{base} without");
            assert_eq!(
                asked("/ds-api/upload", &["-l", "-H", &with, "-u", body]),
                [200, 0, 0, kept],
                "{base} uploads"
            );
        }
        // A password for which no thread had time is refused, and asked again.
        let minted = within(60, || {
            let figures = ab(base, ENDPOINT, &["-n", "4", "-c", "1", "-l", "-A", &account, "-m", "POST"]);
            (figures[..3] == [4, 0, 0]).then_some(())
        });
        assert!(minted.is_some(), "{base} mints");
    }
    let fields = [("user-token", token.as_str())];
    assert_eq!(gateway.exchange(crate::client::request("DELETE", ENDPOINT, &fields)).status, 204);
    assert_eq!(
        ab(&bases[0], "/ds-api/agents", &["-k", "-l", "-H", &with]),
        [200, 0, 200, 200],
        "after the revocation"
    );
    gateway.still_healthy();
}
