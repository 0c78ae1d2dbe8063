//! What is known of one request; the engine hands it from phase to phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::ActiveRequest;
use super::client::Origin;
use super::decide::Facts;
use super::ongoing::Watched;
use super::quota::Reserved;
use super::request::Body;
use super::request_id::RequestId;
use super::runtime::Runtime;
use super::trace::Trace;
use super::upstream::{Tries, Upstream};
use crate::auth::client_address::ClientAddress;
use crate::auth::gate::{Pass, Permit, WouldRefuse};
use crate::auth::reply::Overload;
use crate::auth::token::TokenId;
use crate::metrics::{InFlight, RouteLabel};
use crate::service::user_changes::Change;

/// One request.
pub struct RequestState {
    /// By what it is decided, from its beginning to its end.
    pub(super) runtime: Arc<Runtime>,
    pub(super) started: Instant,
    pub(super) request_id: RequestId,
    pub(super) facts: Facts,
    pub(super) pass: Option<Pass>,
    /// Of the token endpoint.
    pub(super) user: Option<Box<str>>,
    /// Of the token endpoint.
    pub(super) token: Option<TokenId>,
    pub(super) has_unannounced_body: bool,
    pub(super) body_read: u64,
    /// The number of the platform that it goes to.
    pub(super) platform: usize,
    /// Where it was sent.
    pub(super) tries: Tries,
    /// A byte of an answer came, if only of an interim one: nobody else may be asked.
    pub(super) answer_begun: bool,
    /// Interim answers (1xx) that came.
    pub(super) interim_answers: u32,
    /// When it was handed to a server last.
    pub(super) forwarded: Option<Instant>,
    pub(super) platform_time: Option<Duration>,
    pub(super) fault: Option<&'static str>,
    pub(super) client: Option<ClientAddress>,
    /// Where a trusted proxy says that it comes from.
    pub(super) origin: Option<Box<Origin>>,
    /// The trace that a trusted proxy names.
    pub(super) trace: Option<Trace>,
    /// What it takes of the limits of all requests together.
    pub(super) reserved: Option<Reserved>,
    /// While there is one, its connection is kept for it.
    pub(super) active: Option<ActiveRequest>,
    /// The change of users that it asks the platform for.
    pub(super) change: Option<Change>,
    /// Ends it once its token no longer holds, to be taken by what carries it.
    pub(super) watched: Option<Watched>,
    _in_flight: InFlight,
}

impl RequestState {
    /// Of a request whose head is complete.
    pub(super) fn new(runtime: Arc<Runtime>, in_flight: InFlight) -> Self {
        Self {
            runtime,
            started: Instant::now(),
            request_id: RequestId::new(),
            facts: Facts::UNREAD,
            pass: None,
            user: None,
            token: None,
            has_unannounced_body: false,
            body_read: 0,
            platform: 0,
            tries: Tries::default(),
            answer_begun: false,
            interim_answers: 0,
            forwarded: None,
            platform_time: None,
            fault: None,
            client: None,
            origin: None,
            trace: None,
            reserved: None,
            active: None,
            change: None,
            watched: None,
            _in_flight: in_flight,
        }
    }

    /// What admitted it, where a token did.
    pub(super) const fn permit(&self) -> Option<&Permit> {
        match &self.pass {
            Some(Pass::Permit(permit)) => Some(permit),
            _ => None,
        }
    }

    /// Why it would be refused, where it is observed.
    pub(super) fn would_refuse(&self) -> Option<&'static str> {
        match &self.pass {
            Some(Pass::Observed(pass)) => pass.would_refuse().map(WouldRefuse::as_str),
            _ => None,
        }
    }

    /// The servers that may answer it.
    pub(super) fn upstream(&self) -> &Upstream {
        self.runtime.platforms.get(self.platform)
    }

    /// Takes what every request needs whose fields have so many bytes, before it is looked at.
    pub(super) fn take_first(&mut self, field_bytes: Option<usize>) -> Result<(), Overload> {
        self.take(Overload::Requests, 1)?;
        // On HTTP/1 the connection has a small header's part, and took a large one's.
        let bytes = field_bytes.map_or(0, |bytes| STREAM_BYTES + HEADER_COPIES * bytes as u64);
        self.take(Overload::Memory, bytes)
    }

    /// Takes what a request needs that is forwarded.
    pub(super) fn take_to_forward(&mut self) -> Result<(), Overload> {
        let length = match self.facts.body {
            Body::Absent => Some(0),
            Body::Sized(length) => Some(length),
            Body::Unsized => None,
        };
        self.take(Overload::PlatformConnections, 1)?;
        self.take(Overload::Memory, REQUEST_BYTES + held_of(length))
    }

    /// Takes what the body of an answer needs.
    pub(super) fn take_for_response(&mut self, length: Option<u64>) -> Result<(), Overload> {
        let held = held_of(length);
        if held > SMALL_BODY { self.take(Overload::Memory, held) } else { Ok(()) }
    }

    /// Takes more of one of the limits of all requests together.
    fn take(&mut self, resource: Overload, amount: u64) -> Result<(), Overload> {
        // Every request comes by a connection.
        self.reserved.as_mut().ok_or(resource)?.take(resource, amount)
    }

    /// Is a body that has come so far slower than allowed?
    pub(super) fn is_too_slow(&self) -> bool {
        let elapsed = self.started.elapsed();
        self.runtime.limits.body_min_rate.is_some_and(|rate| {
            elapsed > BODY_GRACE && self.body_read < rate.saturating_mul(elapsed.as_secs())
        })
    }
}

impl Facts {
    /// Before a decision.
    const UNREAD: Self = Self {
        route: RouteLabel::Refused,
        label: None,
        word: "malformed",
        fault: None,
        body: Body::Absent,
        expects_continue: false,
        has_managed: false,
    };
}

/// How many bytes of a body of that length, if it is known, the gateway holds at once.
fn held_of(length: Option<u64>) -> u64 {
    length.map_or(BODY_BYTES, |length| length.min(BODY_BYTES))
}

/// A body may be slow for so long: connections begin slowly, and short bodies are none to judge by.
const BODY_GRACE: Duration = Duration::from_secs(20);

/// What a stream of HTTP/2 takes, in bytes, until it is answered.
const STREAM_BYTES: u64 = 24 * 1024;

/// A field is in the table and in the engine's copy of it.
const HEADER_COPIES: u64 = 2;

/// What the engine takes for a request with small bodies, in bytes: a buffer of 64 KiB to read with, sessions, channels.
const REQUEST_BYTES: u64 = 128 * 1024;

/// What it holds of a body at most, in one direction: four pieces of 64 KiB in a channel, and as many on their way.
const BODY_BYTES: u64 = 512 * 1024;

/// A body of which nothing is left in a channel; it is in the buffer that was counted.
const SMALL_BODY: u64 = 64 * 1024;
