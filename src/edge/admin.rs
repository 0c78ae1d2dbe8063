//! The admin listener: metrics, health and readiness, apart from the traffic.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Response};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::auth::gate::Gate;
use crate::clock::{Clock, describe};
use crate::logging::Sink;
use crate::metrics::{Facts, Metrics};
use crate::service::pending_revocations::Pending;
use crate::store::{Store, StoreError};

/// What the admin listener shows.
pub struct Admin {
    /// For its number and its age.
    pub gate: Arc<Gate>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Reads the clock.
    pub clock: Clock,
    /// For its dropped lines.
    pub sink: Sink,
    /// The choices of the configuration that metrics show.
    pub choices: Vec<(&'static str, &'static str)>,
    /// Revocations that the store has not taken.
    pub pending: Arc<Pending>,
    /// For its health.
    pub store: Store,
    /// When the certificate of the TLS listener ends, in seconds since 1970.
    pub certificate_not_after: Option<i64>,
    /// Whether it listens on a loopback address: then only this machine asks.
    pub is_loopback: bool,
    /// Set once the process is asked to stop.
    pub stopping: Arc<AtomicBool>,
}

impl Admin {
    /// Why traffic should go elsewhere, or somebody has to come.
    fn unready(&self) -> Vec<&'static str> {
        let log_changed = self.store.health().fault == Some(StoreError::LogChanged);
        let stale = self.gate.is_stale(self.clock.uptime());
        let stopping = self.stopping.load(Ordering::Relaxed);
        let reasons = [
            (stale, "the store has not been read for longer than store.max_staleness"),
            (!self.pending.is_empty(), "revocations wait for the store, which takes no writes"),
            (
                log_changed,
                "-wal or -shm beside the store was removed, replaced or cut: put it back or restart",
            ),
            (self.gate.signs_with().is_none(), "every signing key is revoked: no token can be minted"),
            (stopping, "the gateway is stopping"),
        ];
        reasons.into_iter().filter(|(on, _)| *on).map(|(_, reason)| reason).collect()
    }

    /// What an operator should know and no balancer should act on. To turn traffic away for it would make an outage of it:
    /// another gateway has the same disk, and the same time service.
    fn warnings(&self) -> Vec<String> {
        let health = self.store.health();
        let hangs = health.hangs().then(|| {
            let seconds = health.commit_age.as_secs();
            format!(
                "a commit of the store has not ended for {seconds} s: nothing is minted or revoked meanwhile"
            )
        });
        let fault = health.fault.filter(|fault| *fault != StoreError::LogChanged);
        let clock = self.clock.error().map(describe);
        hangs.into_iter().chain(fault.map(|fault| fault.to_string())).chain(clock).collect()
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        if self.is_loopback && !names_this_machine(&request.headers) {
            let text = r#"{"error": "ask this listener by an address or as localhost"}"#;
            return respond(421, JSON, text.into());
        }
        if !matches!(request.method, http::Method::GET | http::Method::HEAD) {
            return respond(405, JSON, r#"{"error": "only GET is served here"}"#.into());
        }
        match request.uri.path() {
            "/metrics" => {
                let text = self.metrics.scrape(Facts {
                    gate: &self.gate,
                    uptime: self.clock.uptime(),
                    dropped_log_lines: self.sink.dropped(),
                    choices: &self.choices,
                    pending_revocations: self.pending.len(),
                    clock_error: self.clock.error().unwrap_or_default(),
                    store_queue_length: self.store.health().queue_length,
                    store_commit_age: self.store.health().commit_age,
                    certificate_not_after: self.certificate_not_after,
                });
                respond(200, prometheus::TEXT_FORMAT, text)
            }
            "/healthz" => respond(200, JSON, r#"{"healthy": true}"#.into()),
            "/readyz" => {
                let reasons = self.unready();
                let warnings = self.warnings();
                let body = serde_json::json!({
                    "ready": reasons.is_empty(),
                    "reasons": reasons,
                    "warnings": warnings,
                });
                respond(if reasons.is_empty() { 200 } else { 503 }, JSON, body.to_string())
            }
            _ => {
                let text = r#"{"error": "there are /metrics, /healthz and /readyz"}"#;
                respond(404, JSON, text.into())
            }
        }
    }
}

/// Was the host asked for by an address, as `localhost`, or not named? A page in a browser on this machine may have a name that
/// leads here (DNS rebinding), and must not read what it finds.
fn names_this_machine(headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().all(|host| {
        let host = host.as_bytes();
        let Some(host) = std::str::from_utf8(host).ok().and_then(|host| host.parse::<Authority>().ok())
        else {
            return host.is_empty();
        };
        let name = host.host();
        name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    })
}

fn respond(status: u16, kind: &str, body: String) -> Response<Vec<u8>> {
    let built = Response::builder()
        .status(status)
        .header("Content-Type", kind)
        .header("Content-Length", body.len())
        .header("Cache-Control", "no-store");
    let built = if status == 405 { built.header("Allow", "GET, HEAD") } else { built };
    // Every part above is a constant or a number.
    built.body(body.into_bytes()).unwrap_or_default()
}

const JSON: &str = "application/json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_that_names_this_machine_is_answered() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("127.0.0.1:9464", true),
            ("10.1.2.3:9464", true),
            ("[::1]", true),
            ("[::1]:9464", true),
            ("localhost", true),
            ("LocalHost:9464", true),
            ("", true),
            ("rebound.example", false),
            ("rebound.example:9464", false),
            ("localhost.rebound.example", false),
            ("127.0.0.1.rebound.example", false),
            ("127.0.0.1 rebound.example", false),
            ("user@127.0.0.1@rebound.example", false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
            assert_eq!(names_this_machine(&headers), expected, "{host}");
        }
        assert!(names_this_machine(&HeaderMap::new()));
    }
}
