//! Why the gateway, or a command beside it, does not start.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::store::StoreError;

/// Why the gateway does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has these errors.
    Configuration(Vec<ConfigError>),
    /// The store, or a file beside it.
    Store(PathBuf, StoreError),
    /// Another process has what is needed: try again.
    Busy(String),
    /// Anything else, in one sentence that says what to do.
    Refused(String),
    /// Several of these.
    Several(Vec<StartError>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(errors) => errors.iter().try_for_each(|fault| writeln!(f, "{fault}")),
            Self::Store(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Busy(text) | Self::Refused(text) => f.write_str(text),
            Self::Several(errors) => {
                let lines: Vec<String> = errors.iter().map(Self::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl StartError {
    /// All of these, of which there is at least one.
    pub fn of(mut errors: Vec<Self>) -> Self {
        match (errors.pop(), errors.is_empty()) {
            (Some(only), true) => only,
            (last, _) => Self::Several(errors.into_iter().chain(last).collect()),
        }
    }

    /// Says what failed in the words of `error`.
    pub fn refused(error: impl fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }
}

/// An error of the store at `path`.
pub fn store_error(path: &Path, error: StoreError) -> StartError {
    StartError::Store(path.to_owned(), error)
}

/// Makes a start's error of an I/O error at `path`.
pub(super) fn file_error(path: &Path) -> impl Fn(io::Error) -> StartError + '_ {
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            StartError::Store(path.to_owned(), StoreError::NotPermitted(error.to_string()))
        }
        _ => StartError::Refused(format!("{}: {error}", path.display())),
    }
}
