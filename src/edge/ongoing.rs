//! Requests in flight that a token admitted: each is ended soon after its token stops to hold.
//!
//! A worker has a list of its own requests, and a task that asks the gate about each of them again: whenever what the gate decides by was
//! replaced, and in each second. A request that is over sooner than [`GRACE`] is never ended, so that an answer which is on its way
//! arrives. Nobody else is woken, and nothing is written that another core reads. See decision 0054.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::clock_reading::read_clock;
use super::runtime::Runtime;
use crate::auth::denial::Denial;
use crate::auth::gate::{ClockReading, Permit};
use crate::clock::Clock;
use crate::store::read_gap::ReadGap;

/// The requests of one worker.
#[derive(Default)]
pub(super) struct Ongoing {
    list: Mutex<List>,
    /// How many requests were denied so far: while it is the same, none looks for itself.
    denied: AtomicU64,
    /// Told when the first request comes.
    begun: Notify,
    /// There is a task that asks.
    is_swept: AtomicBool,
}

#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    free: Vec<usize>,
}

/// A place for a request, whose buffers are used again.
#[derive(Default)]
struct Entry {
    permit: Option<Permit>,
    since: Option<Instant>,
    token: Vec<u8>,
    /// Where routes are observed.
    target: Option<Vec<u8>>,
    waker: Option<Waker>,
    denied: Option<Denial>,
}

/// A request on the list, for as long as this is there.
pub(super) struct Watched {
    ongoing: Arc<Ongoing>,
    number: usize,
    seen: u64,
    /// Of the task that is woken.
    waker: Option<Waker>,
}

impl Watched {
    /// Has its token ceased to hold? Wakes the task once it has.
    pub(super) fn poll_denied(&mut self, cx: &mut Context<'_>) -> Poll<Denial> {
        let denied = self.ongoing.denied.load(Ordering::Relaxed);
        if denied == self.seen && self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.seen = denied;
        let waker = self.waker.insert(cx.waker().clone());
        let mut list = self.ongoing.list.lock();
        let Some(entry) = list.entries.get_mut(self.number) else { return Poll::Pending };
        if let Some(denial) = entry.denied {
            return Poll::Ready(denial);
        }
        entry.waker = Some(waker.clone());
        Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut list = self.ongoing.list.lock();
        let Some(entry) = list.entries.get_mut(self.number) else { return };
        let mut token = std::mem::take(&mut entry.token);
        token.clear();
        *entry = Entry {
            token: if token.capacity() > LONG_TOKEN { Vec::new() } else { token },
            ..Entry::default()
        };
        list.free.push(self.number);
    }
}

impl Ongoing {
    /// Puts a request on the list that `permit` admitted with `token`. `target` is for where routes are observed.
    pub(super) fn watch(
        self: &Arc<Self>,
        permit: &Permit,
        token: &[u8],
        target: Option<&[u8]>,
        since: Instant,
    ) -> Watched {
        let mut list = self.list.lock();
        let number = list.free.pop().unwrap_or(list.entries.len());
        if number == list.entries.len() {
            list.entries.push(Entry::default());
        }
        if let Some(entry) = list.entries.get_mut(number) {
            entry.permit = Some(permit.clone());
            entry.since = Some(since);
            entry.token.extend_from_slice(token);
            entry.target = target.map(<[u8]>::to_vec);
        }
        if list.free.len() + 1 == list.entries.len() {
            self.begun.notify_one();
        }
        drop(list);
        Watched { ongoing: Arc::clone(self), number, seen: 0, waker: None }
    }

    /// Is there nobody yet who [`sweep`]s? The caller does from then on.
    pub(super) fn wants_sweeper(&self) -> bool {
        !self.is_swept.swap(true, Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        let list = self.list.lock();
        list.free.len() == list.entries.len()
    }

    /// Asks about the requests from `first` on, as many as may be asked about at once, and wakes those that are denied. Sets `is_early` where
    /// one of them is to be denied later.
    fn check(
        &self,
        first: usize,
        now: Instant,
        ask: impl Fn(&mut Permit, &[u8], Option<&[u8]>) -> Result<(), Denial>,
        is_early: &mut bool,
    ) -> Option<usize> {
        let mut list = self.list.lock();
        let next = first + AT_ONCE;
        let mut denied = 0;
        for entry in list.entries.iter_mut().skip(first).take(AT_ONCE) {
            let (Some(permit), None) = (&mut entry.permit, entry.denied) else { continue };
            let Err(denial) = ask(permit, &entry.token, entry.target.as_deref()) else { continue };
            if entry.since.is_some_and(|since| now.saturating_duration_since(since) < GRACE) {
                *is_early = true;
                continue;
            }
            entry.denied = Some(denial);
            denied += 1;
            entry.waker.take().into_iter().for_each(Waker::wake);
        }
        self.denied.fetch_add(denied, Ordering::Relaxed);
        (next < list.entries.len()).then_some(next)
    }
}

/// Asks about every request of a worker again, for as long as it runs.
pub(super) async fn sweep(
    ongoing: Arc<Ongoing>,
    runtime: Arc<ArcSwap<Runtime>>,
    clock: Clock,
    gap: Arc<ReadGap>,
) {
    let mut last = None;
    loop {
        if ongoing.is_empty() {
            ongoing.begun.notified().await;
        }
        sleep(PERIOD).await;
        let reading = read_clock(&clock, &gap).await;
        let runtime = runtime.load_full();
        // Read first: what is replaced from here on is seen at the next look.
        let decided_by = (runtime.gate.version(), reading.now, runtime.gate.is_stale(reading.uptime));
        if last == Some(decided_by) {
            continue;
        }
        let ask = |permit: &mut Permit, token: &[u8], target: Option<&[u8]>| {
            let admitted = runtime.gate.admit_again(permit, token, reading);
            // What would be denied goes on where its route is observed.
            admitted
                .or_else(|denial| if is_observed(&runtime, target, reading) { Ok(()) } else { Err(denial) })
        };
        let (mut at, mut is_early) = (0, false);
        while let Some(next) = ongoing.check(at, Instant::now(), ask, &mut is_early) {
            at = next;
            // Others have their turn.
            yield_now().await;
        }
        last = (!is_early).then_some(decided_by);
    }
}

fn is_observed(runtime: &Runtime, target: Option<&[u8]>, reading: ClockReading) -> bool {
    let observed = runtime.observation.as_ref().zip(target);
    observed.is_some_and(|(observation, target)| observation.observes(target, reading))
}

/// A request that has taken less time is not ended yet.
const GRACE: Duration = Duration::from_millis(500);

/// How often a worker that has requests in flight looks whether it must ask about them.
const PERIOD: Duration = Duration::from_millis(20);

/// Requests that are asked about at once, about half a millisecond. If all of them end, others wait some ten milliseconds; fewer at once, and the frames
/// by which streams of one connection end are written one by one.
const AT_ONCE: usize = 1024;

/// The buffer of a longer token is let go.
const LONG_TOKEN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::gate::TokenField;
    use crate::edge::decide::tests::{RUNTIME, TOKEN, clock, observing};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn permit() -> Permit {
        RUNTIME.gate.admit(TokenField::One(TOKEN.as_bytes()), clock()).unwrap()
    }

    #[test]
    fn who_is_denied_is_woken_once_and_nobody_else_is() {
        let (ongoing, woken) = (Arc::<Ongoing>::default(), Arc::<Woken>::default());
        let (waker, permit) = (Waker::from(Arc::clone(&woken)), permit());
        let mut cx = Context::from_waker(&waker);
        let long_ago = Instant::now().checked_sub(GRACE).unwrap();
        let count = AT_ONCE * 2 + 3;
        let watch = |number: usize| ongoing.watch(&permit, &[number as u8], None, long_ago);
        let mut all: Vec<Watched> = (0..count).map(watch).collect();
        assert!(all.iter_mut().all(|watched| watched.poll_denied(&mut cx).is_pending()));
        let deny = |number: u8| {
            let ask = |_: &mut Permit, token: &[u8], _: Option<&[u8]>| {
                if token == [number] { Err(Denial::RevokedToken) } else { Ok(()) }
            };
            let (mut at, mut is_early) = (Some(0), false);
            while let Some(first) = at {
                at = ongoing.check(first, Instant::now(), ask, &mut is_early);
            }
            is_early
        };
        assert!(!deny(1));
        let denied = |all: &mut Vec<Watched>, cx: &mut Context<'_>| {
            let is_denied = all.iter_mut().map(|watched| watched.poll_denied(cx).is_ready());
            is_denied.enumerate().filter(|(_, is)| *is).map(|(at, _)| at).collect::<Vec<_>>()
        };
        let expected: Vec<usize> = (0..count).filter(|number| *number as u8 == 1).collect();
        assert!(expected.len() > 2);
        assert_eq!(denied(&mut all, &mut cx), expected);
        let woken = || woken.0.load(Ordering::Relaxed) as usize;
        assert_eq!(woken(), expected.len());
        deny(1);
        assert_eq!(woken(), expected.len(), "a second time");
        // A place that is free says nothing of the next request in it.
        drop(all.remove(1));
        let mut next = ongoing.watch(&permit, b"next", None, long_ago);
        assert!(next.poll_denied(&mut cx).is_pending());
        drop((all, next));
        assert!(ongoing.is_empty());
    }

    #[test]
    fn a_young_request_is_denied_once_it_is_older() {
        let ongoing = Arc::<Ongoing>::default();
        let (now, permit) = (Instant::now(), permit());
        let mut young = ongoing.watch(&permit, b"t", None, now);
        let mut cx = Context::from_waker(Waker::noop());
        let ask = |_: &mut Permit, _: &[u8], _: Option<&[u8]>| Err(Denial::RevokedUser);
        for (age, expected) in [(Duration::ZERO, true), (GRACE - PERIOD, true), (GRACE, false)] {
            let mut is_early = false;
            ongoing.check(0, now + age, ask, &mut is_early);
            assert_eq!(is_early, expected, "{age:?}");
            assert_eq!(young.poll_denied(&mut cx).is_pending(), expected, "{age:?}");
        }
    }

    /// The next request would go on there as well.
    #[test]
    fn a_request_on_a_route_that_is_observed_is_not_denied() {
        let runtime = observing(&["/ds-api/agents/*"]);
        for (target, expected) in [("/ds-api/x", true), ("/ds-api/agents/1", false)] {
            assert_eq!(is_observed(&runtime, Some(target.as_bytes()), clock()), expected, "{target}");
        }
        assert!(!is_observed(&RUNTIME, Some(b"/ds-api/x"), clock()));
    }
}
