//! Where a setting was made: the line of the file, or the variable of the environment that overrides it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file, both from 1.
    File {
        /// The line.
        line: usize,
        /// The character in it.
        column: usize,
    },
    /// In this variable of the environment.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { line, column } => write!(f, "line {line}, column {column}"),
            Self::Variable(name) => write!(f, "set by {name}"),
        }
    }
}

/// Where every setting was made, by `section.key`.
#[derive(Default)]
pub(super) struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// The places of a file's sections and keys.
    pub(super) fn of_file(text: &str, table: &DeTable<'_>) -> Self {
        let mut origins = Self::default();
        origins.add(text, table, "");
        origins
    }

    fn add(&mut self, text: &str, table: &DeTable<'_>, prefix: &str) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) => self.add(text, inner, &format!("{path}.")),
                // `[[platforms]]`: each begins where its header does.
                DeValue::Array(values) => {
                    for (at, value) in values.iter().enumerate() {
                        let DeValue::Table(inner) = value.get_ref() else { continue };
                        let path = numbered(&path, at);
                        self.add(text, inner, &format!("{path}."));
                        self.0.insert(path, place(text, &value.span()));
                    }
                }
                _ => {}
            }
            self.0.insert(path, place(text, &key.span()));
        }
    }

    /// A variable overrides what the file says.
    pub(super) fn overridden(&mut self, path: &str, variable: &str) {
        self.0.insert(path.to_owned(), Origin::Variable(variable.to_owned()));
    }

    pub(super) fn of(&self, path: &str) -> Option<Origin> {
        self.0.get(path).cloned()
    }
}

/// How one of an array of sections is called, such as `platforms[1]`: people count from 1.
pub(super) fn numbered(name: &str, at: usize) -> String {
    format!("{name}[{}]", at + 1)
}

/// The line and the column where a span of the text begins.
pub(super) fn place(text: &str, span: &Range<usize>) -> Origin {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Origin::File { line, column }
}
