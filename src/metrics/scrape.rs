//! A scrape: what was counted, and what is read when it is asked for.

use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::{TextEncoder, proto::MetricFamily};

use super::cells::Cells;
use super::certificates::CertificateState;
use super::declined::Declined;
use super::families::{counters, gauge, gauges, histograms, labelled_counter};
use super::histogram::observed;
use super::labels::{
    ConnectionEnd, DecisionLabel, Latency, LoginOutcome, RetryOutcome, RouteLabel, TokenAction, TokenOutcome,
};
use super::layout::*;
use super::login_sources::SourceAnswer;
use super::reload::ReloadState;
use super::sequence_wait::SequenceWait;
use super::servers::{Addresses, ServerMetrics};
use super::upgraded::{UpgradedEnd, UpgradedProtocol};
use crate::auth::denial::Denial;
use crate::auth::gate::{Gate, WouldRefuse};
use crate::auth::reply::{Overload, PlatformFault};
use crate::auth::time::UnixTime;
use crate::auth::user_source::SourceName;

/// What is read when a scrape asks, and not counted.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// For the store's number and age, users and keys.
    pub gate: &'f Gate,
    /// The clock that the gate compares with.
    pub uptime: Duration,
    /// Lines that the log dropped.
    pub dropped_log_lines: u64,
    /// The settings of the configuration that matter to anyone who reads the numbers, by name.
    pub info_labels: &'f [(&'static str, &'static str)],
    /// When the observation of routes ends; `None`: every route is enforced.
    pub observed_until: Option<UnixTime>,
    /// Revocations that wait for the store.
    pub pending_revocations: usize,
    /// How far the wall clock is off, in seconds, where it seems wrong.
    pub clock_error: i64,
    /// Commands that wait for a commit of the store.
    pub store_queue_length: usize,
    /// How long the running commit has taken so far.
    pub store_commit_age: Duration,
    /// Which certificates are shown to clients.
    pub certificates: &'f CertificateState,
    /// What was counted for each server of the platform.
    pub servers: &'f ServerMetrics,
    /// The addresses of each of them, in the same order.
    pub addresses: &'f [Addresses],
    /// Which configuration is in force.
    pub reload: &'f ReloadState,
}

/// The text of a scrape, in the Prometheus exposition format 0.0.4.
pub(super) fn text(cells: &Cells<CELLS>, facts: Facts<'_>) -> String {
    let mut families = counted(cells);
    families.extend(facts.servers.families(facts.addresses));
    families.extend(facts.reload.families());
    families.extend(facts.certificates.families());
    families.extend(read(facts));
    families.extend(ProcessCollector::for_self().collect());
    families.sort_by(|one, other| one.name().cmp(other.name()));
    encode(&families)
}

pub(super) fn encode(families: &[MetricFamily]) -> String {
    // This fails only for a family without a name, and each of ours has one.
    TextEncoder::new().encode_to_string(families).unwrap_or_default()
}

/// What was counted.
pub(super) fn counted(cells: &Cells<CELLS>) -> Vec<MetricFamily> {
    let sum = |cell| cells.sum(cell);
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
    // What is refused for its form is refused in every mode.
    let would_refuse = WouldRefuse::all()
        .filter(|reason| !matches!(reason, WouldRefuse::Denied(denial) if denial.is_for_form()))
        .map(|reason| labelled_counter(sum(WOULD_REFUSE + reason.index()), &[("reason", reason.as_str())]));
    let tokens = TokenAction::ALL.into_iter().flat_map(|action| {
        TokenOutcome::ALL.into_iter().map(move |outcome| {
            let cell = TOKENS + action as usize * TokenOutcome::ALL.len() + outcome as usize;
            labelled_counter(sum(cell), &[("action", action.as_str()), ("outcome", outcome.as_str())])
        })
    });
    // The store's users are counted by `ds_gateway_logins_total`.
    let others = || SourceName::ALL.into_iter().filter(|source| *source != SourceName::Store);
    let answers = others().flat_map(|source| {
        SourceAnswer::ALL.into_iter().map(move |answer| {
            let cell = SOURCES + source as usize * SourceAnswer::ALL.len() + answer as usize;
            labelled_counter(sum(cell), &[("source", source.as_str()), ("answer", answer.as_str())])
        })
    });
    let answered = others().map(|source| {
        let observed = observed(cells, SOURCE_DURATIONS + source as usize * HISTOGRAM);
        (vec![("source", source.as_str())], observed)
    });
    let durations = RouteLabel::ALL.into_iter().map(|route| {
        let observed = observed(cells, DURATIONS + route as usize * HISTOGRAM);
        (vec![("route", route.as_str())], observed)
    });
    let durations = durations.chain([(vec![("route", "stream")], observed(cells, STREAM_DURATIONS))]);
    let upgraded = UpgradedProtocol::ALL
        .map(|protocol| ("protocol", protocol.as_str(), level(UPGRADED + protocol as usize)));
    let upgraded_ends = UpgradedProtocol::ALL.into_iter().flat_map(|protocol| {
        UpgradedEnd::ALL.into_iter().map(move |end| {
            let cell = UPGRADED_ENDS + protocol as usize * UpgradedEnd::ALL.len() + end as usize;
            labelled_counter(sum(cell), &[("protocol", protocol.as_str()), ("reason", end.as_str())])
        })
    });
    // One counter for each word of a label, in the cell behind `first` that it names.
    let each = |first: usize, label, words: &[(usize, &'static str)]| {
        let counter = |&(cell, word): &(usize, _)| labelled_counter(sum(first + cell), &[(label, word)]);
        words.iter().map(counter).collect()
    };
    let latency =
        |latency: Latency| vec![(Vec::new(), observed(cells, LATENCIES + latency as usize * HISTOGRAM))];
    vec![
        counters(
            "ds_gateway_requests_total",
            "Requests answered, by route and class of status.",
            requests.collect(),
        ),
        counters("ds_gateway_decisions_total", "Admission decisions, by reason.", decisions.collect()),
        counters(
            "ds_gateway_would_refuse_total",
            "Requests forwarded because their route is observed that would have been refused, by reason.",
            would_refuse.collect(),
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
            "Requests that failed at the platform: no response, an interrupted response, or a timeout.",
            each(PLATFORM_FAULTS, "fault", &PlatformFault::ALL.map(|fault| (fault as usize, fault.as_str()))),
        ),
        counters(
            "ds_gateway_platform_retries_total",
            "Requests that could be tried again at the platform, by what became of them.",
            each(RETRIES, "outcome", &RetryOutcome::ALL.map(|outcome| (outcome as usize, outcome.as_str()))),
        ),
        counters(
            "ds_gateway_requests_refused_total",
            "Requests answered with 503 because a global limit was reached, by limit.",
            each(OVERLOADS, "limit", &Overload::ALL.map(|overload| (overload as usize, overload.as_str()))),
        ),
        counters(
            "ds_gateway_sequence_waits_total",
            "Requests that waited for the sequence of their X-DS-At-Least, by outcome.",
            each(SEQUENCE_WAITS, "outcome", &SequenceWait::ALL.map(|wait| (wait as usize, wait.as_str()))),
        ),
        counters(
            "ds_gateway_requests_ended_total",
            "Requests that were ended in flight because their token no longer held, by reason.",
            each(ENDED, "reason", &Denial::ALL.map(|denial| (denial as usize, denial.as_str()))),
        ),
        gauges(
            "ds_gateway_upgraded_connections",
            "Open connections that have changed to another protocol, such as WebSocket.",
            &upgraded,
        ),
        counters(
            "ds_gateway_upgraded_connections_ended_total",
            "Connections that had changed to another protocol and have ended, by protocol and reason.",
            upgraded_ends.collect(),
        ),
        counters(
            "ds_gateway_fast_lane_requests_total",
            "Requests taken by the fast lane, and those left to the engine, by reason.",
            std::iter::once((0, "taken"))
                .chain(Declined::ALL.map(|reason| (1 + reason as usize, reason.as_str())))
                .map(|(cell, result)| labelled_counter(sum(LANE + cell), &[("result", result)]))
                .collect(),
        ),
        counters(
            "ds_gateway_logins_total",
            "Logins by outcome; throttled logins and those that exceed the queue are answered before a password is hashed.",
            each(LOGINS, "outcome", &LoginOutcome::ALL.map(|outcome| (outcome as usize, outcome.as_str()))),
        ),
        counters(
            "ds_gateway_login_source_answers_total",
            "Answers of the sources of users beside the store, by source and answer.",
            answers.collect(),
        ),
        histograms(
            "ds_gateway_login_source_duration_seconds",
            "Time until a source of users beside the store answered, without the wait for a turn.",
            &BOUNDS,
            answered.collect(),
        ),
        counters(
            "ds_gateway_connections_ended_total",
            "Client connections refused, or closed to free a slot for another, by reason.",
            each(
                CONNECTION_ENDS,
                "reason",
                &ConnectionEnd::ALL.map(|reason| (reason as usize, reason.as_str())),
            ),
        ),
        counters(
            "ds_gateway_store_commit_errors_total",
            "Store commits that failed.",
            vec![labelled_counter(sum(COMMIT_ERRORS), &[])],
        ),
        histograms(
            "ds_gateway_request_duration_seconds",
            "Request duration, from the end of the request's header to the end of the response.",
            &BOUNDS,
            durations.collect(),
        ),
        histograms(
            "ds_gateway_login_duration_seconds",
            "Time to check a password, including the wait for a worker.",
            &BOUNDS,
            latency(Latency::Login),
        ),
        histograms(
            "ds_gateway_store_commit_duration_seconds",
            "Duration of store commits, including the sync to disk.",
            &BOUNDS,
            latency(Latency::Commit),
        ),
        gauge("ds_gateway_in_flight_requests", "Requests in flight.", level(IN_FLIGHT), &[]),
        gauge("ds_gateway_connections", "Client connections.", level(CONNECTIONS), &[]),
        gauge("ds_gateway_login_queue_length", "Logins waiting for a worker.", level(LOGIN_QUEUE), &[]),
    ]
}

/// What is read at each scrape.
fn read(facts: Facts<'_>) -> Vec<MetricFamily> {
    let Facts { gate, uptime, .. } = facts;
    let stale = f64::from(u8::from(gate.is_stale(uptime)));
    let (keys, snapshot) = (gate.keys(), gate.snapshot());
    let (sizes, cache) = (snapshot.sizes(), gate.cache().statistics());
    let revoked = keys.iter().filter(|key| snapshot.is_key_revoked(key.fingerprint())).count();
    let signing = usize::from(snapshot.can_sign(&keys));
    let verifying = keys.iter().count() - revoked - signing;
    vec![
        gauge(
            "ds_gateway_build_info",
            "Always 1; the labels describe the build.",
            1.0,
            &[
                ("version", env!("CARGO_PKG_VERSION")),
                ("commit", env!("BUILD_COMMIT")),
                ("profile", env!("BUILD_PROFILE")),
            ],
        ),
        gauge(
            "ds_gateway_config_info",
            "Always 1; the labels describe the configuration.",
            1.0,
            &[facts.info_labels, &[("hash", facts.reload.hash.as_str())]].concat(),
        ),
        // Numbers stay exact up to 2^53.
        gauge(
            "ds_gateway_store_number",
            "Sequence of the last store transaction applied by this gateway.",
            gate.sequence() as f64,
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
            "1 while the store has not been read for store.max_staleness and nothing is admitted.",
            stale,
            &[],
        ),
        gauge(
            "ds_gateway_store_queue_length",
            "Changes waiting for a store commit.",
            facts.store_queue_length as f64,
            &[],
        ),
        gauge(
            "ds_gateway_store_commit_age_seconds",
            "Age of the running store commit; 0 if none is running.",
            facts.store_commit_age.as_secs_f64(),
            &[],
        ),
        gauge("ds_gateway_users", "Enabled users.", snapshot.users() as f64, &[]),
        gauges(
            "ds_gateway_keys",
            "Keys by state; the signing key also verifies.",
            &[
                ("state", "signing", signing as f64),
                ("state", "verifying", verifying as f64),
                ("state", "revoked", revoked as f64),
            ],
        ),
        gauges(
            "ds_gateway_revocations",
            "Active revocations by kind: all tokens of a user or an organization, single tokens, keys.",
            &[
                ("kind", "token", sizes.tokens as f64),
                ("kind", "user", sizes.users as f64),
                ("kind", "organization", sizes.organizations as f64),
                ("kind", "email", sizes.emails as f64),
                ("kind", "key", sizes.keys as f64),
            ],
        ),
        gauge(
            "ds_gateway_clock_error_seconds",
            "Error of the wall clock: ahead after a step (positive) or behind (negative); 0 within a minute.",
            facts.clock_error as f64,
            &[],
        ),
        gauge(
            "ds_gateway_observe_until_timestamp_seconds",
            "When the observation of routes ends, in seconds since the epoch; 0 if every route is enforced.",
            facts.observed_until.map_or(0, |until| until.0) as f64,
            &[],
        ),
        gauge(
            "ds_gateway_revocations_pending",
            "Revocations active in this gateway but not yet durable.",
            facts.pending_revocations as f64,
            &[],
        ),
        gauge("ds_gateway_cache_entries", "Verified tokens in the cache.", cache.entries as f64, &[]),
        gauge("ds_gateway_cache_bytes", "Estimated memory of the cache.", cache.bytes as f64, &[]),
        counters(
            "ds_gateway_cache_lookups_total",
            "Cache lookups, by result.",
            vec![
                labelled_counter(cache.hits, &[("result", "hit")]),
                labelled_counter(cache.misses, &[("result", "miss")]),
            ],
        ),
        counters(
            "ds_gateway_cache_evictions_total",
            "Tokens evicted from the cache.",
            vec![labelled_counter(cache.evictions, &[])],
        ),
        counters(
            "ds_gateway_log_lines_dropped_total",
            "Log lines dropped because their reader is slow or writing failed.",
            vec![labelled_counter(facts.dropped_log_lines, &[])],
        ),
    ]
}
