//! What an event stream is counted as.

use crate::client::request;
use crate::command::eventually;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};

#[test]
fn event_stream_is_counted_as_one_and_not_among_the_times_of_its_route() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let answer = |kind: &str| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        );
        Behaviour::Raw([head.as_bytes(), b"\n\n"].concat())
    };
    let count = |metric: &str, route: &str| {
        gateway.metric(&format!("ds_gateway_{metric}"), &[&format!("route={route:?}")])
    };
    for (kind, is_stream) in [
        ("text/event-stream", true),
        ("Text/Event-Stream; charset=utf-8", true),
        ("text/event", false),
        ("application/json", false),
    ] {
        platform.behave(answer(kind));
        let before = ["protected", "stream"].map(|route| count("request_duration_seconds_count", route));
        let requests = count("requests_total", "protected");
        let answer = gateway.exchange(request("GET", "/events", &[("user-token", &token)]));
        assert_eq!(answer.status, 200, "{kind}");
        eventually("the request to be counted", || {
            (count("requests_total", "protected") == requests + 1.0).then_some(())
        });
        let after = ["protected", "stream"].map(|route| count("request_duration_seconds_count", route));
        let expected = [before[0] + f64::from(!is_stream), before[1] + f64::from(is_stream)];
        assert_eq!(after, expected, "{kind}");
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}
