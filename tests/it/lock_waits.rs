//! A revocation is never the one that gives up: while somebody else writes to the store, it waits and says so.

use crate::command::{Folder, eventually, within};
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use rusqlite::Connection;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, Stdio};

/// A command that runs beside the test, with its output in files.
struct Running {
    child: Child,
    stdout: std::path::PathBuf,
    stderr: std::path::PathBuf,
}

impl Running {
    fn start(folder: &Folder, serial: usize, arguments: &[&str], input: &str) -> Self {
        let file = |stream: &str| folder.dir.path().join(format!("{serial}.{stream}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let mut child = folder
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(File::create(&stdout).expect("a file"))
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("a command that starts");
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("its input");
        Self { child, stdout, stderr }
    }

    fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).expect("a file")
    }

    fn ends(&mut self) -> (Option<i32>, String) {
        let status = eventually("the command to end", || self.child.try_wait().expect("a child"));
        (status.code(), fs::read_to_string(&self.stdout).expect("a file"))
    }
}

#[test]
fn a_revocation_waits_for_the_process_that_holds_the_store_and_says_so_at_once() {
    let platform = Platform::echo();
    let names = ["disabled", "removed", "renewed", "moved", "imported"];
    let mut options = Options::new(&platform);
    for name in names {
        options = options.user(User::new(name, PASSWORD, EMAIL, ORGANIZATION));
    }
    let gateway = options.start();
    let folder = &gateway.folder;
    let tokens: Vec<String> = names.map(|name| gateway.login(name, PASSWORD).expect("a token")).into();
    let mine = gateway.mint();
    let id = crate::audit::token_id(&mine);
    let commands: [(&[&str], &str); 6] = [
        (&["revoke", "token", &id], ""),
        (&["user", "disable", "disabled"], ""),
        (&["user", "remove", "removed"], ""),
        (&["user", "passwd", "renewed", "--password-stdin"], "another password"),
        (&["user", "set", "moved", "--organization", "Other"], ""),
        (&["revoke", "user", "imported"], ""),
    ];
    let other = Connection::open(folder.state().join("gateway.db")).expect("a store");
    other.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
    let start = |(serial, (arguments, input)): (usize, &(&[&str], &str))| {
        Running::start(folder, serial, arguments, input)
    };
    let mut running: Vec<Running> = commands.iter().enumerate().map(start).collect();
    for (running, (arguments, _)) in running.iter().zip(&commands) {
        eventually("a word on the wait", || running.stderr().contains("waiting for the store").then_some(()));
        let told = running.stderr().matches("waiting for the store").count();
        assert!(told == 1, "{arguments:?}: once: {}", running.stderr());
    }
    // Longer than a connection waits for the lock, several times over.
    let ended =
        within(9, || running.iter_mut().find_map(|running| running.child.try_wait().expect("a child")));
    assert_eq!(ended, None, "none gives up");
    assert_eq!(gateway.status(&mine), 200, "and none has happened yet");
    other.execute_batch("ROLLBACK").expect("an end");
    for (running, (arguments, _)) in running.iter_mut().zip(&commands) {
        let (code, stdout) = running.ends();
        // So many at once on a small machine: the gateway may take its time to confirm one.
        let is_done = code == Some(0) || (code == Some(75) && stdout.starts_with("revoked; active on"));
        assert!(is_done, "{arguments:?}: {code:?} {stdout} {}", running.stderr());
    }
    for token in tokens.iter().chain([&mine]) {
        eventually("the token to end", || (gateway.status(token) == 401).then_some(()));
    }
    gateway.still_healthy();
}

#[test]
fn a_revocation_during_an_import_is_durable_before_the_import_ends() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let folder = &gateway.folder;
    let hash = "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i";
    let lines = (0..60_000).map(|number| {
        format!(
            "{{\"name\":\"user{number}\",\"email\":\"x@example.com\",\"organization\":\"Imported\",\"password\":\"{hash}\"}}\n"
        )
    });
    let file = folder.dir.path().join("users.jsonl");
    fs::write(&file, lines.collect::<String>()).expect("a file");
    let token = gateway.mint();
    let mut import = Running::start(folder, 1, &["user", "import", file.to_str().expect("a path")], "");
    let users = || {
        let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
        store.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, u64>(0)).unwrap_or(0)
    };
    // All of it is checked before.
    within(120, || (users() > 1_000).then_some(())).expect("the import to write");
    let done = folder.cli(&["revoke", "user", USER], "");
    assert!(done.stdout.starts_with("revoked; active on"), "{done:?}");
    assert!(import.child.try_wait().expect("a child").is_none(), "the import was still at it");
    // Mints and log outs are not kept from the store either.
    let minted = gateway.mint();
    assert_eq!(gateway.exchange(crate::revocation::delete(&minted)).status, 204);
    eventually("the token to end", || (gateway.status(&token) == 401).then_some(()));
    assert!(within(120, || import.child.try_wait().expect("a child")).is_some_and(|status| status.success()));
    gateway.still_healthy();
}
