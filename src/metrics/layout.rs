//! Where each series has its cells in a slot.

use super::declined::Declined;
use super::labels::{
    ConnectionEnd, Latency, LoginOutcome, RetryOutcome, RouteLabel, TokenAction, TokenOutcome, TryFault,
};
use super::login_sources::SourceAnswer;
use super::sequence_wait::SequenceWait;
use super::upgraded::{UpgradedEnd, UpgradedProtocol};
use crate::auth::denial::Denial;
use crate::auth::gate::WouldRefuse;
use crate::auth::reply::{Overload, PlatformFault};
use crate::auth::user_source::SourceName;

/// Upper bounds of the buckets, in seconds.
pub(super) const BOUNDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

pub(super) const REQUESTS: usize = 0;
pub(super) const DECISIONS: usize = REQUESTS + RouteLabel::ALL.len() * CLASSES.len();
/// Of requests that went on because they are observed.
pub(super) const WOULD_REFUSE: usize = DECISIONS + 3 + Denial::ALL.len();
pub(super) const TOKENS: usize = WOULD_REFUSE + WouldRefuse::COUNT;
pub(super) const BYTES: usize = TOKENS + TokenAction::ALL.len() * TokenOutcome::ALL.len();
pub(super) const COMMIT_ERRORS: usize = BYTES + 2;
pub(super) const PLATFORM_FAULTS: usize = COMMIT_ERRORS + 1;
pub(super) const RETRIES: usize = PLATFORM_FAULTS + PlatformFault::ALL.len();
pub(super) const IN_FLIGHT: usize = RETRIES + RetryOutcome::ALL.len();
pub(super) const CONNECTIONS: usize = IN_FLIGHT + 1;
pub(super) const LOGIN_QUEUE: usize = CONNECTIONS + 1;
pub(super) const CONNECTION_ENDS: usize = LOGIN_QUEUE + 1;
pub(super) const OVERLOADS: usize = CONNECTION_ENDS + ConnectionEnd::ALL.len();
pub(super) const LOGINS: usize = OVERLOADS + Overload::ALL.len();
/// Taken by the fast lane, then declined, by reason.
pub(super) const LANE: usize = LOGINS + LoginOutcome::ALL.len();
/// Of each source of users, its answers.
pub(super) const SOURCES: usize = LANE + 1 + Declined::ALL.len();
pub(super) const SEQUENCE_WAITS: usize = SOURCES + SourceName::ALL.len() * SourceAnswer::ALL.len();
/// Requests that were ended in flight, by why their token no longer held.
pub(super) const ENDED: usize = SEQUENCE_WAITS + SequenceWait::ALL.len();
/// Of each protocol, the connections that are open.
pub(super) const UPGRADED: usize = ENDED + Denial::ALL.len();
/// Of each protocol, those that have ended, by why.
pub(super) const UPGRADED_ENDS: usize = UPGRADED + UpgradedProtocol::ALL.len();
pub(super) const DURATIONS: usize = UPGRADED_ENDS + UpgradedProtocol::ALL.len() * UpgradedEnd::ALL.len();
/// Of event streams, whatever their route.
pub(super) const STREAM_DURATIONS: usize = DURATIONS + RouteLabel::ALL.len() * HISTOGRAM;
pub(super) const LATENCIES: usize = STREAM_DURATIONS + HISTOGRAM;
pub(super) const SOURCE_DURATIONS: usize = LATENCIES + Latency::ALL.len() * HISTOGRAM;
pub(super) const CELLS: usize = SOURCE_DURATIONS + SourceName::ALL.len() * HISTOGRAM;

/// Cells of one histogram: the buckets, the one without a bound, the sum in microseconds.
pub(super) const HISTOGRAM: usize = BOUNDS.len() + 2;

/// The cells of one server of the platform.
pub(super) const SERVER_TRIES: usize = 0;
pub(super) const SERVER_FAULTS: usize = SERVER_TRIES + 1;
pub(super) const SERVER_DURATION: usize = SERVER_FAULTS + TryFault::ALL.len();
pub(super) const SERVER_CELLS: usize = SERVER_DURATION + HISTOGRAM;
