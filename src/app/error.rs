//! Why the gateway, or a command beside it, does not start.

use std::fmt;
use std::path::PathBuf;

use crate::config::Fault;
use crate::store::StoreError;

/// Why the gateway does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has these faults.
    Configuration(Vec<Fault>),
    /// The store, or a file beside it.
    Store(PathBuf, StoreError),
    /// Another process has what is needed: try again.
    Busy(String),
    /// Anything else, in one sentence that says what to do.
    Refused(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(faults) => faults.iter().try_for_each(|fault| writeln!(f, "{fault}")),
            Self::Store(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Busy(text) | Self::Refused(text) => f.write_str(text),
        }
    }
}

impl StartError {
    pub(super) fn refused(error: impl fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }
}
