//! Every metric name and label. Labels are bounded: no user, path or token is ever one.
//!
//! What a request touches lives in slots, one a thread, so that no two cores write one cache line; a scrape
//! sums them. The rest is read when it is asked for.

mod cells;
mod families;

use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::{TextEncoder, proto::MetricFamily};

use self::cells::Cells;
use self::families::{counters, gauge, histograms, labelled_counter};
use crate::auth::denial::Denial;
use crate::auth::gate::Gate;
use crate::auth::reply::{Overload, PlatformFault};

/// Which way a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteLabel {
    /// The token endpoint and its subtree.
    Endpoint,
    /// Forwarded without a credential.
    Public,
    /// Forwarded with a token, or refused for want of one.
    Protected,
    /// Refused for its form.
    Refused,
}

impl RouteLabel {
    const ALL: [Self; 4] = [Self::Endpoint, Self::Public, Self::Protected, Self::Refused];

    /// The route as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Public => "public",
            Self::Protected => "protected",
            Self::Refused => "refused",
        }
    }
}

/// What was decided about a request that wanted to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionLabel {
    /// It carried a valid token.
    Admitted,
    /// Its path is public.
    Public,
    /// It was refused.
    Denied(Denial),
}

impl DecisionLabel {
    /// The decision as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Public => "public",
            Self::Denied(denial) => denial.as_str(),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Admitted, Self::Public].into_iter().chain(Denial::ALL.map(Self::Denied))
    }
}

/// What the token endpoint was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAction {
    /// `POST`.
    Mint,
    /// `GET`.
    Inspect,
    /// `DELETE`.
    Revoke,
}

impl TokenAction {
    const ALL: [Self; 3] = [Self::Mint, Self::Inspect, Self::Revoke];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Inspect => "inspect",
            Self::Revoke => "revoke",
        }
    }
}

/// How the token endpoint answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    /// With a token, or with what one says.
    Ok,
    /// Basic was missing, malformed or wrong.
    BadCredentials,
    /// The token to inspect does not hold.
    BadToken,
    /// The request has no single meaning.
    BadRequest,
    /// The organization in the path is not the user's or the token's.
    OrganizationMismatch,
    /// Too many logins at once.
    Busy,
    /// Too many wrong passwords came before.
    Throttled,
    /// The store could not be asked.
    StoreUnavailable,
    /// The user has had too many tokens minted.
    RateLimited,
    /// Too many of the user's tokens are revoked and kept.
    RevocationLimit,
    /// Every signing key is revoked.
    NoKey,
}

impl TokenOutcome {
    const ALL: [Self; 11] = [
        Self::Ok,
        Self::BadCredentials,
        Self::BadToken,
        Self::BadRequest,
        Self::OrganizationMismatch,
        Self::Busy,
        Self::Throttled,
        Self::StoreUnavailable,
        Self::RateLimited,
        Self::RevocationLimit,
        Self::NoKey,
    ];

    /// The outcome as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadCredentials => "bad_credentials",
            Self::BadToken => "bad_token",
            Self::BadRequest => "bad_request",
            Self::OrganizationMismatch => "organization_mismatch",
            Self::Busy => "busy",
            Self::Throttled => "throttled",
            Self::StoreUnavailable => "store_unavailable",
            Self::RateLimited => "rate_limited",
            Self::RevocationLimit => "revocation_limit",
            Self::NoKey => "no_key",
        }
    }
}

/// Why a client connection was not served, or not for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// `limits.connections` were open, and none that could yield was idle.
    Refused,
    /// Its address had `limits.connections_per_address`.
    RefusedAddress,
    /// The process has no descriptor left.
    NoDescriptor,
    /// It was idle, and its block of addresses had the most where another needed a place.
    Yielded,
    /// It did not begin with a PROXY header, or not from a trusted proxy.
    ProxyHeader,
    /// Its TLS handshake failed.
    Handshake,
    /// Its TLS handshake did not end in time.
    HandshakeTimeout,
}

impl ConnectionEnd {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::RefusedAddress,
        Self::NoDescriptor,
        Self::Yielded,
        Self::ProxyHeader,
        Self::Handshake,
        Self::HandshakeTimeout,
    ];

    /// The reason as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "connections",
            Self::RefusedAddress => "connections_per_address",
            Self::NoDescriptor => "descriptors",
            Self::Yielded => "yielded",
            Self::ProxyHeader => "proxy_header",
            Self::Handshake => "handshake",
            Self::HandshakeTimeout => "handshake_timeout",
        }
    }
}

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// The password was right.
    Ok,
    /// It was wrong, or there is no such user, or it is disabled.
    Refused,
    /// Too many wrong ones for the account, from places that it does not know.
    ThrottledAccount,
    /// Too many wrong ones for the account from this place, which it knows.
    ThrottledSource,
    /// Too many wrong ones from the address.
    ThrottledAddress,
    /// Too many wrong ones from the network.
    ThrottledNetwork,
    /// More logins waited than can be checked in time.
    QueueFull,
    /// Too many of the account waited from this address.
    PairFull,
    /// It waited, and one of a network that has fewer took its place.
    Displaced,
    /// It waited for too long.
    Late,
}

impl LoginOutcome {
    const ALL: [Self; 10] = [
        Self::Ok,
        Self::Refused,
        Self::ThrottledAccount,
        Self::ThrottledSource,
        Self::ThrottledAddress,
        Self::ThrottledNetwork,
        Self::QueueFull,
        Self::PairFull,
        Self::Displaced,
        Self::Late,
    ];

    /// The outcome as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::ThrottledAccount => "throttled_account",
            Self::ThrottledSource => "throttled_source",
            Self::ThrottledAddress => "throttled_address",
            Self::ThrottledNetwork => "throttled_network",
            Self::QueueFull => "queue_full",
            Self::PairFull => "queue_full_for_account",
            Self::Displaced => "displaced",
            Self::Late => "late",
        }
    }
}

/// What took how long, beside the requests themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// From forwarding a request to the platform's answer.
    Platform,
    /// A login, its wait in the queue included.
    Login,
    /// A commit of the store.
    Commit,
}

impl Span {
    const ALL: [Self; 3] = [Self::Platform, Self::Login, Self::Commit];
}

/// What is read when a scrape asks, and not counted.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// For the store's number and age, users and keys.
    pub gate: &'f Gate,
    /// The clock that the gate compares with.
    pub uptime: Duration,
    /// Lines that the log dropped.
    pub dropped_log_lines: u64,
    /// The choices of the configuration that matter to whoever reads the numbers, by name.
    pub choices: &'f [(&'static str, &'static str)],
    /// Revocations that wait for the store.
    pub pending_revocations: usize,
    /// How far the wall clock is off, in seconds, where it seems wrong.
    pub clock_error: i64,
    /// Commands that wait for a commit of the store.
    pub store_queue_length: usize,
    /// How long the running commit has taken so far.
    pub store_commit_age: Duration,
    /// When the certificate of the TLS listener ends, in seconds since 1970.
    pub certificate_not_after: Option<i64>,
}

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
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.cells.add(REQUESTS + route as usize * CLASSES.len() + class, 1);
        self.observe(DURATIONS + route as usize * HISTOGRAM, elapsed);
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
            DecisionLabel::Denied(denial) => 2 + denial as usize,
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

    /// The platform failed a request.
    pub fn platform_failed(&self, fault: PlatformFault) {
        self.cells.add(PLATFORM_FAULTS + fault as usize, 1);
    }

    /// A request was refused because a limit of all together was reached.
    pub fn overloaded(&self, overload: Overload) {
        self.cells.add(OVERLOADS + overload as usize, 1);
    }

    /// A commit of the store failed.
    pub fn commit_failed(&self) {
        self.cells.add(COMMIT_ERRORS, 1);
    }

    /// Something took so long.
    pub fn span(&self, span: Span, elapsed: Duration) {
        self.observe(SPANS + span as usize * HISTOGRAM, elapsed);
    }

    /// Requests that have begun and not ended.
    pub fn in_flight(&self) -> u64 {
        self.cells.sum(IN_FLIGHT)
    }

    /// The text of a scrape, in the Prometheus exposition format 0.0.4.
    pub fn scrape(&self, facts: Facts<'_>) -> String {
        let mut families = self.counted();
        families.extend(read(facts));
        families.extend(ProcessCollector::for_self().collect());
        families.sort_by(|one, other| one.name().cmp(other.name()));
        // Encoding into a String fails only for a family without a name, and each of ours has one.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    fn observe(&self, histogram: usize, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let bucket = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        self.cells.add(histogram + bucket, 1);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.cells.add(histogram + BOUNDS.len() + 1, micros);
    }

    /// Counts and sum, in seconds, of one histogram.
    fn observed(&self, histogram: usize) -> ([u64; BOUNDS.len() + 1], f64) {
        let mut counts = [0; BOUNDS.len() + 1];
        for (offset, count) in counts.iter_mut().enumerate() {
            *count = self.cells.sum(histogram + offset);
        }
        (counts, self.cells.sum(histogram + BOUNDS.len() + 1) as f64 / 1e6)
    }

    fn counted(&self) -> Vec<MetricFamily> {
        let sum = |cell| self.cells.sum(cell);
        // Ends may be counted in another slot than beginnings: the sum is what is left.
        let level = |cell| sum(cell).cast_signed() as f64;
        let requests = RouteLabel::ALL.into_iter().flat_map(|route| {
            (0..).zip(CLASSES).map(move |(class, status)| {
                let cell = REQUESTS + route as usize * CLASSES.len() + class;
                labelled_counter(sum(cell), &[("route", route.as_str()), ("status", status)])
            })
        });
        let decisions = (DECISIONS..)
            .zip(DecisionLabel::all())
            .map(|(cell, decision)| labelled_counter(sum(cell), &[("decision", decision.as_str())]));
        let tokens = TokenAction::ALL.into_iter().flat_map(|action| {
            TokenOutcome::ALL.into_iter().map(move |outcome| {
                let cell = TOKENS + action as usize * TokenOutcome::ALL.len() + outcome as usize;
                labelled_counter(sum(cell), &[("action", action.as_str()), ("outcome", outcome.as_str())])
            })
        });
        let durations = RouteLabel::ALL.into_iter().map(|route| {
            let observed = self.observed(DURATIONS + route as usize * HISTOGRAM);
            (vec![("route", route.as_str())], observed)
        });
        // One counter for each word of a label, in the cell behind `first` that it names.
        let each = |first: usize, label, words: &[(usize, &'static str)]| {
            let counter = |&(cell, word): &(usize, _)| labelled_counter(sum(first + cell), &[(label, word)]);
            words.iter().map(counter).collect()
        };
        let span = |span: Span| vec![(Vec::new(), self.observed(SPANS + span as usize * HISTOGRAM))];
        vec![
            counters(
                "ds_gateway_requests_total",
                "Requests answered, by route and class of status.",
                requests.collect(),
            ),
            counters(
                "ds_gateway_decisions_total",
                "Decisions about requests that wanted to go on, by reason.",
                decisions.collect(),
            ),
            counters(
                "ds_gateway_token_requests_total",
                "Requests to the token endpoint, by action and outcome.",
                tokens.collect(),
            ),
            counters(
                "ds_gateway_body_bytes_total",
                "Body bytes received from clients and sent to them.",
                vec![
                    labelled_counter(sum(BYTES), &[("direction", "received")]),
                    labelled_counter(sum(BYTES + 1), &[("direction", "sent")]),
                ],
            ),
            counters(
                "ds_gateway_platform_faults_total",
                "Requests that the platform failed: without an answer, in the middle of one, or too late.",
                each(
                    PLATFORM_FAULTS,
                    "fault",
                    &PlatformFault::ALL.map(|fault| (fault as usize, fault.as_str())),
                ),
            ),
            counters(
                "ds_gateway_requests_refused_total",
                "Requests answered with 503 because a limit of all requests together was reached, by limit.",
                each(
                    OVERLOADS,
                    "limit",
                    &Overload::ALL.map(|overload| (overload as usize, overload.as_str())),
                ),
            ),
            counters(
                "ds_gateway_logins_total",
                "Logins by outcome; what is throttled or finds no place in the queue is answered before a password is hashed.",
                each(
                    LOGINS,
                    "outcome",
                    &LoginOutcome::ALL.map(|outcome| (outcome as usize, outcome.as_str())),
                ),
            ),
            counters(
                "ds_gateway_connections_ended_total",
                "Client connections that were refused, or ended to make room for another, by reason.",
                each(
                    CONNECTION_ENDS,
                    "reason",
                    &ConnectionEnd::ALL.map(|reason| (reason as usize, reason.as_str())),
                ),
            ),
            counters(
                "ds_gateway_store_commit_errors_total",
                "Commits of the store that failed.",
                vec![labelled_counter(sum(COMMIT_ERRORS), &[])],
            ),
            histograms(
                "ds_gateway_request_duration_seconds",
                "From the end of a request's header to the end of its answer.",
                &BOUNDS,
                durations.collect(),
            ),
            histograms(
                "ds_gateway_platform_duration_seconds",
                "From forwarding a request to the header of the platform's answer.",
                &BOUNDS,
                span(Span::Platform),
            ),
            histograms(
                "ds_gateway_login_duration_seconds",
                "Checking a password, the wait for a worker included.",
                &BOUNDS,
                span(Span::Login),
            ),
            histograms(
                "ds_gateway_store_commit_duration_seconds",
                "Commits of the store, until they are on the disk.",
                &BOUNDS,
                span(Span::Commit),
            ),
            gauge(
                "ds_gateway_in_flight_requests",
                "Requests that have begun and not ended.",
                level(IN_FLIGHT),
                &[],
            ),
            gauge("ds_gateway_connections", "Client connections.", level(CONNECTIONS), &[]),
            gauge("ds_gateway_login_queue_length", "Logins that wait for a worker.", level(LOGIN_QUEUE), &[]),
        ]
    }
}

/// What is read at each scrape.
fn read(facts: Facts<'_>) -> Vec<MetricFamily> {
    let Facts { gate, uptime, .. } = facts;
    let stale = f64::from(u8::from(gate.is_stale(uptime)));
    let (keys, standing) = (gate.keys(), gate.standing());
    let (sizes, cache) = (standing.sizes(), gate.cache().statistics());
    let revoked = keys.iter().filter(|key| standing.is_key_revoked(key.fingerprint())).count();
    let signing = usize::from(standing.signer(&keys).is_some());
    let verifying = keys.iter().count() - revoked - signing;
    let mut families = vec![
        gauge(
            "ds_gateway_build_info",
            "Always 1; what was built is in the labels.",
            1.0,
            &[
                ("version", env!("CARGO_PKG_VERSION")),
                ("commit", env!("BUILD_COMMIT")),
                ("profile", env!("BUILD_PROFILE")),
            ],
        ),
        gauge(
            "ds_gateway_config_info",
            "Always 1; choices of the configuration are in the labels.",
            1.0,
            facts.choices,
        ),
        // Numbers stay exact up to 2^53.
        gauge(
            "ds_gateway_store_number",
            "Last transaction of the store that is in force here.",
            gate.number() as f64,
            &[],
        ),
        gauge(
            "ds_gateway_store_feed_age_seconds",
            "Time since the store was last read successfully.",
            gate.age(uptime).as_secs_f64(),
            &[],
        ),
        gauge(
            "ds_gateway_store_stale",
            "1 while the store has not been read for store.max_staleness: nothing is admitted.",
            stale,
            &[],
        ),
        gauge(
            "ds_gateway_store_queue_length",
            "Changes that wait for a commit of the store.",
            facts.store_queue_length as f64,
            &[],
        ),
        gauge(
            "ds_gateway_store_commit_age_seconds",
            "How long the running commit of the store has taken so far; 0 while none runs.",
            facts.store_commit_age.as_secs_f64(),
            &[],
        ),
        gauge("ds_gateway_users", "Enabled users that the gate knows.", standing.users() as f64, &[]),
        families::gauges(
            "ds_gateway_keys",
            "Keys by what they do; the one that signs verifies too.",
            &[
                ("state", "signing", signing as f64),
                ("state", "verifying", verifying as f64),
                ("state", "revoked", revoked as f64),
            ],
        ),
        families::gauges(
            "ds_gateway_revocations",
            "Revocations in force, by kind: of everything of a user or an organization, of single tokens, of keys.",
            &[
                ("kind", "token", sizes.tokens as f64),
                ("kind", "user", sizes.users as f64),
                ("kind", "organization", sizes.organizations as f64),
                ("kind", "key", sizes.keys as f64),
            ],
        ),
        gauge(
            "ds_gateway_clock_error_seconds",
            "Wall clock ahead after a step (positive) or behind (negative); 0 within a minute.",
            facts.clock_error as f64,
            &[],
        ),
        gauge(
            "ds_gateway_revocations_pending",
            "Revocations in force here that the store has not taken yet.",
            facts.pending_revocations as f64,
            &[],
        ),
        gauge("ds_gateway_cache_entries", "Verified tokens that are kept.", cache.entries as f64, &[]),
        gauge("ds_gateway_cache_bytes", "What they take, estimated.", cache.bytes as f64, &[]),
        counters(
            "ds_gateway_cache_lookups_total",
            "Tokens that were found in the cache, and not.",
            vec![
                labelled_counter(cache.hits, &[("result", "hit")]),
                labelled_counter(cache.misses, &[("result", "miss")]),
            ],
        ),
        counters(
            "ds_gateway_cache_evictions_total",
            "Tokens that had to make room in the cache.",
            vec![labelled_counter(cache.evictions, &[])],
        ),
        counters(
            "ds_gateway_log_lines_dropped_total",
            "Log lines lost: their reader is slow, or they cannot be written.",
            vec![labelled_counter(facts.dropped_log_lines, &[])],
        ),
    ];
    if let Some(end) = facts.certificate_not_after {
        families.push(gauge(
            "ds_gateway_certificate_not_after_timestamp_seconds",
            "When the certificate of the TLS listener ends, in seconds since 1970.",
            end as f64,
            &[],
        ));
    }
    families
}

/// Counts a request as in flight while it lives, through errors and panics.
pub struct InFlight(Cells<CELLS>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.add(IN_FLIGHT, 1u64.wrapping_neg());
    }
}

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

// Where each series has its cells in a slot.
const REQUESTS: usize = 0;
const DECISIONS: usize = REQUESTS + RouteLabel::ALL.len() * CLASSES.len();
const TOKENS: usize = DECISIONS + 2 + Denial::ALL.len();
const BYTES: usize = TOKENS + TokenAction::ALL.len() * TokenOutcome::ALL.len();
const COMMIT_ERRORS: usize = BYTES + 2;
const PLATFORM_FAULTS: usize = COMMIT_ERRORS + 1;
const IN_FLIGHT: usize = PLATFORM_FAULTS + PlatformFault::ALL.len();
const CONNECTIONS: usize = IN_FLIGHT + 1;
const LOGIN_QUEUE: usize = CONNECTIONS + 1;
const CONNECTION_ENDS: usize = LOGIN_QUEUE + 1;
const OVERLOADS: usize = CONNECTION_ENDS + ConnectionEnd::ALL.len();
const LOGINS: usize = OVERLOADS + Overload::ALL.len();
const DURATIONS: usize = LOGINS + LoginOutcome::ALL.len();
const SPANS: usize = DURATIONS + RouteLabel::ALL.len() * HISTOGRAM;
const CELLS: usize = SPANS + Span::ALL.len() * HISTOGRAM;

/// Cells of one histogram: the buckets, the one without a bound, the sum in microseconds.
const HISTOGRAM: usize = BOUNDS.len() + 2;

#[cfg(test)]
mod tests;
