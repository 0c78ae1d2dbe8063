//! `ds-gateway store`: what an operator does to the store itself, with the gateways stopped.

use clap::{Args, Subcommand};

use super::context::{ConfigArgs, run};
use super::gateways::gateways;
use super::output::{Failure, say};
use crate::service::gateways::RepairError;

/// `ds-gateway store …`
#[derive(Args, Debug)]
pub(super) struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set the store's time to the wall clock's, after a gateway has run with a wrong clock; revokes every token
    ///
    /// The store's time never goes back: after hours with a clock that is ahead, it stays ahead and comes back only
    /// slowly, and revocations made meanwhile have times in the future. This sets it to the wall clock.
    /// Check the clock first.
    RepairClock {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

impl Store {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let Action::RepairClock { config } = self.action;
        let opened = config.open()?;
        let repaired = run(gateways(&opened).repair_clock())?;
        say(format_args!("the time of the store was {} UTC, and is {} UTC", repaired.floor, repaired.wall))?;
        say(format_args!("{} cutoffs lay in the future; every token is revoked", repaired.cutoffs))
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Running(_) => Self::try_again(error),
            RepairError::Store(error) => error.into(),
        }
    }
}
