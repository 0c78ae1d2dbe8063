//! A try that failed at one server of the platform: what is known of it, and whether the request is sent again.

use pingora::Error;
use pingora::proxy::Session;

use super::errors::{is_unanswered, try_fault};
use super::gateway::Gateway;
use super::request_state::RequestState;
use super::upstream::Retry;
use crate::metrics::{RetryOutcome, TryFault};

impl Gateway {
    /// There was no connection. Nothing was sent, so even a POST may go to another server.
    pub(super) fn connection_failed(&self, error: &mut Error, state: &mut RequestState) {
        count(state, try_fault(error, false));
        error.set_retry(self.may_retry(state, true));
    }

    /// It failed after there was a connection, `kept` from another request or new.
    ///
    /// Nothing was sent to a server with a certificate for somebody else. What was sent on a connection that its server had closed is
    /// sent again, on a new one, only if twice does the same as once (RFC 9110 §9.2.2). Anything else may have been acted upon, or is being answered.
    pub(super) fn exchange_failed(
        &self,
        error: &mut Error,
        session: &mut Session,
        state: &mut RequestState,
        kept: bool,
    ) {
        let fault = try_fault(error, kept && !state.answer_begun && is_unanswered(error));
        count(state, fault);
        if fault.is_none() {
            state.runtime.platforms.get(state.platform).abandoned(&mut state.tries);
        }
        let (is_safe, elsewhere) = match fault {
            Some(TryFault::Tls) => (true, true),
            Some(TryFault::KeptConnectionClosed) => {
                if let Some(change) = &mut state.change {
                    change.sent_again();
                }
                let is_idempotent = session.req_header().method.is_idempotent();
                (is_idempotent && !session.as_ref().retry_buffer_truncated(), false)
            }
            _ => (false, false),
        };
        error.set_retry(is_safe && self.may_retry(state, elsewhere));
    }

    /// Is there a server to send it to, and leave?
    pub(super) fn may_retry(&self, state: &RequestState, elsewhere: bool) -> bool {
        let retry = state.upstream().may_retry(&state.tries, elsewhere);
        let outcome = match retry {
            Retry::Nowhere => return false,
            Retry::Granted => RetryOutcome::Sent,
            Retry::OverBudget => RetryOutcome::OverBudget,
        };
        self.shared.metrics.retry(outcome);
        retry == Retry::Granted
    }
}

/// Counts and logs a failed try, if it is the server's side that failed.
pub(super) fn count(state: &mut RequestState, fault: Option<TryFault>) {
    if let Some(fault) = fault {
        state.fault = Some(fault.as_str());
        state.runtime.platforms.get(state.platform).failed(&mut state.tries, fault);
    }
}
