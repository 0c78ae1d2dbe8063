//! Threads that check passwords, in the time that nothing else wants; and one that makes sure that some are checked where there is
//! no such time.
//!
//! The threads only hash: the user's record is read before a login is queued. A user that does not exist, or is disabled, costs
//! a hash as any other.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::answer_time::AnswerTime;
use super::failed_logins::FailedLogins;
use super::job::{Answer, Job, check};
use super::outcome::{LoginError, Verified};
use super::priority::{hash_at_lower_priority, hash_in_idle_time};
use super::queue::{Full, Pushed, Queue, Waiter};
use super::sketch::Ticks;
use super::throttle::{Counts, Reason, Throttle, Throttled};
use crate::auth::password::HashMemory;
use crate::auth::user_source::SourceName;
use crate::clock::core_time;
use crate::metrics::{LoginOutcome, Metrics};

/// The pool; dropping it ends its threads.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

/// What its threads share.
pub(super) struct Shared {
    pub(super) throttle: Throttle,
    pub(super) answer_time: AnswerTime,
    failures: Arc<FailedLogins>,
    metrics: Arc<Metrics>,
    /// A worker never waits for it: parking_lot may hand it to one that waits, which then holds it without a core to run on.
    state: Mutex<State>,
    /// For the thread that hashes where the workers cannot.
    changed_for_floor: Condvar,
    workers: usize,
    began: Instant,
}

struct State {
    queue: Queue<Arc<Job>>,
    /// What workers are hashing.
    in_hand: Vec<InHand>,
    /// Workers that are parked until there is something to do.
    parked: Vec<Thread>,
    /// When the fallback worker may hash next.
    floor_due: Instant,
    /// What a hash takes a worker of late.
    cost: Duration,
    is_closed: bool,
}

struct InHand {
    job: Arc<Job>,
    since: Instant,
    /// The fallback worker hashes it too.
    is_shared: bool,
}

/// Who takes logins, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// At once; hashes in idle time.
    Worker,
    /// Those that no worker takes or ends in time, for a share of a core.
    Fallback,
}

impl Pool {
    /// Starts the threads.
    pub(super) fn start(
        workers: usize,
        throttle: Throttle,
        metrics: Arc<Metrics>,
        failures: Arc<FailedLogins>,
    ) -> std::io::Result<Self> {
        let began = Instant::now();
        let state = State {
            queue: Queue::new(),
            in_hand: Vec::new(),
            parked: Vec::new(),
            floor_due: began,
            cost: USUAL_COST,
            is_closed: false,
        };
        let shared = Shared {
            throttle,
            answer_time: AnswerTime::new(),
            failures,
            metrics,
            state: Mutex::new(state),
            changed_for_floor: Condvar::new(),
            workers,
            began,
        };
        // From here on whatever ends the pool, an error too, ends its threads.
        let pool = Self { shared: Arc::new(shared) };
        for _ in 0..workers {
            pool.add("login", |shared| {
                hash_in_idle_time();
                work(shared, Rank::Worker);
            })?;
        }
        pool.add("login-fallback", |shared| {
            hash_at_lower_priority();
            work(shared, Rank::Fallback);
        })?;
        Ok(pool)
    }

    fn add(&self, name: &str, run: fn(&Shared)) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name(name.into()).spawn(move || run(&shared)).map(drop)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Queues a login. It is answered in any case.
    pub(super) fn push(&self, waiter: Waiter, job: Job) {
        self.shared.push(waiter, Arc::new(job));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let parked = {
            let mut state = self.shared.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.parked)
        };
        parked.iter().for_each(Thread::unpark);
        self.shared.changed_for_floor.notify_all();
    }
}

impl Shared {
    /// The time as the throttle counts it.
    pub(super) fn ticks(&self) -> Ticks {
        let elapsed = self.began.elapsed().as_millis() * u128::from(Ticks::PER_SECOND) / 1000;
        Ticks(u32::try_from(elapsed).unwrap_or(u32::MAX))
    }

    fn push(&self, waiter: Waiter, job: Arc<Job>) {
        // Called where requests are served: not to wait for a worker that lost its core between two of its steps.
        let Some(mut state) = self.state.try_lock_for(LONGEST_LOCK) else {
            return self.turn_away(&job, LoginOutcome::QueueFull);
        };
        let capacity = capacity(self.workers, state.cost);
        let was_empty = state.queue.len() == 0;
        let pushed = state.queue.push(waiter, job, capacity);
        let worker = state.parked.pop();
        drop(state);
        if let Some(worker) = worker {
            worker.unpark();
        }
        match pushed {
            Pushed::Waits => self.metrics.login_queue(1),
            Pushed::InPlaceOf(displaced) => self.turn_away(&displaced, LoginOutcome::Displaced),
            Pushed::Refused(Full::Queue, refused) => {
                return self.turn_away(&refused, LoginOutcome::QueueFull);
            }
            Pushed::Refused(Full::Pair, refused) => return self.turn_away(&refused, LoginOutcome::PairFull),
        }
        if was_empty {
            // Behind others, the fallback worker knows when its time comes.
            self.changed_for_floor.notify_one();
        }
    }

    fn turn_away(&self, job: &Job, outcome: LoginOutcome) {
        self.metrics.login(outcome);
        job.end(Err(LoginError::Busy), job.since.elapsed());
    }

    /// Waits for the next login; `None` when there will be none. `release` is called before it waits.
    fn next(&self, rank: Rank, release: impl FnMut()) -> Option<Arc<Job>> {
        match rank {
            Rank::Worker => self.next_for_worker(release),
            Rank::Fallback => self.next_for_fallback(release),
        }
    }

    fn next_for_worker(&self, mut release: impl FnMut()) -> Option<Arc<Job>> {
        let me = thread::current();
        loop {
            let mut state = self.lock_of_worker();
            if state.is_closed {
                return None;
            }
            // Where it woke for no reason, it is still in the list, and who pushes must not take it for one that waits.
            state.parked.retain(|thread| thread.id() != me.id());
            if let Some(job) = self.take(&mut state, Rank::Worker) {
                return Some(job);
            }
            state.parked.push(me.clone());
            drop(state);
            release();
            thread::park();
        }
    }

    fn lock_of_worker(&self) -> MutexGuard<'_, State> {
        loop {
            if let Some(state) = self.state.try_lock() {
                return state;
            }
            thread::sleep(LONGEST_LOCK);
        }
    }

    fn next_for_fallback(&self, mut release: impl FnMut()) -> Option<Arc<Job>> {
        let mut state = self.state.lock();
        while !state.is_closed {
            match due(&state) {
                Some(due) if due <= Instant::now() => {
                    if let Some(job) = self.take(&mut state, Rank::Fallback) {
                        return Some(job);
                    }
                }
                Some(due) => _ = self.changed_for_floor.wait_until(&mut state, due),
                None => {
                    release();
                    self.changed_for_floor.wait(&mut state);
                }
            }
        }
        None
    }

    /// The next login that may be checked, counted. Those before it that may not are answered.
    fn take(&self, state: &mut State, rank: Rank) -> Option<Arc<Job>> {
        let now = Instant::now();
        if rank == Rank::Fallback {
            let is_stuck = |one: &&mut InHand| !one.is_shared && one.since + STUCK <= now;
            while let Some(one) = state.in_hand.iter_mut().find(is_stuck) {
                one.is_shared = true;
                if !one.job.is_answered() {
                    return Some(Arc::clone(&one.job));
                }
            }
        }
        for job in state.queue.drain(|job| job.is_given_up(now)) {
            self.metrics.login_queue(-1);
            self.turn_away(&job, LoginOutcome::Late);
        }
        while let Some(job) = state.queue.pop() {
            self.metrics.login_queue(-1);
            if let Err(throttled) = self.throttle.take(&job.counts, job.credentials.passwords(), self.ticks())
            {
                self.throttled(throttled);
                job.end(Err(LoginError::Throttled(throttled)), job.since.elapsed());
                continue;
            }
            if rank == Rank::Worker {
                state.in_hand.push(InHand { job: Arc::clone(&job), since: now, is_shared: false });
                self.changed_for_floor.notify_one();
            }
            return Some(job);
        }
        None
    }

    /// Counts passwords that another source is asked about, if they may be checked.
    pub(super) fn count(&self, counts: &Counts, passwords: u32) -> Result<(), LoginError> {
        // By one thread at a time, the workers included.
        let state = self.state.try_lock_for(LONGEST_LOCK).ok_or(LoginError::Busy)?;
        let taken = self.throttle.take(counts, passwords, self.ticks());
        drop(state);
        taken.map_err(|throttled| {
            self.throttled(throttled);
            LoginError::Throttled(throttled)
        })
    }

    /// Counts a wrong password for that user, if there is one.
    pub(super) fn refused(&self, user: Option<&str>, client: Option<IpAddr>, source: SourceName) {
        self.failures.note(user, client, source);
        self.metrics.login(LoginOutcome::Refused);
    }

    /// Counts a login that was refused before anything was hashed.
    pub(super) fn throttled(&self, throttled: Throttled) {
        self.metrics.login(match throttled.reason {
            Reason::Account => LoginOutcome::ThrottledAccount,
            Reason::Source => LoginOutcome::ThrottledSource,
            Reason::Address => LoginOutcome::ThrottledAddress,
            Reason::Network => LoginOutcome::ThrottledNetwork,
        });
    }

    /// A thread is done with a login, which took it so long by the clock and of its core.
    fn done(&self, rank: Rank, job: &Arc<Job>, wall: Duration, core: Duration) {
        let now = Instant::now();
        let charge = core * FALLBACK_SHARE;
        match rank {
            Rank::Worker => {
                let mut state = self.lock_of_worker();
                state.in_hand.retain(|one| !Arc::ptr_eq(&one.job, job));
                state.cost = (state.cost * 7 + wall) / 8;
                // While workers get on, the fallback worker is not needed, and soon after they do not it is.
                let due = state.floor_due.max(now) + charge;
                state.floor_due = state.floor_due.max(due.min(now + STUCK));
            }
            Rank::Fallback => {
                let mut state = self.state.lock();
                let started = now.checked_sub(wall).unwrap_or(now);
                state.floor_due = state.floor_due.max(started) + charge;
            }
        }
    }
}

/// When the fallback worker may take a login; `None` as long as nothing changes.
fn due(state: &State) -> Option<Instant> {
    let waits = state.queue.iter().map(|job| job.since + GRACE);
    let stuck = state.in_hand.iter().filter(|one| !one.is_shared).map(|one| one.since + STUCK);
    Some(waits.chain(stuck).min()?.max(state.floor_due))
}

/// How many logins may wait: those that the workers check in [`LONGEST_QUEUE`].
fn capacity(workers: usize, cost: Duration) -> usize {
    let each = LONGEST_QUEUE.as_micros() / cost.as_micros().max(1);
    usize::try_from(each).unwrap_or(usize::MAX).saturating_mul(workers).clamp(LEAST_QUEUE, MOST_QUEUE)
}

/// What a thread does until the pool ends.
fn work(shared: &Shared, rank: Rank) {
    let mut memory = HashMemory::default();
    // The memory is kept for as long as one login follows the other.
    while let Some(job) = shared.next(rank, || memory.release()) {
        let (started, core) = (Instant::now(), core_time());
        let waited = started.saturating_duration_since(job.since);
        // A panic must not cost the pool one of its few threads.
        let check = || check(&job, &mut memory);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        let (wall, core) = (started.elapsed(), core_time().saturating_sub(core));
        shared.answer_time.observe(wall, core, job.credentials.passwords());
        shared.done(rank, &job, wall, core);
        settle(shared, &job, result.unwrap_or(Err(LoginError::Busy)), waited);
        if rank == Rank::Fallback {
            memory.release();
        }
    }
}

/// Answers a login, if no other thread has, and counts what came of it.
fn settle(shared: &Shared, job: &Job, result: Result<Verified, LoginError>, waited: Duration) {
    let Some(answer) = job.answer.lock().take() else { return };
    match &result {
        Ok(_) => {
            shared.throttle.give_back(&job.counts, job.credentials.passwords());
            shared.metrics.login(LoginOutcome::Ok);
        }
        Err(LoginError::Refused) => {
            let name = job.record.as_ref().map(|record| record.user.identity.user.as_str());
            shared.refused(name, job.client, SourceName::Store);
        }
        // A panic; what it said is in the log.
        Err(_) => shared.metrics.login(LoginOutcome::Late),
    }
    // A client that went away does not want to know.
    let _ = answer.send(Answer { result, waited });
}

/// The longest time that all who wait take, and the fewest and the most that may.
const LONGEST_QUEUE: Duration = Duration::from_secs(2);
const LEAST_QUEUE: usize = 16;
const MOST_QUEUE: usize = 10_000;
/// What a hash takes until it has been measured.
const USUAL_COST: Duration = Duration::from_millis(50);
/// The fallback worker hashes for one part of so many of a core's time.
const FALLBACK_SHARE: u32 = 4;
/// A login that waited so long is one for the fallback worker.
const GRACE: Duration = Duration::from_millis(100);
/// So is one that a worker has not ended by then: it has lost its core.
const STUCK: Duration = Duration::from_millis(250);
/// The longest time that a request waits to get into the queue.
const LONGEST_LOCK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
