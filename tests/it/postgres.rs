//! A store in PostgreSQL, as an operator configures it; and the servers of tests.

use crate::command::{eventually, finish, private};
use crate::configuration::options;
use crate::options::Key;
use crate::postgres_server::{Setup, TestServer};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

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

/// A pooler in front of a server, until it is dropped.
struct Pooler {
    child: Child,
    folder: TempDir,
}

impl Pooler {
    fn start(server: &TestServer, mode: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().display();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {path}\nlisten_port = 6543\n\
             auth_type = any\npool_mode = {mode}\nlogfile = {path}/log\n",
            server.port()
        );
        std::fs::write(folder.path().join("pooler.ini"), text).expect("its configuration");
        let mut command = Command::new("pgbouncer");
        // It does not run as root.
        if nix::unistd::geteuid().is_root() {
            command.args(["--user", "nobody"]);
            std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("its folder");
        }
        command.arg(folder.path().join("pooler.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("pgbouncer, which `make deps` installs");
        let socket = folder.path().join(".s.PGSQL.6543");
        eventually("the pooler", || UnixStream::connect(&socket).ok());
        Self { child, folder }
    }

    fn url(&self, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}:6543/{database}")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn check_warns_of_what_a_server_or_a_pooler_keeps_from_the_gateway() {
    let server = TestServer::with(Setup::default().set("fsync", "on").set("full_page_writes", "on"));
    let checked = |url: &str| {
        let folder = options().set("store", "url", format!("{url:?}")).key(Key::ours("k1")).folder();
        format!("{:?}", folder.cli(&["check"], ""))
    };
    let database = server.create_database();
    let url = server.unix_url(&database);
    let make =
        |url: &str| drop(options().set("store", "url", format!("{url:?}")).key(Key::ours("k1")).start());
    make(&url);
    let sound = checked(&url);
    assert!(!sound.contains("store.url:"), "{sound}");
    server.psql(&format!("ALTER DATABASE \"{database}\" SET synchronous_commit = off"));
    let said = checked(&url);
    assert!(said.contains("synchronous_commit off"), "{said}");
    let careless = TestServer::start();
    let url = careless.unix_url(&careless.create_database());
    make(&url);
    let said = checked(&url);
    assert!(said.contains("fsync or full_page_writes off"), "{said}");
    let pooler = Pooler::start(&server, "session");
    // On a busy machine one may take longer than it is waited for.
    eventually("a notification through the pooler", || {
        (!checked(&pooler.url(&database)).contains("no notification arrives")).then_some(())
    });
    let said = checked(&Pooler::start(&server, "transaction").url(&database));
    assert!(said.contains("no notification arrives"), "{said}");
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
