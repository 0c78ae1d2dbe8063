//! One rule for every command that prints: an answer that cannot be written is a failure, and a reader that went away is not.

use crate::command::{Done, Folder, eventually, finish, started_by};
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use rusqlite::Connection;
use std::process::{Command, Stdio};

fn through(script: &str, command: &Command, input: &str) -> Done {
    finish(started_by(&["bash", "-c", script, "bash"], command), input)
}

fn folder() -> Folder {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder
}

/// Every command that prints an answer, each in a form that has one.
fn commands(folder: &Folder) -> Vec<Command> {
    let token = folder.dir.path().join("token");
    let minted = folder.cli(&["token", "mint", USER], "").ok();
    std::fs::write(&token, minted).expect("a file");
    let token = token.to_str().expect("a path");
    let import = folder.dir.path().join("none.jsonl");
    std::fs::write(&import, "").expect("a file");
    let backup = folder.dir.path().join("backup");
    let [import, backup] = [&import, &backup].map(|path| path.to_str().expect("a path"));
    let with_configuration: [&[&str]; 28] = [
        // Without asking the platform, of which there is none.
        &["check", "--config-only"],
        &["token", "list", "--user", USER],
        &["token", "list", "--user", USER, "--json"],
        &["user", "list"],
        &["user", "list", "--json"],
        &["user", "show", USER],
        &["user", "show", USER, "--json"],
        &["user", "enable", USER],
        &["user", "set", USER, "--email", "other@example.com"],
        &["user", "set", USER, "--email", EMAIL],
        &["user", "passwd", USER, "--password-stdin"],
        &["user", "import", import],
        &["token", "mint", USER],
        &["token", "inspect", "--token-file", token],
        &["token", "inspect", "--token-file", token, "--json"],
        &["token", "explain", "--token-file", token],
        &["key", "list"],
        &["key", "list", "--json"],
        &["key", "generate"],
        &["audit", "list"],
        &["audit", "list", "--json"],
        &["backup", backup],
        &["revoke", "list"],
        &["revoke", "list", "--json"],
        &["revoke", "token", "00112233445566778899aabbccddeeff"],
        &["revoke", "user", USER],
        &["revoke", "organization", ORGANIZATION, "--json"],
        &["revoke", "all"],
    ];
    let mut commands: Vec<Command> = with_configuration.iter().map(|one| folder.command(one)).collect();
    for arguments in [&["--help"][..], &["--version"], &["revoke", "--help"], &["completions", "bash"]] {
        let mut command = crate::command::binary();
        command.args(arguments);
        commands.push(command);
    }
    commands
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_of_every_command() {
    let folder = folder();
    for command in commands(&folder) {
        let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
        // A full disk, and a descriptor that cannot be written.
        for script in ["exec \"$@\" > /dev/full", "exec \"$@\" 1< /dev/null"] {
            if script.contains('<') && (what.contains("--help") || what.contains("--version")) {
                // These are printed by the parser, through a stream that takes this for success.
                continue;
            }
            // The token of the table is revoked by its own rows: mint another.
            if what.contains("token-file") {
                drop(std::fs::write(
                    folder.dir.path().join("token"),
                    folder.cli(&["token", "mint", USER], "").ok(),
                ));
            }
            let done = through(script, &command, "password\n");
            assert_eq!(done.code, Some(1), "{what} {script}: {done:?}");
            assert!(done.stderr.contains("standard output"), "{what} {script}: {done:?}");
            assert!(!done.stderr.contains("panicked"), "{what} {script}: {done:?}");
        }
    }
}

#[test]
fn a_reader_that_went_away_ends_every_command_quietly() {
    let folder = folder();
    for command in commands(&folder) {
        let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
        if what.contains("token-file") {
            drop(std::fs::write(
                folder.dir.path().join("token"),
                folder.cli(&["token", "mint", USER], "").ok(),
            ));
        }
        // Gone before anything is written: the command starts when the reader has ended.
        let script =
            "set -o pipefail; { read -r -u 3 _; exec \"$@\" 3<&-; } 3< <(sleep 0.2; echo) | exec true";
        let done = through(script, &command, "password\n");
        // Not about the reader: nobody knows that token.
        let stderr: String = done.stderr.lines().filter(|line| !line.ends_with("; revoked anyway")).collect();
        assert_eq!((done.code, stderr.as_str()), (Some(0), ""), "{what}");
    }
}

#[test]
fn a_complaint_that_cannot_be_written_does_not_change_the_exit_code() {
    let folder = folder();
    for (code, arguments) in [
        (65, &["user", "show", "nobody"][..]),
        (65, &["revoke", "user", "nobody"]),
        (64, &["user", "set", USER]),
        (64, &["user", "list", "--xml"]),
    ] {
        for script in ["exec \"$@\" 2> /dev/full", "exec \"$@\" 2>&-"] {
            let done = through(script, &folder.command(arguments), "");
            assert_eq!(done.code, Some(code), "{arguments:?} {script}: {done:?}");
        }
    }
}

#[test]
fn a_list_that_is_read_slowly_holds_no_read_transaction() {
    let folder = folder();
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)";
    for rows in [
        "INSERT INTO audit (number, at, actor, action, subject, origin, count)
         SELECT 9, unixepoch(), 'a', 'mint', 'somebody with a long name', 'command line', 1 FROM n",
        "INSERT INTO marks (kind, name, number, second, closed, reason)
         SELECT 'user', 'somebody ' || i, 100 + i, 0, 0, 'revoke_user' FROM n",
        "INSERT INTO users SELECT 'u' || i, 'u' || i, email, organization, phc, 0, 1, 0, 0, 100 + i, NULL, 'store', NULL, NULL FROM n, users
         WHERE name = 'myUser'",
    ] {
        store.execute(&format!("{insert} {rows}"), []).expect("rows");
    }
    for arguments in
        [&["audit", "list"][..], &["revoke", "list"], &["user", "list"], &["user", "list", "--json"]]
    {
        let mut child = folder.command(arguments).stdout(Stdio::piped()).spawn().expect("a command");
        // Until it waits for its reader: a pipe holds 64 KiB, and the lists are longer.
        eventually("a full pipe", || {
            let wchan = std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
            // write(1, …)
            wchan.starts_with("1 0x1 ").then_some(())
        });
        store.execute("UPDATE audit SET count = count + 1 WHERE id = 1", []).expect("a change");
        // It resets the log only if nobody reads from it.
        let busy: i64 =
            store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).expect("a checkpoint");
        let is_waiting = child.try_wait().expect("a child").is_none();
        drop(child.kill());
        drop(child.wait());
        assert!(is_waiting, "{arguments:?} still printed");
        assert_eq!(busy, 0, "{arguments:?} holds a snapshot of the store");
    }
}
