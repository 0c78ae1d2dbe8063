//! The other process of an upgrade, as either sees it: for as long as both live, neither acknowledges what the other has not applied.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::auth::gate::Gate;
use crate::clock::Clock;
use crate::control::{Link, Reply, Request};
use crate::service::login::passwords::Logins;
use crate::service::pending_revocations::Pending;
use crate::state_dir::presence::{Liveness, liveness};
use crate::store::peers::{Ask, Peers};
use crate::store::sequence_waits::SequenceWaits;
use crate::store::{StoreError, block_on};

/// What the two processes have to do with each other.
pub(super) struct OtherProcess {
    pub(super) state_dir: PathBuf,
    pub(super) peers: Peers,
    pub(super) pending: Arc<Pending>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Clock,
    pub(super) sequence_waits: Arc<SequenceWaits>,
    pub(super) logins: Arc<Logins>,
    /// It has said that it ends, and leaves no change of users that it has begun.
    pub(super) leaves_nothing: AtomicBool,
    /// This process serves nobody any more.
    pub(super) is_idle: AtomicBool,
    /// A gateway that has said so of itself. It has ended, whatever its process still does: its threads that hash passwords run in idle time, of which there may be
    /// none for many seconds, and without them the system ends no process.
    pub(super) idle: Mutex<Option<String>>,
}

impl OtherProcess {
    /// Asks the gateway `id` by `link` before anything is acknowledged, until it has ended; `on_end` is called then.
    pub(super) fn link(
        self: &Arc<Self>,
        id: &str,
        link: Link,
        on_end: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (asks, asked) = channel();
        let (other, id) = (Arc::clone(self), id.to_owned());
        thread::Builder::new().name("other process".into()).spawn(move || {
            if other.ask_until_it_ends(&id, link, &asked) {
                // Before the questions that are left are dropped: those who wait see by it that nobody is left to be asked.
                other.peers.unlink();
                drop(asked);
                on_end();
            }
        })?;
        self.peers.link(asks);
        Ok(())
    }

    /// Whether it has ended, and not the wish to ask it.
    fn ask_until_it_ends(&self, id: &str, mut link: Link, asked: &Receiver<Ask>) -> bool {
        loop {
            match asked.recv_timeout(LOOK) {
                Ok(first) => {
                    let asks = std::iter::once(first).chain(asked.try_iter());
                    let is_ended = |link: &mut Link| self.is_over(id, link);
                    if let Err(waiting) = ask(&mut link, asks, is_ended) {
                        // In this order: who is not answered sees by it that nobody is left to be asked.
                        self.peers.unlink();
                        drop(waiting);
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            if self.is_over(id, &mut link) {
                return true;
            }
        }
    }

    /// Its lock says so, or it has said so itself; where it has no lock, the end of its connection does.
    fn is_over(&self, id: &str, link: &mut Link) -> bool {
        self.is_idle_there(id)
            || match liveness(&self.state_dir, id) {
                Liveness::Running => false,
                Liveness::Ended => true,
                Liveness::Unknown => link.is_closed(),
            }
    }

    fn is_idle_there(&self, id: &str) -> bool {
        self.idle.lock().as_deref() == Some(id)
    }

    /// Applies all that is committed now.
    pub(super) fn apply(&self) -> Reply {
        if self.is_idle.load(Ordering::Relaxed) {
            return Reply::Done;
        }
        let look = async { Ok::<_, StoreError>(self.sequence_waits.look(LONGEST_LOOK).await) };
        match block_on(look) {
            Ok(true) => Reply::Done,
            Ok(false) | Err(_) => Reply::Late,
        }
    }

    /// Holds a revocation that waits for the store.
    pub(super) fn hold(&self, record: &str) -> Reply {
        match self.pending.hold(record, &self.gate, self.clock.lived()) {
            Ok(()) => Reply::Done,
            Err(error) => {
                Reply::Error(format!("a revocation that waits for the store is not understood: {error}"))
            }
        }
    }

    /// The other one ends, and has counted so many failed logins. `idle` is its name where it serves nobody any more.
    pub(super) fn ended(&self, idle: Option<String>, login_counts: &str, leaves_changes: bool) -> Reply {
        self.leaves_nothing.store(!leaves_changes, Ordering::Relaxed);
        if idle.is_some() {
            *self.idle.lock() = idle;
        }
        let counts = STANDARD.decode(login_counts).unwrap_or_default();
        if self.logins.take_over(&counts) {
            Reply::Done
        } else {
            Reply::Error("the counts of failed logins are not understood".into())
        }
    }

    /// What has been counted of failed logins, for the other process.
    pub(super) fn login_counts(&self) -> String {
        STANDARD.encode(self.logins.save())
    }

    /// Says that this process ends, to the one that serves in its place; whether that one has heard it. Where nobody is served any more there is
    /// nothing left to be applied.
    pub(super) fn say_that_it_ends(
        &self,
        (id, successor): (&str, &str),
        is_idle: bool,
        leaves_changes: bool,
    ) -> bool {
        self.is_idle.store(is_idle, Ordering::Relaxed);
        let (id, login_counts) = (id.to_owned(), self.login_counts());
        let request = Request::Ended { id, is_idle, login_counts, leaves_changes };
        let told = Link::ask_once(&self.state_dir, successor, &request, LONGEST_LOOK);
        let is_told = matches!(told, Ok(Reply::Done));
        if !is_told {
            log::warn!("the new process has not been told what was counted of failed logins: {told:?}");
        }
        is_told
    }

    /// Has this gateway, and what it was linked by, ended? One that is paused has not.
    pub(super) fn has_ended(&self, id: &str) -> bool {
        self.is_idle_there(id) || liveness(&self.state_dir, id) != Liveness::Running
    }
}

/// One answer is for all that wait: what is committed by then is applied. An error is that the other process has ended; those that wait are not answered then.
fn ask(
    link: &mut Link,
    asks: impl Iterator<Item = Ask>,
    has_ended: impl Fn(&mut Link) -> bool,
) -> Result<(), Vec<oneshot::Sender<bool>>> {
    let mut waiting = Vec::new();
    for ask in asks {
        match ask {
            Ask::Apply(answer) => waiting.push(answer),
            Ask::Hold(record) => match link.ask(&Request::Hold { record }, LONGEST_LOOK) {
                Ok(Reply::Done) => {}
                // The process that it was told to first writes it, or is told to again.
                other => log::warn!(
                    "the other process does not hold a revocation that waits for the store: {other:?}"
                ),
            },
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let asked = Instant::now();
    let answer = link.ask(&Request::Apply, LONGEST_LOOK);
    // A process that ends closes its connections some time before its lock.
    while answer.is_err() && asked.elapsed() < LONGEST_LOOK {
        if has_ended(link) {
            return Err(waiting);
        }
        thread::sleep(CLOSING);
    }
    let is_applied = matches!(answer, Ok(Reply::Done));
    if !is_applied {
        log::warn!("the other process of the upgrade has not applied a change in time: {answer:?}");
    }
    for waits in waiting {
        // Who does not wait any more was told that it took too long.
        let _ = waits.send(is_applied);
    }
    Ok(())
}

/// How often it is looked whether the other process lives.
const LOOK: Duration = Duration::from_millis(200);

/// How often it is looked whether a process that has closed its connection lives.
const CLOSING: Duration = Duration::from_millis(5);

/// How long one look at the store may take.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
