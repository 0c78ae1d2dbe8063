//! Passwords, checked on threads of their own in the time that nothing else wants: a storm of logins fills this queue and
//! nothing else. Where there is no such time, one more thread, the reserve, sees to it that a few get through.
//!
//! Each has its own connection to the store. A user that does not exist, or is disabled, costs a
//! hash like any other, so that the time of an answer tells nothing.

use std::collections::VecDeque;
use std::iter::repeat_n;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
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

/// What its threads share.
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
    /// For the workers.
    changed: Condvar,
    /// For the reserve.
    changed_for_reserve: Condvar,
    room: usize,
}

struct Waiting {
    jobs: VecDeque<Job>,
    /// When one was last taken.
    taken: Instant,
    is_closed: bool,
}

/// Who takes jobs, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// At once, and works in idle time.
    Worker,
    /// When the workers come to nothing; works as any thread does.
    Reserve,
}

/// What a thread does next.
enum Next {
    Job(Job),
    /// Nothing came.
    Pause,
    /// Nothing will.
    End,
}

impl Queue {
    fn new(room: usize) -> Self {
        let waiting = Waiting { jobs: VecDeque::new(), taken: Instant::now(), is_closed: false };
        Self {
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
            changed_for_reserve: Condvar::new(),
            room,
        }
    }

    /// Whether there was room.
    fn push(&self, job: Job) -> bool {
        let mut waiting = self.waiting.lock();
        let has_room = waiting.jobs.len() < self.room;
        if has_room {
            waiting.jobs.push_back(job);
            drop(waiting);
            self.changed.notify_one();
            self.changed_for_reserve.notify_one();
        }
        has_room
    }

    /// Waits for the next job, for at most so long.
    fn pop(&self, rank: Rank, patience: Option<Duration>) -> Next {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.is_closed {
                return Next::End;
            }
            let now = Instant::now();
            let due = waiting.jobs.front().map(|oldest| match rank {
                Rank::Worker => now,
                Rank::Reserve => oldest.since.max(waiting.taken) + STUCK,
            });
            if due.is_some_and(|due| due <= now)
                && let Some(job) = waiting.jobs.pop_front()
            {
                waiting.taken = now;
                return Next::Job(job);
            }
            if until.is_some_and(|until| until <= now) {
                return Next::Pause;
            }
            let changed = match rank {
                Rank::Worker => &self.changed,
                Rank::Reserve => &self.changed_for_reserve,
            };
            match due.into_iter().chain(until).min() {
                Some(at) => _ = changed.wait_until(&mut waiting, at),
                None => changed.wait(&mut waiting),
            }
        }
    }

    fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.changed.notify_all();
        self.changed_for_reserve.notify_all();
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
        let shared = Arc::new(Shared { store, queue: Queue::new(limits.login_queue), metrics, failures });
        // From here on whatever ends the pool, an error too, ends its threads.
        let pool = Self { shared };
        for rank in repeat_n(Rank::Worker, limits.login_workers).chain([Rank::Reserve]) {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new().name(rank.name().into()).spawn(move || {
                if rank == Rank::Worker {
                    give_way();
                }
                work(&shared, rank);
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

impl Rank {
    /// Of its threads, as tools show them: at most 15 bytes.
    const fn name(self) -> &'static str {
        match self {
            Self::Worker => "login",
            Self::Reserve => "login-reserve",
        }
    }
}

/// Leaves the core to whoever else wants it, at once: a hash takes tens of milliseconds, a request microseconds
/// (docs/decisions/0011-logins-give-way.md).
fn give_way() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // Where that is not allowed, or not known, all are equals.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
}

fn work(shared: &Shared, rank: Rank) {
    let mut connection = None;
    let mut memory = HashMemory::default();
    loop {
        let job = match shared.queue.pop(rank, memory.is_held().then_some(KEPT)) {
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

/// For so long no waiting login was taken: the workers get no core.
const STUCK: Duration = Duration::from_millis(250);
/// How long a thread without work keeps the memory that it hashed in.
const KEPT: Duration = Duration::from_secs(1);
/// The longest time that a login waits for a worker.
const MAX_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::name::Name;
    use crate::auth::secret::Secret;

    const AGE: Duration = Duration::from_secs(3600);
    /// None: whoever has nothing to do says so at once.
    const PATIENCE: Option<Duration> = Some(Duration::ZERO);

    fn job(since: Instant) -> Job {
        let user = Name::parse_user("anna").unwrap();
        let credentials = Credentials { user, password: Secret::new(b"password".to_vec()) };
        Job { credentials, client: None, since, answer: oneshot::channel().0 }
    }

    #[test]
    fn the_reserve_takes_what_the_workers_come_to_nothing_with() {
        let queue = Queue::new(2);
        // As if both were from an hour ahead, so that the clock does not count.
        queue.waiting.lock().taken = Instant::now() + AGE;
        assert!(queue.push(job(Instant::now())) && queue.push(job(Instant::now())));
        assert!(!queue.push(job(Instant::now())), "there is room for two");
        assert!(matches!(queue.pop(Rank::Reserve, PATIENCE), Next::Pause), "one was taken just now");
        assert!(matches!(queue.pop(Rank::Worker, PATIENCE), Next::Job(_)), "a worker takes it at once");
        assert!(matches!(queue.pop(Rank::Worker, PATIENCE), Next::Job(_)));
        assert!(matches!(queue.pop(Rank::Worker, PATIENCE), Next::Pause));
        assert!(matches!(queue.pop(Rank::Reserve, PATIENCE), Next::Pause));

        assert!(queue.push(job(Instant::now() + AGE)));
        assert!(matches!(queue.pop(Rank::Reserve, PATIENCE), Next::Pause), "it has not waited yet");
        assert!(matches!(queue.pop(Rank::Worker, PATIENCE), Next::Job(_)));

        // Nobody takes this one, so the reserve does once it has waited, though it was told to wait for ever.
        assert!(queue.push(job(Instant::now())));
        assert!(matches!(queue.pop(Rank::Reserve, None), Next::Job(_)));

        queue.close();
        assert!(matches!(queue.pop(Rank::Reserve, None), Next::End));
        assert!(matches!(queue.pop(Rank::Worker, None), Next::End));
    }
}
