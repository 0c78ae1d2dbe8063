//! Which connections are served: at most so many, spread over the workers; and where there is no place left, the source
//! that has the most gives up one that is idle.
//!
//! Balancers and NAT bring many clients from one address, so that a fixed bound for each would hurt the wrong ones; what bounds
//! an attacker from one source is that everybody else comes first. Opening and closing a connection takes a short lock here; a
//! request takes none.

mod activity;
mod sizes;
mod table;

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;

use self::table::Table;
use crate::metrics::Metrics;

pub(super) use self::activity::{ActiveRequest, Activity};
pub use self::table::{Bounds, ENDING, Refusal};

/// Every connection that is served.
pub struct Admission {
    started: Instant,
    table: Mutex<Table>,
    refusing: AtomicUsize,
    most_refusing: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// The place of one connection, given back when it is dropped. That must be before its socket is closed.
pub(super) struct Slot {
    admission: Arc<Admission>,
    id: usize,
    activity: Arc<Activity>,
    worker: usize,
}

/// Leave to tell a client that it is refused, which takes a moment and a descriptor.
pub(super) struct RefusalSlot(Arc<Admission>);

impl Admission {
    /// Nobody is there yet.
    pub fn new(bounds: Bounds, workers: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let table = Mutex::new(Table::new(bounds, workers));
        let most_refusing = AtomicUsize::new(most_refusing(bounds));
        Arc::new(Self {
            started: Instant::now(),
            table,
            refusing: AtomicUsize::new(0),
            most_refusing,
            metrics,
        })
    }

    /// Has other bounds from now on. Connections that are served already are served on.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.table.lock().set_bounds(bounds);
        self.most_refusing.store(most_refusing(bounds), Ordering::Relaxed);
    }

    /// A place for a connection of `address`, which has no bound of its own if it is a proxy's, on the worker that has the
    /// fewest; says whether another connection was ended for it.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        is_proxy: bool,
        socket: RawFd,
        now: Instant,
    ) -> Result<(Slot, bool), Refusal> {
        let activity = Arc::new(Activity::new(self.started, now));
        let mut table = self.table.lock();
        let yields = table.make_place(address, is_proxy)?;
        if let Some(socket) = yields {
            // Only this half: a request that is on its way is answered, and then the worker sees the end. The lock is held, so that
            // the number still is this socket's.
            let _ = shutdown(socket, Shutdown::Read);
        }
        let (id, worker) = table.insert(address, socket, Arc::clone(&activity));
        drop(table);
        self.metrics.connection(1);
        Ok((Slot { admission: Arc::clone(self), id, activity, worker }, yields.is_some()))
    }

    /// Leave to tell a refused client; none while many are being told.
    pub(super) fn refuse(self: &Arc<Self>) -> Option<RefusalSlot> {
        let slot = RefusalSlot(Arc::clone(self));
        let most = self.most_refusing.load(Ordering::Relaxed);
        // One too many is given back at once.
        (self.refusing.fetch_add(1, Ordering::Relaxed) < most).then_some(slot)
    }
}

impl Slot {
    /// The worker that serves it.
    pub(super) const fn worker(&self) -> usize {
        self.worker
    }

    /// What the connection is doing.
    pub(super) const fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The connection turned out to come from another address: a proxy told so.
    pub(super) fn readdress(&self, address: IpAddr, is_proxy: bool) -> Result<(), Refusal> {
        self.admission.table.lock().readdress(self.id, address, is_proxy)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.table.lock().remove(self.id);
        self.admission.metrics.connection(-1);
    }
}

impl Drop for RefusalSlot {
    fn drop(&mut self) {
        self.0.refusing.fetch_sub(1, Ordering::Relaxed);
    }
}

fn most_refusing(bounds: Bounds) -> usize {
    REFUSALS.min(bounds.connections)
}

/// Clients that are told at once that they are refused; no more than are served.
pub const REFUSALS: usize = 32;
