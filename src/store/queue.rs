//! The commands that wait for a commit: a bounded queue in front of the thread that carries them out, several in one transaction.
//!
//! Upkeep waits until nothing else does, or has waited for long. A caller hears of its command only after the commit that holds it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::activity::Activity;
use super::command::Actor;
use super::ending;
use super::error::StoreError;
use super::health::Health;
use super::sql::connection::Connection;
use super::sql::transaction::{Apply, Group, Time, Transaction};

/// Hands commands to the writer's thread. Dropping it ends the thread once the queue is empty.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    activity: Arc<Activity>,
}

impl Writer {
    /// Starts the thread, which does its work until there are no more jobs.
    pub(super) fn start(
        work: impl FnOnce(&Receiver<Box<dyn Job>>, &Activity) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let activity = Arc::<Activity>::default();
        let shown = Arc::clone(&activity);
        let thread = thread::Builder::new().name("store-writer".into()).spawn(move || work(&jobs, &shown))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), activity })
    }

    /// How it is doing.
    pub(super) fn health(&self) -> Health {
        self.activity.health()
    }

    /// Carries a command out; the future resolves when it is durable, or has failed. Never waits for room.
    pub(super) async fn execute<C: Apply>(&self, command: C, actor: Actor) -> Result<C::Outcome, StoreError> {
        let (reply, receiver) = oneshot::channel();
        let job = Box::new(Queued { command: Some(command), actor, result: None, reply });
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        self.activity.queued();
        queue.try_send(job).map_err(|error| {
            self.activity.taken(1);
            match error {
                TrySendError::Full(_) => StoreError::QueueFull,
                TrySendError::Disconnected(_) => StoreError::Stopped,
            }
        })?;
        receiver.await.unwrap_or(Err(StoreError::Stopped))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        // What was accepted is committed, and the connection closed, before the caller goes on. A commit that hangs is
        // waited for by nobody: its caller was told so.
        if let Some(thread) = self.thread.take() {
            ending::join(thread, || self.activity.health().hangs());
        }
    }
}

/// A command in the queue, whatever its type.
pub(super) trait Job: Send {
    /// Whether it waits until nothing else does.
    fn is_upkeep(&self) -> bool;
    /// Whether much is written by it and by commands like it.
    fn is_bulk(&self) -> bool;
    /// Whether keys may be revoked by it.
    fn revokes_keys(&self) -> bool;
    /// Whether gateways are told of it though it takes no sequence.
    fn is_told(&self) -> bool;
    /// With which others it may ask together.
    fn group(&self) -> Group;
    /// Asks what it is known to ask, and does nothing with the answers.
    fn foresee(&self, connection: Connection<'_>);
    /// Carries it out in the running transaction; says whether that is to be kept.
    fn run(&mut self, connection: Connection<'_>, sequence: &Cell<u64>, time: &Time) -> bool;
    /// Tells the caller what became of it, once the commit is over.
    fn settle(self: Box<Self>, commit: &Result<(), StoreError>);
}

struct Queued<C: Apply> {
    command: Option<C>,
    actor: Actor,
    result: Option<Result<C::Outcome, StoreError>>,
    reply: oneshot::Sender<Result<C::Outcome, StoreError>>,
}

impl<C: Apply> Job for Queued<C> {
    fn is_upkeep(&self) -> bool {
        C::IS_UPKEEP
    }

    fn is_bulk(&self) -> bool {
        C::IS_BULK
    }

    fn revokes_keys(&self) -> bool {
        C::REVOKES_KEYS
    }

    fn is_told(&self) -> bool {
        C::IS_TOLD
    }

    fn group(&self) -> Group {
        self.command.as_ref().map_or(Group::Alone, Apply::group)
    }

    fn foresee(&self, connection: Connection<'_>) {
        if let Some(command) = &self.command {
            command.foresee(&connection);
        }
    }

    fn run(&mut self, connection: Connection<'_>, sequence: &Cell<u64>, time: &Time) -> bool {
        if let Some(command) = self.command.take() {
            let transaction = Transaction::new(connection, sequence, &self.actor, time);
            // A panic costs one command, not the thread that all of them need; the hook has logged it.
            let applied = catch_unwind(AssertUnwindSafe(|| command.apply(&transaction)));
            self.result = Some(applied.unwrap_or_else(|_| Err(StoreError::Failed("a task panicked".into()))));
        }
        matches!(self.result, Some(Ok(_)))
    }

    fn settle(self: Box<Self>, commit: &Result<(), StoreError>) {
        let result = match (self.result, commit) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.clone()),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(StoreError::Stopped),
        };
        // A caller that went away does not want to know.
        let _ = self.reply.send(result);
    }
}

/// Upkeep that was taken from the queue, and since when it waits.
pub(super) type Upkeep = VecDeque<(Instant, Box<dyn Job>)>;

/// What is committed together next: what waits, or one of upkeep where nothing else does; `None` at the end.
pub(super) fn next(jobs: &Receiver<Box<dyn Job>>, upkeep: &mut Upkeep) -> Option<Vec<Box<dyn Job>>> {
    loop {
        let first = if upkeep.is_empty() { Some(jobs.recv().ok()?) } else { None };
        let (waiting, more): (Vec<_>, Vec<_>) =
            first.into_iter().chain(jobs.try_iter()).take(BATCH).partition(|job| job.is_upkeep());
        upkeep.extend(waiting.into_iter().map(|job| (Instant::now(), job)));
        let is_due =
            |(since, _): &mut (Instant, _)| more.is_empty() || since.elapsed() >= LONGEST_UPKEEP_WAIT;
        let due = upkeep.pop_front_if(is_due);
        let batch: Vec<_> = more.into_iter().chain(due.map(|(_, job)| job)).collect();
        if !batch.is_empty() {
            return Some(batch);
        }
    }
}

/// More waiting commands than this, and the next one is told that the store is busy.
const QUEUE: usize = 1024;

/// The most commands in one commit.
const BATCH: usize = 256;

/// Upkeep that has waited so long joins the next commit, or a writer that is never idle would fill the disk.
const LONGEST_UPKEEP_WAIT: Duration = Duration::from_millis(250);
