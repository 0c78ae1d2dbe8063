//! A request that the lane serves.

use std::time::Duration;

use super::handshake::Handshake;
use crate::edge::request_state::RequestState;

/// A request that the lane serves.
pub(super) struct Taken {
    pub(super) state: RequestState,
    /// Where it is in the client's input; nowhere over HTTP/2.
    pub(super) extent: Extent,
    /// Is it for a head alone?
    pub(super) is_head: bool,
    /// Does twice the same as once (RFC 9110 §9.2.2)?
    pub(super) is_idempotent: bool,
    /// After the answer the connection ends.
    pub(super) closes: bool,
    /// The longest that it may take.
    pub(super) limit: Option<Duration>,
    /// What it asks to change its connection to.
    pub(super) handshake: Option<Box<Handshake>>,
}

impl Taken {
    /// For this method and target.
    pub(super) fn new(state: RequestState, method: &str, target: &[u8], extent: Extent) -> Self {
        Self {
            limit: state.runtime.request_duration(target),
            state,
            extent,
            is_head: method == "HEAD",
            is_idempotent: !matches!(method, "POST" | "PATCH"),
            closes: false,
            handshake: None,
        }
    }
}

/// How much of the input is one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of its head.
    pub(super) head: usize,
    /// Bytes of its head and body.
    pub(super) whole: usize,
}
