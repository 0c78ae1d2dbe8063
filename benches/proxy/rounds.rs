//! The cases of one table, measured in interleaved rounds.

use anyhow::Result;

use crate::case::Case;
use crate::platform::Platform;
use crate::report::Table;

/// Every case once to warm up, then once in every round.
pub async fn run(
    title: &str,
    cases: &[Case<'_>],
    yardsticks: &'static [&'static str],
    platform: &Platform,
    (rounds, requests): (usize, usize),
) -> Result<Table> {
    let mut table = Table::new(title, cases, yardsticks);
    for case in cases {
        case.warm_up(platform, requests).await?;
    }
    for round in 1..=rounds {
        // Every other round backwards, so that drift within a round falls on all alike.
        let mut order: Vec<_> = cases.iter().enumerate().collect();
        if round.is_multiple_of(2) {
            order.reverse();
        }
        for (index, case) in order {
            table.add(index, case.sample(platform, requests, (round * requests) as u64).await?)?;
        }
        eprintln!("{title}: round {round} of {rounds}");
    }
    Ok(table)
}
