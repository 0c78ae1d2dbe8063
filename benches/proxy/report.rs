//! The tables on standard output, in Markdown, and every sample as a JSON line under `target/bench`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::case::{Bar, Case, Sample};
use crate::process;
use crate::stats::{interval, median};

pub struct Report {
    rows: Vec<Row>,
    /// The cases that all are compared with.
    yardsticks: &'static [&'static str],
    file: File,
    path: PathBuf,
}

struct Row {
    name: &'static str,
    bar: Option<Bar>,
    samples: Vec<Sample>,
}

/// The gateway without load.
pub struct AtRest {
    pub starts: Vec<Duration>,
    pub resident_mb: f64,
    pub resident_after_mb: f64,
}

impl Report {
    /// Samples go to the file of that name.
    pub fn new(cases: &[Case<'_>], yardsticks: &'static [&'static str], name: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        let rows = cases.iter().map(|case| Row { name: case.name, bar: case.bar, samples: Vec::new() });
        Ok(Self { rows: rows.collect(), yardsticks, file: File::create(&path)?, path })
    }

    /// A sample of the case at `index`; every case gets one a round.
    pub fn add(&mut self, round: usize, index: usize, sample: Sample) -> Result<()> {
        let row = self.rows.get_mut(index).context("a row for every case")?;
        let line = json!({
            "round": round,
            "case": row.name,
            "cpu_us": sample.cpu_us,
            "requests_per_second": sample.requests_per_second,
            "quantiles_us": sample.quantiles_us,
        });
        row.samples.push(sample);
        self.line(&line)
    }

    /// The cases, and where every sample is.
    pub fn finish(&mut self) -> Result<()> {
        let machine = process::machine();
        println!("{machine}\n");
        let ratios: String = self.yardsticks.iter().map(|name| format!("× {name} | ")).collect();
        table(
            &format!("case | µs CPU per request | requests/s | p50, p99, p99.9 in µs | {ratios}bar"),
            self.rows.iter().map(|row| self.cells(row)),
        );
        println!("Every sample: {}\n", self.path.display());
        self.line(&json!({ "machine": machine }))
    }

    pub fn at_rest(&mut self, at_rest: &AtRest) -> Result<()> {
        let starts_ms = at_rest.starts.iter().map(|start| start.as_secs_f64() * 1e3);
        let starts_ms: Vec<f64> = starts_ms.collect();
        let (ready_ms, resident) = (median(&starts_ms), at_rest.resident_mb);
        table(
            "at rest | value | bar",
            [
                format!(
                    "ready, with an existing store | {ready_ms:.0} ms | < {READY_BAR_MS} ms: {}",
                    verdict(ready_ms < READY_BAR_MS)
                ),
                format!(
                    "resident, before the first request | {resident:.1} MB | < {RESIDENT_BAR_MB} MB: {}",
                    verdict(resident < RESIDENT_BAR_MB)
                ),
                format!("resident, after the load | {:.1} MB | reported", at_rest.resident_after_mb),
            ],
        );
        self.line(&json!({
            "starts_ms": starts_ms,
            "resident_mb": at_rest.resident_mb,
            "resident_after_mb": at_rest.resident_after_mb,
        }))
    }

    fn cells(&self, row: &Row) -> String {
        let cpu = median_of(row, |sample| sample.cpu_us);
        let rate = median_of(row, |sample| sample.requests_per_second);
        let quantiles = [0, 1, 2].map(|index| {
            let values: Vec<f64> =
                row.samples.iter().filter_map(|sample| sample.quantiles_us.get(index).copied()).collect();
            format!("{:.0}", median(&values))
        });
        let ratios: String = self
            .yardsticks
            .iter()
            .map(|against| format!("{} | ", with_interval(&self.ratios(row, against))))
            .collect();
        let bar = row.bar.map(|Bar { at_most, against }| {
            let met = median(&self.ratios(row, against)) <= at_most;
            format!("≤ {at_most} × {against}: {}", verdict(met))
        });
        format!(
            "{} | {cpu:.1} | {rate:.0} | {} | {ratios}{}",
            row.name,
            quantiles.join(", "),
            bar.as_deref().unwrap_or("reported")
        )
    }

    /// CPU time of `row` over that of the case named `against`, round by round.
    fn ratios(&self, row: &Row, against: &str) -> Vec<f64> {
        let against = self.rows.iter().find(|row| row.name == against);
        let others = against.map_or(&[][..], |row| &row.samples);
        let pairs = row.samples.iter().zip(others);
        pairs.map(|(one, other)| one.cpu_us / other.cpu_us).collect()
    }

    fn line(&mut self, line: &Value) -> Result<()> {
        Ok(writeln!(self.file, "{line}")?)
    }
}

/// Cells are parted by ` | `.
fn table(head: &str, rows: impl IntoIterator<Item = String>) {
    println!("| {head} |");
    println!("|{}", "---|".repeat(head.split('|').count()));
    for row in rows {
        println!("| {row} |");
    }
    println!();
}

fn median_of(row: &Row, value: fn(&Sample) -> f64) -> f64 {
    median(&row.samples.iter().map(value).collect::<Vec<_>>())
}

/// A median and its 95 % interval.
fn with_interval(ratios: &[f64]) -> String {
    let (low, high) = interval(ratios);
    format!("{:.3} ({low:.3}–{high:.3})", median(ratios))
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

const READY_BAR_MS: f64 = 500.0;
const RESIDENT_BAR_MB: f64 = 40.0;
