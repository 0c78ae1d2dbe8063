//! File descriptors: a process is often given few, and one that has none left can neither accept nor log nor commit.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Limits;
use crate::edge::admission::{ENDING, REFUSALS};
use crate::state_dir::error::StartError;

/// Raises this process's limit as far as it may. Where the configured connections do not fit all the same, lowers them and
/// returns a warning; refuses where hardly any would be left.
pub(super) fn provide(limits: &mut Limits, threads: usize) -> Result<Option<String>, StartError> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(None);
    };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    let have = usize::try_from(raised).unwrap_or(usize::MAX);
    let reserved = RESERVED + PER_THREAD * threads;
    let needed = needed(limits, threads);
    if have >= needed {
        return Ok(None);
    }
    let left = have.saturating_sub(reserved);
    if left < LEAST {
        return Err(StartError::Refused(format!(
            "the system gives {have} file descriptors, and the gateway needs at least {}: raise LimitNOFILE (or `ulimit -n`)",
            reserved + LEAST
        )));
    }
    // Half for each side, unless one of them needs less.
    limits.connections = limits.connections.min(left - limits.platform_connections.min(left / 2));
    limits.platform_connections = limits.platform_connections.min(left - limits.connections);
    Ok(Some(format!(
        "the limits need {needed} file descriptors and the system gives {have}: raise LimitNOFILE (or `ulimit -n`). Until then \
         limits.connections is {} and limits.platform_connections {}",
        limits.connections, limits.platform_connections
    )))
}

/// Descriptors that the process has at most within these limits.
pub fn needed(limits: &Limits, threads: usize) -> usize {
    let reserved = RESERVED + PER_THREAD * threads;
    reserved.saturating_add(limits.connections).saturating_add(limits.platform_connections)
}

/// Kept for the store, the log, the runtimes and the listeners (100), connections that are about to be closed, clients that are told
/// that they are refused, and the admin listener's of all three kinds.
const RESERVED: usize = 100 + ENDING + REFUSALS + 3 * ADMIN_CONNECTIONS;

/// Of a worker's runtime.
const PER_THREAD: usize = 4;

/// Connections to the admin listener at once.
pub(super) const ADMIN_CONNECTIONS: usize = 32;

/// With fewer for clients and platform, hardly anybody would be served.
const LEAST: usize = 32;
