//! What the writer is doing, as others see it while it does so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::error::StoreError;
use crate::store::health::Health;

/// Shared by the writer's thread and those who look at it. Its lock is never held across I/O.
#[derive(Debug, Default)]
pub(super) struct Activity {
    queue_length: AtomicUsize,
    commit: Mutex<Commit>,
}

#[derive(Debug, Default)]
struct Commit {
    began: Option<Instant>,
    fault: Option<StoreError>,
}

impl Activity {
    /// A command enters the queue.
    pub(super) fn queued(&self) {
        self.queue_length.fetch_add(1, Ordering::Relaxed);
    }

    /// So many leave it.
    pub(super) fn taken(&self, count: usize) {
        self.queue_length.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn commit_begins(&self) {
        self.commit.lock().began = Some(Instant::now());
    }

    pub(super) fn commit_ends(&self) {
        self.commit.lock().began = None;
    }

    /// What is wrong since the last commit, if anything is.
    pub(super) fn is_faulty(&self, fault: Option<StoreError>) {
        self.commit.lock().fault = fault;
    }

    pub(super) fn health(&self) -> Health {
        let commit = self.commit.lock();
        Health {
            queue_length: self.queue_length.load(Ordering::Relaxed),
            commit_age: commit.began.map_or(Duration::ZERO, |began| began.elapsed()),
            fault: commit.fault.clone(),
        }
    }
}
