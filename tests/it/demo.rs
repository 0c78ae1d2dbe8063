//! The first minutes of a newcomer: what the demo prints is pasted line by line.

use crate::command::{DEADLINE, binary, eventually, finish};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

#[test]
fn the_lines_that_the_demo_prints_work_when_pasted_and_nothing_is_left_of_it() {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let mut child = binary()
        .args(["demo", "--port", "0"])
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the demo starts");
    let stdout = BufReader::new(child.stdout.take().expect("stdout"));
    let (said, lines) = mpsc::channel();
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
    let is_command =
        |line: &String| ["curl ", "TOKEN="].iter().any(|start| line.trim_start().starts_with(start));
    let mut printed: Vec<String> = Vec::new();
    // The last of its commands; that no other follows is seen when its output has ended.
    while !printed.last().is_some_and(|line| is_command(line) && line.ends_with("/metrics")) {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => printed.push(line),
            Err(error) => {
                drop(child.kill());
                panic!("{error} after {printed:#?}");
            }
        }
    }
    assert!(
        fs::read_dir(dir.path()).expect("a folder").count() > 0,
        "the demo keeps its files in the temporary folder"
    );

    let pasted: Vec<&str> = printed.iter().filter(|line| is_command(line)).map(|line| line.trim()).collect();
    let mut script = String::new();
    for line in &pasted {
        script += &format!("{line}\nprintf '\\n[%s]\\n' $?\n");
    }
    script += "printf 'TOKEN IS %s\\n' \"$TOKEN\"\n";
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]);
    let output = finish(bash, "").ok();

    let mut kill = Command::new("kill");
    kill.args(["-INT", &child.id().to_string()]);
    finish(kill, "").ok();
    let status = eventually("the demo to end", || child.try_wait().expect("a child"));
    let more: Vec<String> = lines.iter().filter(is_command).collect();
    assert!(more.is_empty(), "commands that nobody pasted: {more:#?}");

    assert!(pasted.iter().any(|line| line.starts_with("TOKEN=")), "{printed:#?}");
    assert!(pasted.len() >= 3, "{printed:#?}");
    assert_eq!(output.matches("[0]").count(), pasted.len(), "every line succeeds:\n{script}\n{output}");
    let token = output.rsplit_once("TOKEN IS ").map(|(_, token)| token.trim().to_owned()).expect("a token");
    assert_eq!(token.split('.').count(), 3, "{output}");
    assert!(
        output.contains("expire_time") || output.contains("X-DS-User") || output.contains("x-ds-user"),
        "{output}"
    );
    assert!(status.success() || status.code().is_none(), "{status}");
    let left: Vec<_> =
        fs::read_dir(dir.path()).expect("a folder").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
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
