//! What the gateway costs: CPU time of the proxy process per request, in one run, in interleaved rounds, so that a noisy
//! neighbour meets all cases alike. `docs/benchmarks.md` says how to read the numbers.
//!
//! This process is both the clients and the platform, on one core; the proxy measured is on the other.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "nobody sees this binary from outside: `pub` is what a module offers the others"
)]

mod bare;
mod beside_bare;
mod beside_peers;
mod burst;
mod case;
mod chart;
mod client;
mod gateway;
mod held;
mod http2;
mod instructions;
mod message;
mod peers;
mod platform;
mod process;
mod report;
mod rounds;
mod server;
mod stats;
mod storm;
mod train;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The gateway's allocator, so that the bare server differs by nothing but the gateway itself.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Interleaved rounds by default: each measures every case once.
const ROUNDS: usize = 20;
/// Requests by default, a case and round: a burst of about half a second.
const REQUESTS: usize = 20_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(served) = bare::serve(&arguments)
        .or_else(|| instructions::serve(&arguments))
        .or_else(|| storm::serve(&arguments))
    {
        return served;
    }
    process::pin_this_to(process::LOAD_CORE)?;
    process::raise_descriptors()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (rounds, requests) = (number("ROUNDS", ROUNDS)?, number("REQUESTS", REQUESTS)?);
        let folder = tempfile::tempdir()?;
        // cargo says `--bench` to every bench.
        let asked = arguments.iter().map(String::as_str).filter(|argument| *argument != "--bench");
        match asked.collect::<Vec<_>>()[..] {
            [] => beside_bare::measure(folder.path(), rounds, requests).await,
            ["peers"] => beside_peers::measure(folder.path(), rounds, requests).await,
            ["instructions"] => instructions::count(folder.path()).await,
            ["held"] => {
                let (clients, rate) = (number("CLIENTS", 2_000)?, number("RATE", 10_000)?);
                let length = Duration::from_secs(number("DURATION", 60)? as u64);
                held::hold(folder.path(), clients, rate, length).await
            }
            ["storm"] => {
                let (seconds, samples) = (number("DURATION", 20)?, number("SAMPLES", 1_000)?);
                let length = Duration::from_secs(seconds as u64);
                storm::measure(folder.path(), length, samples, number("AT_ONCE", 8)?).await
            }
            ["train", program] => train::train(folder.path(), program).await,
            _ => bail!("there are peers, instructions, held, storm and train PROGRAM"),
        }
    })
}

/// A number from the environment.
fn number(name: &str, default: usize) -> Result<usize> {
    let Ok(value) = std::env::var(name) else {
        return Ok(default);
    };
    let number = value.parse().with_context(|| format!("{name}={value} is no number"))?;
    ensure!(number > 0, "{name} must be above zero");
    Ok(number)
}
