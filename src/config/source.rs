//! Where settings come from: a TOML file and the environment, read key by key so that every error is found
//! in one pass and every unknown key is noticed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `section.key`, or where else the error lies.
    pub key: String,
    /// What is wrong and what to do about it.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// All settings that were given and not yet asked for, and the errors found so far.
pub(super) struct Source {
    root: Table,
    environment: BTreeMap<String, String>,
    asked: Vec<String>,
    errors: Vec<ConfigError>,
}

impl Source {
    /// `environment` may hold anything; only [`PREFIX`] variables are looked at.
    pub(super) fn new(text: &str, environment: impl Iterator<Item = (String, String)>) -> Self {
        let mut source = Self {
            root: Table::new(),
            environment: environment.filter(|(name, _)| name.starts_with(PREFIX)).collect(),
            asked: Vec::new(),
            errors: Vec::new(),
        };
        match text.parse() {
            Ok(root) => source.root = root,
            Err(error) => source.error("the file", format!("is not valid TOML: {error}")),
        }
        source
    }

    pub(super) fn error(&mut self, key: &str, text: impl Into<String>) {
        self.errors.push(ConfigError { key: key.to_owned(), text: text.into() });
    }

    /// Takes a section out; what is left of it when it is dropped is unknown. One inside another, as `limits.login`, is to be
    /// taken before the other.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        let found = match name.split_once('.') {
            None => self.root.remove(name),
            Some((outer, inner)) => {
                self.root.get_mut(outer).and_then(Value::as_table_mut).and_then(|outer| outer.remove(inner))
            }
        };
        let table = match found {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.error(name, format!("must be a section: write [{name}]"));
                Table::new()
            }
        };
        Section { name, table, source: self }
    }

    /// All errors, and the keys that were asked for.
    pub(super) fn finish(mut self) -> (Vec<ConfigError>, Vec<String>) {
        for name in std::mem::take(&mut self.root).keys() {
            self.error(name, "unknown section: remove it or correct its name");
        }
        for name in std::mem::take(&mut self.environment).keys() {
            self.error(name, "unknown setting in this environment variable: unset it or correct its name");
        }
        (self.errors, self.asked)
    }
}

/// One `[section]`.
pub(super) struct Section<'s> {
    name: &'static str,
    table: Table,
    source: &'s mut Source,
}

impl Section<'_> {
    /// The setting, or nothing if it is not given or faulty. `hint` says what would be right.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &str, hint: &str) -> Option<T> {
        let path = format!("{}.{key}", self.name);
        self.source.asked.push(path.clone());
        let variable = format!("{PREFIX}{}__{key}", self.name.replace('.', "__")).to_uppercase();
        let in_file = self.table.remove(key);
        let candidates = match self.source.environment.remove(&variable) {
            Some(text) => readings(&text),
            None => in_file.into_iter().collect(),
        };
        if candidates.is_empty() {
            return None;
        }
        let found = candidates.into_iter().find_map(|value| value.try_into().ok());
        if found.is_none() {
            self.source.error(&path, format!("invalid value: {hint}"));
        }
        found
    }

    /// The setting, or `default`.
    pub(super) fn or<T: DeserializeOwned>(&mut self, key: &str, default: T, hint: &str) -> T {
        self.optional(key, hint).unwrap_or(default)
    }

    /// A duration, written `"90s"`, `"5m"`, `"24h"`.
    pub(super) fn delay(&mut self, key: &str, default_seconds: u64) -> Duration {
        let default = Span(Duration::from_secs(default_seconds));
        let Span(span) = self.or(key, default, "write a duration such as \"30s\", \"5m\" or \"24h\"");
        if span <= LONGEST {
            return span;
        }
        self.error(key, "must be 100 years at most");
        LONGEST
    }

    /// A duration of at least one second.
    pub(super) fn duration(&mut self, key: &str, default_seconds: u64) -> Duration {
        let span = self.delay(key, default_seconds);
        if span < Duration::from_secs(1) {
            self.error(key, "must be at least one second");
        }
        span
    }

    /// How often something is done: ten milliseconds or more.
    pub(super) fn interval(&mut self, key: &str, default: Duration) -> Duration {
        let Span(span) = self.or(key, Span(default), "write a duration such as \"100ms\" or \"60s\"");
        if (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&span) {
            return span;
        }
        self.error(key, "must be between 10ms and 1h");
        default
    }

    /// Notes an error of a value whose form was right.
    pub(super) fn error(&mut self, key: &str, text: impl Into<String>) {
        let path = format!("{}.{key}", self.name);
        self.source.error(&path, text);
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for key in std::mem::take(&mut self.table).keys() {
            let path = format!("{}.{key}", self.name);
            self.source.error(&path, "unknown key: remove it or correct its name");
        }
    }
}

/// Longer than anybody waits, and short enough to be added to any moment.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// More often than this is all that a thread does.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// Less often than this, and what is to be noticed in time is not.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        humantime::parse_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What the text of an environment variable may mean: TOML, plain text, or a list with commas.
fn readings(text: &str) -> Vec<Value> {
    let toml = format!("value = {text}").parse::<Table>().ok();
    let list = text.split(',').map(|item| Value::String(item.trim().to_owned()));
    toml.and_then(|mut table| table.remove("value"))
        .into_iter()
        .chain([Value::String(text.to_owned()), Value::Array(list.collect())])
        .collect()
}

/// What every variable that overrides a setting begins with.
pub const PREFIX: &str = "DS_GATEWAY__";
