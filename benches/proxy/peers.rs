//! Proxies that others use for this work, each with a configuration that checks HS256 and `exp` of the field
//! `user-token` and forwards with keep-alive. None of them revokes. One only forwards.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::client::Outcome::{Forwarded, RefusedSomehow};
use crate::client::{self, Request, Transport};
use crate::gateway::{Certificate, KEY, Logs};
use crate::process::{self, Running};
use crate::server::{AccessLog, Server};

/// A peer that serves.
pub struct Peer {
    /// As in the table.
    pub name: &'static str,
    /// Whether it looks at the token at all.
    pub checks: bool,
    pub server: Server,
}

/// How one is started.
struct Program<'a> {
    name: &'static str,
    checks: bool,
    path: &'a str,
    /// The last argument, after the others.
    file: &'static str,
    arguments: &'a [&'a str],
    /// What the file has without and with a line for each request.
    log: [&'static str; 2],
}

pub const HAPROXY: &str = "HAProxy jwt_verify";
pub const HAPROXY_FORWARDS: &str = "HAProxy, no check";
pub const NGINX: &str = "nginx + njs";
pub const ENVOY: &str = "Envoy jwt_authn, cached";

/// What they have in common with the gateway that they stand beside.
pub struct Setting<'a> {
    pub platform: SocketAddr,
    pub certificate: &'a Certificate,
    /// To be admitted by each, and two to be refused.
    pub token: &'a str,
    pub forged: &'a str,
    pub expired: &'a str,
    /// Workers of each.
    pub threads: usize,
}

/// Starts them all, and checks what each does with the three tokens.
pub async fn start(folder: &Path, setting: &Setting<'_>, logs: Logs) -> Result<Vec<Peer>> {
    fs::create_dir(folder)?;
    let (envoy, threads) = (envoy()?, setting.threads.to_string());
    let haproxy = |name, checks| Program {
        name,
        checks,
        path: "haproxy",
        file: "haproxy.cfg",
        arguments: &["-f"],
        log: HAPROXY_LOG,
    };
    let nginx = Program {
        name: NGINX,
        checks: true,
        path: "nginx",
        file: "nginx.conf",
        arguments: &["-p", "@FOLDER@", "-c"],
        log: NGINX_LOG,
    };
    let envoy = Program {
        name: ENVOY,
        checks: true,
        path: &envoy,
        file: "envoy.yaml",
        arguments: &[
            "--concurrency",
            &threads,
            "--disable-hot-restart",
            "--log-level",
            "warn",
            "--file-flush-interval-msec",
            "1000",
            "-c",
        ],
        log: ENVOY_LOG,
    };
    let programs = [haproxy(HAPROXY, true), haproxy(HAPROXY_FORWARDS, false), nginx, envoy];
    let mut peers = Vec::new();
    for (number, Program { name, checks, path, file, arguments, log }) in programs.into_iter().enumerate() {
        let folder = folder.join(number.to_string());
        let (http, https) = (process::free_address()?, process::free_address()?);
        fs::create_dir(&folder)?;
        let [quiet, logging] = log;
        let log = if logs == Logs::Requests { logging } else { quiet };
        let check = if checks { HAPROXY_CHECK } else { "" };
        for (file, text) in FILES {
            let text = text.replace("@LOG@", log).replace("@CHECK@", check);
            fs::write(folder.join(file), filled(&text, &folder, http, https, setting))?;
        }
        let Certificate { chain, key } = setting.certificate;
        fs::write(folder.join("both.pem"), [fs::read(chain)?, fs::read(key)?].concat())?;

        let lines = folder.join("access.log");
        let mut command = process::on_proxy_core(path);
        command
            .args(arguments.iter().map(|argument| argument.replace("@FOLDER@", &folder.to_string_lossy())));
        command.arg(folder.join(file));
        command.stderr(fs::File::create(folder.join("log"))?);
        command.stdout(OpenOptions::new().create(true).append(true).open(&lines)?);
        let process = Running::spawn(command)?;
        let access_log =
            (logs == Logs::Requests).then_some(AccessLog { path: lines, marker: "/ds-api/pool/42" });
        let mut server = Server { process, http, https: Some(https), admin: None, access_log };

        for (transport, token, outcome, what) in [
            (Transport::Http, setting.token, Forwarded, "admits the token"),
            (Transport::Https, setting.token, Forwarded, "admits it over TLS"),
            (Transport::Http2, setting.token, Forwarded, "admits it over HTTP/2"),
            (Transport::Http, setting.forged, RefusedSomehow, "refuses a forged one"),
            (Transport::Https, setting.expired, RefusedSomehow, "refuses one that has expired"),
        ] {
            if !checks && outcome != Forwarded {
                continue;
            }
            let (request, address) = (Request::get(Some(token)), server.address(transport)?);
            process::until(&format!("{name} {what}"), async || {
                client::answers(address, transport, &request, outcome).await || server.process.has_ended()
            })
            .await
            .and_then(|()| if server.process.has_ended() { bail!("it ended") } else { Ok(()) })
            .with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
        }
        peers.push(Peer { name, checks, server });
    }
    // Some write their lines a second later; those of the checks are not to be counted.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for log in peers.iter().filter_map(|peer| peer.server.access_log.as_ref()) {
        log.empty()?;
    }
    Ok(peers)
}

/// The path of its binary.
fn envoy() -> Result<String> {
    std::env::var("ENVOY").context("ENVOY, the path of its binary: use `make bench-peers`")
}

const HAPROXY_CHECK: &str = include_str!("peers/haproxy-check.cfg");
const FILES: [(&str, &str); 4] = [
    ("haproxy.cfg", include_str!("peers/haproxy.cfg")),
    ("nginx.conf", include_str!("peers/nginx.conf")),
    ("jwt.js", include_str!("peers/jwt.js")),
    ("envoy.yaml", include_str!("peers/envoy.yaml")),
];

// Without and with a line for each request. HAProxy writes to its standard output, which is a file here.
const HAPROXY_LOG: [&str; 2] = ["", "log stdout format raw local0\n    option httplog"];
const NGINX_LOG: [&str; 2] = ["off", "@FOLDER@/access.log combined buffer=64k flush=1s"];
const ENVOY_LOG: [&str; 2] = [
    "[]",
    r#"[{ name: file, typed_config: { "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: @FOLDER@/access.log } }]"#,
];

/// Names and versions, as the programs say them.
pub fn versions() -> Result<String> {
    let envoy = envoy()?;
    let mut versions = Vec::new();
    // `HAProxy version 2.6.12-1 …`, `nginx version: nginx/1.22.1`, `… version: 0123abc/1.40.0/Clean/…`
    for (name, program, argument, marker) in [
        ("HAProxy", "haproxy", "-v", "version "),
        ("nginx", "nginx", "-v", "nginx/"),
        ("Envoy", envoy.as_str(), "--version", "version: "),
    ] {
        let output = Command::new(program).arg(argument).output()?;
        let text = String::from_utf8([output.stdout, output.stderr].concat())?;
        let said = text.split_once(marker).map(|(_, rest)| rest).unwrap_or_default();
        let word = said.split_whitespace().next().unwrap_or_default();
        versions.push(format!("{name} {}", word.split('/').nth(1).unwrap_or(word)));
    }
    Ok(versions.join(", "))
}

/// What does the handshakes, which differ more than the proxies do.
pub fn tls_libraries() -> Result<String> {
    let mut libraries = vec![format!("ds-gateway {}", openssl::version::version())];
    for (name, program, argument) in [("HAProxy", "haproxy", "-vv"), ("nginx", "nginx", "-V")] {
        let output = Command::new(program).arg(argument).output()?;
        let text = String::from_utf8([output.stdout, output.stderr].concat())?;
        let line =
            text.lines().find(|line| line.to_lowercase().contains("running") && line.contains("OpenSSL"));
        let version = line.and_then(|line| line.rsplit_once("OpenSSL ")).map_or("unknown", |(_, rest)| rest);
        libraries.push(format!("{name} OpenSSL {}", version.trim_end_matches(')')));
    }
    libraries.push("Envoy BoringSSL".to_owned());
    Ok(libraries.join(", "))
}

fn filled(
    text: &str,
    folder: &Path,
    http: SocketAddr,
    https: SocketAddr,
    Setting { platform, certificate, threads, .. }: &Setting<'_>,
) -> String {
    text.replace("@KEY@", KEY)
        .replace("@KEY64@", &URL_SAFE_NO_PAD.encode(KEY))
        .replace("@FOLDER@", &folder.to_string_lossy())
        .replace("@THREADS@", &threads.to_string())
        .replace("@MASTER@", if *threads == 1 { "off" } else { "on" })
        .replace("@CERTIFICATE@", &certificate.chain.to_string_lossy())
        .replace("@CERTIFICATE_KEY@", &certificate.key.to_string_lossy())
        .replace("@HTTP@", &http.to_string())
        .replace("@HTTP_PORT@", &http.port().to_string())
        .replace("@HTTPS@", &https.to_string())
        .replace("@HTTPS_PORT@", &https.port().to_string())
        .replace("@PLATFORM@", &platform.to_string())
        .replace("@PLATFORM_PORT@", &platform.port().to_string())
}
