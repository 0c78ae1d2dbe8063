//! Several gateways on one PostgreSQL: how soon all of them refuse what one has revoked, what they cost the database, and what a start reads.
//!
//! It starts a PostgreSQL of its own, as the tests do. The gateways of the first part are the stores, gates and replicas of as many gateways in this
//! process, wired as the program wires them; those of the second part are real processes. `docs/benchmarks.md` says how to read the numbers.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]
#![allow(unreachable_pub, reason = "nothing is outside of a bench")]

mod admission;
mod database;
mod gateway;
mod load;
#[path = "../../src/store/postgres/test_server/mod.rs"]
mod postgres_server;
mod propagation;
mod starts;
#[allow(dead_code, reason = "it uses a part")]
#[path = "../proxy/stats.rs"]
mod stats;
mod variable;

use self::variable::variable;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let only = std::env::var("ONLY").unwrap_or_default();
    if "propagation".starts_with(&only) {
        let counts = std::env::var("GATEWAYS").unwrap_or_else(|_| "3,20,100".into());
        propagation::measure(counts.split(',').map(|count| count.parse().expect("GATEWAYS=3,20,100")));
    }
    if "admission".starts_with(&only) {
        admission::measure();
    }
    if "starts".starts_with(&only) {
        starts::measure(variable("ROWS", 10_000_000));
    }
}
