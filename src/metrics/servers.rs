//! What is counted for each server of the platform. The names are those of the configuration, so their number is bounded.

use std::time::Duration;

use prometheus::proto::MetricFamily;

use super::cells::Cells;
use super::families::{counters, gauge_family, histograms, labelled_counter, level};
use super::histogram::{observe, observed};
use super::labels::TryFault;
use super::layout::*;

/// Counts what became of the tries at each server.
#[derive(Debug)]
pub struct ServerMetrics {
    servers: Vec<(String, Cells<SERVER_CELLS>)>,
    /// Those that a configuration before this one had: what was counted of them goes on where one comes back.
    retired: Vec<(String, Cells<SERVER_CELLS>)>,
}

/// How many addresses a server has, by what is done with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Requests go there.
    pub in_use: usize,
    /// Left out for a while.
    pub ejected: usize,
}

impl ServerMetrics {
    /// Of servers with these names; a name that comes again is the same server. They live as long as the process: make them once.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        Self { servers: Vec::new(), retired: Vec::new() }.with(names)
    }

    /// Of servers with these names. What has been counted of those that are known goes on.
    #[must_use]
    pub fn with<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut servers = Vec::<(String, _)>::new();
        for name in names {
            if !servers.iter().any(|(other, _)| other == name) {
                let known = self.servers.iter().chain(&self.retired).find(|(other, _)| other == name);
                servers.push((name.to_owned(), known.map_or_else(Cells::new, |(_, cells)| *cells)));
            }
        }
        let is_gone = |known: &&(String, _)| !servers.iter().any(|(name, _)| *name == known.0);
        let retired = self.servers.iter().chain(&self.retired).filter(is_gone).cloned().collect();
        Self { servers, retired }
    }

    /// The number of a server.
    pub fn number(&self, name: &str) -> usize {
        self.servers.iter().position(|(other, _)| other == name).unwrap_or(usize::MAX)
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.servers.len()
    }

    /// Are there none?
    pub const fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// A request is sent to a server; servers are numbered as their names were given.
    pub fn tried(&self, server: usize) {
        self.cells(server).for_each(|cells| cells.add(SERVER_TRIES, 1));
    }

    /// That failed.
    pub fn failed(&self, server: usize, fault: TryFault) {
        self.cells(server).for_each(|cells| cells.add(SERVER_FAULTS + fault as usize, 1));
    }

    /// It answered, so long after the request was handed to it.
    pub fn answered(&self, server: usize, elapsed: Duration) {
        self.cells(server).for_each(|cells| observe(cells, SERVER_DURATION, elapsed));
    }

    fn cells(&self, server: usize) -> impl Iterator<Item = &Cells<SERVER_CELLS>> {
        self.servers.get(server).map(|(_, cells)| cells).into_iter()
    }

    pub(super) fn families(&self, addresses: &[Addresses]) -> Vec<MetricFamily> {
        let servers = || self.servers.iter().map(|(name, cells)| (name.as_str(), cells));
        let tries =
            servers().map(|(name, cells)| labelled_counter(cells.sum(SERVER_TRIES), &[("server", name)]));
        let faults = servers().flat_map(|(name, cells)| {
            TryFault::ALL.map(|fault| {
                let count = cells.sum(SERVER_FAULTS + fault as usize);
                labelled_counter(count, &[("server", name), ("fault", fault.as_str())])
            })
        });
        let durations =
            servers().map(|(name, cells)| (vec![("server", name)], observed(cells, SERVER_DURATION)));
        let levels = servers().zip(addresses).flat_map(|((name, _), addresses)| {
            [("in_use", addresses.in_use), ("ejected", addresses.ejected)]
                .map(|(state, count)| level(count as f64, &[("server", name), ("state", state)]))
        });
        vec![
            counters("ds_gateway_platform_tries_total", "Requests sent to a server.", tries.collect()),
            counters(
                "ds_gateway_platform_tries_failed_total",
                "Requests sent to a server that failed there, whether or not they were tried again.",
                faults.collect(),
            ),
            histograms(
                "ds_gateway_platform_duration_seconds",
                "Platform latency, from forwarding a request to the platform's response header.",
                &BOUNDS,
                durations.collect(),
            ),
            gauge_family(
                "ds_gateway_platform_addresses",
                "Addresses of a server by state: in use, or ejected after failures.",
                levels.collect(),
            ),
        ]
    }
}
