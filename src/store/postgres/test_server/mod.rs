//! A PostgreSQL of the test's own: the real server, in a temporary folder, with data that nobody needs.
//!
//! `tests/it` includes this file by its path, so it uses nothing of this crate. It needs Debian's package `postgresql`.
//!
//! A server ends with its [`TestServer`], and with the process of the test however that ends: a shell reads from a pipe whose other end
//! this process has, and stops the server once that is closed.

#![allow(dead_code, reason = "each of the crates that include it uses a part")]

mod certificates;
mod folder;
mod process;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use self::folder::{as_server_user, program, server_folder, template};
use self::process::Postmaster;

/// How a server is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Settings such as `("max_connections", "5")`; they override what a test's server has otherwise.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Lines of `pg_hba.conf` before those that let everybody in; `local all postgres trust` stands before them.
    pub(crate) hba: Vec<String>,
    /// The certificate that it shows, one of those in [`TestServer::certificates`]; `None`: it has no TLS.
    pub(crate) certificate: Option<&'static str>,
}

impl Setup {
    /// With TLS, and a certificate for `localhost` and 127.0.0.1.
    pub(crate) fn tls() -> Self {
        Self { certificate: Some("localhost"), ..Self::default() }
    }

    /// With one more setting.
    #[must_use]
    pub(crate) fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    /// With one more line of `pg_hba.conf`.
    #[must_use]
    pub(crate) fn hba(mut self, line: impl Into<String>) -> Self {
        self.hba.push(line.into());
        self
    }
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It waits for its clients to leave.
    Smart,
    /// It ends their sessions.
    Fast,
    /// As in a crash, but that it ends its processes itself.
    Immediate,
}

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct TestServer {
    folder: PathBuf,
    port: u16,
    setup: Setup,
    postmaster: Option<Postmaster>,
}

impl TestServer {
    /// Starts one as [`Setup`] says by default.
    pub(crate) fn start() -> Self {
        Self::with(Setup::default())
    }

    /// Starts one.
    pub(crate) fn with(setup: Setup) -> Self {
        let folder = server_folder();
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(template()).arg(folder.join("data"));
        succeed(as_server_user(copy));
        let mut server = Self { folder, port: free_port(), setup, postmaster: None };
        server.run();
        server
    }

    /// The one that all tests of a process may share, each with a database of its own; it has TLS.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<TestServer> = LazyLock::new(|| TestServer::with(Setup::tls()));
        &SHARED
    }

    /// The folder of its Unix socket, with `data` and `log`.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The port at 127.0.0.1, which is also part of its socket's name.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A `store.url` for the superuser `postgres`, over TCP without TLS.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The same over the Unix socket.
    pub(crate) fn unix_url(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}:{}/{database}", self.port)
    }

    /// Makes a database and says its name, which no other test has.
    pub(crate) fn create_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        // Of the two ways to copy a template the one that does not wait for a checkpoint.
        self.psql(&format!("CREATE DATABASE {name} STRATEGY wal_log"));
        name
    }

    /// Copies a database as of one moment, as an operator would, to one whose name it says.
    pub(crate) fn copy_database(&self, from: &str) -> String {
        let name = self.create_database();
        let reach = |tool, database: &str| {
            let mut command = Command::new(program(tool));
            command.args(["-U", "postgres", "-d", database, "-h"]).arg(&self.folder);
            command.arg("-p").arg(self.port.to_string());
            command
        };
        let mut dump = reach("pg_dump", from).stdout(Stdio::piped()).spawn().expect("pg_dump");
        let mut restore = reach("psql", &name);
        restore.args(["-qX", "-v", "ON_ERROR_STOP=1"]).stdout(Stdio::null());
        let status = restore.stdin(dump.stdout.take().expect("a pipe")).status().expect("psql");
        assert!(dump.wait().expect("pg_dump").success() && status.success(), "a copy of {from}");
        name
    }

    /// Runs SQL as the superuser in the database `postgres`: the rows without decoration.
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.psql_in("postgres", sql)
    }

    /// Runs SQL as the superuser.
    pub(crate) fn psql_in(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same; on failure what psql says.
    pub(crate) fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(program("psql"));
        command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql, "-h"]);
        command.arg(&self.folder).arg("-p").arg(self.port.to_string());
        let output = command.stdin(Stdio::null()).output().expect("psql");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Stops it and waits for that.
    pub(crate) fn stop(&mut self, stop: Stop) {
        let signal = match stop {
            Stop::Smart => "TERM",
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        if let Some(postmaster) = self.postmaster.take() {
            postmaster.end_by(signal);
        }
    }

    /// Ends all of its processes by SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(postmaster) = self.postmaster.take() {
            postmaster.kill();
        }
    }

    /// Starts it where it was, after [`Self::stop`] or [`Self::kill`].
    pub(crate) fn start_again(&mut self) {
        assert!(self.postmaster.is_none(), "the server is running");
        self.run();
    }

    /// Stops all of its processes by SIGSTOP: connections are accepted by the kernel, and nothing is answered.
    pub(crate) fn pause(&self) {
        self.postmaster().pause();
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        self.postmaster().resume();
    }

    /// A hot standby that streams from this server, with the same setup.
    pub(crate) fn replica(&self) -> Self {
        let folder = server_folder();
        let mut backup = Command::new(program("pg_basebackup"));
        backup.args(["-U", "postgres", "-R", "-X", "stream", "--checkpoint=fast", "--no-sync", "-h"]);
        backup.arg(&self.folder).arg("-p").arg(self.port.to_string()).arg("-D").arg(folder.join("data"));
        succeed(as_server_user(backup));
        let mut replica = Self { folder, port: free_port(), setup: self.setup.clone(), postmaster: None };
        replica.run();
        replica
    }

    /// Makes a primary of a standby.
    pub(crate) fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote(true, 30)"), "t");
    }

    /// Waits until a standby has applied what this server has committed so far.
    pub(crate) fn wait_for(&self, replica: &Self) {
        let position = self.psql("SELECT pg_current_wal_flush_lsn()");
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        within(30, "the standby to catch up", || replica.psql(&sql) == "t");
    }

    /// A folder with `ca.pem`, `other.pem` (a CA that signed nothing here), and certificates of the first with their keys: `localhost`
    /// (and 127.0.0.1), `elsewhere` (for another name), and `gateway`, a client's for the role of that name.
    pub(crate) fn certificates() -> &'static Path {
        certificates::folder()
    }

    fn postmaster(&self) -> &Postmaster {
        self.postmaster.as_ref().expect("a running server")
    }

    fn run(&mut self) {
        self.write_hba();
        let mut settings: Vec<(&str, String)> = vec![
            ("listen_addresses", "127.0.0.1".into()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.folder.display().to_string()),
            // No test cuts the power.
            ("fsync", "off".into()),
            ("shared_buffers", "16MB".into()),
            ("max_wal_size", "256MB".into()),
            ("wal_level", "replica".into()),
            // In its folder, and gone with that: other kinds stay when it is killed.
            ("dynamic_shared_memory_type", "mmap".into()),
            ("hba_file", self.folder.join("hba").display().to_string()),
            ("log_min_messages", "warning".into()),
        ];
        if let Some(name) = self.setup.certificate {
            let file = |name: String| Self::certificates().join(name).display().to_string();
            settings.push(("ssl", "on".into()));
            settings.push(("ssl_ca_file", file("ca.pem".into())));
            settings.push(("ssl_cert_file", file(format!("{name}.pem"))));
            settings.push(("ssl_key_file", file(format!("{name}.key"))));
        }
        settings.extend(self.setup.settings.iter().cloned());
        let postmaster = Postmaster::start(&self.folder, &settings);
        let is_up = || {
            assert!(postmaster.is_running(), "PostgreSQL does not start: {}", self.log());
            self.try_psql("postgres", "SELECT 1").is_ok()
        };
        within(60, "PostgreSQL to answer", is_up);
        self.postmaster = Some(postmaster);
    }

    fn write_hba(&self) {
        let first = ["local all postgres trust".to_owned(), "local replication all trust".to_owned()];
        let last = ["local all all trust".to_owned(), "host all all 127.0.0.1/32 trust".to_owned()];
        let lines: Vec<_> = first.iter().chain(&self.setup.hba).chain(&last).map(String::as_str).collect();
        std::fs::write(self.folder.join("hba"), lines.join("\n") + "\n").expect("pg_hba.conf");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(postmaster) = &self.postmaster {
            postmaster.resume();
        }
        self.stop(Stop::Immediate);
        process::remove_shared_memory(&self.folder.join("data"));
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A port that is free on both families, and stays so while whoever has it is stopped: it is below those that the system gives to connections and to
/// listeners on port 0, and this process gives it to nobody else.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Other test processes begin elsewhere.
    let begin = std::process::id().wrapping_mul(7919);
    let mut ports = std::iter::repeat_with(|| GIVEN.fetch_add(1, Ordering::Relaxed).wrapping_add(begin))
        .map(|number| 10_000 + (number % 22_000) as u16)
        .take(22_000);
    let is_free = |address: IpAddr, port: u16| match TcpListener::bind((address, port)) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
    };
    let both = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    ports.find(|port| both.into_iter().all(|address| is_free(address, *port))).expect("a port")
}

fn succeed(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn within(seconds: u64, what: &str, mut is_done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is_done() {
        assert!(Instant::now() < end, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
