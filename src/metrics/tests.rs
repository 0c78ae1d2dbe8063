use super::*;
use crate::auth::denial::Denial;

#[test]
fn what_threads_count_apart_is_summed() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _guard = metrics.begin();
                for denial in Denial::ALL {
                    metrics.decision(DecisionLabel::Denied(denial));
                }
                metrics.decision(DecisionLabel::Admitted);
                metrics.request(RouteLabel::Protected, 204, Duration::from_millis(3));
                metrics.token_request(TokenAction::Inspect, TokenOutcome::StoreUnavailable);
                metrics.connection(1);
                metrics.latency(Latency::Commit, Duration::from_secs(60));
                metrics.bytes(3, 5);
            });
        }
    });
    // Another thread ends what those began.
    metrics.connection(-1);
    assert_eq!(metrics.in_flight(), 0);
    let text = scrape::encode(&scrape::counted(&metrics.cells));
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
        "ds_gateway_request_duration_seconds_sum{route=\"protected\"} 0.012",
        "ds_gateway_store_commit_duration_seconds_bucket{le=\"10\"} 0",
        "ds_gateway_store_commit_duration_seconds_bucket{le=\"+Inf\"} 4",
        "ds_gateway_body_bytes_total{direction=\"sent\"} 20",
        "ds_gateway_in_flight_requests 0",
        "ds_gateway_connections 3",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
}

#[test]
fn each_denial_has_the_cell_of_its_name() {
    for (at, denial) in Denial::ALL.into_iter().enumerate() {
        assert_eq!(denial as usize, at, "{denial:?}");
    }
}
