//! What a request's decision costs beside each store: nothing of it may come from there.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::database;
use crate::gateway::{Gateway, place};
use crate::propagation::token;
use crate::stats::quantile;

/// One gateway on each engine, asked in turn; PostgreSQL at last while its server does not answer.
pub fn measure() {
    let server = database::start(1);
    let folder = std::env::temp_dir().join(format!("bench-admission-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let file = format!("sqlite:{}", folder.join("store.db").display());
    let gateways =
        [place(&file), place(&server.url(&server.create_database()))].each_ref().map(Gateway::create);
    let token = token(&gateways[0]).token;
    let mut times: [Vec<f64>; 2] = Default::default();
    let rounds = |count: usize| {
        let mut these: [Vec<f64>; 2] = Default::default();
        for round in 0..2 * count {
            these[round % 2].push(nanoseconds(&gateways[round % 2], &token));
        }
        these
    };
    for (all, these) in times.iter_mut().zip(rounds(ROUNDS)) {
        all.extend(these);
    }
    server.pause();
    let [_, away] = rounds(ROUNDS / 5);
    server.resume();
    println!("\nns a decision on a token that is in the cache: median, 10th and 90th percentile");
    let [sqlite, postgres] = &times;
    for (name, values) in [("SQLite", sqlite), ("PostgreSQL", postgres), ("PostgreSQL, not answering", &away)]
    {
        let [median, low, high] = [0.5, 0.1, 0.9].map(|share| quantile(values, share));
        let ratio = median / quantile(sqlite, 0.5);
        println!("| {name} | {median:.0}, {low:.0}, {high:.0} | {ratio:.2} |");
    }
    drop(gateways);
    fs::remove_dir_all(&folder).unwrap();
}

fn nanoseconds(gateway: &Gateway, token: &str) -> f64 {
    let began = Instant::now();
    for _ in 0..DECISIONS {
        assert!(gateway.admits(black_box(token)));
    }
    let took: Duration = began.elapsed();
    took.as_secs_f64() * 1e9 / f64::from(DECISIONS)
}

const DECISIONS: u32 = 100_000;

const ROUNDS: usize = 50;
