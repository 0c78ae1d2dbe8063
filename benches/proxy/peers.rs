//! Proxies that others use for this work, each with a configuration that checks HS256 and `exp` of the field
//! `user-token` and forwards with keep-alive, on one thread. None of them revokes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::gateway::KEY;
use crate::load::{self, Outcome};
use crate::process::{self, Running, Server};

/// A peer that serves.
pub struct Peer {
    /// As in the table.
    pub name: &'static str,
    pub server: Server,
}

/// Starts them all, and checks that each admits `token` and refuses `forged`.
pub async fn start(folder: &Path, platform: SocketAddr, token: &str, forged: &str) -> Result<Vec<Peer>> {
    let envoy = std::env::var("ENVOY").context("ENVOY, the path of its binary: use `make bench-peers`")?;
    let files: [(&str, &str); 4] = [
        ("haproxy.cfg", include_str!("peers/haproxy.cfg")),
        ("nginx.conf", include_str!("peers/nginx.conf")),
        ("jwt.js", include_str!("peers/jwt.js")),
        ("envoy.yaml", include_str!("peers/envoy.yaml")),
    ];
    let mut peers = Vec::new();
    for (name, program, file, arguments) in [
        ("HAProxy jwt_verify", "haproxy", "haproxy.cfg", &["-f"][..]),
        ("nginx + njs", "nginx", "nginx.conf", &["-p", "@FOLDER@", "-c"]),
        (
            "Envoy jwt_authn, cached",
            envoy.as_str(),
            "envoy.yaml",
            &["--concurrency", "1", "--log-level", "warn", "-c"],
        ),
    ] {
        let (folder, listen) =
            (folder.join(program.rsplit('/').next().unwrap_or(program)), process::free_address()?);
        fs::create_dir(&folder)?;
        for (file, text) in files {
            fs::write(folder.join(file), filled(text, &folder, listen, platform))?;
        }
        let mut command = process::on_proxy_core(program);
        command
            .args(arguments.iter().map(|argument| argument.replace("@FOLDER@", &folder.to_string_lossy())));
        command.arg(folder.join(file)).stderr(fs::File::create(folder.join("log"))?).stdout(Stdio::null());
        let process = Running::spawn(command)?;
        let answers = async |token: &str, status: u16| {
            let answer = load::exchange(listen, &load::request(Some(token))).await;
            answer.is_ok_and(|answer| answer.status == status)
        };
        process::until(&format!("{name} admits the token"), async || answers(token, 200).await)
            .await
            .with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
        process::until(&format!("{name} refuses a forged one"), async || answers(forged, 401).await).await?;
        peers.push(Peer { name, server: Server { process, http: listen } });
    }
    Ok(peers)
}

/// Their refusals differ in what they say.
pub const REFUSED: Outcome = Outcome::RefusedSomehow;

/// Names and versions, as the programs say them.
pub fn versions() -> Result<String> {
    let envoy = std::env::var("ENVOY").context("ENVOY")?;
    let mut versions = Vec::new();
    // `HAProxy version 2.6.12-1 …`, `nginx version: nginx/1.22.1`, `… version: 0123abc/1.40.0/Clean/…`
    for (name, program, argument, mark) in [
        ("HAProxy", "haproxy", "-v", "version "),
        ("nginx", "nginx", "-v", "nginx/"),
        ("Envoy", envoy.as_str(), "--version", "version: "),
    ] {
        let output = Command::new(program).arg(argument).output()?;
        let text = String::from_utf8([output.stdout, output.stderr].concat())?;
        let said = text.split_once(mark).map(|(_, rest)| rest).unwrap_or_default();
        let word = said.split_whitespace().next().unwrap_or_default();
        versions.push(format!("{name} {}", word.split('/').nth(1).unwrap_or(word)));
    }
    Ok(versions.join(", "))
}

fn filled(text: &str, folder: &Path, listen: SocketAddr, platform: SocketAddr) -> String {
    text.replace("@KEY@", KEY)
        .replace("@KEY64@", &URL_SAFE_NO_PAD.encode(KEY))
        .replace("@FOLDER@", &folder.to_string_lossy())
        .replace("@LISTEN@", &listen.to_string())
        .replace("@PORT@", &listen.port().to_string())
        .replace("@PLATFORM@", &platform.to_string())
        .replace("@PLATFORM_PORT@", &platform.port().to_string())
}
