use super::*;
use std::net::IpAddr;

use tokio::sync::oneshot;

use crate::auth::endpoint::Credentials;
use crate::auth::name::Name;
use crate::auth::secret::Secret;
use crate::auth::source::{Network, Source};
use crate::service::login::job::MAX_WAIT;
use crate::service::login::sketch::Sketch;
use crate::service::login::throttle::{Attempt, Debt};
use std::net::Ipv4Addr;

fn shared() -> Shared {
    Shared {
        throttle: Throttle::new(Sketch::new([1; 32])),
        answer_time: AnswerTime::new(),
        failures: Arc::default(),
        metrics: Arc::default(),
        state: Mutex::new(State {
            queue: Queue::new(),
            in_hand: Vec::new(),
            parked: Vec::new(),
            floor_due: Instant::now(),
            cost: USUAL_COST,
            is_closed: false,
        }),
        changed_for_floor: Condvar::new(),
        workers: 1,
        began: Instant::now(),
    }
}

type Answered = oneshot::Receiver<Answer>;

/// One from an address of its own, that somebody waits for while the other half is kept.
fn job(shared: &Shared, number: u8, since: Instant) -> (Waiter, Arc<Job>, Answered) {
    let client = IpAddr::from(Ipv4Addr::new(10, 0, number, 1));
    let from = Some((Source::of(client), Network::of(client)));
    let user = Name::parse_user("anna").unwrap();
    let attempt = Attempt { name: user.as_str(), unlocks: 0, source: from, is_known: true };
    let counts = shared.throttle.counts(&attempt);
    let credentials = Credentials { user, password: Secret::new(b"password".to_vec()), variants: Vec::new() };
    let (answer, receiver) = oneshot::channel();
    let job = Job {
        credentials,
        record: None,
        counts,
        client: Some(client),
        since,
        answer: Mutex::new(Some(answer)),
    };
    let waiter = Waiter { is_known: true, from, pair: number.into(), debt: Debt::default() };
    (waiter, Arc::new(job), receiver)
}

fn push(shared: &Shared, number: u8, since: Instant) -> (Arc<Job>, Answered) {
    let (waiter, job, receiver) = job(shared, number, since);
    shared.push(waiter, Arc::clone(&job));
    (job, receiver)
}

fn ago(duration: Duration) -> Instant {
    Instant::now().checked_sub(duration).unwrap()
}

#[test]
fn fallback_worker_takes_what_no_worker_takes() {
    let shared = shared();
    let (job, _wanted) = push(&shared, 1, Instant::now());
    let due = || due(&shared.state.lock());
    assert_eq!(due(), Some(job.since + GRACE));
    let taken = shared.next(Rank::Fallback, || ()).expect("after a while");
    assert!(Arc::ptr_eq(&taken, &job) && job.since.elapsed() >= GRACE);
    // A hash of 25 ms by itself, which a busy core made 40.
    shared.done(Rank::Fallback, &job, Duration::from_millis(40), Duration::from_millis(25));
    let rest = shared.state.lock().floor_due.saturating_duration_since(Instant::now());
    assert!(rest > Duration::from_millis(30) && rest <= Duration::from_millis(60), "{rest:?}");
    assert_eq!(due(), None, "until somebody logs in");
}

#[test]
fn fallback_worker_leaves_logins_to_workers_that_make_progress() {
    let shared = shared();
    let (first, _wanted) = push(&shared, 1, ago(GRACE));
    let (_second, _wanted_too) = push(&shared, 2, ago(GRACE));
    assert!(shared.take(&mut shared.state.lock(), Rank::Worker).is_some());
    shared.done(Rank::Worker, &first, Duration::from_millis(80), Duration::from_millis(80));
    let due = due(&shared.state.lock()).expect("one still waits");
    let rest = due.saturating_duration_since(Instant::now());
    assert!(rest > STUCK / 2 && rest <= STUCK, "{rest:?}");
}

#[test]
fn a_login_that_a_worker_cannot_end_is_checked_again_and_answered_once() {
    let shared = shared();
    let (_, mut wanted) = push(&shared, 1, Instant::now());
    let stuck = shared.next(Rank::Worker, || ()).expect("the login");
    shared.state.lock().in_hand[0].since = ago(STUCK);
    let again = shared.next(Rank::Fallback, || ()).expect("the same login");
    assert!(Arc::ptr_eq(&again, &stuck));
    settle(&shared, &again, Err(LoginError::Refused), Duration::ZERO);
    assert_eq!(wanted.try_recv().unwrap().result.unwrap_err(), LoginError::Refused);
    assert_eq!(due(&shared.state.lock()), None, "not a third time");
    settle(&shared, &stuck, Err(LoginError::Refused), Duration::ZERO);
    shared.done(Rank::Worker, &stuck, Duration::from_secs(1), Duration::from_millis(25));
    assert_eq!(shared.failures.take().rows()[0].count, 1, "and counted once");
    assert!(shared.state.lock().in_hand.is_empty());
}

#[test]
fn nobody_works_for_who_has_gone_or_waited_too_long() {
    let shared = shared();
    let (_, mut late) = push(&shared, 1, ago(MAX_WAIT));
    let (_, gone) = push(&shared, 2, Instant::now());
    let (good, _wanted) = push(&shared, 3, Instant::now());
    drop(gone);
    let taken = shared.next(Rank::Worker, || ()).expect("the good one");
    assert!(Arc::ptr_eq(&taken, &good));
    assert_eq!(late.try_recv().unwrap().result.unwrap_err(), LoginError::Busy);
}

#[test]
fn as_many_wait_as_are_checked_in_two_seconds() {
    let millis = Duration::from_millis;
    for (workers, cost, expected) in
        [(1, 50, 40), (4, 25, 320), (1, 1000, 16), (256, 1, MOST_QUEUE), (1, 0, MOST_QUEUE)]
    {
        assert_eq!(capacity(workers, millis(cost)), expected, "{workers} of {cost} ms");
    }
}

#[test]
fn all_threads_end_with_the_pool() {
    let throttle = Throttle::new(Sketch::new([1; 32]));
    let pool = Pool::start(2, throttle, Arc::default(), Arc::default()).unwrap();
    let shared = Arc::downgrade(&pool.shared);
    let (_job, answer) = push(&pool.shared, 1, Instant::now());
    assert_eq!(answer.blocking_recv().unwrap().result.unwrap_err(), LoginError::Refused);
    drop(pool);
    // Threads of the idle class may wait long for a core, where other tests have all of them.
    let ended = (0..6000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        shared.strong_count() == 0
    });
    assert!(ended, "a thread holds what they share");
}
