//! What a panic costs: one connection where it serves one, the process where it is a task that all depend
//! on. A gateway that goes on without its writer or replica would look alive and not be.

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
        log::error!(task = name, place = place.as_str(); "{}", message(name));
        if serves_connections(name) {
            return;
        }
        sink.drain();
        std::process::exit(1);
    }));
}

/// What is logged of a panic on a thread. Operators search for its first words, which docs/operations.md names.
fn message(thread: &str) -> &'static str {
    match serves_connections(thread) {
        true => "a task panicked; only its connection is lost",
        false => "a task panicked; the gateway depends on it, so the process ends",
    }
}

/// Threads on which a panic is caught: by the engine, one connection each, or by the login pool.
fn serves_connections(thread: &str) -> bool {
    ["gateway", "admin", "login"].iter().any(|name| thread.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_panic_is_logged_with_the_words_that_operators_search_for() {
        let page = include_str!("../../docs/operations.md");
        let (_, page) = page.split_once("Other lines worth an alert:").unwrap();
        let phrases = page.split_once(".\n").unwrap().0;
        let searched: Vec<&str> = phrases.split('`').filter(|text| text.contains("panicked")).collect();
        for thread in ["gateway", "login", "store-writer", "main", ""] {
            assert!(message(thread).starts_with("a task panicked;"), "{thread}");
            assert!(searched.iter().any(|words| message(thread).contains(words)), "{thread}: {searched:?}");
        }
        assert_eq!(searched, ["a task panicked"]);
    }

    #[test]
    fn the_threads_that_everything_depends_on_are_not_spared() {
        for (thread, spared) in [
            ("gateway", true),
            ("admin", true),
            ("login", true),
            ("login-fallback", true),
            ("store-writer", false),
            ("store-replica", false),
            ("housekeeping", false),
            ("draining", false),
            ("main", false),
            ("", false),
        ] {
            assert_eq!(serves_connections(thread), spared, "{thread}");
        }
    }
}
