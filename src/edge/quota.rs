//! What all requests together may have: so many at once, so many connections to the platform, so much memory. All workers share
//! it without a word that all of them write, each drawing from it in batches; and no network of clients takes all of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::auth::reply::Overload;
use crate::auth::source::Network;
use crate::config::Limits;

/// What there is of each.
pub struct Quotas {
    all: [Arc<Quota>; Overload::ALL.len()],
    workers: usize,
    /// Those who draw from it.
    budgets: Mutex<Vec<Weak<Budget>>>,
}

impl Quotas {
    /// As configured, for so many workers.
    pub fn new(limits: &Limits, workers: usize) -> Self {
        let quota = |resource| Quota::new(amount(resource, limits, workers), workers);
        Self { all: Overload::ALL.map(quota), workers, budgets: Mutex::default() }
    }

    /// Has other limits from now on. What is taken stays taken: where there is less now than that, nothing is given until enough has come
    /// back.
    pub fn set(&self, limits: &Limits) {
        for (resource, quota) in Overload::ALL.into_iter().zip(&self.all) {
            quota.set(amount(resource, limits, self.workers), self.workers);
        }
        // What workers have drawn by the limits before and do not use is not theirs by these.
        let budgets = self.budgets.lock();
        budgets
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|budget| budget.shares.iter().for_each(Share::surrender));
    }

    /// What one worker draws from.
    pub fn budget(&self) -> Arc<Budget> {
        let shares = self.all.each_ref().map(Share::of);
        let budget =
            Arc::new(Budget { shares, workers: self.workers.max(1) as u64, networks: Mutex::default() });
        self.budgets.lock().push(Arc::downgrade(&budget));
        budget
    }
}

/// What there is of one kind.
fn amount(resource: Overload, limits: &Limits, workers: usize) -> u64 {
    match resource {
        Overload::Requests => limits.requests,
        Overload::PlatformConnections => {
            let kept = kept_connections(limits, workers) * workers;
            limits.platform_connections.saturating_sub(kept).max(1) as u64
        }
        Overload::Memory => {
            limits.memory.saturating_sub(limits.connections as u64 * Limits::CONNECTION_BYTES)
        }
    }
}

/// Idle connections to the platform that each worker keeps: all together a quarter of those that there may be.
fn kept_connections(limits: &Limits, workers: usize) -> usize {
    (limits.platform_connections / 4 / workers.max(1)).clamp(1, MOST_KEPT)
}

/// How many of those are kept by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// By the fast lane.
    pub lane: usize,
    /// By the engine, which has few requests beside a lane.
    pub engine: usize,
}

impl Kept {
    /// Of each worker.
    pub fn new(limits: &Limits, workers: usize, has_lane: bool) -> Self {
        let all = kept_connections(limits, workers);
        if !has_lane {
            return Self { lane: 0, engine: all };
        }
        let engine = (all / 4).max(1);
        Self { lane: all.saturating_sub(engine).max(1), engine }
    }
}

/// One kind of thing, bounded in all.
#[derive(Debug)]
struct Quota {
    /// Below zero once the limit is lowered below what is taken.
    left: AtomicI64,
    limit: AtomicU64,
    batch: AtomicU64,
}

impl Quota {
    /// What a worker has drawn and does not use is missing to the others: less than an eighth of the limit, in all.
    fn new(limit: u64, workers: usize) -> Arc<Self> {
        let quota = Self { left: AtomicI64::new(0), limit: AtomicU64::new(0), batch: AtomicU64::new(0) };
        quota.set(limit, workers);
        Arc::new(quota)
    }

    fn set(&self, limit: u64, workers: usize) {
        self.batch.store(limit / (16 * workers.max(1) as u64), Ordering::Relaxed);
        let before = self.limit.swap(limit, Ordering::Relaxed);
        self.left.fetch_add(signed(limit).saturating_sub(signed(before)), Ordering::Relaxed);
    }

    fn batch(&self) -> u64 {
        self.batch.load(Ordering::Relaxed)
    }

    /// Draws at least `least`, and `most` if there is so much.
    fn draw(&self, least: u64, most: u64) -> Option<u64> {
        let drawn = |left: i64| {
            let left = u64::try_from(left).ok()?;
            (left >= least).then(|| left.min(most))
        };
        let subtract = |left: i64| Some(left - signed(drawn(left)?));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract).ok()?;
        drawn(before)
    }
}

/// A worker's part of a quota.
#[derive(Debug)]
struct Share {
    quota: Arc<Quota>,
    /// Drawn and not taken. Of this worker alone, so that its cache line stays on one core.
    spare: AtomicU64,
}

impl Share {
    fn of(quota: &Arc<Quota>) -> Self {
        Self { quota: Arc::clone(quota), spare: AtomicU64::new(0) }
    }

    /// Gives back what is drawn and not taken.
    fn surrender(&self) {
        let spare = self.spare.swap(0, Ordering::Relaxed);
        self.quota.left.fetch_add(signed(spare), Ordering::Relaxed);
    }

    /// What could be taken at most.
    fn free(&self) -> u64 {
        let left = u64::try_from(self.quota.left.load(Ordering::Relaxed)).unwrap_or_default();
        left + self.spare.load(Ordering::Relaxed)
    }

    /// Takes so much; whether there was so much left.
    fn take(&self, amount: u64) -> bool {
        let spare = |spare: u64| spare.checked_sub(amount);
        while self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spare).is_err() {
            let missing = amount.saturating_sub(self.spare.load(Ordering::Relaxed));
            let Some(drawn) = self.quota.draw(missing, missing.saturating_add(self.quota.batch())) else {
                return false;
            };
            self.spare.fetch_add(drawn, Ordering::Relaxed);
        }
        true
    }

    fn give_back(&self, amount: u64) {
        let spare = self.spare.fetch_add(amount, Ordering::Relaxed) + amount;
        let kept = self.quota.batch();
        // Between nothing and twice a batch the spare goes up and down without the others.
        if spare > 2 * kept {
            let surplus = spare - kept;
            let subtract = |spare: u64| spare.checked_sub(surplus);
            if self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract).is_ok() {
                self.quota.left.fetch_add(signed(surplus), Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.surrender();
    }
}

/// A worker's part of everything.
pub struct Budget {
    shares: [Share; Overload::ALL.len()],
    workers: u64,
    networks: Mutex<HashMap<Network, Weak<Usage>>>,
}

/// What one network of clients has of one worker's budget.
#[derive(Debug, Default)]
pub(super) struct Usage([AtomicU64; Overload::ALL.len()]);

impl Budget {
    /// The usage of a network; a new one where nobody of it is here.
    pub(super) fn usage(&self, network: Network) -> Arc<Usage> {
        let mut networks = self.networks.lock();
        if let Some(usage) = networks.get(&network).and_then(Weak::upgrade) {
            return usage;
        }
        // Networks of which nobody is left go when the table would grow.
        if networks.len() == networks.capacity() {
            networks.retain(|_, usage| usage.strong_count() > 0);
        }
        let usage = Arc::<Usage>::default();
        networks.insert(network, Arc::downgrade(&usage));
        usage
    }

    /// May a network that has `used` take so much more? It may have four times of what is left to all, so that the last fifth is
    /// left to others, however much one wants; two have four ninths each.
    fn is_fair(&self, share: &Share, used: u64, amount: u64) -> bool {
        // Who has nothing may take what there is.
        used == 0 || used.saturating_add(amount) <= FAIR_PART.saturating_mul(share.free()) / self.workers
    }
}

/// What a request has of everything, given back when it is dropped.
pub(super) struct Reserved {
    budget: Arc<Budget>,
    usage: Arc<Usage>,
    amounts: [u64; Overload::ALL.len()],
}

impl Reserved {
    /// Nothing yet, on behalf of a network.
    pub(super) const fn new(budget: Arc<Budget>, usage: Arc<Usage>) -> Self {
        Self { budget, usage, amounts: [0; Overload::ALL.len()] }
    }

    /// Takes more of one kind.
    pub(super) fn take(&mut self, resource: Overload, amount: u64) -> Result<(), Overload> {
        let at = resource as usize;
        let Usage(used) = &*self.usage;
        let (Some(share), Some(used), Some(taken)) =
            (self.budget.shares.get(at), used.get(at), self.amounts.get_mut(at))
        else {
            return Err(resource);
        };
        let is_fair = self.budget.is_fair(share, used.load(Ordering::Relaxed), amount);
        if !is_fair || !share.take(amount) {
            return Err(resource);
        }
        used.fetch_add(amount, Ordering::Relaxed);
        *taken += amount;
        Ok(())
    }

    /// Gives everything back.
    pub(super) fn release(&mut self) {
        let Usage(used) = &*self.usage;
        for ((share, used), amount) in self.budget.shares.iter().zip(used).zip(&mut self.amounts) {
            if *amount > 0 {
                used.fetch_sub(*amount, Ordering::Relaxed);
                share.give_back(std::mem::take(amount));
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.release();
    }
}

/// Amounts are bytes and numbers of things that there can be.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// A network may have so many times of what is left.
const FAIR_PART: u64 = 4;

/// Idle connections to the platform that a worker keeps at most.
const MOST_KEPT: usize = 1024;

#[cfg(test)]
mod tests;
