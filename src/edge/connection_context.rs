//! What the requests of a connection, and the limits around it, know of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::protocols::Digest;
use pingora::protocols::raw_connect::ProxyDigest;

use super::admission::{ActiveRequest, Activity};
use super::quota::{Budget, Reserved, Usage};
use crate::auth::client_address::ClientAddress;
use crate::auth::source::Network;

/// The connection that a request came by.
pub(super) fn of(digest: Option<&Digest>) -> Option<&Arc<Connection>> {
    digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

/// What the proxy and the limits tell each other about one connection.
pub(super) struct Connection {
    pub(super) phase: AtomicU8,
    pub(super) is_http2: bool,
    peer: ClientAddress,
    /// Of the peer.
    forwarded_for: HeaderValue,
    is_trusted: bool,
    activity: Arc<Activity>,
    budget: Arc<Budget>,
    usage: Arc<Usage>,
}

impl Connection {
    /// A connection that nothing has come from yet.
    pub(super) fn new(
        peer: ClientAddress,
        is_trusted: bool,
        is_http2: bool,
        activity: Arc<Activity>,
        budget: Arc<Budget>,
    ) -> Arc<Self> {
        let usage = budget.usage(Network::of(peer.ip));
        let forwarded_for = peer.field_value();
        // On HTTP/2 the header is the preface; after it the engine has limits of its own.
        let phase = AtomicU8::new(HEADER);
        Arc::new(Self { phase, is_http2, peer, forwarded_for, is_trusted, activity, budget, usage })
    }

    /// The header of its request is complete.
    pub(super) fn header_read(&self) {
        if !self.is_http2 {
            self.phase.store(REQUEST, Ordering::Relaxed);
        }
    }

    /// The request is over.
    pub(super) fn request_done(&self) {
        if !self.is_http2 && self.phase.load(Ordering::Relaxed) == REQUEST {
            self.phase.store(IDLE, Ordering::Relaxed);
        }
    }

    /// The other end.
    pub(super) const fn peer(&self) -> ClientAddress {
        self.peer
    }

    /// Its address as the value of a field.
    pub(super) const fn forwarded_for(&self) -> &HeaderValue {
        &self.forwarded_for
    }

    /// Is the peer a proxy whose word counts?
    pub(super) const fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Of the limits of all together, nothing yet, on the peer's behalf.
    pub(super) fn reserved(&self) -> Reserved {
        Reserved::new(Arc::clone(&self.budget), Arc::clone(&self.usage))
    }

    /// The same on behalf of another client.
    pub(super) fn reserved_for(&self, client: IpAddr) -> Reserved {
        Reserved::new(Arc::clone(&self.budget), self.budget.usage(Network::of(client)))
    }

    /// Did the gateway end it, and not the client, just as a request came?
    pub(super) fn was_ended_too_soon(&self) -> bool {
        self.activity.was_ended_too_soon()
    }

    /// The connection is to end as one that failed, with a reset: what was sent of an answer must not look like all of it.
    pub(super) fn abort(&self) {
        self.activity.abort();
    }

    /// A request begins that the connection is kept for.
    pub(super) fn active_request(&self) -> ActiveRequest {
        self.activity.request()
    }
}

/// What the engine has for a proxy that it was reached by, of which there is none here: it carries data of ours besides.
pub(super) fn digest_of(connection: &Arc<Connection>) -> Option<Arc<ProxyDigest>> {
    let response = ResponseHeader::build(200, Some(0)).ok()?;
    Some(Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(Arc::clone(connection))))))
}

/// Between two requests.
pub(super) const IDLE: u8 = 0;
/// Inside a header.
pub(super) const HEADER: u8 = 1;
/// Inside a request, or HTTP/2.
pub(super) const REQUEST: u8 = 2;
