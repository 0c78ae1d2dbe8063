//! Storms of logins: what guesses cost the accounts they aim at, honest clients and proxied requests; whether logins go on
//! where no core is idle; and whether the time of a failed login tells what account it was. `docs/benchmarks.md` says how
//! to read the tables.

mod at_once;
mod attack;
mod floor;
mod honest;
mod login;
mod promises;
mod proxied;
mod spin;
mod storms;
mod times;
mod waiting;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::promises::Promises;
pub use self::spin::serve;
use crate::platform::Platform;
use crate::report::Report;

const PARTS: [&str; 4] = ["once", "storms", "floor", "times"];

/// Storms and phases of `length`; `samples` of each kind of failed login, so many of them `at_once`: with one, no wait for
/// others hides what a hash takes. `PARTS=floor,times` measures these alone.
pub async fn measure(folder: &Path, length: Duration, samples: usize, at_once: usize) -> Result<()> {
    let asked = std::env::var("PARTS").unwrap_or_else(|_| PARTS.join(","));
    let asked: Vec<_> = asked.split(',').filter(|part| !part.is_empty()).collect();
    ensure!(asked.iter().all(|part| PARTS.contains(part)), "PARTS has some of {}", PARTS.join(","));
    ensure!(
        length >= SHORTEST,
        "DURATION must be {} at least: honest logins are counted",
        SHORTEST.as_secs()
    );

    let platform = Platform::start().await?;
    let mut promises = Promises::default();
    let mut report = Report::new("storm.json")?;
    let seconds = length.as_secs();
    let parts = asked.join(",");
    let command = format!("make storm DURATION={seconds} SAMPLES={samples} AT_ONCE={at_once} PARTS={parts}");
    report.about("command", command);
    for part in PARTS.iter().filter(|part| asked.contains(part)) {
        let folder = folder.join(part);
        std::fs::create_dir(&folder)?;
        let platform = platform.address();
        match *part {
            "once" => at_once::measure(&folder, platform, &mut promises).await?,
            "storms" => storms::measure(&folder, platform, length, &mut promises, &mut report).await?,
            "floor" => floor::measure(&folder, platform, length, &mut promises, &mut report).await?,
            _ => times::measure(&folder, platform, samples, at_once, &mut promises, &mut report).await?,
        }
        report.save()?;
    }
    promises.conclude(report)
}

/// Shorter storms have too few honest logins and too few requests in a window.
const SHORTEST: Duration = Duration::from_secs(5);
