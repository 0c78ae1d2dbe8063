//! Moving a store between its engines, checking it, and backing it up to one file.

use crate::command::{Done, Folder, finish, private};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::postgres_server::{Setup, TestServer};
use crate::revocation::{delete, is_204};
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Not to be seen anywhere.
const CANARY: &str = "canary-7f3a";

/// Has the configuration name another store.
fn use_store(folder: &Folder, url: &str) {
    let text = fs::read_to_string(folder.config()).expect("a configuration");
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("url =")).collect();
    lines.retain(|line| *line != "[store]");
    fs::write(folder.config(), format!("{}\n[store]\nurl = {url:?}\n", lines.join("\n")))
        .expect("a configuration");
}

/// A gateway that ran on SQLite, with a token that is alive and one that was revoked.
fn used(platform: &Platform) -> (Folder, String, String) {
    let gateway = Options::new(platform).start();
    let (alive, revoked) = (gateway.mint(), gateway.mint());
    is_204(&gateway.exchange(delete(&revoked)));
    assert_eq!((gateway.status(&alive), gateway.status(&revoked)), (200, 401));
    let folder = gateway.stop();
    name_keys(&folder);
    (folder, alive, revoked)
}

/// Names the keys that the gateway has made, since a store in PostgreSQL asks for that.
fn name_keys(folder: &Folder) {
    let files =
        fs::read_dir(folder.state().join("keys")).expect("keys").map(|entry| entry.expect("a key").path());
    let row = |file: PathBuf| {
        let kid = file.file_stem().expect("a name").display().to_string();
        format!("{{ kid = {kid:?}, algorithm = \"HS256\", file = {file:?} }}")
    };
    let rows: Vec<String> = files.map(row).collect();
    let text = fs::read_to_string(folder.config()).expect("a configuration");
    let text = format!("{text}\n[token]\nkeys = [{}]\n", rows.join(", "));
    fs::write(folder.config(), text).expect("a configuration");
}

fn runs_with(folder: Folder, alive: &str, revoked: &str) -> Gateway {
    let gateway = folder.run(&[]);
    assert_eq!((gateway.status(alive), gateway.status(revoked)), (200, 401));
    let minted = gateway.mint();
    assert_eq!(gateway.status(&minted), 200);
    gateway
}

#[test]
fn store_moves_to_postgresql_and_back_and_tokens_stay_what_they_are() {
    let (platform, server) = (Platform::echo(), TestServer::start());
    let (folder, alive, revoked) = used(&platform);
    let url = server.url(&server.create_database());
    let audit = folder.cli(&["audit", "list", "--json"], "").ok();
    let done = folder.cli(&["store", "copy", "--to", &url], "");
    assert!(done.stdout.contains("each compared"), "{done:?}");
    // The old one is as it was.
    assert_eq!(folder.cli(&["audit", "list", "--json"], "").ok(), audit);
    use_store(&folder, &url);
    assert_eq!(folder.cli(&["audit", "list", "--json"], "").ok(), audit);
    assert!(folder.cli(&["store", "check"], "").ok().contains(": OK"));

    let gateway = runs_with(folder, &alive, &revoked);
    let refused = gateway.folder.cli(&["store", "copy", "--to", "sqlite:moved.db"], "");
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("stop the gateways first"), "{refused:?}");
    assert!(!gateway.folder.state().join("moved.db").exists());
    gateway.folder.cli(&["store", "copy", "--while-running", "--to", "sqlite:live.db"], "").ok();
    let folder = gateway.stop();

    let done = folder.cli(&["store", "copy", "--to", "sqlite:moved.db", "--json"], "").ok();
    let report: Value = serde_json::from_str(&done).expect("JSON");
    assert_eq!(report["tables"].as_array().map(Vec::len), Some(15), "{report}");
    for name in ["moved.db", "moved.db-sequence", "live.db"] {
        let mode = fs::metadata(folder.state().join(name)).expect(name).mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let audit = folder.cli(&["audit", "list", "--json"], "").ok();
    use_store(&folder, "sqlite:moved.db");
    assert_eq!(folder.cli(&["audit", "list", "--json"], "").ok(), audit);
    assert!(folder.cli(&["store", "check"], "").ok().contains(": OK"));
    runs_with(folder, &alive, &revoked);
}

/// Copies the configuration's store to that URL, killed again and again; how often.
fn copy_and_kill(folder: &Folder, url: &str) -> u32 {
    let (mut kills, mut wait) = (0, 150);
    loop {
        let mut command = folder.command(&["store", "copy", "--to", url]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command");
        let end = Instant::now() + Duration::from_millis(wait);
        let mut is_over = false;
        while !is_over && Instant::now() < end {
            is_over = child.try_wait().expect("a process").is_some();
            sleep(Duration::from_millis(5));
        }
        // Of one that is over nothing is killed.
        child.kill().expect("a signal");
        child.wait().expect("an end");
        if is_over {
            return kills;
        }
        kills += 1;
        wait += 150;
        let mut other = folder.command(&["user", "list"]);
        other.env("DS_GATEWAY__STORE__URL", url);
        let refused = finish(other, "");
        if refused.code == Some(0) {
            // It was over and had not ended yet.
            return kills;
        }
        // Before its first commit there is nothing, which a command beside keys does not make into a store.
        let reasons = ["is an unfinished copy of", "does not exist"];
        assert!(reasons.iter().any(|text| refused.stderr.contains(text)), "{refused:?}");
    }
}

#[test]
fn copy_that_is_killed_is_no_store_and_is_continued() {
    const ROWS: usize = 100_000;
    let (platform, server) = (Platform::echo(), TestServer::start());
    let (folder, alive, revoked) = used(&platform);
    let store = Connection::open(folder.state().join("gateway.db")).expect("the store");
    let sql = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO revoked_tokens (token_id, keep, dated, user, number)
         SELECT randomblob(16), 4000000000, 1, 'sample', 2 FROM n"
    );
    store.execute_batch(&sql).expect("rows");
    drop(store);
    for url in [server.url(&server.create_database()), "sqlite:back.db".to_owned()] {
        let kills = copy_and_kill(&folder, &url);
        println!("killed {kills} times on the way to {url}");
        assert!(kills > 1, "it was over at once");
        use_store(&folder, &url);
        let found = folder.cli(&["store", "check", "--json"], "").ok();
        let found: Value = serde_json::from_str(&found).expect("JSON");
        let mut tables = found["tables"].as_array().expect("tables").iter();
        let rows = tables.find(|row| row["name"] == "revoked_tokens");
        assert_eq!(rows.map(|row| &row["rows"]), Some(&Value::from(ROWS + 1)), "{found}");
        assert_eq!(found["sound"], true, "{found}");
    }
    runs_with(folder, &alive, &revoked);
}

#[test]
fn copy_asks_for_no_password_on_its_line_and_reads_it_from_a_file() {
    let server = TestServer::with(Setup::default().hba("host all gateway 127.0.0.1/32 scram-sha-256"));
    server.psql(&format!("CREATE ROLE gateway LOGIN PASSWORD '{CANARY}'"));
    server.psql("CREATE DATABASE gateway OWNER gateway");
    let (folder, ..) = used(&Platform::echo());
    let url = server.url("gateway").replace("postgres@", "gateway@");
    let with_password = url.replace("gateway@", &format!("gateway:{CANARY}@"));
    let file = folder.dir.path().join("password");
    private(&file, CANARY.as_bytes());
    let file = file.to_str().expect("a path");
    let refused = folder.cli(&["store", "copy", "--to", &with_password], "");
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("--to: must not contain a password"), "{refused:?}");
    let denied = folder.cli(&["store", "copy", "--to", &url], "");
    assert!(matches!(denied.code, Some(1 | 75)), "{denied:?}");
    let done = folder.cli(&["store", "copy", "--to", &url, "--password-file", file], "");
    assert_eq!(done.code, Some(0), "{done:?}");
    for done in [refused, denied, done] {
        assert!(!format!("{done:?}").contains(CANARY), "{done:?}");
    }
}

#[test]
fn copy_refuses_what_would_overwrite_or_mean_nothing() {
    let (folder, ..) = used(&Platform::echo());
    let state = folder.state();
    let copy = |arguments: &[&str]| folder.cli(&[&["store", "copy"], arguments].concat(), "");
    for (arguments, code, text) in [
        (&[][..], 64, "--from"),
        (&["--to", "sqlite:gateway.db"], 64, "are the same store"),
        (&["--to", "sqlite:keys"], 64, "is a place in state_dir for something else"),
        (&["--to", "mysql://a@b/c"], 64, "must be \"sqlite:\""),
        (&["--from", "sqlite:none.db", "--to", "sqlite:other.db"], 1, "does not exist"),
    ] {
        let done = copy(arguments);
        assert!(done.code == Some(code) && done.stderr.contains(text), "{arguments:?} {done:?}");
    }
    copy(&["--to", "sqlite:copy.db"]).ok();
    let before = fs::read(state.join("copy.db")).expect("a copy");
    let refused = copy(&["--to", "sqlite:copy.db"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("holds a store already"), "{refused:?}");
    assert!(fs::read(state.join("copy.db")).expect("a copy") == before);
    // Something else.
    Connection::open(state.join("foreign.db"))
        .expect("a file")
        .execute_batch("CREATE TABLE t (a)")
        .expect("a table");
    let before = fs::read(state.join("foreign.db")).expect("a file");
    let refused = copy(&["--to", "sqlite:foreign.db"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("not a store of ds-gateway"), "{refused:?}");
    assert!(fs::read(state.join("foreign.db")).expect("a file") == before);
    // What was noted beside the place knows more than the source: it would be refused afterwards.
    fs::write(state.join("older.db-sequence"), "00000000000000999999\n").expect("a file");
    let refused = copy(&["--to", "sqlite:older.db"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("999999"), "{refused:?}");
}

fn back_up(folder: &Folder, to: &Path) -> Done {
    folder.cli(&["store", "backup", to.to_str().expect("a path")], "")
}

#[test]
fn store_is_backed_up_to_one_private_file_again_and_again() {
    let (platform, server) = (Platform::echo(), TestServer::start());
    let (folder, alive, revoked) = used(&platform);
    let url = server.url(&server.create_database());
    folder.cli(&["store", "copy", "--to", &url], "").ok();
    let dir = folder.dir.path().join("backups");
    fs::create_dir(&dir).expect("a folder");
    let file = dir.join("gateway.db");
    let names = || fs::read_dir(&dir).expect("a folder").count();
    for store in ["sqlite:gateway.db", &url] {
        use_store(&folder, store);
        for _ in 0..2 {
            back_up(&folder, &file).ok();
            assert_eq!(fs::metadata(&file).expect("a file").mode() & 0o777, 0o600);
            assert_eq!(names(), 1, "something else is left of {store}");
        }
        let users = folder.cli(&["user", "list", "--json"], "").ok();
        // What an interrupted one leaves is in nobody's way.
        fs::write(dir.join("gateway.db.partial"), "half").expect("a file");
        fs::write(dir.join("gateway.db.partial-wal"), "half").expect("a file");
        fs::write(dir.join("gateway.db-wal"), "of an older one").expect("a file");
        back_up(&folder, &file).ok();
        assert_eq!(names(), 1);
        // It can be copied to wherever a store is needed.
        let from = format!("sqlite:{}", file.display());
        let to = server.url(&server.create_database());
        folder.cli(&["store", "copy", "--from", &from, "--to", &to], "").ok();
        use_store(&folder, &to);
        assert_eq!(folder.cli(&["user", "list", "--json"], "").ok(), users);
    }
    runs_with(folder, &alive, &revoked);
}

#[test]
fn backup_overwrites_nothing_but_a_backup() {
    let ((folder, ..), (other, ..)) = (used(&Platform::echo()), used(&Platform::echo()));
    let path = |name: &str| folder.dir.path().join(name);
    fs::write(path("notes.txt"), "mine").expect("a file");
    fs::write(path("empty"), "").expect("a file");
    symlink(path("notes.txt"), path("link")).expect("a link");
    for (file, text) in [
        (path("notes.txt"), "is not overwritten"),
        (path("empty"), "is not overwritten"),
        (path("link"), "is not a file"),
        (folder.state().join("keys"), "is not a file"),
        (folder.state().join("gateway.db"), "is the store itself"),
        (path("none/gateway.db"), "none"),
        (other.state().join("gateway.db"), "a store that was in use"),
    ] {
        let done = back_up(&folder, &file);
        assert!(done.code == Some(1) && done.stderr.contains(text), "{file:?} {done:?}");
    }
    assert_eq!(fs::read_to_string(path("notes.txt")).expect("a file"), "mine");
    folder.cli(&["store", "check"], "").ok();
    folder.cli(&["user", "list"], "").ok();
}

#[test]
fn check_of_a_store_finds_a_row_that_breaks_a_rule() {
    let (folder, ..) = used(&Platform::echo());
    let folder = folder.run(&[]);
    assert!(folder.folder.cli(&["store", "check"], "").ok().contains("gateway.db: OK"), "also while it runs");
    let folder = folder.stop();
    folder.add(&User::new("other", PASSWORD, EMAIL, ORGANIZATION));
    let store = Connection::open(folder.state().join("gateway.db")).expect("the store");
    store.execute_batch("DELETE FROM skeletons WHERE name = 'other'").expect("a row");
    drop(store);
    let done = folder.cli(&["store", "check"], "");
    assert!(
        done.code == Some(1) && done.stdout.contains("FAULT   what each user's name looks like"),
        "{done:?}"
    );
    let done = folder.cli(&["store", "check", "--json"], "");
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!((done.code, &report["sound"]), (Some(1), &Value::Bool(false)), "{report}");
}
