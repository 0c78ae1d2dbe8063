//! Every metric name and label. Labels are bounded: no user, path or token is ever one.
//!
//! What a request touches lives in slots, one a thread, so that no two cores write one cache line; a scrape
//! sums them. The rest is read when it is asked for.
//!
//! It may use `thread_slot` and `auth`.

mod cells;
mod certificates;
mod declined;
mod families;
mod histogram;
mod labels;
mod layout;
mod login_sources;
mod reload;
mod scrape;
mod sequence_wait;
mod servers;
mod upgraded;

use std::time::Duration;

use self::cells::Cells;
use self::layout::*;
use crate::auth::denial::Denial;
use crate::auth::gate::WouldRefuse;
use crate::auth::reply::{Overload, PlatformFault};
use crate::auth::user_source::SourceName;

pub use self::certificates::{CertificateState, ShownCertificate};
pub use self::declined::Declined;
pub use self::labels::{
    ConnectionEnd, DecisionLabel, Latency, LoginOutcome, RetryOutcome, RouteLabel, TokenAction, TokenOutcome,
    TryFault,
};
pub use self::login_sources::SourceAnswer;
pub use self::reload::ReloadState;
pub use self::scrape::Facts;
pub use self::sequence_wait::SequenceWait;
pub use self::servers::{Addresses, ServerMetrics};
pub use self::upgraded::{UpgradedEnd, UpgradedProtocol};

/// Counts, and shows what it counted.
pub struct Metrics {
    cells: Cells<CELLS>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series are there from the start, at zero.
    pub fn new() -> Self {
        Self { cells: Cells::new() }
    }

    /// A request begins; the guard counts it as in flight until it is dropped.
    pub fn begin(&self) -> InFlight {
        self.cells.add(IN_FLIGHT, 1);
        InFlight(self.cells)
    }

    /// A request ended with `status` after `elapsed`.
    pub fn request(&self, route: RouteLabel, status: u16, elapsed: Duration) {
        self.count_request(route, status);
        self.observe(DURATIONS + route as usize * HISTOGRAM, elapsed);
    }

    /// A request ended whose answer was a stream of events: how long it took says how long somebody listened, and nothing of how
    /// fast anything is.
    pub fn event_stream(&self, route: RouteLabel, status: u16, elapsed: Duration) {
        self.count_request(route, status);
        self.observe(STREAM_DURATIONS, elapsed);
    }

    fn count_request(&self, route: RouteLabel, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.cells.add(REQUESTS + route as usize * CLASSES.len() + class, 1);
    }

    /// Body bytes that came from a client and went to one.
    pub fn bytes(&self, received: usize, sent: usize) {
        self.cells.add(BYTES, received as u64);
        self.cells.add(BYTES + 1, sent as u64);
    }

    /// The gate, or the policy, decided.
    pub fn decision(&self, decision: DecisionLabel) {
        let offset = match decision {
            DecisionLabel::Admitted => 0,
            DecisionLabel::Public => 1,
            DecisionLabel::Observed(reason) => {
                reason.into_iter().for_each(|reason| self.cells.add(WOULD_REFUSE + reason.index(), 1));
                2
            }
            DecisionLabel::Denied(denial) => 3 + denial as usize,
        };
        self.cells.add(DECISIONS + offset, 1);
    }

    /// The token endpoint answered.
    pub fn token_request(&self, action: TokenAction, outcome: TokenOutcome) {
        let offset = action as usize * TokenOutcome::ALL.len() + outcome as usize;
        self.cells.add(TOKENS + offset, 1);
    }

    /// A client connection begins (`1`) or ends (`-1`).
    pub fn connection(&self, change: i64) {
        self.cells.add(CONNECTIONS, change.cast_unsigned());
    }

    /// Client connections now.
    pub fn connections(&self) -> u64 {
        self.cells.sum(CONNECTIONS)
    }

    /// A client connection was not served, or not for longer.
    pub fn connection_ended(&self, reason: ConnectionEnd) {
        self.cells.add(CONNECTION_ENDS + reason as usize, 1);
    }

    /// A login enters the queue (`1`) or leaves it for a worker (`-1`).
    pub fn login_queue(&self, change: i64) {
        self.cells.add(LOGIN_QUEUE, change.cast_unsigned());
    }

    /// A login ended.
    pub fn login(&self, outcome: LoginOutcome) {
        self.cells.add(LOGINS + outcome as usize, 1);
    }

    /// A source of users answered after so long.
    pub fn source_answered(&self, source: SourceName, answer: SourceAnswer, elapsed: Duration) {
        self.cells.add(SOURCES + source as usize * SourceAnswer::ALL.len() + answer as usize, 1);
        self.observe(SOURCE_DURATIONS + source as usize * HISTOGRAM, elapsed);
    }

    /// The platform failed a request.
    pub fn platform_failed(&self, fault: PlatformFault) {
        self.cells.add(PLATFORM_FAULTS + fault as usize, 1);
    }

    /// A request could be tried again.
    pub fn retry(&self, outcome: RetryOutcome) {
        self.cells.add(RETRIES + outcome as usize, 1);
    }

    /// A request was refused because a limit of all together was reached.
    pub fn overloaded(&self, overload: Overload) {
        self.cells.add(OVERLOADS + overload as usize, 1);
    }

    /// The fast lane took a request, or left it to the engine.
    pub fn lane(&self, declined: Option<Declined>) {
        self.cells.add(LANE + declined.map_or(0, |reason| 1 + reason as usize), 1);
    }

    /// A request had to wait for a sequence of the store.
    pub fn sequence_wait(&self, outcome: SequenceWait) {
        self.cells.add(SEQUENCE_WAITS + outcome as usize, 1);
    }

    /// A connection has changed its protocol; the guard counts it as open until it is dropped.
    pub fn upgraded(&self, protocol: UpgradedProtocol) -> Upgraded {
        self.cells.add(UPGRADED + protocol as usize, 1);
        Upgraded { cells: self.cells, protocol }
    }

    /// A request was ended in flight: its token no longer held.
    pub fn ended_in_flight(&self, denial: Denial) {
        self.cells.add(ENDED + denial as usize, 1);
    }

    /// A commit of the store failed.
    pub fn commit_failed(&self) {
        self.cells.add(COMMIT_ERRORS, 1);
    }

    /// Something took so long.
    pub fn latency(&self, latency: Latency, elapsed: Duration) {
        self.observe(LATENCIES + latency as usize * HISTOGRAM, elapsed);
    }

    /// Requests that went on because they are observed, and would have been refused.
    pub fn would_refuse(&self) -> u64 {
        (0..WouldRefuse::COUNT).map(|reason| self.cells.sum(WOULD_REFUSE + reason)).sum()
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.cells.sum(IN_FLIGHT)
    }

    /// The text of a scrape, in the Prometheus exposition format 0.0.4.
    pub fn scrape(&self, facts: Facts<'_>) -> String {
        scrape::text(&self.cells, facts)
    }

    fn observe(&self, histogram: usize, elapsed: Duration) {
        histogram::observe(&self.cells, histogram, elapsed);
    }
}

/// Counts a request as in flight while it lives, through errors and panics.
pub struct InFlight(Cells<CELLS>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.add(IN_FLIGHT, 1u64.wrapping_neg());
    }
}

/// A connection that has changed its protocol, counted as open while this lives.
pub struct Upgraded {
    cells: Cells<CELLS>,
    protocol: UpgradedProtocol,
}

impl Upgraded {
    /// It has ended, and why.
    pub fn ended(self, end: UpgradedEnd) {
        let first = UPGRADED_ENDS + self.protocol as usize * UpgradedEnd::ALL.len();
        self.cells.add(first + end as usize, 1);
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        self.cells.add(UPGRADED + self.protocol as usize, 1u64.wrapping_neg());
    }
}

#[cfg(test)]
mod tests;
