//! Whose the folder is, and who may read it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

use super::error::{StartError, file_error};
use crate::store::StoreError;

/// Makes the folder where there is none; refuses one that others may read.
pub(super) fn prepare_folder(folder: &Path) -> Result<(), StartError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file_error(folder))?;
    let mode = fs::metadata(folder).map_err(file_error(folder))?.mode();
    if mode & 0o077 != 0 {
        return Err(StartError::Refused(format!(
            "{0} is open to others (mode {1:o}): run `chmod 700 {0}`",
            folder.display(),
            mode & 0o777
        )));
    }
    Ok(())
}

/// Root becomes whom the folder belongs to, before anything in it is touched: what it makes there must be the gateway's to
/// read, and a link that the gateway's account may have put there leads it nowhere that account could not go.
pub(super) fn become_owner(folder: &Path) -> Result<(), StartError> {
    let owner = fs::metadata(folder).map_err(file_error(folder))?;
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if !geteuid().is_root() || user.is_root() {
        return Ok(());
    }
    let became = setgroups(&[]).and_then(|()| setgid(group)).and_then(|()| setuid(user));
    became.map_err(|error| {
        let text = format!(
            "it belongs to user {user}, which this process may not switch to ({error}): run it as that user"
        );
        StartError::Store(folder.to_owned(), StoreError::NotPermitted(text))
    })
}
