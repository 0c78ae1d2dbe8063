//! A store in PostgreSQL, as an operator configures it; and the servers of tests.

use crate::command::{eventually, finish, private};
use crate::configuration::options;
use crate::options::Key;
use crate::postgres_server::TestServer;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Not to be seen anywhere.
const CANARY: &str = "canary-7f3a";

#[test]
fn a_password_is_in_no_output() {
    let server = TestServer::start();
    let url = server.url("postgres");
    let with_password = url.replace("postgres@", &format!("postgres:{CANARY}@"));
    let folder = options().set("store", "url", format!("{with_password:?}")).folder();
    for arguments in [&["check"][..], &["run"], &["user", "list"]] {
        let done = folder.cli(arguments, "");
        assert_eq!(done.code, Some(64), "{done:?}");
        assert!(done.stderr.contains("store.url: must not contain a password"), "{done:?}");
        assert!(!format!("{done:?}").contains(CANARY), "{done:?}");
    }
    let folder = options()
        .set("store", "url", format!("{url:?}"))
        .set("store", "password_file", "\"password\"")
        .folder();
    private(&folder.dir.path().join("password"), CANARY.as_bytes());
    for arguments in [&["check"][..], &["run"]] {
        let mut command = folder.command(arguments);
        command.env("PGPASSWORD", CANARY);
        let done = finish(command, "");
        assert!(!format!("{done:?}").contains(CANARY), "{done:?}");
    }
}

#[test]
fn check_warns_of_tls_without_verification() {
    let options = options().key(Key::ours("k1"));
    let folder = options.set("store", "url", "\"postgres://ann@db.example/ds?sslmode=require\"").folder();
    let done = folder.cli(&["check", "--config-only"], "");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(format!("{done:?}").contains("sslmode=require lets anyone"), "{done:?}");
}

/// What is done by [`a_server_ends_with_the_process_that_started_it`].
#[test]
#[ignore = "it waits to be killed"]
fn a_server_waits() {
    let server = TestServer::start();
    println!("\nfolder: {}", server.folder().display());
    server.pause();
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "postgres::a_server_waits", "--ignored", "--nocapture"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("this program");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let folder =
        lines.map_while(Result::ok).find_map(|line| line.strip_prefix("folder: ").map(str::to_owned));
    let folder = folder.expect("a folder");
    assert!(Path::new(&folder).exists(), "{folder}");
    child.kill().expect("a signal");
    child.wait().expect("an end");
    let is_named = |entry: &std::fs::DirEntry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&folder))
    };
    eventually("the server and its folder to go", || {
        let has_process = std::fs::read_dir("/proc").expect("/proc").flatten().any(|entry| is_named(&entry));
        (!has_process && !Path::new(&folder).exists()).then_some(())
    });
}
