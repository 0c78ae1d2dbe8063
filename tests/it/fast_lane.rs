//! The suite runs with the fast lane and without it: this shows which of both it was. A lane that took nothing would pass everything else.

use crate::client::request;
use crate::command::eventually;
use crate::gateway::Gateway;
use crate::options::{Options, has_fast_lane};
use crate::platform::Platform;

/// Requests that the lane takes, let through and refused in turn.
const REQUESTS: usize = 8;

fn send_requests(gateway: &Gateway) {
    let token = gateway.mint();
    let good = request("GET", "/ds-api/anything", &[("user-token", &token)]);
    let bad = request("GET", "/ds-api/anything", &[]);
    let mut client = gateway.client();
    for (bytes, status) in [(&good, 200), (&bad, 401)].repeat(REQUESTS / 2) {
        assert_eq!(client.exchange(bytes).status, status);
    }
}

/// Requests that the lane has looked at: those that it took, and all.
fn counted(gateway: &Gateway) -> (f64, f64) {
    let count = |labels: &[&str]| gateway.metric("ds_gateway_fast_lane_requests_total", labels);
    (count(&["result=\"taken\""]), count(&[]))
}

#[test]
fn requests_are_taken_in_the_run_with_the_lane_and_none_in_the_run_without_it() {
    let platform = Platform::echo();
    let by_default = |options: Options| options;
    let on = |options: Options| options.set("server", "fast_lane", "true");
    let off = |options: Options| options.set("server", "fast_lane", "false");
    type Set = fn(Options) -> Options;
    let cases: [(&str, Set, bool); 3] =
        [("of this run", by_default, has_fast_lane()), ("on", on, true), ("off", off, false)];
    for (name, set, has_lane) in cases {
        let gateway = set(Options::new(&platform)).start();
        send_requests(&gateway);
        if has_lane {
            // It is counted when the client has its answer.
            eventually(name, || (counted(&gateway).0 >= REQUESTS as f64).then_some(()));
        } else {
            assert_eq!(counted(&gateway), (0.0, 0.0), "{name}");
        }
        gateway.still_healthy();
    }
}
