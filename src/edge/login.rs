//! Passwords, checked on threads of their own, which let everything else go first: a storm of logins fills this queue and
//! nothing else.
//!
//! Each worker has its own connection to the store. A user that does not exist, or is disabled, costs a
//! hash like any other, so that the time of an answer tells nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::failures::FailedLogins;
use crate::auth::endpoint::Credentials;
use crate::auth::password::Phc;
use crate::config::Limits;
use crate::metrics::{Metrics, Span};
use crate::store::users::{User, find};
use crate::store::{Store, StoreError};

/// Why a login did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// Unknown user, wrong password or disabled: one answer.
    Refused,
    /// The queue is full, or the wait in it was too long.
    Busy,
    /// The store could not be read.
    Store(StoreError),
}

/// A login that succeeded.
#[derive(Debug)]
pub struct Login {
    /// As the store held it when the password was checked.
    pub user: User,
    /// The same password with today's costs, if the stored hash has others.
    pub rehashed: Option<Phc>,
}

/// The pool; dropping it ends its threads.
pub struct LoginPool {
    queue: SyncSender<Job>,
    metrics: Arc<Metrics>,
}

/// What the workers share.
struct Shared {
    store: Store,
    jobs: Mutex<Receiver<Job>>,
    metrics: Arc<Metrics>,
    failures: Arc<FailedLogins>,
}

struct Job {
    credentials: Credentials,
    client: Option<IpAddr>,
    since: Instant,
    answer: oneshot::Sender<Result<Login, LoginError>>,
}

impl LoginPool {
    /// Starts the workers; they note failed logins in `failures`.
    pub fn start(
        store: Store,
        limits: &Limits,
        metrics: Arc<Metrics>,
        failures: Arc<FailedLogins>,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(limits.login_queue);
        let shared =
            Arc::new(Shared { store, jobs: Mutex::new(jobs), metrics: Arc::clone(&metrics), failures });
        for _ in 0..limits.login_workers {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("login".into()).spawn(move || {
                give_way();
                work(&shared);
            })?;
        }
        Ok(Self { queue, metrics })
    }

    /// Checks credentials. Waits in the queue for at most two seconds, and not at all if it is full.
    pub async fn check(&self, credentials: Credentials, client: Option<IpAddr>) -> Result<Login, LoginError> {
        let (answer, receiver) = oneshot::channel();
        let since = Instant::now();
        self.queue.try_send(Job { credentials, client, since, answer }).map_err(|_| LoginError::Busy)?;
        self.metrics.login_queue(1);
        let outcome = receiver.await.unwrap_or(Err(LoginError::Busy));
        self.metrics.span(Span::Login, since.elapsed());
        outcome
    }
}

/// Puts this thread behind all others of the machine that want its core. A hash takes tens of milliseconds, a request
/// microseconds: among equals a storm of logins makes the slowest requests of a core eight times as slow, and so at most
/// twice (docs/benchmarks.md). Not the policy for idle time: on a busy machine nobody would get in at all.
fn give_way() {
    // Of the calling thread only, which is so on Linux alone. Where it is not allowed, all are equals as before.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
}

fn work(shared: &Shared) {
    let mut connection = None;
    loop {
        // One worker waits inside the lock, the others for it: the queue is handed on one by one.
        let Ok(job) = shared.jobs.lock().recv() else {
            return;
        };
        shared.metrics.login_queue(-1);
        let outcome = if job.answer.is_closed() || job.since.elapsed() > MAX_WAIT {
            Err(LoginError::Busy)
        } else {
            let check = || login(shared, &mut connection, &job);
            // A panic must not cost the pool one of its few workers.
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_or(Err(LoginError::Busy))
        };
        if matches!(outcome, Err(LoginError::Store(_))) {
            connection = None;
        }
        // A client that went away does not want to know.
        let _ = job.answer.send(outcome);
    }
}

fn login(shared: &Shared, connection: &mut Option<Connection>, job: &Job) -> Result<Login, LoginError> {
    let credentials = &job.credentials;
    let found = open(&shared.store, connection).and_then(|open| find(open, credentials.user.as_str()));
    let found = found.map_err(LoginError::Store)?;
    let (user, phc) = match found {
        Some((user, phc)) => (Some(user), phc),
        None => (None, Phc::decoy()),
    };
    let fits = phc.verify(&credentials.password);
    match user {
        Some(user) if fits && !user.disabled => {
            let rehashed = if phc.is_current() { None } else { rehash(credentials) };
            Ok(Login { user, rehashed })
        }
        user => {
            let name = user.as_ref().map(|user| user.identity.user.as_str());
            shared.failures.note(name, job.client);
            Err(LoginError::Refused)
        }
    }
}

fn open<'c>(store: &Store, connection: &'c mut Option<Connection>) -> Result<&'c Connection, StoreError> {
    Ok(match connection {
        Some(connection) => connection,
        None => connection.insert(store.connect()?),
    })
}

fn rehash(credentials: &Credentials) -> Option<Phc> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).ok()?;
    Phc::hash(&credentials.password, salt)
}

/// Of a thread, as `nice` counts.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;

/// The longest time that a login waits for a worker.
const MAX_WAIT: Duration = Duration::from_secs(2);
