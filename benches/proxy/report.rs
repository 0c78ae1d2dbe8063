//! Tables on standard output, in Markdown, and every sample of a run in one JSON file under `target/bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::case::{Bar, BarKind, Case, SHARES, Sample, quantile_of_many};
use crate::process;
use crate::stats::{interval, median, quantile};

/// What one run found.
pub struct Report {
    path: PathBuf,
    /// The machine, and how the run was asked for.
    about: Map<String, Value>,
    pub tables: Vec<Table>,
}

/// Cases that were measured in the same rounds.
pub struct Table {
    pub title: String,
    pub rows: Vec<Row>,
    /// The cases that all are compared with.
    yardsticks: &'static [&'static str],
}

pub struct Row {
    pub name: &'static str,
    bars: Vec<Bar>,
    samples: Vec<Sample>,
}

struct Verdict {
    ratios: Vec<f64>,
    met: bool,
}

/// The gateway without load.
pub struct AtRest {
    pub starts: Vec<Duration>,
    pub resident_mb: f64,
    pub resident_after_mb: f64,
}

impl Report {
    /// Its file has that name.
    pub fn new(name: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        fs::create_dir_all(&folder)?;
        let mut report = Self { path: folder.join(name), about: Map::new(), tables: Vec::new() };
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok();
            output
                .map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = said("git", &["describe", "--always", "--dirty"]);
        report.about("version", format!("{} {commit}", env!("CARGO_PKG_VERSION")));
        if let Ok(other) = std::env::var("OTHER") {
            report.about("other builds", other);
        }
        report.about("compiler", said("rustc", &["--version"]));
        report.about("machine", process::machine());
        Ok(report)
    }

    /// One more line about the run.
    pub fn about(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        println!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned));
        self.note(name, value);
    }

    /// Prints the table, and writes all so far: who ends a long run keeps what it found.
    pub fn add(&mut self, table: Table) -> Result<()> {
        table.print();
        self.tables.push(table);
        self.save()?;
        eprintln!("every sample: {}", self.path.display());
        Ok(())
    }

    pub fn at_rest(&mut self, at_rest: &AtRest) -> Result<()> {
        let starts_ms = at_rest.starts.iter().map(|start| start.as_secs_f64() * 1e3);
        let starts_ms: Vec<f64> = starts_ms.collect();
        let (ready_ms, resident) = (median(&starts_ms), at_rest.resident_mb);
        print_table(
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
        let values = json!({
            "starts_ms": starts_ms,
            "resident_mb": at_rest.resident_mb,
            "resident_after_mb": at_rest.resident_after_mb,
        });
        self.note("at_rest", values);
        self.save()
    }

    /// What is in the file alone.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.about.insert(name.to_owned(), value.into());
    }

    /// A file beside the report's.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Writes all so far.
    pub fn save(&self) -> Result<()> {
        let mut all = self.about.clone();
        all.insert("tables".to_owned(), self.tables.iter().map(Table::json).collect());
        Ok(fs::write(&self.path, serde_json::to_string_pretty(&all)? + "\n")?)
    }
}

impl Table {
    pub fn new(title: impl Into<String>, cases: &[Case<'_>], yardsticks: &'static [&'static str]) -> Self {
        let rows =
            cases.iter().map(|case| Row { name: case.name, bars: case.bars.clone(), samples: Vec::new() });
        Self { title: title.into(), rows: rows.collect(), yardsticks }
    }

    /// A sample of the case at `index`; every case gets one a round.
    pub fn add(&mut self, index: usize, sample: Sample) -> Result<()> {
        self.rows.get_mut(index).context("a row for every case")?.samples.push(sample);
        Ok(())
    }

    /// CPU time of `row` over that of the case named `against`, round by round.
    pub fn ratios(&self, row: &Row, against: &str) -> Vec<f64> {
        let against = self.rows.iter().find(|row| row.name == against);
        let others = against.map_or(&[][..], |row| &row.samples);
        let pairs = row.samples.iter().zip(others);
        pairs.map(|(one, other)| one.cpu_us / other.cpu_us).collect()
    }

    fn print(&self) {
        println!("\n**{}**\n", self.title);
        let ratios: String = self.yardsticks.iter().map(|name| format!(" | × {name}")).collect();
        let bar = if self.has_bars() { " | bar" } else { "" };
        if !self.rows.iter().all(Row::was_busy) {
            println!("\\* clients were the limit, so rates and times of this table are more theirs.\n");
        }
        print_table(
            &format!("case | µs CPU per request, spread | requests/s | p50, p99, p99.9 in µs{ratios}{bar}"),
            self.rows.iter().map(|row| self.cells(row)),
        );
        for row in &self.rows {
            for bar in row.bars.iter().filter(|bar| !self.has_column(bar)) {
                let Verdict { ratios, met } = self.judge(row, bar);
                let Bar { kind, at_most, against } = bar;
                let (name, ratio, kind) = (row.name, with_interval(&ratios), kind.as_str());
                println!("- {name} against {against}: {ratio} ×, {kind} {at_most} ×: {}", verdict(met));
            }
        }
    }

    fn judge(&self, row: &Row, Bar { at_most, against, .. }: &Bar) -> Verdict {
        let ratios = self.ratios(row, against);
        let met = median(&ratios) <= *at_most;
        Verdict { ratios, met }
    }

    /// In the table itself; a bar whose ratio has no column is told below it.
    fn has_bars(&self) -> bool {
        let mut bars = self.rows.iter().flat_map(|row| &row.bars);
        bars.any(|bar| self.has_column(bar))
    }

    /// Whether the ratio that it limits is in the table.
    fn has_column(&self, bar: &Bar) -> bool {
        self.yardsticks.contains(&bar.against)
    }

    fn cells(&self, row: &Row) -> String {
        let cpu = row.values(|sample| sample.cpu_us);
        let rate = median(&row.values(|sample| sample.requests_per_second));
        let rate_mark = if row.was_busy() { "" } else { "\\*" };
        let quantiles = row
            .quantiles_us()
            .map(|quantile| if quantile.is_nan() { "–".to_owned() } else { format!("{quantile:.0}") });
        let ratios: String = self
            .yardsticks
            .iter()
            .map(|against| format!(" | {}", with_interval(&self.ratios(row, against))))
            .collect();
        let bars = row.bars.iter().filter(|bar| self.has_column(bar)).map(|bar| {
            let Bar { kind, at_most, against } = bar;
            let kind = match kind {
                BarKind::Promise => "",
                BarKind::Aim => "aim ",
            };
            format!("{kind}≤ {at_most} × {against}: {}", verdict(self.judge(row, bar).met))
        });
        let mut bars = bars.collect::<Vec<_>>().join("; ");
        if self.has_bars() {
            bars = format!(" | {}", if bars.is_empty() { "reported" } else { &bars });
        }
        format!(
            "{} | {:.1}, {:.1}–{:.1} | {rate:.0}{rate_mark} | {}{ratios}{bars}",
            row.name,
            median(&cpu),
            quantile(&cpu, 0.1),
            quantile(&cpu, 0.9),
            quantiles.join(", "),
        )
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let ratios = self.yardsticks.iter().map(|against| {
                let ratios = self.ratios(row, against);
                let (low, high) = interval(&ratios);
                let value = json!({ "median": median(&ratios), "low": low, "high": high });
                ((*against).to_owned(), value)
            });
            let bars = row.bars.iter().map(|bar| {
                let Verdict { ratios, met } = self.judge(row, bar);
                let (low, high) = interval(&ratios);
                let Bar { kind, at_most, against } = bar;
                json!({ "kind": kind.as_str(), "against": against, "at_most": at_most, "median": median(&ratios), "low": low, "high": high, "met": met })
            });
            json!({
                "case": row.name,
                "cpu_us": median(&row.values(|sample| sample.cpu_us)),
                "requests_per_second": median(&row.values(|sample| sample.requests_per_second)),
                "quantiles_us": row.quantiles_us(),
                "ratio_of_cpu_to": ratios.collect::<Map<_, _>>(),
                "bars": bars.collect::<Vec<_>>(),
                "samples": row.samples.iter().map(Sample::json).collect::<Vec<_>>(),
            })
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>() })
    }
}

impl Row {
    pub fn values(&self, value: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(value).collect()
    }

    /// Medians of the rounds; of all rounds together where one has too few requests to tell.
    fn quantiles_us(&self) -> [f64; 3] {
        let of_all = |share| {
            let all: Vec<_> = self.samples.iter().flat_map(|sample| &sample.took_us).copied().collect();
            quantile_of_many(&all, share)
        };
        [0, 1, 2].map(|index| {
            let of_rounds =
                median(&self.values(|sample| sample.quantiles_us.get(index).copied().unwrap_or(f64::NAN)));
            let share = SHARES.get(index).copied().unwrap_or(f64::NAN);
            if of_rounds.is_nan() { of_all(share) } else { of_rounds }
        })
    }

    /// Whether the proxy was the limit, and not its clients; or nothing, because they came on a schedule.
    fn was_busy(&self) -> bool {
        median(&self.values(|sample| sample.busy.unwrap_or(1.0))) > 0.93
    }
}

impl BarKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Promise => "bar",
            Self::Aim => "aim",
        }
    }
}

impl Sample {
    fn json(&self) -> Value {
        json!({
            "cpu_us": self.cpu_us,
            "requests_per_second": self.requests_per_second,
            "busy": self.busy,
            "quantiles_us": self.quantiles_us,
        })
    }
}

/// Cells are parted by ` | `.
pub fn print_table(head: &str, rows: impl IntoIterator<Item = String>) {
    println!("| {head} |");
    println!("|{}", "---|".repeat(head.split('|').count()));
    for row in rows {
        println!("| {row} |");
    }
    println!();
}

/// A median and its 95 % interval.
fn with_interval(ratios: &[f64]) -> String {
    let (low, high) = interval(ratios);
    format!("{:.3} ({low:.3}–{high:.3})", median(ratios))
}

pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

const READY_BAR_MS: f64 = 500.0;
const RESIDENT_BAR_MB: f64 = 40.0;
