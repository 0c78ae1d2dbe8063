//! One request and the head of its answer, whatever protocol the client speaks: sent to the platform, and tried again where that is safe.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::buffers::consume;
use super::platform::{Asker, Failed, Platform};
use super::resources::{Resources, Work};
use super::response::{self, AnswerHead, Body, Context, Head, Read};
use super::taken::Taken;
use crate::auth::cors::Sharing;
use crate::auth::reply::{Malformed, PlatformFault, Reply};
use crate::edge::cut::Cut;
use crate::edge::errors::{platform_fault, try_fault};
use crate::edge::ongoing::Watched;
use crate::edge::response::MAX_INTERIM;
use crate::edge::retry::count;
use crate::metrics::TryFault;

/// How a request ended.
#[derive(Default)]
pub(super) struct Ended {
    /// What the client was told; 0 where it was told nothing.
    pub(super) status: u16,
    /// Bytes of the answer's body.
    pub(super) sent: u64,
    /// May the connection go on?
    pub(super) goes_on: bool,
    /// It lasts as long as somebody listens: a stream of events, or another protocol.
    pub(super) is_event_stream: bool,
    /// It was ended from outside.
    pub(super) cut: Option<Cut>,
}

impl Ended {
    /// Notes that it was ended from outside, if it was: nothing more can be said to the client.
    pub(super) fn cut(&mut self, cut: Option<Cut>, resources: &Resources) {
        let Some(reason) = cut else { return };
        reason.count(&resources.gateway.shared.metrics);
        (self.status, self.goes_on, self.cut) = (reason.status(), false, cut);
    }
}

/// Ends an exchange that takes longer than its request may, or whose token no longer holds; whether it did. What its caller drops then takes
/// its connection to the platform with it.
pub(super) async fn within(
    limit: Option<Duration>,
    watched: &mut Option<Watched>,
    mut exchange: Pin<&mut impl Future<Output = ()>>,
) -> Option<Cut> {
    let exchange = poll_fn(|cx| {
        if exchange.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        match watched {
            Some(watched) => watched.poll_denied(cx).map(|denial| Some(Cut::Denied(denial))),
            None => Poll::Pending,
        }
    });
    match limit {
        None => exchange.await,
        Some(limit) => timeout(limit, exchange).await.unwrap_or(Some(Cut::Overdue)),
    }
}

/// Sends the request until a server has begun to answer it.
pub(super) async fn begin(
    resources: &Resources,
    client: &mut impl Asker,
    taken: &mut Taken,
    work: &mut Work,
) -> Result<Platform, Failed> {
    loop {
        let mut platform = match Platform::connect(resources, client, taken, work).await {
            Ok(platform) => platform,
            // Nothing was sent.
            Err(failed @ (Failed::Connect(_) | Failed::Try(_))) => {
                let fault = match &failed {
                    Failed::Connect(error) => try_fault(error, false),
                    Failed::Try(fault) => Some(*fault),
                    _ => None,
                };
                count(&mut taken.state, fault);
                if resources.gateway.may_retry(&taken.state, true) {
                    continue;
                }
                return Err(failed);
            }
            Err(other) => return Err(other),
        };
        work.came.clear();
        let fault = match platform.ask(client, work).await {
            Ok(()) => return Ok(platform),
            Err(Failed::Try(TryFault::Closed)) if platform.is_kept => TryFault::KeptConnectionClosed,
            Err(Failed::Try(fault)) => fault,
            Err(other) => return Err(other),
        };
        count(&mut taken.state, Some(fault));
        let is_safe = fault == TryFault::KeptConnectionClosed && taken.is_idempotent;
        if !(is_safe && resources.gateway.may_retry(&taken.state, false)) {
            return Err(Failed::Try(fault));
        }
    }
}

/// What came of an answer.
pub(super) enum Came {
    /// An interim one, which another one follows.
    Interim,
    /// One that changes the protocol of the connection; `work.came` has what follows it.
    Switched,
    /// The head of the final one, of which `work.came` has no more.
    Head(Answer),
}

/// A final answer whose head has come.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) is_event_stream: bool,
    pub(super) status: u16,
}

/// Reads the head of an answer into `out`.
pub(super) async fn read_head(
    client: &mut impl Asker,
    taken: &mut Taken,
    platform: &mut Platform,
    came: &mut Vec<u8>,
    sharing: Sharing<'_>,
    out: &mut impl AnswerHead,
) -> Result<Came, Failed> {
    let invalid = |taken: &mut Taken, fault| Err(Failed::Try(fault).noted(taken));
    loop {
        let request_id = taken.state.request_id.as_str();
        let handshake = taken.handshake.as_deref();
        let context =
            Context { is_head: taken.is_head, request_id, closes: taken.closes, sharing, handshake };
        match response::read(came, context, out) {
            Read::Switched(length) => {
                answered(taken, 101);
                consume(came, length);
                return Ok(Came::Switched);
            }
            Read::Whole(Head { length, status, body, keeps, is_event_stream }) => {
                answered(taken, status);
                platform.is_spent |= !keeps || body == Body::UntilClose;
                consume(came, length);
                return Ok(Came::Head(Answer { body, is_event_stream, status }));
            }
            Read::Interim(length) => {
                taken.state.answer_begun = true;
                taken.state.interim_answers += 1;
                if taken.state.interim_answers > MAX_INTERIM {
                    return invalid(taken, TryFault::EndlessInterim);
                }
                consume(came, length);
                return Ok(Came::Interim);
            }
            Read::Part if came.len() < LONGEST_HEAD => {
                if platform.more(client, came).await.map_err(|failed| failed.noted(taken))? == 0 {
                    return invalid(taken, TryFault::Closed);
                }
            }
            Read::Part | Read::Invalid => return invalid(taken, TryFault::Malformed),
        }
    }
}

/// Keeps the connection of an answer that was read to its end, if it may be used again.
pub(super) fn keep(resources: &Resources, platform: Platform, came: &[u8]) {
    let Platform { stream, address, is_spent, times, .. } = platform;
    if !is_spent && came.is_empty() {
        let most = resources.kept(&resources.gateway.runtime.load().limits);
        resources.pool.give(address, stream, times.idle, most);
    }
}

/// Notes that a server has answered.
fn answered(taken: &mut Taken, status: u16) {
    let state = &mut taken.state;
    state.answer_begun = true;
    state.platform_time = state.forwarded.map(|reading| reading.elapsed());
    let upstream = state.runtime.platforms.get(state.platform);
    upstream.answered(&mut state.tries, status, state.platform_time);
}

/// Counts a request that failed; what its client is told, if it still is there.
pub(super) fn reply_to(resources: &Resources, taken: &mut Taken, failed: &Failed) -> Option<Reply> {
    let state = &mut taken.state;
    let fault = match failed {
        Failed::Client => {
            state.runtime.platforms.get(state.platform).abandoned(&mut state.tries);
            return None;
        }
        Failed::Body => {
            state.fault = Some(Malformed::BodyTimeout.as_str());
            return Some(Reply::malformed(Malformed::BodyTimeout));
        }
        Failed::Nowhere => None,
        Failed::Try(fault) => Some(fault_of(*fault)),
        Failed::Connect(error) => platform_fault(error),
    };
    fault.into_iter().for_each(|fault| resources.gateway.shared.metrics.platform_failed(fault));
    Some(fault.map_or_else(Reply::internal, Reply::platform))
}

const fn fault_of(fault: TryFault) -> PlatformFault {
    match fault {
        TryFault::ReadTimeout | TryFault::WriteTimeout | TryFault::ConnectTimeout => PlatformFault::TimedOut,
        _ => PlatformFault::Unreachable,
    }
}

/// The head of an answer has at most so many bytes, as with the engine.
const LONGEST_HEAD: usize = 1024 * 1024;
