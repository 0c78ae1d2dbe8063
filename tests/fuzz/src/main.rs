//! The gateway's parsers under coverage-guided fuzzing: `TARGET=path` chooses one. Each target holds what it gets against a
//! rule that is written here a second time, from the documentation and not from the gateway; a panic is a finding.

#![no_main]

mod basic;
mod config;
mod exchange;
mod fields;
mod gateway;
mod http1;
mod http2;
mod lane_request;
mod lane_response;
mod path;
mod requests;
mod rules;
mod token;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// What is fuzzed, by name: the folders of `corpus`.
const TARGETS: [(&str, fn(&[u8])); 10] = [
    ("basic", basic::run),
    ("config", config::run),
    ("fields", fields::run),
    ("http1", http1::run),
    ("http1_engine", http1::run_without_lane),
    ("http2", http2::run),
    ("lane_request", lane_request::run),
    ("lane_response", lane_response::run),
    ("path", path::run),
    ("token", token::run),
];

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    let names = TARGETS.map(|(name, _)| name).join(", ");
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("TARGET={name:?} is none of: {names}")).1
});

fuzz_target!(|input: &[u8]| TARGET(input));
