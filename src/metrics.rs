//! Every metric name and label. Labels are bounded: no user, path or token is ever one.
//!
//! What a request touches lives in lanes, one a thread, so that no two cores write one cache line; a scrape
//! sums them. The rest is read when it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use crate::auth::denial::Denial;
use crate::auth::gate::Gate;

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
pub enum Decision {
    /// It carried a valid token.
    Admitted,
    /// Its path is public.
    Public,
    /// It was refused.
    Denied(Denial),
}

impl Decision {
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
}

impl TokenAction {
    const ALL: [Self; 2] = [Self::Mint, Self::Inspect];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Inspect => "inspect",
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
    /// The store could not be asked.
    StoreUnavailable,
}

impl TokenOutcome {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::BadCredentials,
        Self::BadToken,
        Self::BadRequest,
        Self::OrganizationMismatch,
        Self::Busy,
        Self::StoreUnavailable,
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
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

/// Hands out counters to those who count, and text to those who scrape.
pub struct Metrics {
    hot: Hot,
    registry: Registry,
}

impl Metrics {
    /// All series are there from the start, at zero. Fails only if a name is used twice.
    pub fn new() -> Result<Self, prometheus::Error> {
        let hot = Hot::new()?;
        let registry = Registry::new();
        registry.register(Box::new(hot.clone()))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process))?;
        Ok(Self { hot, registry })
    }

    /// A request begins; the guard counts it as in flight until it is dropped.
    pub fn begin(&self) -> InFlight {
        self.hot.add(Cell::IN_FLIGHT, 1);
        InFlight(self.hot.clone())
    }

    /// A request ended with `status` after `elapsed`.
    pub fn request(&self, route: RouteLabel, status: u16, elapsed: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.hot.add(Cell::REQUESTS + route as usize * 5 + class, 1);
        let seconds = elapsed.as_secs_f64();
        let bucket = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        let histogram = Cell::DURATION + route as usize * HISTOGRAM;
        self.hot.add(histogram + bucket, 1);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.hot.add(histogram + BOUNDS.len() + 1, micros);
    }

    /// The gate, or the policy, decided.
    pub fn decision(&self, decision: Decision) {
        let offset = match decision {
            Decision::Admitted => 0,
            Decision::Public => 1,
            Decision::Denied(denial) => 2 + denial as usize,
        };
        self.hot.add(Cell::DECISIONS + offset, 1);
    }

    /// The token endpoint answered.
    pub fn token_request(&self, action: TokenAction, outcome: TokenOutcome) {
        let offset = action as usize * TokenOutcome::ALL.len() + outcome as usize;
        self.hot.add(Cell::TOKENS + offset, 1);
    }

    /// A client connection begins (`1`) or ends (`-1`).
    pub fn connection(&self, change: i64) {
        self.hot.add(Cell::CONNECTIONS, change.cast_unsigned());
    }

    /// Requests that have begun and not ended.
    pub fn in_flight(&self) -> u64 {
        self.hot.sum(Cell::IN_FLIGHT)
    }

    /// The text of a scrape, in the Prometheus exposition format 0.0.4.
    pub fn scrape(&self, gate: &Gate, uptime: Duration, dropped_log_lines: u64) -> String {
        let mut families = self.registry.gather();
        let stale = f64::from(u8::from(gate.is_stale(uptime)));
        // Numbers stay exact up to 2^53.
        let number = gate.number() as f64;
        families.extend([
            gauge("ds_gateway_build_info", "Always 1; the version is a label.", 1.0, &[("version", VERSION)]),
            gauge("ds_gateway_store_number", "Last store transaction in force here.", number, &[]),
            gauge(
                "ds_gateway_store_stale",
                "1 while the store has not been read for max_staleness.",
                stale,
                &[],
            ),
            gauge("ds_gateway_users", "Enabled users known to the gate.", gate.users() as f64, &[]),
            family(
                "ds_gateway_log_lines_dropped_total",
                "Log lines dropped because their reader is slow.",
                MetricType::COUNTER,
                vec![counter(dropped_log_lines, &[])],
            ),
        ]);
        families.sort_by(|one, other| one.name().cmp(other.name()));
        // Encoding into a String fails only for a family without a name, and each of ours has one.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

/// Counts a request as in flight while it lives, through errors and panics.
pub struct InFlight(Hot);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.add(Cell::IN_FLIGHT, 1u64.wrapping_neg());
    }
}

/// Where each series has its cell in a lane.
struct Cell;

impl Cell {
    const REQUESTS: usize = 0;
    const DECISIONS: usize = Self::REQUESTS + RouteLabel::ALL.len() * 5;
    const TOKENS: usize = Self::DECISIONS + 2 + Denial::ALL.len();
    const DURATION: usize = Self::TOKENS + TokenAction::ALL.len() * TokenOutcome::ALL.len();
    const IN_FLIGHT: usize = Self::DURATION + RouteLabel::ALL.len() * HISTOGRAM;
    const CONNECTIONS: usize = Self::IN_FLIGHT + 1;
    const COUNT: usize = Self::CONNECTIONS + 1;
}

/// Upper bounds of the latency buckets, in seconds.
const BOUNDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Cells of one histogram: the buckets, the one without a bound, the sum in microseconds.
const HISTOGRAM: usize = BOUNDS.len() + 2;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One thread's cells, apart from every other thread's cache lines.
#[repr(align(128))]
struct Lane([AtomicU64; Cell::COUNT]);

#[derive(Clone)]
struct Hot {
    lanes: Arc<[Lane]>,
    descriptions: Arc<[Desc]>,
}

impl Hot {
    fn new() -> Result<Self, prometheus::Error> {
        let descriptions = HOT_FAMILIES
            .iter()
            .map(|(name, help)| Desc::new((*name).into(), (*help).into(), Vec::new(), Default::default()))
            .collect::<Result<_, _>>()?;
        let lane = || Lane([const { AtomicU64::new(0) }; Cell::COUNT]);
        Ok(Self { lanes: (0..LANES).map(|_| lane()).collect(), descriptions })
    }

    fn add(&self, cell: usize, by: u64) {
        let lane = LANE.with(|lane| *lane);
        if let Some(cell) = self.lanes.get(lane).and_then(|Lane(cells)| cells.get(cell)) {
            // Wrapping, so that a lane that only ever subtracts still sums up.
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn sum(&self, cell: usize) -> u64 {
        let cells = self.lanes.iter().filter_map(|Lane(cells)| cells.get(cell));
        cells.fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }

    fn requests(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for route in RouteLabel::ALL {
            for (class, status) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
                let value = self.sum(Cell::REQUESTS + route as usize * 5 + class);
                metrics.push(counter(value, &[("route", route.as_str()), ("status", status)]));
            }
        }
        metrics
    }

    fn decisions(&self) -> Vec<Metric> {
        let labelled = Decision::all().enumerate().map(|(offset, decision)| {
            counter(self.sum(Cell::DECISIONS + offset), &[("decision", decision.as_str())])
        });
        labelled.collect()
    }

    fn token_requests(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for action in TokenAction::ALL {
            for outcome in TokenOutcome::ALL {
                let offset = action as usize * TokenOutcome::ALL.len() + outcome as usize;
                let labels = [("action", action.as_str()), ("outcome", outcome.as_str())];
                metrics.push(counter(self.sum(Cell::TOKENS + offset), &labels));
            }
        }
        metrics
    }

    fn durations(&self) -> Vec<Metric> {
        RouteLabel::ALL
            .into_iter()
            .map(|route| {
                let start = Cell::DURATION + route as usize * HISTOGRAM;
                let mut count = 0;
                let mut buckets = Vec::new();
                // The encoder adds the bucket without a bound from the count.
                for (offset, bound) in BOUNDS.into_iter().enumerate() {
                    count += self.sum(start + offset);
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(bound);
                    bucket.set_cumulative_count(count);
                    buckets.push(bucket);
                }
                let mut histogram = Histogram::default();
                histogram.set_bucket(buckets);
                histogram.set_sample_count(count + self.sum(start + BOUNDS.len()));
                histogram.set_sample_sum(self.sum(start + BOUNDS.len() + 1) as f64 / 1e6);
                let mut metric = Metric::from_label(labels(&[("route", route.as_str())]));
                metric.set_histogram(histogram);
                metric
            })
            .collect()
    }
}

impl Collector for Hot {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let level = |cell| gauge_of(self.sum(cell).cast_signed() as f64);
        let kinds = [
            (MetricType::COUNTER, self.requests()),
            (MetricType::COUNTER, self.decisions()),
            (MetricType::COUNTER, self.token_requests()),
            (MetricType::HISTOGRAM, self.durations()),
            (MetricType::GAUGE, vec![Metric::from_gauge(level(Cell::IN_FLIGHT))]),
            (MetricType::GAUGE, vec![Metric::from_gauge(level(Cell::CONNECTIONS))]),
        ];
        let families = HOT_FAMILIES.iter().zip(kinds);
        families.map(|(&(name, help), (kind, metrics))| family(name, help, kind, metrics)).collect()
    }
}

/// Names and help texts, in the order in which [`Hot`] collects them.
const HOT_FAMILIES: [(&str, &str); 6] = [
    ("ds_gateway_requests_total", "Requests answered, by route and class of status."),
    ("ds_gateway_decisions_total", "Decisions about requests that wanted to go on, by reason."),
    ("ds_gateway_token_requests_total", "Requests to the token endpoint, by action and outcome."),
    ("ds_gateway_request_duration_seconds", "From the end of a request's header to the end of its answer."),
    ("ds_gateway_in_flight_requests", "Requests that have begun and not ended."),
    ("ds_gateway_connections", "Client connections."),
];

fn gauge_of(value: f64) -> Gauge {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    gauge
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let label = |&(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    };
    pairs.iter().map(label).collect()
}

fn counter(value: u64, pairs: &[(&str, &str)]) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_counter(counter);
    metric
}

fn gauge(name: &str, help: &str, value: f64, pairs: &[(&str, &str)]) -> MetricFamily {
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_gauge(gauge_of(value));
    family(name, help, MetricType::GAUGE, vec![metric])
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// More lanes than worker threads on most machines; past that two threads share one, which stays correct.
const LANES: usize = 64;

// Which lane a thread writes to. A process-wide count is the one thing that threads must share for it.
static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static LANE: usize = NEXT_LANE.fetch_add(1, Ordering::Relaxed) % LANES;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_apart_is_summed() {
        let metrics = Metrics::new().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _guard = metrics.begin();
                    for denial in Denial::ALL {
                        metrics.decision(Decision::Denied(denial));
                    }
                    metrics.decision(Decision::Admitted);
                    metrics.request(RouteLabel::Protected, 204, Duration::from_millis(3));
                    metrics.token_request(TokenAction::Inspect, TokenOutcome::StoreUnavailable);
                    metrics.connection(1);
                });
            }
        });
        // Another thread ends what those began.
        metrics.connection(-1);
        assert_eq!(metrics.in_flight(), 0);
        let text = TextEncoder::new().encode_to_string(&metrics.hot.collect()).unwrap();
        for line in [
            "ds_gateway_requests_total{route=\"protected\",status=\"2xx\"} 4",
            "ds_gateway_decisions_total{decision=\"admitted\"} 4",
            "ds_gateway_decisions_total{decision=\"public\"} 0",
            "ds_gateway_decisions_total{decision=\"token_missing\"} 4",
            "ds_gateway_decisions_total{decision=\"state_stale\"} 4",
            "ds_gateway_token_requests_total{action=\"inspect\",outcome=\"store_unavailable\"} 4",
            "ds_gateway_request_duration_seconds_bucket{route=\"protected\",le=\"0.0025\"} 0",
            "ds_gateway_request_duration_seconds_bucket{route=\"protected\",le=\"0.005\"} 4",
            "ds_gateway_request_duration_seconds_bucket{route=\"protected\",le=\"+Inf\"} 4",
            "ds_gateway_request_duration_seconds_count{route=\"protected\"} 4",
            "ds_gateway_in_flight_requests 0",
            "ds_gateway_connections 3",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(text.contains("ds_gateway_request_duration_seconds_sum{route=\"protected\"} 0.012"));
    }

    #[test]
    fn each_denial_has_the_cell_of_its_name() {
        for (at, denial) in Denial::ALL.into_iter().enumerate() {
            assert_eq!(denial as usize, at, "{denial:?}");
        }
    }
}
