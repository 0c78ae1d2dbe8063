//! What the lane of a worker has for all of its connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pingora::connectors::TransportConnector;

use super::buffers::Buffers;
use super::pool::Pool;
use crate::config::Limits;
use crate::edge::gateway::Gateway;

/// Shared by the connections of one worker, and by nobody else.
pub(super) struct Resources {
    pub(super) gateway: Gateway,
    pub(super) limits: Limits,
    /// Makes connections to the platform.
    pub(super) connector: TransportConnector,
    /// Keeps them.
    pub(super) pool: Arc<Pool>,
    /// For what clients send.
    pub(super) heads: Buffers,
    answers: Buffers,
    bodies: Buffers,
}

/// The buffers of one exchange.
pub(super) struct Work {
    /// What goes out: the request, until a byte of the answer has come; then the answer.
    pub(super) out: Vec<u8>,
    /// What the platform sent.
    pub(super) came: Vec<u8>,
}

impl Resources {
    /// For a gateway; `kept` connections to the platform are kept.
    pub(super) fn new(gateway: Gateway, limits: Limits, kept: usize) -> Self {
        Self {
            gateway,
            limits,
            connector: TransportConnector::new(None),
            pool: Pool::new(kept),
            heads: Buffers::new(HEAD_BYTES),
            answers: Buffers::new(ANSWER_BYTES),
            bodies: Buffers::new(BODY_BYTES),
        }
    }

    /// Is each answer the last of its connection?
    pub(super) fn is_stopping(&self) -> bool {
        self.gateway.shared.stopping.load(Ordering::Relaxed)
    }

    /// Buffers for an exchange.
    pub(super) fn work(&self) -> Work {
        Work { out: self.answers.lend(), came: self.answers.lend() }
    }

    /// A larger buffer for what the platform sends.
    pub(super) fn enlarge(&self, work: &mut Work) {
        let mut larger = self.bodies.lend();
        larger.extend_from_slice(&work.came);
        self.answers.give_back(std::mem::replace(&mut work.came, larger));
    }

    /// Takes the buffers of an exchange back.
    pub(super) fn give_back(&self, work: Work) {
        for buffer in [work.out, work.came] {
            let buffers = if buffer.capacity() == BODY_BYTES { &self.bodies } else { &self.answers };
            buffers.give_back(buffer);
        }
    }
}

/// The longest head that the lane takes.
pub(super) const HEAD_BYTES: usize = 8 * 1024;

/// Answers up to this size are read and sent at once.
const ANSWER_BYTES: usize = 16 * 1024;

/// What is read at once of a longer one.
const BODY_BYTES: usize = 64 * 1024;
