//! The admin listener: metrics, health and readiness, apart from the traffic.
//!
//! It may use `service`, `store` and the layers that all use.

pub mod health;
mod shown;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Response};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use self::health::Health;
pub use self::shown::Shown;
use crate::auth::time::UnixTime;
use crate::logging::Sink;
use crate::metrics::{Facts, Metrics};

/// What the admin listener shows.
pub struct Admin {
    /// Whether traffic should come here.
    pub health: Health,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// For its dropped lines.
    pub sink: Sink,
    /// What it shows of the configuration.
    pub shown: Arc<ArcSwap<Shown>>,
    /// Whether it listens on a loopback address: then only this machine asks.
    pub is_loopback: bool,
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
                let Health { gate, clock, pending, store, .. } = &self.health;
                let health = store.health();
                let shown = self.shown.load_full();
                let addresses = (shown.addresses)();
                let text = self.metrics.scrape(Facts {
                    gate,
                    uptime: clock.uptime(),
                    dropped_log_lines: self.sink.dropped(),
                    info_labels: &shown.info_labels,
                    observed_until: self.health.observed_until(),
                    pending_revocations: pending.len(),
                    clock_error: clock.error().unwrap_or_default(),
                    store_queue_length: health.queue_length,
                    store_commit_age: health.commit_age,
                    certificates: &shown.certificates,
                    servers: &shown.servers,
                    reload: &shown.reload,
                    addresses: &addresses,
                });
                respond(200, prometheus::TEXT_FORMAT, text)
            }
            "/healthz" => respond(200, JSON, r#"{"healthy": true}"#.into()),
            "/readyz" => {
                let reasons = self.health.unready();
                let warnings = self.health.warnings();
                let observed_until = self.health.observed_until();
                let body = serde_json::json!({
                    "ready": reasons.is_empty(),
                    "mode": if observed_until.is_some() { "observe" } else { "enforce" },
                    "observe_until": observed_until.map(UnixTime::to_rfc3339),
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
