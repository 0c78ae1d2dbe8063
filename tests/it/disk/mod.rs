//! A disk under the store that fails, hangs, fills up and loses its power: a library that is preloaded into the gateway
//! stands between it and the files of its store. Every fault is held for longer than the bounds that it is under, and for
//! `FAULT_SECONDS` where that is longer (`make faults`).

mod hanging;
mod log;
mod starting;
mod synced;

use crate::client::Answer;
use crate::command::{Done, Folder, NEVER, eventually, finish};
use crate::deployment::Deployment;
use crate::gateway::Gateway;
use crate::revocation::{Forge, delete, deployment_with};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The disk under one store.
pub struct Disk {
    dir: TempDir,
}

impl Disk {
    pub fn new() -> Self {
        let disk = Self { dir: TempDir::new().expect("a folder") };
        disk.is("ok");
        disk
    }

    /// What the disk does from now on: `ok`, `fail`, `hang` or `full`.
    pub fn is(&self, what: &str) {
        // In one step: a sync may be looking.
        let draft = self.dir.path().join("draft");
        fs::write(&draft, what).expect("a file");
        fs::rename(draft, self.dir.path().join("control")).expect("a file");
    }

    /// The same command, with its store on this disk.
    pub fn under(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", LIBRARY.1.as_path()).env("FAULTY_DISK", self.dir.path());
        command
    }

    pub fn cli(&self, folder: &Folder, arguments: &[&str], input: &str) -> Done {
        finish(self.under(folder.command(arguments)), input)
    }

    /// Starts `run` on this disk.
    pub fn run(&self, folder: Folder, arguments: &[&str]) -> Gateway {
        let command = self.under(folder.command(&[&["run"], arguments].concat()));
        Gateway::start(folder, command)
    }

    /// Leaves of the store what was synced. Nothing may have it open.
    pub fn loses_its_power(&self, folder: &Folder) {
        for name in ["gateway.db", "gateway.db-wal", "gateway.db-sequence"] {
            let disk = self.dir.path().join(format!("{name}.disk"));
            if disk.exists() {
                fs::copy(disk, folder.state().join(name)).expect("what is on the disk");
            }
            drop(fs::remove_file(self.dir.path().join(format!("{name}.dirty"))));
        }
        drop(fs::remove_file(folder.state().join("gateway.db-shm")));
    }
}

/// A gateway with its store on a disk of ours, whose tokens the tests can make.
pub struct Faulty {
    pub disk: Disk,
    pub forge: Forge,
    pub gateway: Gateway,
    _platform: crate::platform::Platform,
}

impl Faulty {
    pub fn start() -> Self {
        // Freshness is what was read: no fault of writes may end admission.
        Self::with("\"500ms\"", "\"10s\"")
    }

    /// One that commits nothing but what a test asks for: after a commit that failed, the next writes nothing new.
    pub fn silent() -> Self {
        Self::with(NEVER, "\"1h\"")
    }

    fn with(heartbeat_interval: &str, max_staleness: &str) -> Self {
        let deployment = deployment_with(|options| {
            let options = options.set("store", "heartbeat_interval", heartbeat_interval);
            options.set("store", "max_staleness", max_staleness).set("log", "access", "false")
        });
        let (disk, forge) = (Disk::new(), Forge::of(&deployment));
        let Deployment { platform, gateway, .. } = deployment;
        let gateway = disk.run(gateway.stop(), &[]);
        Self { disk, forge, gateway, _platform: platform }
    }
}

/// Ends the token; says with which answer.
pub fn revoke(gateway: &Gateway, token: &str) -> Answer {
    gateway.exchange(delete(token))
}

/// Until when a fault is held that has to outlast this many seconds.
pub fn longer_than(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(fault_seconds().max(seconds))
}

/// What `make faults` asks for.
pub fn fault_seconds() -> u64 {
    std::env::var("FAULT_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What `/readyz` says beside its status.
pub fn said(gateway: &Gateway, member: &str) -> (u16, String) {
    let ready = gateway.admin("/readyz");
    (ready.status, ready.json()[member].to_string())
}

/// Waits until every revocation that waited is in the store.
#[track_caller]
pub fn none_waits(gateway: &Gateway) {
    let pending = || gateway.metric("ds_gateway_revocations_pending", &[]);
    eventually("the store to take what waits", || (pending() == 0.0).then_some(()));
}

/// The library, compiled once, and the folder that it lies in.
static LIBRARY: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = TempDir::new().expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/disk/faulty.c");
    let library = dir.path().join("faulty.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl");
    finish(compile, "").ok();
    (dir, library)
});
