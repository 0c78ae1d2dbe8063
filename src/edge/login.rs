//! Passwords, checked on threads of their own: a storm of logins fills this queue and nothing else.
//!
//! Each worker has its own connection to the store. A user that does not exist, or is disabled, costs a
//! hash like any other, so that the time of an answer tells nothing.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;

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

struct Job {
    credentials: Credentials,
    since: Instant,
    answer: oneshot::Sender<Result<Login, LoginError>>,
}

impl LoginPool {
    /// Starts the workers.
    pub fn start(store: &Store, limits: &Limits, metrics: &Arc<Metrics>) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(limits.login_queue);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..limits.login_workers {
            let (store, jobs, metrics) = (store.clone(), Arc::clone(&jobs), Arc::clone(metrics));
            thread::Builder::new().name("login".into()).spawn(move || work(&store, &jobs, &metrics))?;
        }
        Ok(Self { queue, metrics: Arc::clone(metrics) })
    }

    /// Checks credentials. Waits in the queue for at most two seconds, and not at all if it is full.
    pub async fn check(&self, credentials: Credentials) -> Result<Login, LoginError> {
        let (answer, receiver) = oneshot::channel();
        let since = Instant::now();
        self.queue.try_send(Job { credentials, since, answer }).map_err(|_| LoginError::Busy)?;
        self.metrics.login_queue(1);
        let outcome = receiver.await.unwrap_or(Err(LoginError::Busy));
        self.metrics.span(Span::Login, since.elapsed());
        outcome
    }
}

fn work(store: &Store, jobs: &Mutex<Receiver<Job>>, metrics: &Metrics) {
    let mut connection = None;
    loop {
        // One worker waits inside the lock, the others for it: the queue is handed on one by one.
        let Ok(job) = jobs.lock().recv() else {
            return;
        };
        metrics.login_queue(-1);
        let outcome = if job.answer.is_closed() || job.since.elapsed() > MAX_WAIT {
            Err(LoginError::Busy)
        } else {
            let check = || login(store, &mut connection, &job.credentials);
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

fn login(
    store: &Store,
    connection: &mut Option<Connection>,
    credentials: &Credentials,
) -> Result<Login, LoginError> {
    let found = open(store, connection).and_then(|open| find(open, credentials.user.as_str()));
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
        _ => Err(LoginError::Refused),
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

/// The longest time that a login waits for a worker.
const MAX_WAIT: Duration = Duration::from_secs(2);
