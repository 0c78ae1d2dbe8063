//! The binary as a command: in a folder of its own, run to its end, with all that it said.

use crate::gateway::Gateway;
use crate::options::User;
use nix::unistd::geteuid;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Asks until there is an answer. The deadline only keeps a broken gateway from hanging the suite.
#[track_caller]
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    in_time(ask).unwrap_or_else(|| panic!("waited too long for: {what}"))
}

/// The same for tests that say themselves what is missing.
pub fn in_time<T>(ask: impl FnMut() -> Option<T>) -> Option<T> {
    within(DEADLINE.as_secs(), ask)
}

/// Asks until there is an answer, or so many seconds are over.
pub fn within<T>(seconds: u64, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a file that nobody else may read.
pub fn private(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// A temporary folder with a configuration in it.
pub struct Folder {
    pub dir: TempDir,
}

/// Ends the clients of a test however the test ends: without it, clients that never stop would have it wait for ever.
pub struct Stop<'s>(pub &'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

impl Folder {
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("gateway.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The binary with these arguments and this folder's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.args(arguments).arg("--config").arg(self.config());
        if arguments.first() == Some(&"run") && !geteuid().is_root() {
            // What the kernel shows of a process that has no core, it shows root only, and tests look.
            command.arg("--allow-core");
        }
        command
    }

    pub fn cli(&self, arguments: &[&str], input: &str) -> Done {
        finish(self.command(arguments), input)
    }

    #[track_caller]
    pub fn add(&self, user: &User) {
        let of = ["--email", &user.email, "--organization", &user.organization];
        let of = [&of[..], &["--password-stdin", "--allow-weak"]].concat();
        self.cli(&[&["user", "add", &user.name], &of[..]].concat(), &user.password).ok();
    }

    /// Starts `run` and waits until it is ready.
    pub fn run(self, extra: &[&str]) -> Gateway {
        let command = self.command(&[&["run"], extra].concat());
        Gateway::start(self, command)
    }
}

/// The binary, not steered by the environment of anyone who runs the tests.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ds-gateway"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DS_GATEWAY"))
    {
        command.env_remove(name);
    }
    command
}

/// The same command, started by another one that comes before it on the line.
pub fn started_by(prefix: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(prefix[0]);
    wrapped.args(&prefix[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// The same command, held to the modes of files even where the tests run as root.
pub fn held_to_modes(command: Command) -> Command {
    if fs::metadata("/proc/self").expect("a process").uid() != 0 {
        return command;
    }
    let without = "-dac_override,-dac_read_search";
    let (bounding, inherited) = (format!("--bounding-set={without}"), format!("--inh-caps={without}"));
    started_by(&["setpriv", &bounding, &inherited], &command)
}

/// The same command, told "no" instead of being ended where a file may not grow (`RLIMIT_FSIZE`).
pub fn told_of_full_disks(command: &Command) -> Command {
    started_by(&["bash", "-c", "trap '' XFSZ; exec \"$@\"", "bash"], command)
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(command: Command, input: &str) -> Done {
    finish_within(DEADLINE.as_secs(), command, input)
}

/// The same for a command that may take longer on a busy machine.
#[track_caller]
pub fn finish_within(seconds: u64, mut command: Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a command that starts");
    let stdout = collect(child.stdout.take().expect("stdout"));
    let stderr = collect(child.stderr.take().expect("stderr"));
    // A command that does not read its input may be gone by now.
    drop(child.stdin.take().expect("stdin").write_all(input.as_bytes()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let code = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status.code();
        }
        if Instant::now() > end {
            drop(child.kill());
            drop(child.wait());
            panic!("{command:?} did not end: {}", stderr.join().expect("a reader"));
        }
        thread::sleep(Duration::from_millis(5));
    };
    Done { code, stdout: stdout.join().expect("a reader"), stderr: stderr.join().expect("a reader") }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Bounds hanging and asserts nothing: it is far longer than anything takes, also on a slow machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A setting far beyond [`DEADLINE`]: what happens nevertheless did not wait for it.
pub const NEVER: &str = "\"10m\"";
