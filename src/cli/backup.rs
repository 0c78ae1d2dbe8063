//! `ds-gateway backup` and `restore`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::context::{ACCOUNT, ConfigArgs, LOCK_WAIT};
use super::output::{Failure, say};
use crate::app::backup::Target;
use crate::app::restore::{RestoreError, Source};
use crate::app::state::Services;
use crate::clock::{Clock, wall};

/// `ds-gateway backup`
#[derive(Args, Debug)]
pub(super) struct Backup {
    /// A folder that does not exist yet, is empty, or holds an older backup, which this one replaces
    folder: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

/// `ds-gateway restore`
///
/// The gateway must be stopped. What is there is moved aside. Users and keys are those of the backup; every token that was
/// minted before is rejected, since the backup cannot know which were revoked.
#[derive(Args, Debug)]
pub(super) struct Restore {
    /// The folder that `ds-gateway backup` has made
    folder: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Backup {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let target = Target::prepare(&self.folder, &self.config.load()?.server.state_dir)?;
        let opened = self.config.open()?;
        target.write(&opened.store, &opened.state_dir, wall())?;
        say(format_args!("backed up to {}", self.folder.display()))
    }
}

impl Restore {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let services = Services { clock: Clock::observer(), metrics: Arc::default(), lock_wait: LOCK_WAIT };
        let source = Source::open(&self.folder)?;
        let (state_dir, store) = (&config.server.state_dir, &config.store.path);
        let aside = source.restore(state_dir, store, &services, ACCOUNT.actor())?;
        for path in aside {
            say(format_args!("moved aside: {}", path.display()))?;
        }
        say("restored; every token minted before now is rejected")
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Start(error) => error.into(),
            RestoreError::Running(_) => Self::try_again(error),
            RestoreError::NotABackup(_) => Self::no_such(error),
        }
    }
}
