//! Where settings come from: a TOML file and the environment, read key by key so that every error is found
//! in one pass and every unknown key is noticed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use toml::de::DeTable;
use toml::{Table, Value};

use super::origin::{Origin, Origins, numbered, place};
use super::spelling::{closest, closest_variable};

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `section.key`, or where else the error lies.
    pub key: String,
    /// What is wrong and what to do about it.
    pub text: String,
    /// Where the value is that is wrong, if there is one.
    pub origin: Option<Origin>,
}

impl ConfigError {
    pub(super) fn new(key: &str, text: impl Into<String>) -> Self {
        Self { key: key.to_owned(), text: text.into(), origin: None }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)?;
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, " ({origin})"))
    }
}

/// All settings that were given and not yet asked for, and the errors found so far.
pub(super) struct Source {
    root: Table,
    environment: BTreeMap<String, String>,
    /// Variables that are none of ours and may have been meant to be.
    near: Vec<String>,
    origins: Origins,
    asked: Vec<String>,
    sections: Vec<&'static str>,
    /// Keys that nobody asked for, with their sections.
    unknown: Vec<(Cow<'static, str>, String)>,
    errors: Vec<ConfigError>,
    /// Errors of settings that are not given: none, where a misspelt one shows what was meant.
    missing: Vec<ConfigError>,
}

/// What is left of a source.
pub(super) struct Finished {
    pub(super) errors: Vec<ConfigError>,
    /// The keys that were asked for.
    pub(super) asked: Vec<String>,
    /// Where each setting was made.
    pub(super) origins: Origins,
}

impl Source {
    /// `environment` may hold anything; only variables of ours are looked at, and those that nearly are. An empty one is none.
    ///
    /// # Errors
    ///
    /// If the text is not TOML: that alone, since nothing else is known.
    pub(super) fn new(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let parsed = DeTable::parse(text).and_then(|table| {
            let origins = Origins::of_file(text, table.get_ref());
            Ok((text.parse::<Table>()?, origins))
        });
        let (root, origins) = parsed.map_err(|error| {
            let message = error.message().replace('\n', "; ");
            let origin = error.span().map(|span| place(text, &span));
            ConfigError { origin, ..ConfigError::new("the file", format!("is not valid TOML: {message}")) }
        })?;
        let is_set = |(name, value): &(String, String)| is_near(name) && !value.is_empty();
        let (ours, near): (Vec<_>, Vec<_>) =
            environment.filter(is_set).partition(|(name, _)| name.starts_with(PREFIX));
        let environment = ours.into_iter().collect();
        let near = near.into_iter().map(|(name, _)| name).collect();
        Ok(Self { environment, near, origins, ..Self::of(root) })
    }

    /// Of settings that are in no file and that nothing overrides.
    pub(super) fn of(root: Table) -> Self {
        Self {
            root,
            environment: BTreeMap::new(),
            near: Vec::new(),
            origins: Origins::default(),
            asked: Vec::new(),
            sections: Vec::new(),
            unknown: Vec::new(),
            errors: Vec::new(),
            missing: Vec::new(),
        }
    }

    pub(super) fn error(&mut self, key: &str, text: impl Into<String>) {
        let origin = self.origins.of(key);
        self.errors.push(ConfigError { origin, ..ConfigError::new(key, text) });
    }

    /// Takes a section out; what is left of it when it is dropped is unknown. One inside another, as `limits.login`, is to be
    /// taken before the other.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        self.sections.push(name);
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
        Section { name: name.into(), table, source: self }
    }

    /// Takes an array of sections out, such as `[[platforms]]`: each with a name that errors are told by.
    pub(super) fn sections(&mut self, name: &str) -> Vec<(String, Table)> {
        match self.root.remove(name) {
            None => Vec::new(),
            Some(Value::Array(values)) if values.iter().all(Value::is_table) => {
                let table = |(at, value)| match value {
                    Value::Table(table) => Some((numbered(name, at), table)),
                    _ => None,
                };
                values.into_iter().enumerate().filter_map(table).collect()
            }
            Some(_) => {
                self.error(name, format!("must be sections: write [[{name}]]"));
                Vec::new()
            }
        }
    }

    /// One of [`Self::sections`].
    pub(super) fn section_of(&mut self, name: String, table: Table) -> Section<'_> {
        Section { name: name.into(), table, source: self }
    }

    /// All errors, and what was learnt of the settings.
    pub(super) fn finish(mut self) -> Finished {
        let mut meant = BTreeSet::new();
        for name in std::mem::take(&mut self.root).keys() {
            let absent = |section: &&str| self.origins.of(section).is_none();
            let like = closest(name, self.sections.iter().copied());
            meant.extend(like.filter(absent).map(|section| format!("{section}.")));
            let hint =
                like.map_or("remove it or correct its name".into(), |like| format!("did you mean [{like}]?"));
            self.error(name, format!("unknown section: {hint}"));
        }
        for (section, key) in std::mem::take(&mut self.unknown) {
            let hint = match self.suggestion(&section, &key) {
                Some(path) => {
                    let hint = match path.rsplit_once('.') {
                        Some((same, name)) if same == section => format!("did you mean {name:?}?"),
                        Some((other, _)) => format!("it belongs in [{other}]"),
                        None => String::new(),
                    };
                    meant.insert(path);
                    hint
                }
                None => "remove it or correct its name".into(),
            };
            self.error(&format!("{section}.{key}"), format!("unknown key: {hint}"));
        }
        self.check_variables();
        let is_meant = |error: &ConfigError| meant.iter().any(|path| error.key.starts_with(path));
        self.errors.extend(std::mem::take(&mut self.missing).into_iter().filter(|error| !is_meant(error)));
        Finished { errors: self.errors, asked: self.asked, origins: self.origins }
    }

    /// Errors for variables that no setting took.
    fn check_variables(&mut self) {
        let known: Vec<String> =
            self.asked.iter().map(|path| variable(path)).chain([CONFIG_VARIABLE.to_owned()]).collect();
        for name in std::mem::take(&mut self.environment).into_keys() {
            let hint = match closest_variable(&name, &known) {
                Some(like) => format!("did you mean {like}?"),
                None => "unset it or correct its name".into(),
            };
            self.error(&name, format!("unknown setting in this environment variable: {hint}"));
        }
        // What is like none of ours belongs to somebody else.
        for name in std::mem::take(&mut self.near) {
            if let Some(like) = closest_variable(&name, &known).filter(|like| **like != name) {
                self.error(&name, format!("this environment variable sets nothing: did you mean {like}?"));
            }
        }
    }

    /// The `section.key` that an unknown key was meant to be.
    fn suggestion(&self, section: &str, key: &str) -> Option<String> {
        let of = |path: &'_ String| {
            path.rsplit_once('.').map(|(section, key)| (section.to_owned(), key.to_owned()))
        };
        let sections = self.sections.iter().map(|section| (*section).to_owned());
        let known: Vec<(String, String)> =
            self.asked.iter().cloned().chain(sections).filter_map(|path| of(&path)).collect();
        let elsewhere =
            known.iter().find(|(_, name)| name == key).map(|(other, name)| format!("{other}.{name}"));
        let same = known.iter().filter(|(other, _)| other == section).map(|(_, name)| name.as_str());
        elsewhere.or_else(|| closest(key, same).map(|name| format!("{section}.{name}")))
    }
}

/// The variable that overrides `section.key`.
fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__")).to_uppercase()
}

/// Does it begin as ours do, in whatever case?
fn is_near(name: &str) -> bool {
    name.get(..NEAR.len()).is_some_and(|start| start.eq_ignore_ascii_case(NEAR))
}

/// One `[section]`.
pub(super) struct Section<'s> {
    name: Cow<'static, str>,
    table: Table,
    source: &'s mut Source,
}

impl Section<'_> {
    /// Is any of its keys given? To be asked before the first of them is read.
    pub(super) fn is_given(&self) -> bool {
        let prefix = variable(&self.path(""));
        !self.table.is_empty() || self.source.environment.keys().any(|name| name.starts_with(&prefix))
    }

    /// The setting, or nothing if it is not given or faulty. `hint` says what would be right.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &str, hint: &str) -> Option<T> {
        let path = self.path(key);
        self.source.asked.push(path.clone());
        let variable = variable(&path);
        let in_file = self.table.remove(key);
        let candidates = match self.source.environment.remove(&variable) {
            Some(text) => {
                self.source.origins.overridden(&path, &variable);
                readings(&text)
            }
            None => in_file.into_iter().collect(),
        };
        let mut fault = None;
        for value in candidates {
            match value.try_into() {
                Ok(value) => return Some(value),
                Err(error) => fault = fault.or_else(|| Some(member_of(&error))),
            }
        }
        if let Some(member) = fault {
            self.source.error(&path, format!("invalid value{member}: {hint}"));
        }
        None
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
        let path = self.path(key);
        self.source.error(&path, text);
    }

    /// Notes that a setting is required, unless what is given for it has an error already.
    pub(super) fn missing(&mut self, key: &str, text: &str) {
        if !self.has_error(key) {
            self.source.missing.push(ConfigError::new(&self.path(key), text));
        }
    }

    /// Is what is given for the setting wrong?
    pub(super) fn has_error(&self, key: &str) -> bool {
        let path = self.path(key);
        self.source.errors.iter().any(|error| error.key == path)
    }

    /// Where the setting was made.
    pub(super) fn origin(&self, key: &str) -> Option<Origin> {
        self.source.origins.of(&self.path(key))
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.table);
        self.source.unknown.extend(keys.into_iter().map(|(key, _)| (self.name.clone(), key)));
    }
}

/// Which member of a table is wrong, in the parser's words, which then show no value.
fn member_of(error: &toml::de::Error) -> String {
    let text = error.message();
    let is_shown = text.starts_with("unknown field") || text.starts_with("missing field");
    if is_shown { format!(" ({text})") } else { String::new() }
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

/// The variable that names the file.
pub const CONFIG_VARIABLE: &str = "DS_GATEWAY_CONFIG";

/// What every variable of ours begins with, and some of others.
const NEAR: &str = "DS_GATEWAY_";
