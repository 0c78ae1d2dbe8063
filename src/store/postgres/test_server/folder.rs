//! The folder of all servers of a process, removed with it; and the account that they run as.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::succeed;

/// The folder, and the shell that removes it once the pipe to it is closed.
struct Root {
    path: PathBuf,
    _remover: Child,
}

static ROOT: LazyLock<Root> = LazyLock::new(|| {
    let path =
        tempfile::Builder::new().prefix("ds-gateway-postgres-").tempdir_in(place()).expect("a folder").keep();
    own(&path);
    // The servers end at the same moment; what they still write is removed by the second attempt.
    let script = r#"cat; rm -rf "$0" || { sleep 2; rm -rf "$0"; }"#;
    let mut remover = Command::new("sh");
    remover.args(["-c", script]).arg(&path).process_group(0);
    remover.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Root { path, _remover: remover.spawn().expect("a shell") }
});

/// What `POSTGRES_FOLDER` says. Else memory, where a copy of a server's thousand files takes a twentieth of the time, if it has room for some tens
/// of them.
fn place() -> PathBuf {
    if let Some(folder) = std::env::var_os("POSTGRES_FOLDER") {
        return folder.into();
    }
    let memory = PathBuf::from("/dev/shm");
    let room = nix::sys::statvfs::statvfs(&memory)
        .map_or(0, |found| found.blocks_available().saturating_mul(found.fragment_size()));
    if room >= 4 << 30 { memory } else { std::env::temp_dir() }
}

/// A new folder that the account of the servers owns.
pub(super) fn server_folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let folder = ROOT.path.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir(&folder).expect("a folder");
    own(&folder);
    folder
}

/// The data of a new server, made once; each server begins with a copy.
pub(super) fn template() -> &'static Path {
    static TEMPLATE: LazyLock<PathBuf> = LazyLock::new(|| {
        let data = ROOT.path.join("template");
        let mut init = Command::new(program("initdb"));
        init.args([
            "--no-sync",
            "--no-instructions",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
        ]);
        init.args(["--locale=C", "--wal-segsize=1", "-D"]).arg(&data);
        succeed(as_server_user(init));
        data
    });
    &TEMPLATE
}

/// One of PostgreSQL's programs, of the newest version that is installed.
pub(super) fn program(name: &str) -> PathBuf {
    static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let versions = versions.filter(|entry| entry.path().join("bin/postgres").exists());
        let newest =
            versions.max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
        newest.expect("PostgreSQL, which `make deps` installs").path().join("bin")
    });
    PROGRAMS.join(name)
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`, or else as `nobody`.
pub(super) fn as_server_user(mut command: Command) -> Command {
    if let Some((user, group)) = *ACCOUNT {
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// Makes the account of the servers the owner.
pub(super) fn own(path: &Path) {
    if let Some((user, group)) = *ACCOUNT {
        chown(path, Some(user), Some(group)).expect("an owner");
    }
}

/// User and group, if this process is root.
static ACCOUNT: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let find = |name| nix::unistd::User::from_name(name).ok().flatten();
    let user = find("postgres").or_else(|| find("nobody")).expect("an account for PostgreSQL");
    Some((user.uid.as_raw(), user.gid.as_raw()))
});
