//! What the lane of a worker has for all of its connections.

use std::sync::Arc;

use pingora::connectors::TransportConnector;

use super::buffers::Buffers;
use super::pool::Pool;
use crate::config::Limits;
use crate::edge::gateway::Gateway;
use crate::edge::quota::Kept;

/// Shared by the connections of one worker, and by nobody else.
pub(super) struct Resources {
    pub(super) gateway: Gateway,
    /// Makes connections to the platform.
    pub(super) connector: TransportConnector,
    /// Keeps them.
    pub(super) pool: Arc<Pool>,
    /// Among how many workers the connections to the platform are shared out.
    workers: usize,
    /// For what clients send.
    pub(super) heads: Buffers,
    /// For what the platform sends.
    pub(super) answers: Buffers,
    large: Buffers,
}

/// The buffers of one exchange.
pub(super) struct Work {
    /// What goes out: the request, until a byte of the answer has come; then the answer.
    pub(super) out: Vec<u8>,
    /// What the platform sent.
    pub(super) came: Vec<u8>,
}

impl Work {
    /// Ends the exchange.
    pub(super) fn give_back(self, resources: &Resources) {
        [self.out, self.came].into_iter().for_each(|buffer| resources.give_back(buffer));
    }
}

impl Resources {
    /// For the gateway of one of so many workers.
    pub(super) fn new(gateway: Gateway, workers: usize) -> Self {
        Self {
            gateway,
            connector: TransportConnector::new(None),
            pool: Arc::default(),
            workers,
            heads: Buffers::new(HEAD_BYTES),
            answers: Buffers::new(ANSWER_BYTES),
            large: Buffers::new(LARGE_BYTES),
        }
    }

    /// How many connections to the platform are kept within these limits.
    pub(super) fn kept(&self, limits: &Limits) -> usize {
        Kept::new(limits, self.workers, true).lane
    }

    /// Is each answer the last of its connection?
    pub(super) fn is_stopping(&self) -> bool {
        self.gateway.shared.ending.has_begun()
    }

    /// Buffers for an exchange.
    pub(super) fn work(&self) -> Work {
        Work { out: self.answers.lend(), came: self.answers.lend() }
    }

    /// Puts a large buffer in the place of one with too little room.
    pub(super) fn enlarge(&self, buffer: &mut Vec<u8>) {
        let mut larger = self.large.lend();
        larger.extend_from_slice(buffer);
        self.give_back(std::mem::replace(buffer, larger));
    }

    /// Takes a buffer back, whatever it was lent for.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        let all = [&self.heads, &self.answers, &self.large];
        let place = all.into_iter().find(|buffers| buffers.size() == buffer.capacity());
        if let Some(buffers) = place {
            buffers.give_back(buffer);
        }
    }
}

/// The longest head that the lane takes.
pub(super) const HEAD_BYTES: usize = 8 * 1024;

/// Answers up to this size are read and sent at once.
const ANSWER_BYTES: usize = 16 * 1024;

/// What is read at once of a longer one, and room for a head and the longest body of a request.
const LARGE_BYTES: usize = HEAD_BYTES + LONGEST_BODY + 1024;

/// Bodies of requests up to this size are read whole before the platform is asked.
pub(super) const LONGEST_BODY: usize = 64 * 1024;
