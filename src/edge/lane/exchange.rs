//! One request and its answer: sent to the platform, tried again where that is safe, relayed as it comes.

use super::client::{Came, Client};
use super::platform::{Failed, Platform};
use super::relay::relay;
use super::reply::send_reply;
use super::request::{Taken, sharing};
use super::resources::{Resources, Work};
use super::response::{self, Context, Read};
use crate::auth::reply::{Malformed, PlatformFault, Reply};
use crate::edge::errors::{platform_fault, try_fault};
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
    pub(super) is_event_stream: bool,
    /// It took longer than it may.
    pub(super) is_overdue: bool,
}

impl Ended {
    /// Ended from outside: nothing more can be said to the client.
    pub(super) const OVERDUE: Self =
        Self { status: 504, sent: 0, goes_on: false, is_event_stream: false, is_overdue: true };
}

/// Serves a request that goes on to the platform.
pub(super) async fn forward(
    resources: &Resources,
    client: &mut Client,
    taken: &mut Taken,
    work: &mut Work,
) -> Ended {
    let mut ended = Ended::default();
    let failed = match exchange(resources, client, taken, work, &mut ended).await {
        Ok(()) => return ended,
        Err(failed) => failed,
    };
    ended.goes_on = false;
    let state = &mut taken.state;
    let platform = match &failed {
        Failed::Client => {
            state.runtime.platforms.get(state.platform).abandoned(&mut state.tries);
            None
        }
        Failed::Body => {
            state.fault = Some(Malformed::BodyTimeout.as_str());
            None
        }
        Failed::Try(fault) => Some(fault_of(*fault)),
        Failed::Connect(error) => platform_fault(error),
        Failed::Nowhere => None,
    };
    platform.into_iter().for_each(|fault| resources.gateway.shared.metrics.platform_failed(fault));
    let reply = match failed {
        Failed::Client => return ended,
        Failed::Body => Reply::malformed(Malformed::BodyTimeout),
        Failed::Try(_) | Failed::Connect(_) => platform.map_or_else(Reply::internal, Reply::platform),
        Failed::Nowhere => Reply::internal(),
    };
    // What has begun can only end.
    if ended.status == 0 {
        ended.status = reply.status;
        // All of the request was read, so that the next one can follow, but for a body that stood still.
        taken.closes |= client.input.len() < taken.length || resources.is_stopping();
        let sent = send_reply(client, taken, &reply, &mut work.out).await;
        ended.goes_on = sent && !taken.closes;
        ended.sent = if taken.is_head { 0 } else { reply.body.len() as u64 };
    }
    ended
}

async fn exchange(
    resources: &Resources,
    client: &mut Client,
    taken: &mut Taken,
    work: &mut Work,
    ended: &mut Ended,
) -> Result<(), Failed> {
    read_body(client, taken).await?;
    let mut platform = answered(resources, client, taken, work, ended).await?;
    let whole = loop {
        let sharing = sharing(client, &taken.state);
        taken.closes |= resources.is_stopping();
        let context = Context {
            is_head: taken.is_head,
            request_id: taken.state.request_id.as_str(),
            closes: taken.closes,
            sharing,
        };
        work.out.clear();
        match response::read(&work.came, context, &mut work.out) {
            Read::Whole(head) => break head,
            Read::Invalid => return Err(Failed::Try(TryFault::Malformed).noted(taken)),
            Read::Interim(length) => {
                taken.state.answer_begun = true;
                taken.state.interim_answers += 1;
                if taken.state.interim_answers > MAX_INTERIM {
                    return Err(Failed::Try(TryFault::EndlessInterim).noted(taken));
                }
                work.came.drain(..length);
                client.send(&work.out).await.map_err(|_| Failed::Client)?;
            }
            Read::Part if work.came.len() >= LONGEST_HEAD => {
                return Err(Failed::Try(TryFault::Malformed).noted(taken));
            }
            Read::Part => {
                let more = platform.more(client, taken, &mut work.came).await;
                if more.map_err(|failed| failed.noted(taken))? == 0 {
                    return Err(Failed::Try(TryFault::Closed).noted(taken));
                }
            }
        }
    };
    let state = &mut taken.state;
    state.platform_time = state.forwarded.map(|reading| reading.elapsed());
    let upstream = state.runtime.platforms.get(state.platform);
    upstream.answered(&mut state.tries, whole.status, state.platform_time);
    platform.is_spent |= !whole.keeps;
    work.came.drain(..whole.length);
    ended.status = whole.status;
    ended.is_event_stream = whole.is_event_stream;
    relay(resources, client, taken, &mut platform, work, whole.body, &mut ended.sent).await?;
    let Platform { stream, address, is_spent, times, .. } = platform;
    if !is_spent && work.came.is_empty() {
        resources.pool.give(address, stream, times.idle);
    }
    ended.goes_on = !taken.closes;
    Ok(())
}

/// Reads the body of the request, all of it.
async fn read_body(client: &mut Client, taken: &mut Taken) -> Result<(), Failed> {
    let limits = taken.state.runtime.limits;
    let missing = taken.length.saturating_sub(client.input.len());
    if missing > 0 {
        // A little more, to see whether the client is still there.
        client.input.reserve_exact(missing + 64);
    }
    while client.input.len() < taken.length {
        match client.more_bytes(limits.body_timeout, &mut None).await {
            Came::Bytes => {}
            Came::End => return Err(Failed::Client),
            Came::Late => return Err(Failed::Body),
        }
        let read = client.input.len().min(taken.length) - taken.head_length;
        taken.state.body_read = read as u64;
        if client.input.len() < taken.length && taken.state.is_too_slow() {
            return Err(Failed::Body);
        }
    }
    taken.state.body_read = (taken.length - taken.head_length) as u64;
    Ok(())
}

/// Sends the request until a server has begun to answer it.
async fn answered(
    resources: &Resources,
    client: &mut Client,
    taken: &mut Taken,
    work: &mut Work,
    ended: &mut Ended,
) -> Result<Platform, Failed> {
    loop {
        let mut platform = match Platform::connect(resources, client, taken, work).await {
            Ok(platform) => platform,
            Err(Failed::Connect(error)) => {
                count(&mut taken.state, try_fault(&error, false));
                if resources.gateway.may_retry(&taken.state, true) {
                    continue;
                }
                return Err(Failed::Connect(error));
            }
            Err(Failed::Try(fault)) => {
                // Nothing was sent.
                count(&mut taken.state, Some(fault));
                if resources.gateway.may_retry(&taken.state, true) {
                    continue;
                }
                return Err(Failed::Try(fault));
            }
            Err(other) => return Err(other),
        };
        work.came.clear();
        let fault = match platform.ask(client, taken, work).await {
            Ok(()) => return Ok(platform),
            Err(Failed::Try(fault)) => fault,
            Err(other) => return Err(other),
        };
        let is_closed = matches!(fault, TryFault::Closed);
        let fault = if is_closed && platform.is_kept { TryFault::KeptConnectionClosed } else { fault };
        count(&mut taken.state, Some(fault));
        ended.goes_on = false;
        let is_safe = fault == TryFault::KeptConnectionClosed && taken.is_idempotent;
        if !(is_safe && resources.gateway.may_retry(&taken.state, false)) {
            return Err(Failed::Try(fault));
        }
    }
}

const fn fault_of(fault: TryFault) -> PlatformFault {
    match fault {
        TryFault::ReadTimeout | TryFault::WriteTimeout | TryFault::ConnectTimeout => PlatformFault::TimedOut,
        _ => PlatformFault::Unreachable,
    }
}

/// Interim answers (1xx) of the platform to one request: more than a minute's progress of one a second, and an end.
const MAX_INTERIM: u32 = 100;

/// The head of an answer has at most so many bytes, as with the engine.
const LONGEST_HEAD: usize = 1024 * 1024;
