//! What becomes known of a request that has ended: counters, and a line.

use super::exchange::Ended;
use super::resources::Resources;
use super::taken::Taken;
use crate::edge::access_log::{CLIENT_CLOSED, Exchange, access_line};
use crate::edge::cut::Cut;
use crate::logging::AccessLine;

/// Counts and logs it. `exchange` has its head, and is asked only for a line.
pub(super) fn record<'h>(
    resources: &Resources,
    taken: &Taken,
    ended: &Ended,
    exchange: impl FnOnce() -> Option<Exchange<'h>>,
) {
    let (shared, state) = (&resources.gateway.shared, &taken.state);
    let elapsed = state.started.elapsed();
    let status = if ended.status == 0 { CLIENT_CLOSED } else { ended.status };
    shared.metrics.lane(None);
    if ended.is_event_stream {
        shared.metrics.event_stream(state.facts.route, status, elapsed);
    } else {
        shared.metrics.request(state.facts.route, status, elapsed);
    }
    let (bytes_received, bytes_sent) = (state.body_read as usize, ended.sent as usize);
    shared.metrics.bytes(bytes_received, bytes_sent);
    if !shared.sink.writes_access() {
        return;
    }
    let Some(exchange) = exchange() else { return };
    let exchange = Exchange { bytes_received, bytes_sent, ..exchange };
    let line = access_line(&shared.sink, state, &exchange, status, elapsed);
    let cut = ended.cut.map(Cut::as_str);
    let fault = cut.or(state.fault).or(line.fault);
    shared.sink.access(&AccessLine { fault, ..line });
}
