//! The first minutes of a newcomer: what the demo prints is pasted line by line.

use crate::command::{DEADLINE, binary, eventually, finish};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use tempfile::TempDir;

/// A demo whose files are in a folder with a name that a shell would take apart.
struct Demo {
    child: Child,
    dir: TempDir,
    /// What it printed up to its last command, and what it prints after that.
    printed: Vec<String>,
    lines: Receiver<String>,
}

impl Demo {
    fn start(
        stderr: impl Into<Stdio>,
        stdout: impl Into<Stdio>,
        read: impl FnOnce(&mut Child) -> BufReader<Box<dyn std::io::Read + Send>>,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("a folder's name ").tempdir().expect("a temporary folder");
        let mut child = binary()
            .args(["demo", "--port", "0"])
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("the demo starts");
        let output = read(&mut child);
        let (said, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        let mut printed: Vec<String> = Vec::new();
        while !printed.last().is_some_and(|line| is_command(line) && line.ends_with("/metrics")) {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) => printed.push(line),
                Err(error) => {
                    drop(child.kill());
                    panic!("{error} after {printed:#?}");
                }
            }
        }
        Self { child, dir, printed, lines }
    }

    /// With its answer alone.
    fn answer() -> Self {
        let stdout = |child: &mut Child| -> BufReader<Box<dyn std::io::Read + Send>> {
            let stdout: ChildStdout = child.stdout.take().expect("stdout");
            BufReader::new(Box::new(stdout))
        };
        Self::start(Stdio::null(), Stdio::piped(), stdout)
    }

    fn commands(&self) -> Vec<String> {
        self.printed.iter().filter(|line| is_command(line)).map(|line| line.trim().to_owned()).collect()
    }

    /// Ends it as Ctrl-C does. Nothing of it is left.
    fn end(mut self) -> Vec<String> {
        let mut kill = Command::new("kill");
        kill.args(["-INT", &self.child.id().to_string()]);
        finish(kill, "").ok();
        let status = eventually("the demo to end", || self.child.try_wait().expect("a child"));
        assert!(status.success() || status.code().is_none(), "{status}");
        let left: Vec<_> =
            fs::read_dir(self.dir.path()).expect("a folder").flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
        self.lines.iter().collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Commands are indented, and nothing else is.
fn is_command(line: &str) -> bool {
    line.starts_with("    ")
}

#[test]
fn the_lines_that_the_demo_prints_work_when_pasted_and_nothing_is_left_of_it() {
    // Only bash is everywhere.
    for (shell, code) in [("bash", "$?"), ("zsh", "$?"), ("fish", "$status")] {
        if shell == "bash" || Command::new(shell).arg("--version").output().is_ok() {
            pasted_into(shell, code);
        }
    }
}

fn pasted_into(shell: &str, code: &str) {
    let demo = Demo::answer();
    assert!(
        fs::read_dir(demo.dir.path()).expect("a folder").count() > 0,
        "the demo keeps its files in the temporary folder"
    );
    let commands = demo.commands();
    assert!(commands.len() >= 12, "{:#?}", demo.printed);
    let mut script = String::new();
    for line in &commands {
        script += &format!("{line}\nprintf '\\n[%s]\\n' {code}\n");
    }
    let mut command = Command::new(shell);
    command.args(["-c", &script]);
    let output = finish(command, "").ok();
    let succeeded = output.matches("[0]").count();
    assert_eq!(succeeded, commands.len(), "{shell}: every line succeeds:\n{script}\n{output}");

    // Each status that is announced is the one that comes, in order.
    let announced: Vec<&str> = demo
        .printed
        .iter()
        .filter(|line| !is_command(line))
        .filter_map(|line| line.rsplit_once(' ').map(|(_, status)| status))
        .filter(|status| status.len() == 3 && status.parse::<u16>().is_ok())
        .collect();
    let answered: Vec<&str> = output
        .lines()
        .filter(|line| line.starts_with("HTTP/"))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(announced, ["201", "200", "200", "401", "200", "401"], "{:#?}", demo.printed);
    assert_eq!(answered[..announced.len()], announced, "{shell}: {output}");
    for part in [
        "expire_time",
        "x-ds-user: myUser",
        "anna@example.com",
        "revoked; active on 1 of 1 gateways",
        "revoke_token",
    ] {
        assert!(output.contains(part), "{shell}: no {part} in {output}");
    }
    let more: Vec<String> = demo.end().into_iter().filter(|line| is_command(line)).collect();
    assert!(more.is_empty(), "commands that nobody pasted: {more:#?}");
}

#[test]
fn the_demos_commands_have_nothing_that_shells_read_differently() {
    let demo = Demo::answer();
    for line in demo.commands() {
        // What zsh and fish expand where bash passes it on, and what fish has another word for.
        let mut quote = None;
        for symbol in line.chars() {
            match (quote, symbol) {
                (None, '\'' | '"') => quote = Some(symbol),
                (Some(open), symbol) if open == symbol => quote = None,
                (None, '?' | '*' | '[' | ']' | '{' | '}' | '~' | '^' | '#' | '!' | '=' | '&' | ';' | '`') => {
                    panic!("{symbol} is not quoted: {line}")
                }
                _ => {}
            }
        }
    }
    demo.end();
}

#[test]
fn no_line_of_the_log_is_among_the_demos_commands() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let both = writer.try_clone().expect("a pipe's end");
    let demo = Demo::start(writer, both, |_| BufReader::new(Box::new(reader)));
    let begin =
        demo.printed.iter().position(|line| line.starts_with("ds-gateway demo:")).expect("a beginning");
    assert!(begin > 0, "the log is there as well: {:#?}", demo.printed);
    let is_log = |line: &&String| [" INFO ", " WARN ", " ERROR "].iter().any(|level| line.contains(level));
    let among: Vec<&String> = demo.printed[begin..].iter().filter(is_log).collect();
    assert!(among.is_empty(), "{among:#?}");
    assert!(demo.printed[..begin].iter().all(|line| is_log(&line)), "{:#?}", demo.printed);
    demo.end();
}

#[test]
fn the_demo_listens_on_loopback_only() {
    for arguments in
        [&["demo", "--port", "x"][..], &["demo", "--port", "70000"], &["demo", "--listen", "0.0.0.0"]]
    {
        let mut command = binary();
        command.args(arguments);
        assert_eq!(finish(command, "").code, Some(64), "{arguments:?}");
    }
}
