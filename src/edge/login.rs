//! Passwords, checked on threads of their own in the time that nothing else wants: a storm of logins fills this queue and
//! nothing else. Where there is no such time, one more thread, the reserve, sees to it that a few get through.
//!
//! The threads only hash: the user's record is read before a login is queued. A user that does not exist, or is disabled,
//! costs a hash like any other, so that the time of an answer tells nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::failures::FailedLogins;
use crate::auth::endpoint::Credentials;
use crate::auth::password::{HashMemory, Phc};
use crate::config::Limits;
use crate::metrics::{Metrics, Span};
use crate::store::records::{User, UserRecord};

/// Why a login did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// Unknown user, wrong password or disabled: one answer.
    Refused,
    /// The queue is full, or the wait in it was too long.
    Busy,
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
    metrics: Arc<Metrics>,
}

struct Waiting {
    jobs: VecDeque<Job>,
    /// When a thread last took one or was done with one.
    moved: Instant,
    is_closed: bool,
}

/// Who takes jobs, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// At once, and works in idle time.
    Worker,
    /// When nothing has moved for [`STUCK`], and not before this; works as any thread does.
    Reserve { rests_until: Instant },
}

impl Queue {
    fn new(room: usize, metrics: Arc<Metrics>) -> Self {
        let waiting = Waiting { jobs: VecDeque::new(), moved: Instant::now(), is_closed: false };
        Self {
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
            changed_for_reserve: Condvar::new(),
            room,
            metrics,
        }
    }

    /// Whether there was room.
    fn push(&self, job: Job) -> bool {
        // Called where requests are served: not to wait for a worker that lost its core between two of its steps.
        let Some(mut waiting) = self.waiting.try_lock_for(LONGEST_LOCK) else { return false };
        let length = waiting.jobs.len();
        if length >= self.room {
            return false;
        }
        self.metrics.login_queue(1);
        waiting.jobs.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        if length == 0 {
            // Behind others, the reserve knows when its time comes.
            self.changed_for_reserve.notify_one();
        }
        true
    }

    fn is_full(&self) -> bool {
        self.waiting.try_lock_for(LONGEST_LOCK).is_none_or(|waiting| waiting.jobs.len() >= self.room)
    }

    /// The next job, if there is one to take now.
    fn try_pop(&self, rank: Rank) -> Option<Job> {
        self.next(&mut self.waiting.lock(), rank).ok()
    }

    /// Waits for the next job; `None` when there will be none.
    fn pop(&self, rank: Rank) -> Option<Job> {
        let changed = match rank {
            Rank::Worker => &self.changed,
            Rank::Reserve { .. } => &self.changed_for_reserve,
        };
        let mut waiting = self.waiting.lock();
        while !waiting.is_closed {
            match self.next(&mut waiting, rank) {
                Ok(job) => return Some(job),
                Err(Some(due)) => _ = changed.wait_until(&mut waiting, due),
                Err(None) => changed.wait(&mut waiting),
            }
        }
        None
    }

    /// The oldest job, if it is due, or else when it will be. One that is given up is due to everybody, to be dropped.
    fn next(&self, waiting: &mut Waiting, rank: Rank) -> Result<Job, Option<Instant>> {
        let oldest = waiting.jobs.front().ok_or(None)?;
        let now = Instant::now();
        if !oldest.is_given_up(now) {
            if let Rank::Reserve { rests_until } = rank {
                let due = (oldest.since.max(waiting.moved) + STUCK).max(rests_until);
                if due > now {
                    return Err(Some(due.min(oldest.since + MAX_WAIT)));
                }
            }
            waiting.moved = now;
        }
        self.metrics.login_queue(-1);
        waiting.jobs.pop_front().ok_or(None)
    }

    fn done(&self) {
        self.waiting.lock().moved = Instant::now();
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
    /// What the store has of that user.
    record: Option<UserRecord>,
    client: Option<IpAddr>,
    since: Instant,
    answer: oneshot::Sender<Result<Login, LoginError>>,
}

impl Job {
    /// Whether nobody waits for it any more.
    fn is_given_up(&self, now: Instant) -> bool {
        self.answer.is_closed() || self.since + MAX_WAIT <= now
    }
}

impl LoginPool {
    /// Starts the workers; they note failed logins in `failures`.
    pub fn start(
        limits: &Limits,
        metrics: Arc<Metrics>,
        failures: Arc<FailedLogins>,
    ) -> std::io::Result<Self> {
        let queue = Queue::new(limits.login_queue, Arc::clone(&metrics));
        let shared = Arc::new(Shared { queue, metrics, failures });
        // From here on whatever ends the pool, an error too, ends its threads.
        let pool = Self { shared };
        for _ in 0..limits.login_workers {
            pool.add("login", |shared| {
                give_way();
                work(shared);
            })?;
        }
        pool.add("login-reserve", stand_by)?;
        Ok(pool)
    }

    fn add(&self, name: &str, run: fn(&Shared)) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name(name.into()).spawn(move || run(&shared)).map(drop)
    }

    /// Is there no room for one more login?
    pub fn is_full(&self) -> bool {
        self.shared.queue.is_full()
    }

    /// Checks credentials against what the store has of that user. Waits for a thread for at most two seconds, for an answer
    /// for ten, and not at all if the queue is full.
    pub async fn check(
        &self,
        credentials: Credentials,
        record: Option<UserRecord>,
        client: Option<IpAddr>,
    ) -> Result<Login, LoginError> {
        let (answer, receiver) = oneshot::channel();
        let since = Instant::now();
        let Shared { queue, metrics, .. } = &*self.shared;
        if !queue.push(Job { credentials, record, client, since, answer }) {
            return Err(LoginError::Busy);
        }
        // No answer in time, or none at all: the same to who asked.
        let answer = tokio::time::timeout(LONGEST, receiver).await.map(Result::ok);
        let outcome = answer.ok().flatten().unwrap_or(Err(LoginError::Busy));
        metrics.span(Span::Login, since.elapsed());
        outcome
    }
}

/// Leaves the core to whoever else wants it, at once: a hash takes tens of milliseconds, a request microseconds
/// (docs/decisions/0011-logins-give-way.md).
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::unix::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id, thread_schedule_policy,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let priority = thread_priority::ThreadPriority::Min;
        // It asks for a priority too, which is not ours to have where the whole gateway has a lower one.
        let _ = set_thread_priority_and_policy(thread_native_id(), priority, idle);
        if !thread_schedule_policy().is_ok_and(|policy| policy == idle) {
            static SAID: std::sync::Once = std::sync::Once::new();
            SAID.call_once(|| log::warn!(
                "passwords are not hashed in idle time: the system forbids it; a storm of logins slows all requests"
            ));
        }
    }
}

/// A worker's life.
fn work(shared: &Shared) {
    let mut thread = Thread::default();
    loop {
        let next = shared.queue.try_pop(Rank::Worker).or_else(|| {
            // Kept for as long as one follows the other.
            thread.memory.release();
            shared.queue.pop(Rank::Worker)
        });
        let Some(job) = next else { return };
        thread.serve(shared, job);
    }
}

/// The reserve's.
fn stand_by(shared: &Shared) {
    let mut thread = Thread::default();
    let mut rests_until = Instant::now();
    while let Some(job) = shared.queue.pop(Rank::Reserve { rests_until }) {
        let start = Instant::now();
        thread.serve(shared, job);
        thread.memory.release();
        // However much an old hash costs, nine tenths of a core are left.
        rests_until = Instant::now() + start.elapsed() * 9;
    }
}

/// What each thread has of its own.
#[derive(Default)]
struct Thread {
    memory: HashMemory,
}

impl Thread {
    fn serve(&mut self, shared: &Shared, job: Job) {
        if job.is_given_up(Instant::now()) {
            // Dropped, which is an answer too.
            return;
        }
        let Job { credentials, record, client, answer, .. } = job;
        let check = || self.login(shared, &credentials, record, client);
        // A panic must not cost the pool one of its few threads.
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_or(Err(LoginError::Busy));
        // A client that went away does not want to know.
        let _ = answer.send(outcome);
        shared.queue.done();
    }

    fn login(
        &mut self,
        shared: &Shared,
        credentials: &Credentials,
        record: Option<UserRecord>,
        client: Option<IpAddr>,
    ) -> Result<Login, LoginError> {
        let (user, phc) = match record {
            Some(UserRecord { user, phc }) => (Some(user), phc),
            None => (None, Phc::decoy()),
        };
        let fits = phc.verify(&credentials.password, &mut self.memory);
        match user {
            Some(user) if fits && !user.disabled => {
                let rehashed = if phc.is_current() { None } else { rehash(credentials, &mut self.memory) };
                Ok(Login { user, rehashed })
            }
            user => {
                let name = user.as_ref().map(|user| user.identity.user.as_str());
                shared.failures.note(name, client);
                Err(LoginError::Refused)
            }
        }
    }
}

fn rehash(credentials: &Credentials, memory: &mut HashMemory) -> Option<Phc> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).ok()?;
    Phc::hash(&credentials.password, salt, memory)
}

/// Nothing moved for so long although one waits: the workers have no core, or hashes of many times today's cost.
const STUCK: Duration = Duration::from_millis(250);
/// The longest time that a login waits for a thread.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// The longest time until its answer: a thread may lose its core in the middle.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest time that a request waits to get into the queue.
const LONGEST_LOCK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::name::Name;
    use crate::auth::secret::Secret;

    /// One that somebody waits for while he keeps the other half.
    fn job(since: Instant) -> (Job, oneshot::Receiver<Result<Login, LoginError>>) {
        let user = Name::parse_user("anna").unwrap();
        let credentials = Credentials { user, password: Secret::new(b"password".to_vec()) };
        let (answer, receiver) = oneshot::channel();
        (Job { credentials, record: None, client: None, since, answer }, receiver)
    }

    #[test]
    fn the_reserve_takes_what_no_worker_has_taken() {
        let queue = Queue::new(2, Arc::default());
        let now = Instant::now();
        let (rested, resting) = (
            Rank::Reserve { rests_until: now },
            Rank::Reserve { rests_until: now + Duration::from_secs(3600) },
        );
        let (one, _wanted) = job(Instant::now());
        let (other, _wanted_too) = job(Instant::now());
        let (third, _not_yet) = job(Instant::now());
        assert!(queue.push(one) && queue.push(other));
        assert!(!queue.push(third), "there is room for two");
        assert!(queue.try_pop(resting).is_none(), "an hour is not over");
        assert!(queue.try_pop(Rank::Worker).is_some(), "a worker takes it at once");
        // As if something had moved in an hour's time, so that the clock of this test does not count.
        queue.waiting.lock().moved = now + Duration::from_secs(3600);
        assert!(queue.try_pop(rested).is_none(), "something moved");
        queue.waiting.lock().moved = now;
        assert!(queue.pop(rested).is_some(), "nothing did for a while");
        assert!(queue.try_pop(Rank::Worker).is_none() && queue.try_pop(rested).is_none());
    }

    #[test]
    fn the_reserve_wakes_for_a_job_and_all_for_the_end() {
        let queue = &Queue::new(1, Arc::default());
        thread::scope(|scope| {
            let rank = Rank::Reserve { rests_until: Instant::now() };
            let reserve = scope.spawn(move || queue.pop(rank).is_some() && queue.pop(rank).is_none());
            // For it to sleep by then, though nothing depends on it.
            let a_while = Duration::from_millis(50);
            thread::sleep(a_while);
            let (job, wanted) = job(Instant::now());
            assert!(queue.push(job));
            assert!(wanted.blocking_recv().is_err(), "it was taken, and dropped");
            let worker = scope.spawn(|| queue.pop(Rank::Worker).is_none());
            thread::sleep(a_while);
            queue.close();
            assert!(reserve.join().unwrap() && worker.join().unwrap());
        });
    }

    #[test]
    fn nobody_works_for_who_has_gone_or_waited_too_long() {
        let queue = Queue::new(9, Arc::default());
        let resting = Rank::Reserve { rests_until: Instant::now() + Duration::from_secs(3600) };
        let long_ago = Instant::now().checked_sub(MAX_WAIT * 2).unwrap();
        let (late, late_answer) = job(long_ago);
        let (gone, gone_answer) = job(Instant::now());
        let (good, _wanted) = job(Instant::now());
        drop(gone_answer);
        for job in [late, gone, good] {
            assert!(queue.push(job));
        }
        for _ in 0..2 {
            let job = queue.try_pop(resting).expect("one to be dropped, rest or not");
            assert!(job.is_given_up(Instant::now()));
        }
        assert!(late_answer.blocking_recv().is_err(), "it is told that nobody answers");
        assert!(queue.try_pop(resting).is_none(), "no work in its rest");
        let job = queue.try_pop(Rank::Worker).expect("the good one");
        assert!(!job.answer.is_closed());
    }
}
