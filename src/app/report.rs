//! What the steps of a start, or of a reload, find.

use crate::config::ConfigError;
use crate::state_dir::Creation;
use crate::state_dir::error::StartError;
use crate::store::Opening;

/// What the steps are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To serve.
    Run {
        /// How the store that is found is treated.
        opening: Opening,
        /// May a store be made?
        creation: Creation,
    },
    /// To find out what would happen: nothing is made, changed or kept.
    Check,
}

/// What a start would meet.
#[derive(Debug, Default)]
pub struct Report {
    /// Why it would be refused.
    pub failures: Vec<StartError>,
    /// What an operator should know, and is no reason not to start.
    pub warnings: Vec<String>,
    /// What has to be so for a start to work.
    pub conditions: Vec<String>,
    /// Settings whose time is over. A start goes on without them; an operator who checks is to change them.
    pub outdated: Vec<ConfigError>,
}

impl Report {
    /// What a step has made; nothing if it failed, which is noted.
    pub(super) fn result<T>(&mut self, result: Result<T, StartError>) -> Option<T> {
        result.map_err(|error| self.failures.push(error)).ok()
    }
}

/// What no token can be issued without.
pub(super) const NO_SIGNER: &str = "every signing key is revoked or retired: add one to token.keys, or run `ds-gateway key generate` if the gateway manages its keys";
