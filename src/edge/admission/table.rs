//! The connections by source, and which of them yields where there is no place left.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::activity::Activity;
use super::sizes::Sizes;
use crate::auth::source::{Network, Source};

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

/// The connections by source, and the sources by size.
pub(super) struct Table {
    bounds: Bounds,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// Those that were not told to end.
    live: usize,
    workers: Vec<usize>,
    networks: Sizes<Network>,
    sources: HashMap<Network, Sizes<Source>>,
    members: HashMap<Source, Vec<usize>>,
    /// Where the search among many members goes on.
    cursor: usize,
}

struct Entry {
    address: IpAddr,
    socket: RawFd,
    activity: Arc<Activity>,
    worker: usize,
    /// Its index among the members of its source.
    member: usize,
    was_ended: bool,
}

impl Table {
    pub(super) fn new(bounds: Bounds, workers: usize) -> Self {
        Self {
            bounds,
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
            workers: vec![0; workers.max(1)],
            networks: Sizes::default(),
            sources: HashMap::new(),
            members: HashMap::new(),
            cursor: 0,
        }
    }

    /// Has other bounds from now on. Who is there already stays.
    pub(super) const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Sees to it that there is a place for one more; the socket that must be ended for it, if there was none.
    pub(super) fn make_place(&mut self, address: IpAddr, is_proxy: bool) -> Result<Option<RawFd>, Refusal> {
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
        let id = self.idlest(newcomer)?;
        let entry = self.entries.get_mut(id)?.as_mut()?;
        entry.was_ended = true;
        entry.activity.end();
        let socket = entry.socket;
        self.uncount(id);
        Some(socket)
    }

    fn check_address(&self, address: IpAddr, is_proxy: bool) -> Result<(), Refusal> {
        let have = self.members.get(&Source::of(address)).map_or(0, Vec::len);
        match self.bounds.per_address {
            Some(most) if have >= most && !is_proxy => Err(Refusal::Address),
            _ => Ok(()),
        }
    }

    /// An idle connection of the heaviest source of the heaviest network; of no network that would be left with fewer than the
    /// newcomer's.
    fn idlest(&mut self, newcomer: IpAddr) -> Option<usize> {
        let least = self.networks.size(Network::of(newcomer)).max(1);
        let networks = self.networks.heaviest().take_while(|(size, _)| *size >= least);
        let networks: Vec<(usize, Network)> = networks.take(SEARCHED_NETWORKS).collect();
        let mut found: Option<(usize, (u64, usize))> = None;
        for (size, network) in networks {
            // Among networks of one size the idlest of all.
            if found.is_some_and(|(of, _)| of > size) {
                break;
            }
            let sources = self.sources.get(&network).into_iter().flat_map(Sizes::heaviest);
            let sources: Vec<Source> = sources.map(|(_, source)| source).take(SEARCHED_SOURCES).collect();
            let idlest = sources.into_iter().find_map(|source| self.idlest_member(source));
            found = match (found, idlest) {
                (Some((of, best)), Some(idlest)) => Some((of, best.min(idlest))),
                (None, Some(idlest)) => Some((size, idlest)),
                (found, None) => found,
            };
        }
        found.map(|(_, (_, id))| id)
    }

    /// The one among some of the source's that has been idle for longest.
    fn idlest_member(&mut self, source: Source) -> Option<(u64, usize)> {
        let members = self.members.get(&source)?;
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

    pub(super) fn insert(
        &mut self,
        address: IpAddr,
        socket: RawFd,
        activity: Arc<Activity>,
    ) -> (usize, usize) {
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

    pub(super) fn remove(&mut self, id: usize) {
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

    pub(super) fn readdress(&mut self, id: usize, address: IpAddr, is_proxy: bool) -> Result<(), Refusal> {
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

    /// Counts an entry with its source.
    fn count(&mut self, id: usize) {
        let Some(entry) = self.entries.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        let (source, network) = (Source::of(entry.address), Network::of(entry.address));
        let members = self.members.entry(source).or_default();
        entry.member = members.len();
        members.push(id);
        self.live += 1;
        self.networks.add(network);
        self.sources.entry(network).or_default().add(source);
    }

    /// Takes back what [`Self::count`] did.
    fn uncount(&mut self, id: usize) {
        let Some(entry) = self.entries.get(id).and_then(Option::as_ref) else {
            return;
        };
        let (source, network, member) = (Source::of(entry.address), Network::of(entry.address), entry.member);
        if let Some(members) = self.members.get_mut(&source) {
            members.swap_remove(member);
            if let Some(&moved) = members.get(member)
                && let Some(moved) = self.entries.get_mut(moved).and_then(Option::as_mut)
            {
                moved.member = member;
            }
            if members.is_empty() {
                self.members.remove(&source);
            }
        }
        self.live -= 1;
        self.networks.subtract(network);
        if let Some(sources) = self.sources.get_mut(&network) {
            sources.subtract(source);
            if sources.is_empty() {
                self.sources.remove(&network);
            }
        }
    }
}

/// Connections that were ended and are still open, at most; no more than are served.
pub const ENDING: usize = 64;

/// Networks in which an idle connection is looked for, and sources of each.
const SEARCHED_NETWORKS: usize = 1024;
const SEARCHED_SOURCES: usize = 8;

/// Connections of a source among which the idlest is looked for. The next search goes on behind them.
const SEARCHED_MEMBERS: usize = 64;

#[cfg(test)]
mod tests;
