//! Whose the folder is, and who may read it.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{
    AccessFlags, Gid, Uid, User, faccessat, getegid, geteuid, getgrouplist, getuid, setegid, seteuid, setgid,
    setgroups, setuid,
};

use super::error::{StartError, file_error};
use crate::store::StoreError;

/// Makes the folder where there is none.
pub(super) fn prepare_folder(folder: &Path) -> Result<(), StartError> {
    check_folder(folder)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file_error(folder))
}

/// Is it a folder, or could one be made?
pub(super) fn check_folder(folder: &Path) -> Result<(), StartError> {
    let existing = folder.ancestors().map(|path| if path == Path::new("") { Path::new(".") } else { path });
    let is_there = |path: &&Path| path.symlink_metadata().is_ok();
    let Some(existing) = existing.into_iter().find(is_there) else { return Ok(()) };
    if !existing.is_dir() {
        let (shown, is_link) = (folder.display(), existing.is_symlink());
        let existing = existing.display();
        if is_link {
            return Err(StartError::Refused(format!(
                "{shown} cannot be made: {existing} is a symbolic link that leads to no folder: make that folder, or remove the link"
            )));
        }
        return Err(StartError::Refused(format!("{shown} cannot be made: {existing} is not a folder")));
    }
    if existing == folder { Ok(()) } else { check_access(existing).map_err(file_error(folder)) }
}

/// May this process make files in the folder?
pub(super) fn check_access(folder: &Path) -> io::Result<()> {
    let flags = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    Ok(faccessat(AT_FDCWD, folder, flags, AtFlags::AT_EACCESS)?)
}

/// What is open to its group in a folder, as a cluster leaves a volume that it gives to a group of the gateway's.
#[derive(Debug, Default)]
pub(super) struct Widened {
    /// Of the folder itself.
    mode: u32,
    /// How many files and folders, itself included.
    count: usize,
}

/// Looks for what is open to its group in the folder. To be called as its owner.
///
/// # Errors
///
/// If it is open to everybody, or to a group while it is another account's: who knows who was there. A folder that is not there
/// has nothing that is open.
pub(super) fn find_widened(folder: &Path) -> Result<Option<Widened>, StartError> {
    let metadata = fs::metadata(folder).map_err(file_error(folder))?;
    let (mode, shown) = (metadata.mode() & 0o7777, folder.display());
    let is_owner = Uid::from_raw(metadata.uid()) == geteuid();
    if mode & 0o077 != 0 && !is_owner {
        return Err(StartError::Refused(format!(
            "{shown} is open to others (mode {mode:o}) and belongs to user {}: name a folder in it, for example {}, which \
             the gateway makes for itself",
            metadata.uid(),
            folder.join("state").display()
        )));
    }
    if mode & 0o007 != 0 {
        return Err(StartError::Refused(format!(
            "{shown} is open to others (mode {mode:o}): run `chmod 700 {shown}`"
        )));
    }
    let mut count = 0;
    walk(folder, &mut |_, _| {
        count += 1;
        Ok(())
    })
    .map_err(file_error(folder))?;
    Ok((count > 0).then_some(Widened { mode, count }))
}

/// Takes from the group what [`find_widened`] has found; says what it did.
pub(super) fn narrow(folder: &Path, tell: fn(&str)) -> Result<(), StartError> {
    let Some(widened) = find_widened(folder)? else { return Ok(()) };
    let close = |path: &Path, mode: u32| {
        let mode = Mode::from_bits_truncate(mode & !0o077);
        // By its name, without opening it: to close the store's file would end SQLite's locks on it.
        Ok(fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink)?)
    };
    walk(folder, &mut |path, mode| close(path, mode)).map_err(file_error(folder))?;
    tell(&format!("{}: {widened}; only its owner may read them now", folder.display()));
    Ok(())
}

impl std::fmt::Display for Widened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mode, count } = self;
        write!(f, "files or folders were open to their group ({count} of them; the folder has mode {mode:o})")
    }
}

/// Calls `visit` with the path and the mode of every file and folder of this account's that is open to its group and not to
/// everybody, the folder itself last: where it is interrupted it is done again.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, u32) -> io::Result<()>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        // Not followed, if it is a link. What is gone meanwhile is open to nobody.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(&entry.path(), visit)?;
        } else if metadata.is_file() && is_widened(&metadata) {
            visit_if_there(&entry.path(), &metadata, visit)?;
        }
    }
    let metadata = fs::metadata(folder)?;
    if is_widened(&metadata) { visit_if_there(folder, &metadata, visit) } else { Ok(()) }
}

fn visit_if_there(
    path: &Path,
    metadata: &fs::Metadata,
    visit: &mut dyn FnMut(&Path, u32) -> io::Result<()>,
) -> io::Result<()> {
    match visit(path, metadata.mode() & 0o7777) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_widened(metadata: &fs::Metadata) -> bool {
    let (mode, owner) = (metadata.mode(), Uid::from_raw(metadata.uid()));
    mode & 0o070 != 0 && mode & 0o007 == 0 && owner == geteuid()
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

/// Acts for another account, with its groups: what it may not read, this process may not either. Root can go back for a moment
/// ([`as_root`]).
///
/// # Errors
///
/// If there is no such account, or this process is not root's and not that account's.
pub fn act_as(account: &str) -> Result<(), String> {
    let known = match account.parse().map(Uid::from_raw) {
        Ok(id) => User::from_uid(id).map(|known| Some(known.map_or((id, None), |user| (id, Some(user))))),
        Err(_) => User::from_name(account).map(|known| known.map(|user| (user.uid, Some(user)))),
    };
    let (user, entry) =
        known.ok().flatten().ok_or_else(|| format!("there is no user {account:?} on this machine"))?;
    if user == geteuid() {
        return Ok(());
    }
    let group = entry.as_ref().map_or(Gid::from_raw(user.as_raw()), |entry| entry.gid);
    let named = entry.and_then(|entry| CString::new(entry.name).ok());
    let groups = named.map_or(Ok(vec![group]), |name| getgrouplist(&name, group));
    let became = groups
        .and_then(|groups| setgroups(&groups))
        .and_then(|()| setegid(group))
        .and_then(|()| seteuid(user));
    became.map_err(|error| {
        format!("this process may not act as the user {account:?} ({error}): run it as root")
    })
}

/// Does something as root, where this process is root's and acts for another account; nothing otherwise.
pub fn as_root<T>(action: impl FnOnce() -> T) -> Option<T> {
    let user = geteuid();
    if user.is_root() || !getuid().is_root() {
        return None;
    }
    let group = getegid();
    seteuid(Uid::from_raw(0)).ok()?;
    let done = action();
    // What was allowed once is allowed again; where it is not, it is better to end than to go on as root.
    if setegid(group).and_then(|()| seteuid(user)).is_err() {
        std::process::exit(1);
    }
    Some(done)
}
