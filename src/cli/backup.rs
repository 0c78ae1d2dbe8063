//! `ds-gateway backup` and `restore`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::context::{ACCOUNT, ConfigArgs, LOCK_WAIT};
use super::output::{Failure, note, say};
use crate::clock::{Clock, wall};
use crate::config::SigningKeys;
use crate::state_dir::Services;
use crate::state_dir::backup::Target;
use crate::state_dir::restore::{RestoreError, Source};
use crate::store::StoreError;

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
/// The gateway must be stopped. Existing files are moved aside. Users and keys are those of the backup; every token that was
/// minted before is rejected, since the backup cannot know which were revoked. Keys revoked since then stay revoked if
/// the replaced store can be read; if not, a warning says what to do.
#[derive(Args, Debug)]
pub(super) struct Restore {
    /// The folder that `ds-gateway backup` has made
    folder: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Backup {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let target = Target::prepare(&self.folder, &self.config.load()?.0.server.state_dir)?;
        let opened = self.config.open()?;
        target.write(&opened.store, &opened.state_dir, wall(), LOCK_WAIT.tell)?;
        say(format_args!("backed up to {}", self.folder.display()))
    }
}

impl Restore {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let (config, materials) = self.config.load()?;
        let services = Services { clock: Clock::observer(), metrics: Arc::default(), lock_wait: LOCK_WAIT };
        let source = Source::open(&self.folder)?;
        let Some(store) = config.store.place.file() else {
            return Err(Failure::usage(
                "store.url names a database of PostgreSQL, which is restored by its own means (pg_restore, or its archive); start one gateway with `ds-gateway run --restored` afterwards",
            ));
        };
        let state_dir = &config.server.state_dir;
        let makes_keys = matches!(materials.keys, SigningKeys::Generated);
        let restored = source.restore(state_dir, store, makes_keys, &services, ACCOUNT.actor())?;
        // First: what is said after it may find no reader.
        if let Some(fault) = &restored.fault {
            warn_of_revoked_keys(fault);
        }
        for path in restored.aside {
            say(format_args!("moved aside: {}", path.display()))?;
        }
        for kid in restored.revoked_keys {
            say(format_args!("the key {kid:?} stays revoked"))?;
        }
        if let Some(kid) = restored.made {
            say(format_args!("made the key {kid:?}: those of the backup are revoked"))?;
        }
        say("restored; every token minted before now is rejected")
    }
}

/// Says what the backup cannot know, and nothing else that can be read does.
fn warn_of_revoked_keys(fault: &StoreError) {
    let reason = match fault {
        StoreError::Missing => "there was no store before".to_owned(),
        StoreError::Rewound { .. } => {
            "the replaced store is not the one that was backed up, or is an older copy of it".to_owned()
        }
        other => format!("the replaced store cannot be read ({other})"),
    };
    note(format_args!(
        "ds-gateway: warning: {reason}: a key that was revoked after the backup was made is valid again, unless it is named \
         below. Before you start the gateway revoke it with `ds-gateway revoke key KID --replace`; `ds-gateway key list` shows \
         the keys"
    ));
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
