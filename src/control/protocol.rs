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
    /// Start the binary anew, and have the new process take over.
    Upgrade {
        /// Reload instead, where that does all that an upgrade would.
        #[serde(default)]
        if_needed: bool,
    },
    /// From a successor that loads: what was counted of failed logins?
    LoginCounts,
    /// From a successor that has loaded everything: from now on neither process acknowledges what the other has not applied.
    TakeOver {
        /// The successor, which has a control socket of this name.
        id: String,
        /// The store that it has opened, as messages name it.
        store: String,
    },
    /// From a successor: it accepts connections.
    Serving,
    /// From a successor: it cannot start.
    CannotStart {
        /// Why.
        errors: String,
    },
    /// From the other process of an upgrade: apply all that is committed now.
    Apply,
    /// From the same: this revocation waits for the store.
    Hold {
        /// As the other process of this program writes it.
        record: String,
    },
    /// From a predecessor that ends.
    Ended {
        /// The predecessor.
        id: String,
        /// It serves nobody any more: nothing that is acknowledged from now on concerns it.
        is_idle: bool,
        /// What it has counted of failed logins, in base64.
        login_counts: String,
        /// It has begun changes of users that it cannot end any more.
        leaves_changes: bool,
    },
}

/// The answer of a running gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Reload`] and [`Request::Compare`], and to an upgrade that is not needed.
    Verdict(Verdict),
    /// What is waited for; another reply follows.
    Progress(String),
    /// To [`Request::Upgrade`]: another process serves now.
    Upgraded(Upgraded),
    /// To [`Request::LoginCounts`], in base64.
    LoginCounts(String),
    /// To [`Request::TakeOver`]: revocations that wait for the store.
    Pending(Vec<String>),
    /// It is done.
    Done,
    /// To [`Request::Apply`]: not in time.
    Late,
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

/// Who serves after an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The new gateway.
    pub id: String,
    /// Its process.
    pub process: u32,
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

/// The longest line that is read, in bytes: the counts of failed logins are up to 8 MiB, and base64 makes 11 of them.
pub(super) const LONGEST: u64 = 16 * 1024 * 1024;
