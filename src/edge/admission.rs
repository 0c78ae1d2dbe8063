//! Which connections are served: at most so many, spread over the workers; and where there is no place left, the block of
//! addresses that has the most gives up one that is idle.
//!
//! Balancers and NAT bring many clients from one address, so that a fixed bound for each would hurt the wrong ones; what bounds
//! an attacker from one block is that everybody else comes first. Opening and closing a connection takes a short lock here; a
//! request takes none.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;

use crate::metrics::Metrics;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all.
    pub connections: usize,
    /// From one address, or one IPv6 /64; none: any number.
    pub per_address: Option<usize>,
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Every place is taken, and no connection that could yield is idle.
    Connections,
    /// Its address has as many as one may have.
    Address,
}

/// Every connection that is served.
pub struct Admission {
    started: Instant,
    table: Mutex<Table>,
    refusing: AtomicUsize,
    most_refusing: usize,
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

/// What a connection is doing, as far as it matters to others.
#[derive(Debug)]
pub(super) struct Activity {
    started: Instant,
    /// Requests that are forwarded or served.
    requests: AtomicU32,
    /// Since when there is none, in milliseconds from `started`.
    idle_since: AtomicU64,
}

impl Activity {
    fn new(started: Instant, now: Instant) -> Self {
        let idle_since = AtomicU64::new(millis(now.duration_since(started)));
        Self { started, requests: AtomicU32::new(0), idle_since }
    }

    /// A request is worth keeping its connection for, until the guard is dropped. One that is refused is not, however long its
    /// body takes.
    pub(super) fn request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    fn idle_since(&self) -> Option<u64> {
        let is_idle = self.requests.load(Ordering::Relaxed) == 0;
        is_idle.then(|| self.idle_since.load(Ordering::Relaxed))
    }
}

/// A request that a connection is kept for.
pub(super) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.idle_since.store(millis(activity.started.elapsed()), Ordering::Relaxed);
        activity.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// Nobody is there yet.
    pub fn new(bounds: Bounds, workers: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let table = Mutex::new(Table::new(bounds, workers));
        let most_refusing = REFUSALS.min(bounds.connections);
        Arc::new(Self {
            started: Instant::now(),
            table,
            refusing: AtomicUsize::new(0),
            most_refusing,
            metrics,
        })
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
        // One too many is given back at once.
        (self.refusing.fetch_add(1, Ordering::Relaxed) < self.most_refusing).then_some(slot)
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

/// The connections by block, and the blocks by size.
struct Table {
    bounds: Bounds,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// Those that were not told to end.
    live: usize,
    workers: Vec<usize>,
    networks: Sizes<Network>,
    blocks: HashMap<Network, Sizes<Block>>,
    members: HashMap<Block, Vec<usize>>,
    /// Where the search among many members goes on.
    cursor: usize,
}

struct Entry {
    address: IpAddr,
    socket: RawFd,
    activity: Arc<Activity>,
    worker: usize,
    /// Its index among the members of its block.
    member: usize,
    was_ended: bool,
}

/// What one provider or customer has: an IPv4 /24, an IPv6 /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Network(u64);

impl Network {
    /// The network of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        Block::of(address).network()
    }
}

/// What one host or household has: an IPv4 address, an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Block(u64);

impl Block {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            // Among the addresses of ::/16, which nobody has.
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        })
    }

    const fn network(self) -> Network {
        let Self(bits) = self;
        Network(if bits >> 48 == 0 { bits >> 8 } else { bits >> 16 | 1 << 63 })
    }
}

impl Table {
    fn new(bounds: Bounds, workers: usize) -> Self {
        Self {
            bounds,
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
            workers: vec![0; workers.max(1)],
            networks: Sizes::default(),
            blocks: HashMap::new(),
            members: HashMap::new(),
            cursor: 0,
        }
    }

    /// Sees to it that there is a place for one more; the socket that must be ended for it, if there was none.
    fn make_place(&mut self, address: IpAddr, is_proxy: bool) -> Result<Option<RawFd>, Refusal> {
        self.check_address(address, is_proxy)?;
        if self.live < self.bounds.connections {
            return Ok(None);
        }
        // Those that were ended have their descriptors until their worker gets to it. Of those half are for newcomers of other
        // networks than the heaviest.
        let ending = self.entries.len() - self.free.len() - self.live;
        let heaviest = self.networks.heaviest().next().map(|(_, network)| network);
        let is_of_heaviest = heaviest == Some(Network::of(address));
        let most = ENDING.min(self.bounds.connections);
        if ending >= if is_of_heaviest { most / 2 } else { most } {
            return Err(Refusal::Connections);
        }
        self.end_idlest(address).map(Some).ok_or(Refusal::Connections)
    }

    /// The socket of an idle connection that makes room for a newcomer, and is counted no longer.
    fn end_idlest(&mut self, newcomer: IpAddr) -> Option<RawFd> {
        let id = self.idlest(Block::of(newcomer))?;
        let entry = self.entries.get_mut(id)?.as_mut()?;
        entry.was_ended = true;
        let socket = entry.socket;
        self.uncount(id);
        Some(socket)
    }

    fn check_address(&self, address: IpAddr, is_proxy: bool) -> Result<(), Refusal> {
        let have = self.members.get(&Block::of(address)).map_or(0, Vec::len);
        match self.bounds.per_address {
            Some(most) if have >= most && !is_proxy => Err(Refusal::Address),
            _ => Ok(()),
        }
    }

    /// An idle connection of the heaviest block of the heaviest network; of no network that would be left with fewer than the
    /// newcomer's.
    fn idlest(&mut self, newcomer: Block) -> Option<usize> {
        let least = self.networks.size(newcomer.network()).max(1);
        let networks = self.networks.heaviest().take_while(|(size, _)| *size >= least);
        let networks: Vec<(usize, Network)> = networks.take(SEARCHED_NETWORKS).collect();
        let mut found: Option<(usize, (u64, usize))> = None;
        for (size, network) in networks {
            // Among networks of one size the idlest of all.
            if found.is_some_and(|(of, _)| of > size) {
                break;
            }
            let blocks = self.blocks.get(&network).into_iter().flat_map(Sizes::heaviest);
            let blocks: Vec<Block> = blocks.map(|(_, block)| block).take(SEARCHED_BLOCKS).collect();
            let idlest = blocks.into_iter().find_map(|block| self.idlest_member(block));
            found = match (found, idlest) {
                (Some((of, best)), Some(idlest)) => Some((of, best.min(idlest))),
                (None, Some(idlest)) => Some((size, idlest)),
                (found, None) => found,
            };
        }
        found.map(|(_, (_, id))| id)
    }

    /// The one among some of the block's that has been idle for longest.
    fn idlest_member(&mut self, block: Block) -> Option<(u64, usize)> {
        let members = self.members.get(&block)?;
        let searched = members.len().min(SEARCHED_MEMBERS);
        let first = self.cursor % members.len().max(1);
        self.cursor = self.cursor.wrapping_add(searched);
        let some = members.iter().cycle().skip(first).take(searched);
        let idle = some.filter_map(|&id| {
            let entry = self.entries.get(id)?.as_ref()?;
            entry.activity.idle_since().map(|since| (since, id))
        });
        idle.min()
    }

    fn insert(&mut self, address: IpAddr, socket: RawFd, activity: Arc<Activity>) -> (usize, usize) {
        let worker =
            (0..).zip(&self.workers).min_by_key(|(_, count)| **count).map_or(0, |(worker, _)| worker);
        if let Some(count) = self.workers.get_mut(worker) {
            *count += 1;
        }
        let entry = Entry { address, socket, activity, worker, member: 0, was_ended: false };
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        if let Some(place) = self.entries.get_mut(id) {
            *place = Some(entry);
        }
        self.count(id);
        (id, worker)
    }

    fn remove(&mut self, id: usize) {
        let was_ended = self.entries.get(id).and_then(Option::as_ref).is_none_or(|entry| entry.was_ended);
        if !was_ended {
            self.uncount(id);
        }
        if let Some(entry) = self.entries.get_mut(id).and_then(Option::take) {
            if let Some(count) = self.workers.get_mut(entry.worker) {
                *count -= 1;
            }
            self.free.push(id);
        }
    }

    fn readdress(&mut self, id: usize, address: IpAddr, is_proxy: bool) -> Result<(), Refusal> {
        self.check_address(address, is_proxy)?;
        let is_counted = self.entries.get(id).and_then(Option::as_ref).is_some_and(|entry| !entry.was_ended);
        if is_counted {
            self.uncount(id);
        }
        if let Some(entry) = self.entries.get_mut(id).and_then(Option::as_mut) {
            entry.address = address;
        }
        if is_counted {
            self.count(id);
        }
        Ok(())
    }

    /// Counts an entry with its block.
    fn count(&mut self, id: usize) {
        let Some(entry) = self.entries.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        let block = Block::of(entry.address);
        let members = self.members.entry(block).or_default();
        entry.member = members.len();
        members.push(id);
        self.live += 1;
        self.networks.add(block.network());
        self.blocks.entry(block.network()).or_default().add(block);
    }

    /// Takes back what [`Self::count`] did.
    fn uncount(&mut self, id: usize) {
        let Some(entry) = self.entries.get(id).and_then(Option::as_ref) else {
            return;
        };
        let (block, member) = (Block::of(entry.address), entry.member);
        if let Some(members) = self.members.get_mut(&block) {
            members.swap_remove(member);
            if let Some(&moved) = members.get(member)
                && let Some(moved) = self.entries.get_mut(moved).and_then(Option::as_mut)
            {
                moved.member = member;
            }
            if members.is_empty() {
                self.members.remove(&block);
            }
        }
        self.live -= 1;
        self.networks.subtract(block.network());
        if let Some(blocks) = self.blocks.get_mut(&block.network()) {
            blocks.subtract(block);
            if blocks.is_empty() {
                self.blocks.remove(&block.network());
            }
        }
    }
}

/// How many there are of each, and which have most.
struct Sizes<K> {
    sizes: HashMap<K, usize>,
    order: BTreeSet<(usize, K)>,
}

impl<K> Default for Sizes<K> {
    fn default() -> Self {
        Self { sizes: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Sizes<K> {
    fn size(&self, key: K) -> usize {
        self.sizes.get(&key).copied().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    fn heaviest(&self) -> impl Iterator<Item = (usize, K)> {
        self.order.iter().rev().copied()
    }

    fn add(&mut self, key: K) {
        let size = self.sizes.entry(key).or_default();
        self.order.remove(&(*size, key));
        *size += 1;
        self.order.insert((*size, key));
    }

    fn subtract(&mut self, key: K) {
        let size = self.size(key);
        self.order.remove(&(size, key));
        if size <= 1 {
            self.sizes.remove(&key);
        } else {
            self.sizes.insert(key, size - 1);
            self.order.insert((size - 1, key));
        }
    }
}

fn millis(elapsed: std::time::Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Connections that were ended and are still open, at most; no more than are served.
pub const ENDING: usize = 64;

/// Clients that are told at once that they are refused; no more than are served.
pub const REFUSALS: usize = 32;

/// Networks in which an idle connection is looked for, and blocks of each.
const SEARCHED_NETWORKS: usize = 1024;
const SEARCHED_BLOCKS: usize = 8;

/// Connections of a block among which the idlest is looked for. The next search goes on behind them.
const SEARCHED_MEMBERS: usize = 64;

#[cfg(test)]
mod tests;
