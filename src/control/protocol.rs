//! What is asked and answered, as one line of JSON each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What can be asked of a running gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// Read the configuration again, and apply it.
    Reload,
    /// Read this configuration as a reload would, and apply nothing.
    Compare {
        /// The file, as a complete path.
        config: PathBuf,
    },
}

/// The answer of a running gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Reload`] and [`Request::Compare`].
    Verdict(Verdict),
    /// The request was not understood, or cannot be served.
    Error(String),
}

/// What became of a configuration, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// Why it was refused as a whole, each with its hint; none: it is in force.
    pub errors: Vec<String>,
    /// Settings that differed and are applied.
    pub applied: Vec<String>,
    /// Settings that differ and take a restart.
    pub at_restart: Vec<String>,
    /// What follows from it that an operator may not expect.
    pub notes: Vec<String>,
    /// What is allowed and dangerous.
    pub warnings: Vec<String>,
    /// A digest of what is in force now.
    pub hash: String,
}

impl Verdict {
    /// Refused for these reasons.
    pub fn refused(errors: Vec<String>) -> Self {
        Self { errors, ..Self::default() }
    }

    /// Was it accepted?
    pub const fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }
}

/// The folder of the sockets in the state folder.
pub(super) const FOLDER: &str = "control";

/// The longest line that is read, in bytes: a verdict may name every setting, each with a sentence.
pub(super) const LONGEST: u64 = 1024 * 1024;
