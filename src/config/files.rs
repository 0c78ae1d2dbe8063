//! How files with secrets are read: regular ones only, and out of everybody's reach but the gateway's.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::{getegid, geteuid, getgroups};
use zeroize::Zeroizing;

use crate::auth::secret::Secret;

/// Whether a file may be named by a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// As Kubernetes mounts the secrets that a configuration names.
    Followed,
    /// In a folder of ours, where a link was made by somebody else.
    Refused,
}

/// A secret from a file that only the gateway may read (decision 0035); a final newline is not part of it. Whom the state folder
/// belongs to is whom the gateway will run as: that account's files are its own too.
pub fn read_secret(path: &Path, links: Links, state_dir: Option<&Path>) -> Result<Secret, String> {
    let shown = path.display();
    let error = |error: std::io::Error| format!("is in {shown}, which cannot be read: {error}");
    let mut file = open_regular(path, links).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    let access = Access { owner: metadata.uid(), group: metadata.gid(), mode: metadata.mode() & 0o777 };
    let account = Account::current(state_dir);
    if !account.owners.contains(&access.owner) {
        return Err(format!(
            "is in {shown}, which belongs to user {}, who may read and change it: it must belong to root, to the account that \
             the gateway runs as, or to whom server.state_dir belongs to: run `chown` and put a new secret in it",
            access.owner
        ));
    }
    if !access.is_private(&account) {
        return Err(format!(
            "is in {shown}, which others may read or write (mode {:o}, owner {}, group {}): run `chmod 600 {shown}`. A group \
             of the gateway's user may read it only if root owns it (mode 640 or 440)",
            access.mode, access.owner, access.group
        ));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.by_ref().take(64 * 1024).read_to_end(&mut bytes).map_err(error)?;
    if let Some(encoding) = text_mark(&bytes) {
        // The others that share the key have it without those bytes: a signature would never match.
        return Err(format!(
            "is in {shown}, which an editor saved as {encoding}: save it again without that mark"
        ));
    }
    let trimmed = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let trimmed = trimmed.strip_suffix(b"\r").unwrap_or(trimmed);
    Ok(Secret::new(trimmed.to_vec()))
}

/// Who may do what with a file.
#[derive(Clone, Copy, Debug)]
struct Access {
    owner: u32,
    group: u32,
    /// Its nine bits.
    mode: u32,
}

/// Whom this process reads files as.
#[derive(Clone, Debug)]
struct Account {
    user: u32,
    groups: Vec<u32>,
    /// Whose files it takes secrets from: root's, its own, and those of the account that it will be.
    owners: Vec<u32>,
}

impl Account {
    fn current(state_dir: Option<&Path>) -> Self {
        let groups = getgroups().unwrap_or_default().into_iter().chain([getegid()]);
        let future = state_dir.and_then(|folder| Some(fs::metadata(folder).ok()?.uid()));
        Self::new(geteuid().as_raw(), groups.map(nix::unistd::Gid::as_raw).collect(), future)
    }

    fn new(user: u32, groups: Vec<u32>, future: Option<u32>) -> Self {
        Self { user, groups, owners: [0, user].into_iter().chain(future).collect() }
    }
}

impl Access {
    /// Is a file like this nobody's to read but its owner's and the gateway's? PostgreSQL's rule for its key: it is one's own or
    /// root's, with nothing for group and others; or root owns it, and a group of the process may read it, as clusters hand out
    /// secrets.
    fn is_private(self, account: &Account) -> bool {
        if !account.owners.contains(&self.owner) {
            return false;
        }
        if self.mode & 0o077 == 0 {
            return true;
        }
        let is_own_group = match account.user {
            // Root reads for the account that it becomes, whose groups it does not have; its own group is nobody's.
            0 => self.group != 0,
            // systemd gives a credential to root's group and lets the service read it by an ACL, whose mask shows as the group's
            // bits.
            _ => self.group == 0 || account.groups.contains(&self.group),
        };
        self.owner == 0 && self.mode & 0o037 == 0 && is_own_group
    }
}

/// The byte order mark that a text begins with, if it is one: a secret of random bytes may begin so too.
pub(super) fn text_mark(bytes: &[u8]) -> Option<&'static str> {
    let is_utf16 = |at: usize| {
        bytes.len().is_multiple_of(2) && bytes.chunks(2).skip(1).all(|unit| unit.get(at) == Some(&0))
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] if std::str::from_utf8(rest).is_ok() => {
            Some("UTF-8 with a byte order mark (BOM)")
        }
        [0xff, 0xfe, ..] if is_utf16(1) => Some("UTF-16 with a byte order mark (BOM)"),
        [0xfe, 0xff, ..] if is_utf16(0) => Some("UTF-16 with a byte order mark (BOM)"),
        _ => None,
    }
}

/// Opens a file, and nothing that a reader could wait for: a pipe, a device.
fn open_regular(path: &Path, links: Links) -> io::Result<File> {
    let (metadata, no_follow) = match links {
        Links::Followed => (fs::metadata(path)?, OFlag::empty()),
        Links::Refused => (fs::symlink_metadata(path)?, OFlag::O_NOFOLLOW),
    };
    if metadata.is_symlink() {
        return Err(io::Error::other("it is a symbolic link: put the file itself there"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::options().read(true).custom_flags(no_follow.bits()).open(path)
}

/// All of a regular file.
pub(super) fn read_regular(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    open_regular(path, Links::Followed)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_as_postgresql_reads_its_own() {
        // The gateway's account is user 10 with the groups 10 and 20.
        for (owner, group, mode, is_private) in [
            (10, 10, 0o600, true),
            (10, 10, 0o400, true),
            (10, 10, 0o440, false),
            (10, 10, 0o640, false),
            (10, 10, 0o604, false),
            (0, 0, 0o600, true),
            (0, 10, 0o440, true),
            (0, 10, 0o640, true),
            (0, 20, 0o440, true),
            (0, 30, 0o440, false),
            (0, 0, 0o440, true),
            (0, 10, 0o660, false),
            (0, 10, 0o650, false),
            (0, 10, 0o444, false),
            (0, 10, 0o644, false),
            (0, 10, 0o642, false),
            (0, 10, 0o641, false),
            (30, 10, 0o440, false),
            (30, 30, 0o600, false),
            (30, 10, 0o400, false),
            (65_534, 65_534, 0o600, false),
        ] {
            let account = Account::new(10, vec![10, 20], Some(10));
            let access = Access { owner, group, mode };
            assert_eq!(access.is_private(&account), is_private, "{owner}:{group} {mode:o}");
        }
        // Root will be user 10, if the state folder is that user's.
        let root = Account::new(0, vec![0], Some(10));
        for (owner, group, mode, is_private) in [
            (0, 10, 0o440, true),
            (0, 0, 0o440, false),
            (0, 0, 0o640, false),
            (10, 10, 0o440, false),
            (10, 10, 0o600, true),
            (65_534, 65_534, 0o600, false),
            (0, 10, 0o444, false),
        ] {
            assert_eq!(
                Access { owner, group, mode }.is_private(&root),
                is_private,
                "{owner}:{group} {mode:o}"
            );
        }
        let stays_root = Account::new(0, vec![0], None);
        for (owner, is_private) in [(0, true), (10, false)] {
            let access = Access { owner, group: owner, mode: 0o600 };
            assert_eq!(access.is_private(&stays_root), is_private, "{owner}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_told_from_random_bytes() {
        let marked = |text: &str| {
            let units = || text.encode_utf16();
            let little: Vec<u8> =
                [0xff, 0xfe].into_iter().chain(units().flat_map(u16::to_le_bytes)).collect();
            let big: Vec<u8> = [0xfe, 0xff].into_iter().chain(units().flat_map(u16::to_be_bytes)).collect();
            [format!("\u{feff}{text}").into_bytes(), little, big]
        };
        for bytes in marked("0123456789abcdef") {
            assert!(text_mark(&bytes).is_some_and(|text| text.contains("BOM")), "{bytes:x?}");
        }
        for bytes in
            [&b"0123"[..], b"", b"\xef\xbb\xbf\xff\x00", b"\xff\xfe\x01\x02\x03\x04", b"\xfe\xff\x01\x02"]
        {
            assert_eq!(text_mark(bytes), None, "{bytes:x?}");
        }
    }
}
