//! What the gateway promises, and whether it was kept.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::report::{Report, print_table, verdict};

#[derive(Default)]
pub struct Promises(Vec<Promise>);

struct Promise {
    what: String,
    value: String,
    bar: String,
    is_kept: bool,
    /// One that depends on what else the machine does is printed, and fails nothing.
    is_strict: bool,
}

impl Promises {
    pub fn hold(&mut self, what: impl Into<String>, value: String, bar: impl Into<String>, is_kept: bool) {
        self.0.push(Promise { what: what.into(), value, bar: bar.into(), is_kept, is_strict: true });
    }

    pub fn warn(&mut self, what: impl Into<String>, value: String, bar: impl Into<String>, is_kept: bool) {
        self.0.push(Promise { what: what.into(), value, bar: bar.into(), is_kept, is_strict: false });
    }

    /// Prints all of them, and fails if a strict one was missed.
    pub fn conclude(self, mut report: Report) -> Result<()> {
        println!("\n**Promises**\n");
        let cells = |promise: &Promise| {
            let Promise { what, value, bar, is_kept, is_strict } = promise;
            let warning = if *is_strict || *is_kept { "" } else { " (a warning)" };
            format!("{what} | {value} | {bar}: {}{warning}", verdict(*is_kept))
        };
        print_table("what | value | bar", self.0.iter().map(cells));
        let values = self.0.iter().map(|Promise { what, value, bar, is_kept, is_strict }| {
            json!({ "what": what, "value": value, "bar": bar, "kept": is_kept, "strict": is_strict })
        });
        report.note("promises", values.collect::<Vec<_>>());
        report.save()?;
        let missed = self.0.iter().filter(|promise| promise.is_strict && !promise.is_kept);
        let missed: Vec<_> = missed.map(|Promise { what, value, .. }| format!("{what}: {value}")).collect();
        ensure!(missed.is_empty(), "{} promises were missed:\n{}", missed.len(), missed.join("\n"));
        Ok(())
    }
}
