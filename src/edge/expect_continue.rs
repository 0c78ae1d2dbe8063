//! `Expect: 100-continue` over HTTP/2, where the engine sends no interim answer (RFC 9110 §10.1.1).

use std::time::Duration;

use pingora::Result;
use pingora::proxy::Session;
use tokio::time::timeout;

use super::request_state::RequestState;

/// Does the client wait for `100 Continue`, and for nothing else? Most clients do not wait over HTTP/2, or not for long. What is read
/// of the body is kept for the platform, as for a second try.
pub(super) async fn waits_for_ever(session: &mut Session, state: &RequestState) -> Result<bool> {
    if !session.is_http2() || !state.facts.expects_continue || !state.has_unannounced_body {
        return Ok(false);
    }
    let session = session.as_downstream_mut();
    session.enable_retry_buffering();
    match timeout(WAIT, session.read_request_body()).await {
        Ok(read) => read.map(|_| false),
        Err(_) => Ok(true),
    }
}

/// Longer than clients wait that have a limit: 1 s in curl and Go, 3 s in Apache HttpClient.
const WAIT: Duration = Duration::from_secs(4);
