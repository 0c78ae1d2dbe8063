//! Which gateway processes run on this machine: each holds a lock that only its end releases, so that one which is paused
//! counts and one which was killed does not.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::is_ipv6_only;

/// A gateway's lock file, `gateways/<id>` in the state folder. The lock is held until the process ends.
#[derive(Debug)]
pub struct Presence {
    path: PathBuf,
    _locked: File,
}

/// What is known of a gateway of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// A process holds its lock; it may be paused.
    Running,
    /// Nobody holds its lock: its process has ended.
    Ended,
    /// It has no lock here: it may run on another machine.
    Unknown,
}

impl Presence {
    /// Makes the lock file of the gateway `id`, notes in it where the gateway listens, and locks it.
    ///
    /// # Errors
    ///
    /// If the file cannot be made; the gateway then counts for as long as its heartbeats come.
    pub fn announce(state_dir: &Path, id: &str, listening: &[SocketAddr]) -> io::Result<Self> {
        let folder = state_dir.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let (draft, path) = (folder.join(format!("{id}{DRAFT}")), folder.join(id));
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
        listening.iter().try_for_each(|address| writeln!(file, "{address}"))?;
        // Under its name it is locked from the beginning: a free lock means that the process has ended.
        file.lock()?;
        fs::rename(&draft, &path)?;
        Ok(Self { path, _locked: file })
    }

    /// Removes the file; to be called once the store does not know the gateway any more.
    pub fn withdraw(&self) {
        // One that stays is removed by a process that finds its lock free.
        let _ = fs::remove_file(&self.path);
    }
}

/// Does the gateway of that name run?
pub fn liveness(state_dir: &Path, id: &str) -> Liveness {
    if !is_id(id) {
        return Liveness::Unknown;
    }
    let Ok(file) = File::open(state_dir.join(FOLDER).join(id)) else { return Liveness::Unknown };
    // Shared, so that two that ask at once do not take each other for the gateway.
    match file.try_lock_shared() {
        Ok(()) => Liveness::Ended,
        Err(TryLockError::WouldBlock) => Liveness::Running,
        Err(TryLockError::Error(_)) => Liveness::Unknown,
    }
}

/// The gateways that have ended without removing their lock files.
pub fn ended(state_dir: &Path) -> Vec<String> {
    names(state_dir).into_iter().filter(|id| liveness(state_dir, id) == Liveness::Ended).collect()
}

/// The gateways that run.
pub fn running(state_dir: &Path) -> Vec<String> {
    names(state_dir).into_iter().filter(|id| liveness(state_dir, id) == Liveness::Running).collect()
}

/// The gateway that runs here and listens where a socket of this address would, if one does.
pub fn listening_on(state_dir: &Path, wanted: &SocketAddr) -> Option<String> {
    let listens = |id: &String| {
        let text = fs::read_to_string(state_dir.join(FOLDER).join(id)).unwrap_or_default();
        let noted: Vec<SocketAddr> = text.lines().filter_map(|line| line.parse().ok()).collect();
        noted.iter().any(|address| overlap(address, &noted, wanted))
    };
    running(state_dir).into_iter().find(listens)
}

/// Does one of the sockets that a gateway has exclude another one of this address? The same port of another address is
/// somebody else's.
fn overlap(has: &SocketAddr, all: &[SocketAddr], wanted: &SocketAddr) -> bool {
    let takes_all = |address: &SocketAddr| address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let has_all = takes_all(has) && !is_ipv6_only(has, all);
    let [one, other] = [has, wanted].map(|address| address.ip().to_canonical());
    let is_same_family = one.is_ipv4() == other.is_ipv4();
    let covers = one == other || one.is_unspecified() || other.is_unspecified();
    has.port() == wanted.port() && (has_all || takes_all(wanted) || is_same_family && covers)
}

/// Removes the lock file of a gateway that has ended; to be called once the store does not know it any more.
pub fn remove(state_dir: &Path, id: &str) {
    if is_id(id) {
        let _ = fs::remove_file(state_dir.join(FOLDER).join(id));
    }
}

fn names(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir.join(FOLDER)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Names come from the store too: one that is not of our making leads nowhere.
fn is_id(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

const FOLDER: &str = "gateways";

/// How a file is called until it is locked; not the name of a gateway.
const DRAFT: &str = ".draft";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_runs_for_as_long_as_it_holds_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let of = |id: &str| liveness(folder.path(), id);
        assert_eq!(of("12-ab"), Liveness::Unknown);
        let presence =
            Presence::announce(folder.path(), "12-ab", &["127.0.0.1:8443".parse().unwrap()]).unwrap();
        let of_port = |port| listening_on(folder.path(), &SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!((of_port(8443).as_deref(), of_port(8444)), (Some("12-ab"), None));
        assert_eq!(
            (of("12-ab"), of("12-ab"), of("13-ab")),
            (Liveness::Running, Liveness::Running, Liveness::Unknown)
        );
        assert_eq!(running(folder.path()), ["12-ab"]);
        drop(presence);
        assert_eq!((of("12-ab"), of_port(8443)), (Liveness::Ended, None));
        assert_eq!((running(folder.path()).len(), ended(folder.path())), (0, vec!["12-ab".to_owned()]));
        remove(folder.path(), "12-ab");
        assert_eq!((of("12-ab"), ended(folder.path()).len()), (Liveness::Unknown, 0));

        let presence = Presence::announce(folder.path(), "14-ab", &[]).unwrap();
        presence.withdraw();
        assert_eq!(of("14-ab"), Liveness::Unknown);
    }

    #[test]
    fn a_port_is_a_gateways_only_on_the_addresses_that_it_has() {
        for (has, wanted, is_its) in [
            (&["127.0.0.1:1"][..], "127.0.0.1:1", true),
            (&["127.0.0.1:1"], "127.0.0.1:2", false),
            (&["127.0.0.1:1"], "127.0.0.2:1", false),
            (&["127.0.0.1:1"], "0.0.0.0:1", true),
            (&["127.0.0.1:1"], "[::]:1", true),
            (&["127.0.0.1:1"], "[::1]:1", false),
            (&["127.0.0.1:1"], "[::ffff:127.0.0.1]:1", true),
            (&["0.0.0.0:1"], "127.0.0.2:1", true),
            (&["0.0.0.0:1"], "[::1]:1", false),
            (&["[::]:1"], "127.0.0.2:1", true),
            (&["[::]:1"], "[::1]:1", true),
            // Beside IPv4 it leaves that alone.
            (&["127.0.0.1:1", "[::]:1"], "127.0.0.2:1", false),
            (&["127.0.0.1:1", "[::]:1"], "[::1]:1", true),
            (&["[::1]:1"], "[::1]:1", true),
            (&["[::1]:1"], "[::2]:1", false),
            (&[], "127.0.0.1:1", false),
        ] {
            let has: Vec<SocketAddr> = has.iter().map(|text| text.parse().unwrap()).collect();
            let wanted: SocketAddr = wanted.parse().unwrap();
            let found = has.iter().any(|address| overlap(address, &has, &wanted));
            assert_eq!(found, is_its, "{has:?} {wanted}");
        }
    }

    #[test]
    fn a_name_that_is_not_of_a_gateway_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("lock"), "").unwrap();
        for name in ["../lock", "", ".", "a/b", "x"] {
            remove(folder.path(), name);
            assert_eq!(liveness(folder.path(), name), Liveness::Unknown, "{name:?}");
        }
        assert!(folder.path().join("lock").exists());
    }
}
