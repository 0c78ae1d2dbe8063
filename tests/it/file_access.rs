//! Files as systems hand them over: who may own them, who may read them, and what is narrowed. A real other user tries it, as the
//! gateway's; only root can make one of itself, so elsewhere these tests show what they can.

use crate::command::{Done, Folder, finish, private, started_by};
use crate::configuration::options;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::platform_tls::certificates;
use nix::unistd::geteuid;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The gateway's account in these tests, which has two groups, and a group of others.
pub const ACCOUNT: u32 = 45_001;
const SECOND_GROUP: u32 = 45_002;
const OTHER_GROUP: u32 = 45_003;

/// The same command, run by that account.
pub fn as_account(command: &Command) -> Command {
    let [user, group] = ["--reuid", "--regid"].map(|option| format!("{option}={ACCOUNT}"));
    let groups = format!("--groups={ACCOUNT},{SECOND_GROUP}");
    let prefix = ["setpriv", &user, &group, &groups];
    let reachable = started_by(&prefix, &{
        let mut test = Command::new("test");
        test.arg("-x").arg(command.get_program());
        test
    });
    assert_eq!(finish(reachable, "").code, Some(0), "the binary is where only its owner can reach it");
    started_by(&prefix, command)
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

pub fn owned(path: &Path, owner: u32, group: u32) {
    chown(path, Some(owner), Some(group)).expect("root");
}

/// Everything below a folder, itself first.
pub fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        if fs::symlink_metadata(&path).expect("a file").is_dir() {
            found.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        }
        at += 1;
    }
    found
}

/// Does to a volume what the kubelet does to one that it gives to a group (`fsGroup`), at every start of a pod.
pub fn as_kubelet(volume: &Path, group: u32) {
    for path in tree(volume) {
        let metadata = fs::symlink_metadata(&path).expect("a file");
        chown(&path, None, Some(group)).expect("root");
        let bits = if metadata.is_dir() { 0o2770 } else { 0o660 };
        mode(&path, metadata.mode() & 0o7777 | bits);
    }
}

/// A configuration in a folder that the account can reach, with its state in `volume/state`.
fn in_a_volume(options: Options) -> (Folder, PathBuf) {
    let folder = options.set("server", "state_dir", "\"volume/state\"").folder();
    mode(folder.dir.path(), 0o755);
    let volume = folder.dir.path().join("volume");
    fs::create_dir(&volume).expect("a folder");
    mode(&volume, 0o755);
    as_kubelet(&volume, SECOND_GROUP);
    (folder, volume)
}

fn add(folder: &Folder) -> Done {
    let arguments =
        ["user", "add", USER, "--email", EMAIL, "--organization", ORGANIZATION, "--password-stdin"];
    finish(as_account(&folder.command(&arguments)), PASSWORD)
}

/// A folder whose configuration names a signing key, and the file of that key.
pub fn with_key() -> (Folder, PathBuf) {
    let keys = "[{ kid = \"a\", algorithm = \"HS256\", file = \"a.key\" }]";
    let folder = options().set("token", "keys", keys).folder();
    mode(folder.dir.path(), 0o755);
    let key = folder.dir.path().join("a.key");
    private(&key, b"a secret of the tests, long enough");
    (folder, key)
}

#[test]
fn a_key_file_of_roots_may_be_read_by_a_group_of_the_gateway() {
    if !geteuid().is_root() {
        return;
    }
    let (folder, key) = with_key();
    let mut wrong = Vec::new();
    for (owner, group, bits, is_accepted) in [
        (ACCOUNT, ACCOUNT, 0o600, true),
        (ACCOUNT, ACCOUNT, 0o400, true),
        (ACCOUNT, ACCOUNT, 0o440, false),
        (ACCOUNT, ACCOUNT, 0o640, false),
        (ACCOUNT, ACCOUNT, 0o604, false),
        (0, ACCOUNT, 0o440, true),
        (0, ACCOUNT, 0o640, true),
        (0, SECOND_GROUP, 0o440, true),
        (0, ACCOUNT, 0o660, false),
        (0, ACCOUNT, 0o444, false),
        (0, ACCOUNT, 0o644, false),
        (0, OTHER_GROUP, 0o444, false),
        (0, OTHER_GROUP, 0o440, false),
        (0, 0, 0o600, false),
        (OTHER_GROUP, ACCOUNT, 0o440, false),
        (OTHER_GROUP, ACCOUNT, 0o640, false),
    ] {
        private(&key, b"a secret of the tests, long enough");
        owned(&key, owner, group);
        mode(&key, bits);
        let done = finish(as_account(&folder.command(&["check", "--config-only"])), "");
        let expected = if is_accepted { Some(0) } else { Some(64) };
        if done.code != expected || done.stderr.contains("a secret of") {
            wrong.push(format!("{owner}:{group} {bits:o}: {done:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_key_file_of_another_account_is_refused_whoever_reads_it() {
    if !geteuid().is_root() {
        return;
    }
    let (folder, key) = with_key();
    let mut wrong = Vec::new();
    // Whose the state folder is, if there is one, is whom a gateway that root starts becomes.
    for (state, owner, is_accepted) in [
        (None, 0, true),
        (None, ACCOUNT, false),
        (Some(ACCOUNT), ACCOUNT, true),
        (Some(ACCOUNT), 0, true),
        (Some(ACCOUNT), 65_534, false),
        (Some(0), ACCOUNT, false),
    ] {
        if let Some(account) = state {
            fs::create_dir_all(folder.state()).expect("a folder");
            mode(&folder.state(), 0o700);
            owned(&folder.state(), account, account);
        }
        owned(&key, owner, owner);
        let done = folder.cli(&["check", "--config-only"], "");
        let is_right = match is_accepted {
            true => done.code == Some(0),
            false => done.code == Some(64) && done.stderr.contains(&format!("belongs to user {owner}")),
        };
        if !is_right || done.stderr.contains("a secret of") {
            wrong.push(format!("{state:?} {owner}: {done:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// systemd hands a credential to the service by an access control list, whose mask the mode shows as the group's.
#[test]
fn a_credential_of_systemd_is_accepted() {
    if !geteuid().is_root() {
        return;
    }
    let (folder, key) = with_key();
    mode(&key, 0o400);
    let script = format!(
        "import os, struct, sys\n\
         acl = struct.pack('<I', 2)\n\
         for entry in [(1, 4, 0xffffffff), (2, 4, {ACCOUNT}), (4, 0, 0xffffffff), (16, 4, 0xffffffff), (32, 0, 0xffffffff)]:\n\
         \x20   acl += struct.pack('<HHI', *entry)\n\
         os.setxattr(sys.argv[1], 'system.posix_acl_access', acl)"
    );
    let mut python = Command::new("python3");
    python.arg("-c").arg(script).arg(&key);
    finish(python, "").ok();
    assert_eq!(fs::metadata(&key).expect("a key").mode() & 0o777, 0o440, "as `ls` shows it");
    finish(as_account(&folder.command(&["check", "--config-only"])), "").ok();
}

#[test]
fn a_volume_of_a_cluster_works_at_every_start() {
    if !geteuid().is_root() {
        return;
    }
    let platform = Platform::echo();
    let (folder, volume) = in_a_volume(Options::new(&platform));
    add(&folder).ok();
    let command = as_account(&folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let token = gateway.mint();
    let folder = gateway.stop();
    for path in tree(&volume.join("state")) {
        let metadata = fs::metadata(&path).expect("a file");
        assert_eq!((metadata.uid(), metadata.mode() & 0o077), (ACCOUNT, 0), "{path:?}");
    }

    // The pod starts again, and meanwhile somebody looks.
    for first in [&["run"][..], &["user", "list"], &["key", "list"], &["check"]] {
        as_kubelet(&volume, SECOND_GROUP);
        if first != ["run"] {
            let done = finish(as_account(&folder.command(first)), "");
            assert_eq!(done.code, Some(0), "{first:?}: {done:?}");
            assert!(done.stderr.contains("open to their group"), "{first:?}: {done:?}");
        }
    }
    let command = as_account(&folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    assert_eq!(gateway.status(&token), 200, "its key is the same");
    let lines = gateway.log.lines();
    let told = lines.iter().filter(|line| line.contains("open to their group") && line.contains("\"warn\""));
    assert_eq!(told.count(), 1, "{lines:?}");
    for path in tree(&volume.join("state")) {
        let bits = fs::metadata(&path).expect("a file").mode();
        assert_eq!(bits & 0o077, 0, "{path:?} {bits:o}");
    }
    let bits = fs::metadata(&volume).expect("a folder").mode();
    assert_eq!(bits & 0o777, 0o775, "what is not the gateway's is left alone");
    gateway.still_healthy();
}

#[test]
fn a_state_folder_that_is_open_beyond_its_group_or_of_another_is_refused() {
    if !geteuid().is_root() {
        return;
    }
    type Harm = fn(&Path, &Path);
    let rows: [(&str, Harm, &[&str]); 5] = [
        ("open to all", |_, state| mode(state, 0o2777), &["chmod 700"]),
        ("readable by all", |_, state| mode(state, 0o755), &["chmod 700"]),
        (
            "the volume itself",
            |volume, state| {
                fs::remove_dir_all(state).expect("a folder");
                std::os::unix::fs::symlink(volume, state).expect("a link");
            },
            &["name a folder in it", "belongs to user 0"],
        ),
        (
            "a group's folder of another",
            |_, state| {
                owned(state, OTHER_GROUP, SECOND_GROUP);
                mode(state, 0o770);
            },
            &["name a folder in it", "belongs to user 45003"],
        ),
        (
            "a key that all may read",
            |_, state| {
                let key = tree(&state.join("keys")).pop().expect("a key");
                mode(&key, 0o644);
            },
            &["others may read"],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, harm, words) in rows {
        let (folder, volume) = in_a_volume(options());
        add(&folder).ok();
        harm(&volume, &volume.join("state"));
        for arguments in [&["run"][..], &["user", "list"], &["check"]] {
            let done = finish(as_account(&folder.command(arguments)), "");
            if done.code != Some(1) || !words.iter().all(|word| done.stderr.contains(word)) {
                wrong.push(format!("{name}, {arguments:?}: {done:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_backup_on_a_volume_of_a_cluster_can_be_repeated_and_restored() {
    if !geteuid().is_root() {
        return;
    }
    let (folder, volume) = in_a_volume(options());
    add(&folder).ok();
    let place = volume.join("backup");
    let run = |arguments: &[&str]| {
        let mut command = folder.command(&arguments[..1]);
        command.args(&arguments[1..]).arg(&place);
        finish(as_account(&command), "")
    };
    run(&["backup"]).ok();
    as_kubelet(&volume, SECOND_GROUP);
    let done = run(&["backup"]);
    assert!(done.code == Some(0) && done.stderr.contains("backup: files or folders were open"), "{done:?}");
    for path in tree(&place) {
        let bits = fs::metadata(&path).expect("a file").mode();
        assert_eq!(bits & 0o077, 0, "{path:?} {bits:o}");
    }
    as_kubelet(&volume, SECOND_GROUP);
    run(&["restore"]).ok();
    mode(&place, 0o2775);
    let done = run(&["backup"]);
    assert!(done.code == Some(1) && done.stderr.contains("chmod 700"), "{done:?}");
}

#[test]
fn what_the_group_could_read_is_narrowed_for_root_too() {
    let folder = options().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let links = folder.dir.path().join("elsewhere");
    private(&links, b"");
    mode(&links, 0o660);
    std::os::unix::fs::symlink(&links, folder.state().join("link")).expect("a link");
    for path in tree(&folder.state()) {
        let metadata = fs::symlink_metadata(&path).expect("a file");
        if !metadata.is_symlink() {
            mode(&path, if metadata.is_dir() { 0o2770 } else { 0o660 });
        }
    }
    let done = folder.cli(&["user", "list"], "");
    assert_eq!(done.code, Some(0), "{done:?}");
    let bits = fs::metadata(&links).expect("a file").mode() & 0o777;
    assert_eq!(bits, 0o660, "a link leads nowhere");
    for path in tree(&folder.state()) {
        let metadata = fs::symlink_metadata(&path).expect("a file");
        assert!(metadata.is_symlink() || metadata.mode() & 0o077 == 0, "{path:?} {:o}", metadata.mode());
    }
}

#[test]
fn a_byte_order_mark_is_named_or_taken_off() {
    let key = |bytes: &[u8]| {
        let folder = options()
            .set("token", "keys", "[{ kid = \"a\", algorithm = \"HS256\", file = \"a.key\" }]")
            .folder();
        private(&folder.dir.path().join("a.key"), bytes);
        folder.cli(&["check", "--config-only"], "")
    };
    let secret = "a secret of the tests, long enough";
    let utf16: Vec<u8> = format!("\u{feff}{secret}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [format!("\u{feff}{secret}\r\n").as_bytes(), &utf16] {
        let done = key(bytes);
        assert_eq!(done.code, Some(64), "{done:?}");
        assert!(done.stderr.contains("BOM") && done.stderr.contains("token.keys"), "{done:?}");
        assert!(!done.stderr.contains("a secret of"), "{done:?}");
    }
    key(secret.as_bytes()).ok();
    // Not every secret is a text.
    key(&[&[0xef, 0xbb, 0xbf][..], &(128..=255).collect::<Vec<u8>>()].concat()).ok();

    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path());
    let marked =
        |name: &str| [b"\xef\xbb\xbf".to_vec(), fs::read(dir.path().join(name)).expect("a file")].concat();
    let path = |name: &str| format!("{:?}", dir.path().join(name));
    // Each begins with one, and so does the second in the middle: what follows it would be skipped.
    private(&dir.path().join("marked.pem"), &[marked("server.pem"), marked("ca.pem")].concat());
    private(&dir.path().join("marked.key"), &marked("server.key"));
    let options = options().https().set("server", "certificate", path("marked.pem")).set(
        "server",
        "private_key",
        path("marked.key"),
    );
    let folder = options.folder();
    folder.cli(&["check", "--config-only"], "").ok();
    // And the configuration itself.
    let text = fs::read_to_string(folder.config()).expect("a configuration");
    fs::write(folder.config(), format!("\u{feff}{text}")).expect("a file");
    folder.cli(&["check", "--config-only"], "").ok();
    let utf16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(folder.config(), utf16).expect("a file");
    let done = folder.cli(&["check"], "");
    assert!(done.code == Some(64) && done.stderr.contains("UTF-16"), "{done:?}");

    let import = |text: String| {
        let folder = crate::configuration::options().folder();
        let file = folder.dir.path().join("users");
        private(&file, text.as_bytes());
        let done = folder.cli(&["user", "import", &file.display().to_string()], "");
        assert_eq!(done.code, Some(0), "{done:?}");
        folder.cli(&["user", "list"], "").ok()
    };
    let hash = "{SSHA}5MzcTy9lHLrXsi2bPvYdL8a4TfBzYWx0";
    let csv = format!("\u{feff}name,email,organization,password\r\nanna,anna@example.com,O,{hash}\r\n");
    assert!(import(csv).contains("anna"));
}
