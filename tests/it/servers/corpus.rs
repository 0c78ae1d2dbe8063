//! What is sent: the endpoint's path in thousands of other spellings, and paths near it.

use super::spellings::{BETWEEN, TAILS, spelling};
use crate::contract::ENDPOINT;
use crate::paths::bent;
use crate::seeds::seeds;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::collections::BTreeSet;

/// Every target once, those that are listed first. `random`: how many others are chosen at random, for each seed.
pub fn corpus(random: u64) -> Vec<String> {
    let mut targets = listed();
    for (seed, count) in seeds(SEED, &[1], random, random) {
        eprintln!("{SEED}={seed}");
        let config =
            Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(config);
        let strategy = spelling();
        let values = (0..count).map(|_| strategy.new_tree(&mut runner).expect("a value").current());
        targets.extend(values);
    }
    let mut seen = BTreeSet::new();
    // A blank or a control character would end the target or the line.
    targets.retain(|target| !target.bytes().any(|byte| byte <= b' ' || byte == 0x7f));
    targets.retain(|target| seen.insert(target.clone()));
    targets
}

fn listed() -> Vec<String> {
    let mut targets = bent(ENDPOINT);
    for between in BETWEEN {
        targets.extend(BETWEEN.map(|start| rooted(format!("{start}ds-api{between}user-token"))));
        targets.extend(TAILS.map(|tail| format!("/ds-api{between}user-token{tail}")));
        targets.push(format!("/ds-api/user-token{between}x"));
    }
    // Every byte, as it stands, escaped and escaped twice, where a segment begins or ends, and in place of a separator.
    for byte in 0..=u8::MAX {
        let raw = byte.is_ascii_graphic().then(|| char::from(byte).to_string());
        let twice = byte.is_ascii().then(|| format!("%25{byte:02x}"));
        for written in [raw, Some(format!("%{byte:02X}")), twice].into_iter().flatten() {
            for (start, middle, end) in [
                ("/ds-api", "", "user-token"),
                ("/ds-api", "/", "user-token"),
                ("/ds-api/", "", "user-token"),
            ] {
                targets.push(format!("{start}{written}{middle}{end}"));
            }
            targets.extend([
                format!("/{written}ds-api/user-token"),
                format!("/{written}/ds-api/user-token"),
                format!("/ds-api/user-token{written}"),
                format!("/ds-api/user-token/{written}"),
                format!("/x/..{written}/ds-api/user-token"),
                format!("/x/.{written}./ds-api/user-token"),
            ]);
        }
    }
    targets
}

fn rooted(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

const SEED: &str = "SERVERS_SEED";
