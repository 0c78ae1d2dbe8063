//! Waits until a change is in force on every gateway, and prints where it is.

use std::time::Duration;

use serde::Serialize;

use super::context::{ACCOUNT, Opened, RETRY, run};
use super::output::{Failure, say};
use crate::service::gateways::{Acknowledged, Gateways};

/// The gateways that a change is to reach.
pub(super) struct Reach {
    gateways: Gateways,
    max_staleness: Duration,
}

/// What came of a change.
#[derive(Serialize)]
struct Report {
    number: u64,
    durable: bool,
    in_force_on: usize,
    gateways: usize,
    /// Those that have not acknowledged it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<String>,
    #[serde(flatten)]
    of: Of,
}

/// What was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Change {
    /// Something was revoked.
    #[default]
    Revoked,
    /// A key was activated.
    Activated,
    /// A key was retired.
    Retired,
}

impl Change {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Activated => "activated",
            Self::Retired => "retired",
        }
    }

    /// What a gateway does that has not heard of it.
    const fn meanwhile(self) -> &'static str {
        match self {
            Self::Revoked => "may admit the token",
            Self::Activated => "may sign with another key",
            Self::Retired => "may verify more tokens",
        }
    }
}

/// What the store knows of what was changed.
#[derive(Default, Serialize)]
pub(super) struct Of {
    #[serde(skip)]
    pub(super) change: Change,
    /// Whether it knows the name or the token; absent for keys and for everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) known: Option<bool>,
    /// Whose token it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
}

/// The gateways on the store that was opened.
pub(super) fn gateways(opened: &Opened) -> Gateways {
    let (store, state_dir) = (opened.store.clone(), opened.state_dir.clone());
    Gateways::new(store, state_dir, ACCOUNT.actor())
}

impl Reach {
    pub(super) fn of(opened: &Opened) -> Self {
        Self { gateways: gateways(opened), max_staleness: opened.max_staleness }
    }

    /// Waits until every running gateway has acknowledged that sequence, and says so.
    pub(super) fn wait_for(&self, sequence: u64, of: Of, json: bool) -> Result<(), Failure> {
        let (did, meanwhile) = (of.change.as_str(), of.change.meanwhile());
        let acknowledged = run(self.gateways.wait_for(sequence, RETRY)).map_err(|failure| {
            failure.after(&format!("{did}, but the gateways cannot be asked whether they have applied it"))
        })?;
        let Acknowledged { on, running, waiting_for } = acknowledged;
        let said = if json {
            let waiting_for = waiting_for.clone();
            let report = Report {
                number: sequence,
                durable: true,
                in_force_on: on,
                gateways: running,
                waiting_for,
                of,
            };
            say(serde_json::to_string(&report).map_err(Failure::cannot_start)?)
        } else {
            let nobody = if running == 0 { " (no gateway is running)" } else { "" };
            say(format_args!("{did}; active on {on} of {running} gateways{nobody}"))
        };
        if waiting_for.is_empty() {
            return said;
        }
        Err(Failure::try_again(format!(
            "not confirmed by the gateway {}: it {meanwhile} until it reads the store again, for at most store.max_staleness ({} s) since its last read",
            waiting_for.join(", "),
            self.max_staleness.as_secs()
        )))
    }
}
