//! Passwords, checked on threads of their own, which let everything else go first: a storm of logins fills this queue and
//! nothing else.
//!
//! Each worker has its own connection to the store. A user that does not exist, or is disabled, costs a
//! hash like any other, so that the time of an answer tells nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::failures::FailedLogins;
use crate::auth::endpoint::Credentials;
use crate::auth::password::{HashMemory, Phc};
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
    shared: Arc<Shared>,
}

/// What the workers share.
struct Shared {
    store: Store,
    queue: Queue,
    metrics: Arc<Metrics>,
    failures: Arc<FailedLogins>,
}

/// Jobs that wait, up to a number. Of a lock that sleeps and not of a channel that spins: a worker may lose its core in the
/// middle, and who waits for it must not keep it from that core.
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    room: usize,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

/// What a worker does next.
enum Next {
    Job(Job),
    /// Nothing came.
    Pause,
    /// Nothing will.
    End,
}

impl Queue {
    /// Whether there was room.
    fn push(&self, job: Job) -> bool {
        let mut waiting = self.waiting.lock();
        let has_room = waiting.jobs.len() < self.room;
        if has_room {
            waiting.jobs.push_back(job);
            drop(waiting);
            self.changed.notify_one();
        }
        has_room
    }

    /// Waits for the next job, for at most so long.
    fn pop(&self, patience: Option<Duration>) -> Next {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.is_closed {
                return Next::End;
            }
            if let Some(job) = waiting.jobs.pop_front() {
                return Next::Job(job);
            }
            match until {
                None => self.changed.wait(&mut waiting),
                Some(until) if self.changed.wait_until(&mut waiting, until).timed_out() => {
                    return Next::Pause;
                }
                Some(_) => {}
            }
        }
    }

    fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.changed.notify_all();
    }
}

impl Drop for LoginPool {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
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
        let queue = Queue { waiting: Mutex::default(), changed: Condvar::new(), room: limits.login_queue };
        let shared = Arc::new(Shared { store, queue, metrics, failures });
        // From here on whatever ends the pool, an error too, ends its threads.
        let pool = Self { shared };
        for _ in 0..limits.login_workers {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new().name("login".into()).spawn(move || {
                give_way();
                work(&shared);
            })?;
        }
        Ok(pool)
    }

    /// Checks credentials. Waits in the queue for at most two seconds, and not at all if it is full.
    pub async fn check(&self, credentials: Credentials, client: Option<IpAddr>) -> Result<Login, LoginError> {
        let (answer, receiver) = oneshot::channel();
        let since = Instant::now();
        let Shared { queue, metrics, .. } = &*self.shared;
        if !queue.push(Job { credentials, client, since, answer }) {
            return Err(LoginError::Busy);
        }
        metrics.login_queue(1);
        let outcome = receiver.await.unwrap_or(Err(LoginError::Busy));
        metrics.span(Span::Login, since.elapsed());
        outcome
    }
}

/// Puts this thread behind the others that want its core: a hash takes tens of milliseconds, a request microseconds
/// (docs/decisions/0011-logins-give-way.md).
fn give_way() {
    // Of the calling thread only, which is so on Linux alone. Where it is not allowed, all are equals as before.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
}

fn work(shared: &Shared) {
    let mut connection = None;
    let mut memory = HashMemory::default();
    loop {
        let job = match shared.queue.pop(memory.is_held().then_some(KEPT)) {
            Next::Job(job) => job,
            Next::Pause => {
                memory.release();
                continue;
            }
            Next::End => return,
        };
        shared.metrics.login_queue(-1);
        let outcome = if job.answer.is_closed() || job.since.elapsed() > MAX_WAIT {
            Err(LoginError::Busy)
        } else {
            let check = || login(shared, &mut connection, &mut memory, &job);
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
    shared: &Shared,
    connection: &mut Option<Connection>,
    memory: &mut HashMemory,
    job: &Job,
) -> Result<Login, LoginError> {
    let credentials = &job.credentials;
    let found = open(&shared.store, connection).and_then(|open| find(open, credentials.user.as_str()));
    let found = found.map_err(LoginError::Store)?;
    let (user, phc) = match found {
        Some((user, phc)) => (Some(user), phc),
        None => (None, Phc::decoy()),
    };
    let fits = phc.verify(&credentials.password, memory);
    match user {
        Some(user) if fits && !user.disabled => {
            let rehashed = if phc.is_current() { None } else { rehash(credentials, memory) };
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

fn rehash(credentials: &Credentials, memory: &mut HashMemory) -> Option<Phc> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).ok()?;
    Phc::hash(&credentials.password, salt, memory)
}

/// Of a thread, as `nice` counts.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;

/// How long a worker without work keeps the memory that it hashed in.
const KEPT: Duration = Duration::from_secs(1);
/// The longest time that a login waits for a worker.
const MAX_WAIT: Duration = Duration::from_secs(2);
