//! An upgrade, as the process sees it that is replaced: it starts the binary anew, hands its sockets over, and ends once the new process serves.
//!
//! Until the new process says that it accepts connections nothing is given up: whatever goes wrong before, this process serves on.

use std::net::TcpListener;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use parking_lot::{Condvar, Mutex};
use sd_notify::NotifyState;
use tokio::sync::Notify;

use super::other_process::OtherProcess;
use super::program::Program;
use super::reload::Reloader;
use super::sockets::PREDECESSOR;
use crate::control::{Link, Progress, Reply, Server, Upgraded};
use crate::edge::ending::Ending;

/// Upgrades the gateway.
pub(super) struct Upgrader {
    pub(super) id: String,
    /// The store, as messages name it.
    pub(super) store: String,
    /// None where it could not be found out.
    pub(super) program: Option<Program>,
    /// What listens, once more, for as long as it may be handed over.
    pub(super) sockets: Mutex<Vec<TcpListener>>,
    pub(super) other: Arc<OtherProcess>,
    pub(super) reloader: Arc<Reloader>,
    /// Whom this process has succeeded.
    pub(super) predecessor: Option<String>,
    ending: Arc<Ending>,
    /// Told once a successor serves.
    pub(super) handed_over: Arc<Notify>,
    pub(super) control: OnceLock<Server>,
    stage: Mutex<Stage>,
    changed: Condvar,
}

/// How far an upgrade is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none.
    None,
    /// One waits for the end of the one before.
    Waiting,
    /// The new process loads.
    Loading,
    /// It has loaded everything, and this is its name.
    Ready(String),
    /// It accepts connections.
    Serving(String),
    /// It cannot.
    Failed(String),
    /// It serves, and this process ends.
    Over(String),
    /// This process ends without one.
    Stopping,
}

impl Upgrader {
    /// Of the gateway `id` with that store.
    pub(super) fn new(
        other: Arc<OtherProcess>,
        reloader: Arc<Reloader>,
        ending: Arc<Ending>,
        id: String,
        store: String,
    ) -> Self {
        Self {
            id,
            store,
            program: None,
            sockets: Mutex::default(),
            other,
            reloader,
            predecessor: None,
            ending,
            handed_over: Arc::default(),
            control: OnceLock::new(),
            stage: Mutex::new(Stage::None),
            changed: Condvar::new(),
        }
    }

    /// The same, of a process that was started like this, listens on these, and has succeeded that gateway.
    pub(super) fn with(
        self,
        program: Option<Program>,
        sockets: Vec<TcpListener>,
        predecessor: Option<String>,
    ) -> Self {
        Self { program, sockets: Mutex::new(sockets), predecessor, ..self }
    }

    /// Upgrades on a thread of its own. What comes of it is logged.
    pub(super) fn upgrade_soon(self: &Arc<Self>) {
        let upgrader = Arc::clone(self);
        let started =
            thread::Builder::new().name("upgrade".into()).spawn(move || drop(upgrader.upgrade(&|_| {})));
        if let Err(error) = started {
            log::error!("there is no upgrade: no thread can be started for it: {error}");
        }
    }

    /// Upgrades, and says who serves then. Blocks.
    pub(super) fn upgrade(&self, progress: &Progress<'_>) -> Reply {
        let upgraded = self.begin().and_then(|()| {
            self.wait_for_predecessor(progress)
                .and_then(|()| self.replace(progress))
                .inspect_err(|_| self.give_up())
        });
        match upgraded {
            Ok(upgraded) => Reply::Upgraded(upgraded),
            Err(error) => {
                log::error!("there is no upgrade, and this process serves on: {error}");
                Reply::Error(error)
            }
        }
    }

    /// One at a time, and none where the end of this process ends all others.
    fn begin(&self) -> Result<(), String> {
        if std::process::id() == 1 {
            return Err("this is process 1 of a container, whose end ends the container: replace the container, and set server.drain_delay".into());
        }
        let mut stage = self.stage.lock();
        match &*stage {
            Stage::None => *stage = Stage::Waiting,
            Stage::Over(id) => return Err(format!("gateway {id} has taken over already")),
            Stage::Stopping => return Err(STOPPING.into()),
            _ => return Err("an upgrade is under way already".into()),
        }
        Ok(())
    }

    /// At most one process goes on with what it had.
    fn wait_for_predecessor(&self, progress: &Progress<'_>) -> Result<(), String> {
        let Some(id) = &self.predecessor else { return Ok(()) };
        let mut told: Option<Instant> = None;
        while !self.other.has_ended(id) {
            if *self.stage.lock() == Stage::Stopping {
                return Err(STOPPING.into());
            }
            if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                told = Some(Instant::now());
                progress(format!(
                    "waiting for gateway {id}, which was replaced before and still has connections (server.upgrade_grace)"
                ));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Starts the new process and waits until it serves.
    fn replace(&self, progress: &Progress<'_>) -> Result<Upgraded, String> {
        // What the new process reads is what this one has: nothing is reloaded meanwhile.
        let _unchanged = self.reloader.running.lock();
        let program = self.program.as_ref().ok_or("it is not known how this process was started")?;
        let mut child = self.start(program)?;
        let process = child.id();
        log::info!(process; "an upgrade has begun: the new process loads");
        progress(format!("process {process} has been started: {}", program.path().display()));
        let id = match self.wait(&mut child) {
            Ok(id) => id,
            Err(error) => {
                // It may be gone already.
                let _ = child.kill();
                let _ = child.wait();
                // It was the only other process: the one before has ended.
                self.other.peers.unlink();
                return Err(error);
            }
        };
        if let Err(error) = sd_notify::notify(&[NotifyState::MainPid(process)]) {
            log::warn!("systemd does not know of the new process {process}: {error}");
        }
        *self.stage.lock() = Stage::Over(id.clone());
        self.sockets.lock().clear();
        self.control.get().into_iter().for_each(Server::remove);
        log::info!(gateway = id, process; "a new process serves; this one ends once what it has is done");
        self.handed_over.notify_one();
        // Whoever hears of the upgrade may count on being served by the new process.
        let deadline = Instant::now() + LONGEST_ACCEPT;
        while self.ending.is_accepting() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Upgraded { id, process })
    }

    fn start(&self, program: &Program) -> Result<Child, String> {
        let shown = program.path().display();
        let sockets = self.sockets.lock();
        let duplicates: Result<Vec<_>, _> = sockets.iter().map(TcpListener::try_clone).collect();
        let duplicates = duplicates.map_err(|error| format!("the sockets cannot be handed over: {error}"))?;
        let mappings = (FIRST_SOCKET..)
            .zip(duplicates)
            .map(|(child_fd, socket)| FdMapping { parent_fd: socket.into(), child_fd })
            .collect::<Vec<_>>();
        self.begin_to_load()?;
        let mut command = program.command();
        command
            .env("LISTEN_FDS", mappings.len().to_string())
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .env(PREDECESSOR, self.other.state_dir.join(&self.id));
        command.fd_mappings(mappings).map_err(|error| error.to_string())?;
        command.spawn().map_err(|error| match program.gone_folder() {
            Some(folder) => format!(
                "{shown} cannot be started: the folder {} that this process was started in is gone: make it again, or restart",
                folder.display()
            ),
            None => format!("{shown} cannot be started: {error}"),
        })
    }

    /// Unless this process was told to stop while the upgrade waited, for a reload perhaps.
    fn begin_to_load(&self) -> Result<(), String> {
        let mut stage = self.stage.lock();
        if *stage == Stage::Stopping {
            return Err(STOPPING.into());
        }
        *stage = Stage::Loading;
        Ok(())
    }

    /// Waits until the new process serves; says its name.
    fn wait(&self, child: &mut Child) -> Result<String, String> {
        let begun = Instant::now();
        let (mut deadline, mut is_ready) = (begun + LONGEST_START, false);
        let mut stage = self.stage.lock();
        loop {
            match &*stage {
                Stage::Serving(id) => return Ok(id.clone()),
                Stage::Failed(errors) => return Err(format!("the new process cannot start:\n{errors}")),
                Stage::Stopping => return Err(STOPPING.into()),
                // From now on nothing is acknowledged without it.
                Stage::Ready(_) if !is_ready => {
                    is_ready = true;
                    deadline = deadline.min(Instant::now() + LONGEST_TAKE_OVER);
                }
                _ => {}
            }
            let _ = self.changed.wait_for(&mut stage, LOOK);
            // What it has said counts, and not that it ended then, or that its time was over.
            if matches!(&*stage, Stage::Failed(_) | Stage::Serving(_) | Stage::Stopping) {
                continue;
            }
            let error = match child.try_wait() {
                Ok(None) if Instant::now() < deadline => continue,
                Ok(None) => {
                    let limit = begun.elapsed().as_secs();
                    format!("the new process was not ready within {limit} s: the log says what it did")
                }
                Ok(Some(status)) => end_of(status),
                Err(error) => format!("it is not known how the new process does: {error}"),
            };
            // Whatever it says from here on comes too late.
            *stage = Stage::Waiting;
            return Err(error);
        }
    }

    /// This process serves on.
    fn give_up(&self) {
        let mut stage = self.stage.lock();
        if *stage != Stage::Stopping {
            *stage = Stage::None;
        }
    }

    /// This process stops: there is no upgrade any more, and its sockets are its listeners' alone. A successor that serves goes on.
    pub(super) fn stop(&self) {
        let mut stage = self.stage.lock();
        if !matches!(*stage, Stage::Serving(_) | Stage::Over(_)) {
            *stage = Stage::Stopping;
        }
        drop(stage);
        self.changed.notify_all();
        self.sockets.lock().clear();
    }

    /// Who has taken over, if somebody has.
    pub(super) fn successor(&self) -> Option<String> {
        match &*self.stage.lock() {
            Stage::Over(id) => Some(id.clone()),
            _ => None,
        }
    }

    /// From the new process: it has loaded everything.
    pub(super) fn take_over(&self, id: String, store: &str) -> Reply {
        if store != self.store {
            return Reply::Error(format!(
                "its store is {store}, and that of the gateway that runs is {}: another store needs a restart",
                self.store
            ));
        }
        let mut stage = self.stage.lock();
        if *stage != Stage::Loading {
            return Reply::Error("no successor is expected".into());
        }
        let ending = Arc::clone(&self.ending);
        let on_end = move || {
            // Before that it is an upgrade that failed.
            if ending.is_handed_over() {
                log::error!(
                    "the process that has taken over has ended; this one ends too, so that its supervisor starts another"
                );
                ending.stop();
            }
        };
        let linked =
            Link::connect(&self.other.state_dir, &id).and_then(|link| self.other.link(&id, link, on_end));
        if let Err(error) = linked {
            return Reply::Error(format!("its control socket cannot be reached: {error}"));
        }
        *stage = Stage::Ready(id);
        drop(stage);
        // From here on it hears of each; what waits was there before.
        Reply::Pending(self.other.pending.lines())
    }

    /// From the new process: it accepts connections.
    pub(super) fn serving(&self) -> Reply {
        let mut stage = self.stage.lock();
        let Stage::Ready(id) = &*stage else { return Reply::Error("no successor is expected".into()) };
        *stage = Stage::Serving(id.clone());
        self.changed.notify_all();
        Reply::Done
    }

    /// From the new process: it cannot start.
    pub(super) fn cannot_start(&self, errors: String) -> Reply {
        let mut stage = self.stage.lock();
        if matches!(*stage, Stage::Loading | Stage::Ready(_)) {
            *stage = Stage::Failed(errors);
            self.changed.notify_all();
        }
        Reply::Done
    }
}

fn end_of(status: ExitStatus) -> String {
    format!("the new process ended before it was ready ({status}): the log says why")
}

/// Why there is no upgrade at the end of a process.
const STOPPING: &str = "this process is stopping";

/// The number of the first socket that a process is handed (`sd_listen_fds(3)`).
const FIRST_SOCKET: i32 = 3;

/// How long the new process may load.
const LONGEST_START: Duration = Duration::from_secs(60);

/// How long it may take to accept, once it has loaded everything.
const LONGEST_TAKE_OVER: Duration = Duration::from_secs(10);

/// How long this process may go on accepting, once it is to accept no more.
const LONGEST_ACCEPT: Duration = Duration::from_secs(5);

/// How often it is looked whether a process lives.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is said what is waited for.
const TELL_AGAIN: Duration = Duration::from_secs(10);
