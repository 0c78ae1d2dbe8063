//! The cases of the Autobahn suite, the field's own for WebSocket, with kosoku, which runs them without Python 2: through the gateway each has the verdict that it has
//! without it, of a server and of a client.

use super::{installed, is_long, program};
use crate::command::finish_within;
use crate::gateway::Gateway;
use crate::options::Options;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

/// For a family of cases that a busy machine is slow with.
const LONGEST: u64 = 600;

fn autobahn(arguments: &[&str]) -> Command {
    let mut command = Command::new(installed("venv/bin/python"));
    command.arg("-B").arg(program("autobahn.py")).args(arguments);
    command
}

/// A program that listens, ended with this.
struct Listening {
    child: Child,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Listening {
    fn start(what: &str) -> Self {
        let mut child = autobahn(&[what])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a command that starts");
        let mut output = BufReader::new(child.stdout.take().expect("stdout"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let port = line.trim().strip_prefix("listening ").and_then(|port| port.parse().ok());
        Self { child, output, port: port.unwrap_or_else(|| panic!("{line:?}")) }
    }

    fn gateway(&self) -> Gateway {
        Options::servers(&[&format!("http://127.0.0.1:{}", self.port)])
            .public("[\"/open/*\"]")
            .set("routes", "upgrades", "[\"/*\"]")
            .start()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[track_caller]
fn are_equal(direct: &str, through: &str) {
    let different: Vec<_> =
        direct.lines().zip(through.lines()).filter(|(direct, through)| direct != through).collect();
    assert!(different.is_empty(), "without and with the gateway: {different:#?}");
    let count = direct.lines().count();
    assert_eq!(through.lines().count(), count);
    let good = direct.lines().filter(|line| line.contains(" OK OK ")).count();
    assert!(count > 200 && good > count * 9 / 10, "{good} of {count}: {direct}");
    println!("Autobahn: {count} cases have the same verdict, {good} of them OK");
}

#[test]
fn autobahn_finds_a_server_the_same_through_the_gateway() {
    if !is_long() {
        return;
    }
    let echo = Listening::start("echo");
    let gateway = echo.gateway();
    let cases = |url: &str| finish_within(LONGEST, autobahn(&["cases", url]), "").ok();
    let direct = cases(&format!("ws://127.0.0.1:{}/open/echo", echo.port));
    are_equal(&direct, &cases(&format!("ws://{}/open/echo", gateway.http())));
}

#[test]
fn autobahn_finds_a_client_the_same_through_the_gateway() {
    if !is_long() {
        return;
    }
    let verdicts = |is_direct: bool| {
        let mut cases = Listening::start("fuzz");
        let gateway = cases.gateway();
        let (url, token) = (format!("ws://{}", gateway.http()), gateway.mint());
        let direct = format!("ws://127.0.0.1:{}", cases.port);
        let command =
            if is_direct { autobahn(&["client", &direct]) } else { autobahn(&["client", &url, &token]) };
        finish_within(LONGEST, command, "").ok();
        let mut lines = String::new();
        cases.output.read_to_string(&mut lines).expect("its verdicts");
        lines
    };
    are_equal(&verdicts(true), &verdicts(false));
}
