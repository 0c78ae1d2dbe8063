//! File descriptors: a connection takes up to two, and a process is often given few.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises this process's limit as far as it may, and says so if `connections` do not fit all the same.
pub(super) fn provide(connections: usize) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    let needed =
        OTHERS.saturating_add(PER_CONNECTION.saturating_mul(u64::try_from(connections).unwrap_or(u64::MAX)));
    if raised < needed {
        log::warn!(
            "limits.connections = {connections} may need {needed} file descriptors and the system gives {raised}: raise \
             LimitNOFILE (or `ulimit -n`), or lower limits.connections to {}",
            raised.saturating_sub(OTHERS) / PER_CONNECTION
        );
    }
}

/// The client's and the platform's.
const PER_CONNECTION: u64 = 2;

/// Listeners, the store, the runtimes' own.
const OTHERS: u64 = 100;
