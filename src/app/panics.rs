//! What a panic costs: one connection where it serves one, the process where it is a task that all depend
//! on. A gateway that goes on without its writer or follower would look alive and not be.

use std::thread;

use crate::logging::Sink;

/// From now on a panic is a log line, and ends the process outside the threads that serve connections.
pub(super) fn install(sink: &Sink) {
    let sink = sink.clone();
    std::panic::set_hook(Box::new(move |info| {
        // The message may hold what the code was working on, so only the place is told.
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        if serves_connections(name) {
            log::error!("a task panicked at {place}; its connection is lost, nothing else");
            return;
        }
        log::error!("the task {name:?} panicked at {place}; nothing works without it, so the process ends");
        sink.drain();
        std::process::exit(1);
    }));
}

/// Threads on which a panic is caught: by the engine, one connection each, or by the login pool.
fn serves_connections(thread: &str) -> bool {
    ["gateway", "admin", "login"].iter().any(|name| thread.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_that_everything_depends_on_are_not_spared() {
        for (thread, spared) in [
            ("gateway", true),
            ("admin", true),
            ("login", true),
            ("login-reserve", true),
            ("store-writer", false),
            ("store-follower", false),
            ("housekeeping", false),
            ("draining", false),
            ("main", false),
            ("", false),
        ] {
            assert_eq!(serves_connections(thread), spared, "{thread}");
        }
    }
}
