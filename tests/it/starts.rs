//! Starts that cannot work: each ends at once, with a code that says what kind of fault it is and one sentence that
//! names the thing. None leaves a process that looks alive.

use crate::command::{Folder, finish, held_to_modes, private, started_by, told_of_full_disks};
use crate::configuration::options;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt::now;
use crate::options::{Key, Options, User};
use crate::platform::Platform;
use crate::platform_tls::certificates;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::{X509Builder, X509NameBuilder};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

/// A folder in which a start would work: a store that was closed cleanly, its key, and a user.
fn good() -> Folder {
    let folder = options().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

fn store(folder: &Folder) -> std::path::PathBuf {
    folder.state().join("gateway.db")
}

/// The file of the one generated key.
fn key(folder: &Folder) -> std::path::PathBuf {
    let mut keys = fs::read_dir(folder.state().join("keys")).expect("keys").flatten();
    keys.next().expect("a key").path()
}

/// Changes bytes of the store.
fn patch(folder: &Folder, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(store(folder)).expect("a store");
    change(&mut bytes);
    fs::write(store(folder), bytes).expect("a store");
}

/// What did not end as it should have.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    /// Checks that a command ends by itself, with this code and one sentence in which all of these words are.
    ///
    /// That its standard error ends shows that no process is left: a child of it would hold it open.
    fn unless(&mut self, name: &str, command: Command, code: i32, words: &[&str]) {
        let done = finish(command, "");
        let said: Vec<&str> = done.stderr.lines().filter(|line| !line.starts_with('{')).collect();
        let sentence = said.concat();
        // A configuration's faults stand on lines of their own, each with its key, under a heading.
        let is_right = done.code == Some(code)
            && said.len() == if code == 64 { 2 } else { 1 }
            && sentence.starts_with("ds-gateway: ")
            && words.iter().all(|word| sentence.contains(word));
        if !is_right {
            let wanted = format!("{code} and one sentence with {words:?}");
            self.0.push(format!("{name}: {done:?} instead of {wanted}"));
        }
    }

    fn unless_there_is_a_store(&mut self, folder: &Folder, name: &str) {
        let done = folder.cli(&["user", "list"], "");
        if done.code != Some(0) {
            self.0.push(format!("{name}: {done:?}"));
        }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        let shown = std::thread::panicking() || self.0.is_empty();
        assert!(shown, "{} faults:\n{}", self.0.len(), self.0.join("\n"));
    }
}

#[test]
fn a_store_that_cannot_be_used_ends_the_start() {
    let mut wrong = Wrong::default();
    type Harm = Box<dyn Fn(&Folder)>;
    let rows: Vec<(&str, Harm, &[&str])> = vec![
        (
            "a page overwritten",
            Box::new(|folder| patch(folder, |bytes| bytes[4096..8192].fill(0xff))),
            &["damaged"],
        ),
        (
            "all pages but the first overwritten",
            Box::new(|folder| patch(folder, |bytes| bytes[4096..].fill(0x55))),
            &["damaged"],
        ),
        (
            "the header overwritten",
            Box::new(|folder| patch(folder, |bytes| bytes[..100].fill(0))),
            &["damaged"],
        ),
        (
            "cut in half",
            Box::new(|folder| patch(folder, |bytes| bytes.truncate(bytes.len() / 2))),
            &["damaged"],
        ),
        (
            "emptied",
            Box::new(|folder| patch(folder, Vec::clear)),
            &["does not exist", "keys", "backup", "--init"],
        ),
        (
            "a newer schema",
            // `user_version` is at offset 60 of the header of any SQLite file.
            Box::new(|folder| patch(folder, |bytes| bytes[60..64].copy_from_slice(&99u32.to_be_bytes()))),
            &["schema 99", "newer"],
        ),
        (
            "a SQLite file of somebody else",
            // And `application_id` at 68.
            Box::new(|folder| patch(folder, |bytes| bytes[68..72].fill(0))),
            &["not a store of ds-gateway"],
        ),
        (
            "a folder in its place",
            Box::new(|folder| {
                fs::remove_file(store(folder)).expect("a store");
                fs::create_dir(store(folder)).expect("a folder");
            }),
            &["directory"],
        ),
        ("unreadable", Box::new(|folder| mode(&store(folder), 0o000)), &["denied"]),
        ("read-only", Box::new(|folder| mode(&store(folder), 0o400)), &["denied"]),
        ("in a read-only folder", Box::new(|folder| mode(&folder.state(), 0o500)), &[]),
    ];
    for (name, harm, words) in rows {
        let folder = good();
        harm(&folder);
        let before = fs::metadata(store(&folder)).expect("a store").len();
        let words = [&["gateway.db"], words].concat();
        wrong.unless(name, held_to_modes(folder.command(&["run"])), 1, &words);
        // An empty file is no store: nothing is lost by making one in its place.
        if name != "emptied" {
            wrong.unless(name, held_to_modes(folder.command(&["run", "--init"])), 1, &words);
        }
        mode(&folder.state(), 0o700);
        assert_eq!(fs::metadata(store(&folder)).expect("a store").len(), before, "{name}: left as it was");
    }
}

#[test]
fn a_state_folder_that_cannot_be_used_ends_the_start() {
    let mut wrong = Wrong::default();
    let folder = options().set("server", "state_dir", "\"gateway.toml\"").folder();
    wrong.unless("a file", folder.command(&["run"]), 1, &["gateway.toml"]);

    let folder = good();
    mode(&folder.state(), 0o755);
    wrong.unless("open to others", folder.command(&["run"]), 1, &["state", "chmod 700"]);

    let folder = options().folder();
    mode(folder.dir.path(), 0o500);
    wrong.unless("not to be made", held_to_modes(folder.command(&["run"])), 1, &["state", "denied"]);
    mode(folder.dir.path(), 0o700);

    let folder = good();
    fs::write(folder.state().join("tls"), "in the way").expect("a file");
    let mut command = folder.command(&["run"]);
    command.env("DS_GATEWAY__SERVER__HTTPS", "127.0.0.1:0");
    wrong.unless("no room for the certificate", command, 1, &["tls"]);
}

/// An account that may write to the folder could have the gateway read, as a key, what only the gateway may read.
#[test]
fn a_link_is_refused_as_a_generated_key_and_accepted_as_a_configured_one() {
    let link = |path: &Path| {
        let target = path.with_extension("elsewhere");
        fs::rename(path, &target).expect("a key");
        std::os::unix::fs::symlink(&target, path).expect("a link");
    };
    let mut wrong = Wrong::default();
    let folder = good();
    let kid = key(&folder).file_stem().and_then(|stem| stem.to_str()).expect("a kid").to_owned();
    link(&key(&folder));
    wrong.unless("a link", folder.command(&["run"]), 1, &[&kid, "link"]);
    let folder = options().key(Key::ours("k1")).folder().run(&["--init"]).stop();
    link(&folder.dir.path().join("k1.key"));
    assert_eq!(folder.run(&[]).admin("/healthz").status, 200);
}

#[test]
fn a_key_that_cannot_be_used_ends_the_start() {
    let mut wrong = Wrong::default();
    for (name, harm) in [
        ("readable by others", (|path| mode(path, 0o644)) as fn(&Path)),
        ("unreadable", |path| mode(path, 0o000)),
        ("weak", |path| private(path, b"too short")),
        ("uniform", |path| private(path, &[b'a'; 64])),
        ("empty", |path| private(path, b"")),
        ("another one", |path| private(path, b"another secret, also long enough for a key")),
        ("PEM", |path| private(path, b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n")),
    ] {
        let folder = good();
        let kid = key(&folder).file_stem().and_then(|stem| stem.to_str()).expect("a kid").to_owned();
        harm(&key(&folder));
        wrong.unless(name, held_to_modes(folder.command(&["run"])), 1, &[&kid]);

        // The same file, named by the configuration.
        let key = Key::ours("k1");
        let folder = options().key(key).folder().run(&["--init"]).kill();
        harm(&folder.dir.path().join("k1.key"));
        let code = if name == "another one" { 1 } else { 64 };
        wrong.unless(name, held_to_modes(folder.command(&["run"])), code, &["k1"]);
    }
    let folder = good();
    fs::remove_file(key(&folder)).expect("a key");
    wrong.unless("gone", folder.command(&["run"]), 1, &["keys", "backup"]);
    let folder = options().key(Key::ours("k1")).folder();
    fs::remove_file(folder.dir.path().join("k1.key")).expect("a key");
    wrong.unless("missing", folder.command(&["run"]), 64, &["token.keys", "k1.key"]);
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start() {
    let mut wrong = Wrong::default();
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    certificates(dir.path());
    private(
        &dir.path().join("broken.pem"),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let with = |certificate: &str, key: &str| {
        let path = |name: &str| format!("{:?}", dir.path().join(name));
        options().https().set("server", "certificate", path(certificate)).set(
            "server",
            "private_key",
            path(key),
        )
    };
    for (certificate, key, word) in [
        ("absent.pem", "server.key", "server.certificate"),
        ("broken.pem", "server.key", "server.certificate"),
        ("server.key", "server.key", "server.certificate"),
        ("server.pem", "absent.key", "server.private_key"),
        ("server.pem", "server.pem", "server.private_key"),
        ("server.pem", "client.key", "server.private_key"),
    ] {
        let name = format!("{certificate} with {key}");
        wrong.unless(&name, with(certificate, key).folder().command(&["run"]), 64, &[word]);
    }
    let alone = with("server.pem", "server.key").unset("server", "private_key").folder();
    wrong.unless("no key", alone.command(&["run"]), 64, &["server.certificate"]);
    let gateway = with("server.pem", "server.key").folder().run(&[]);
    assert_eq!(gateway.admin("/healthz").status, 200, "the pair as it should be");
}

/// A certificate that ended a minute ago, with its key.
fn expired(folder: &Path) -> u64 {
    let end = now() - 60;
    let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", "localhost").expect("a name");
    let name = name.build();
    let time = |seconds: u64| Asn1Time::from_unix(seconds.cast_signed()).expect("a time");
    let mut builder = X509Builder::new().expect("a builder");
    let serial = Asn1Integer::from_bn(&BigNum::from_u32(1).expect("a number")).expect("a number");
    builder.set_serial_number(&serial).expect("a number");
    builder.set_subject_name(&name).expect("a name");
    builder.set_issuer_name(&name).expect("a name");
    builder.set_pubkey(&key).expect("a key");
    builder.set_not_before(&time(end - 86_400)).expect("a time");
    builder.set_not_after(&time(end)).expect("a time");
    builder.sign(&key, MessageDigest::sha256()).expect("a signature");
    private(&folder.join("old.pem"), &builder.build().to_pem().expect("PEM"));
    private(&folder.join("old.key"), &key.private_key_to_pem_pkcs8().expect("PEM"));
    end
}

#[test]
fn a_certificate_that_has_ended_is_told_of() {
    let platform = Platform::echo();
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let end = expired(dir.path());
    let file = |name: &str| format!("{:?}", dir.path().join(name));
    let options = Options::new(&platform).https();
    let gateway: Gateway = options
        .set("server", "certificate", file("old.pem"))
        .set("server", "private_key", file("old.key"))
        .start();
    assert_eq!(gateway.metric("ds_gateway_certificate_not_after_timestamp_seconds", &[]), end as f64);
    gateway.still_healthy();
    let warned = |line: &String| line.contains("certificate") && !line.contains("\"info\"");
    assert!(gateway.log.lines().iter().any(warned), "a start with it is told of: {:?}", gateway.log.lines());
}

#[test]
fn a_port_or_a_platform_that_is_not_there_ends_the_start() {
    let mut wrong = Wrong::default();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for (section, key) in [("server", "https"), ("server", "http"), ("admin", "listen")] {
        let value = if section == "admin" { format!("{address:?}") } else { format!("[{address:?}]") };
        let folder = options().set(section, key, value).folder();
        wrong.unless(&format!("{section}.{key}"), folder.command(&["run"]), 1, &[&address]);
    }
    let folder = options().set("server", "http", "[\"192.0.2.1:80\"]").folder();
    wrong.unless("an address of somebody else", folder.command(&["run"]), 1, &["192.0.2.1:80"]);

    for url in ["127.0.0.1:1", "ftp://platform", "http://", "http://a/b", "http://a:0", "http://a:99999"] {
        let folder = Options::servers(&[url]).folder();
        wrong.unless(url, folder.command(&["run"]), 64, &["platform.servers"]);
    }
    let folder = Options::servers(&["http://platform.invalid:9000"]).folder();
    wrong.unless("a name that nobody has", folder.command(&["run"]), 1, &["platform.invalid"]);
}

#[test]
fn a_disk_that_is_full_ends_the_start() {
    let mut wrong = Wrong::default();
    let full = |folder: &Folder, bytes: usize| {
        let command = told_of_full_disks(&folder.command(&["run"]));
        started_by(&["prlimit", &format!("--fsize={bytes}")], &command)
    };
    for bytes in [0, 20_000] {
        let folder = options().folder();
        wrong.unless("no store yet", full(&folder, bytes), 1, &["state"]);
        wrong.unless_there_is_a_store(&folder, "what was begun is no obstacle when there is room again");
    }
    let folder = good();
    wrong.unless("a store", full(&folder, 0), 1, &["gateway.db"]);
    wrong.unless_there_is_a_store(&folder, "nothing was lost");
}

#[test]
fn a_command_that_may_not_touch_the_store_says_so_with_its_code() {
    let mut wrong = Wrong::default();
    for (name, harm) in [
        ("the store", (|folder| mode(&store(folder), 0o000)) as fn(&Folder)),
        ("the folder", |folder| mode(&folder.state(), 0o000)),
        ("the folder's files", |folder| mode(&folder.state(), 0o500)),
    ] {
        let folder = good();
        harm(&folder);
        wrong.unless(name, held_to_modes(folder.command(&["user", "list"])), 77, &["state"]);
        mode(&folder.state(), 0o700);
    }
    let folder = good();
    let other = rusqlite::Connection::open(store(&folder)).expect("a store");
    other.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
    wrong.unless("another writer", folder.command(&["user", "enable", USER]), 75, &["busy"]);
    other.execute_batch("ROLLBACK").expect("an end");
    folder.cli(&["user", "disable", USER], "").ok();
}

#[test]
fn what_a_command_makes_belongs_to_whom_the_folder_belongs_to() {
    let folder = options().folder();
    fs::create_dir(folder.state()).expect("a folder");
    mode(&folder.state(), 0o700);
    // Only root can give a folder away, and only root could leave something there that its owner cannot read.
    let is_root = fs::metadata("/proc/self").expect("a process").uid() == 0;
    if is_root {
        mode(folder.dir.path(), 0o755);
        chown(folder.state(), Some(65_534), Some(65_534)).expect("root");
        // What its owner put there leads root nowhere.
        let elsewhere = folder.dir.path().join("of-root");
        private(&elsewhere, b"");
        std::os::unix::fs::symlink(&elsewhere, folder.state().join("lock")).expect("a link");
        let refused = folder.cli(&["user", "list"], "");
        assert_eq!(refused.code, Some(77), "{refused:?}");
        assert_eq!(fs::metadata(&elsewhere).expect("a file").uid(), 0);
        fs::remove_file(folder.state().join("lock")).expect("a link");
    }
    let owner = fs::metadata(folder.state()).expect("a folder").uid();
    let all_are_its = |what: &str| {
        let mut seen = 0;
        let mut left = vec![folder.state()];
        while let Some(path) = left.pop() {
            let metadata = fs::metadata(&path).expect("a file");
            assert_eq!(metadata.uid(), owner, "{what}: {path:?}");
            seen += 1;
            if metadata.is_dir() {
                left.extend(
                    fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()),
                );
            }
        }
        assert!(seen >= 5, "{what}: folder, store, lock, keys and a key");
    };
    folder.cli(&["user", "list"], "").ok();
    all_are_its("the first command of all");
    folder.cli(&["key", "generate"], "").ok();
    all_are_its("another key");
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    all_are_its("a user");
    let trail = folder.cli(&["audit", "list", "--json"], "").ok();
    assert!(trail.contains("add_user") || trail.contains("user_add"), "{trail}");
    assert!(!is_root || !trail.contains("uid 65534"), "it names who ran the command: {trail}");
}

#[test]
fn a_first_user_can_say_that_the_store_is_new() {
    let platform = Platform::echo();
    let folder = Options::new(&platform).nobody().key(Key::ours("shared")).folder();
    let add = ["user", "add", USER, "--email", EMAIL, "--organization", ORGANIZATION, "--password-stdin"];
    let refused = folder.cli(&add, PASSWORD);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--init"), "{refused:?}");
    folder.cli(&[&add[..], &["--init"]].concat(), PASSWORD).ok();
    let gateway = folder.run(&[]);
    assert_eq!(gateway.status(&gateway.mint()), 200);
}

#[test]
fn a_key_that_is_unusable_or_endless_is_refused() {
    let mut wrong = Wrong::default();
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path());
    let path = |name: &str| format!("{:?}", dir.path().join(name));
    let pem = fs::read(dir.path().join("server.key")).expect("a key");
    let key = PKey::private_key_from_pem(&pem).expect("a key");
    let cipher = openssl::symm::Cipher::aes_128_cbc();
    let encrypted = key.private_key_to_pem_pkcs8_passphrase(cipher, b"a passphrase").expect("PEM");
    private(&dir.path().join("encrypted.key"), &encrypted);
    let folder = options()
        .https()
        .set("server", "certificate", path("server.pem"))
        .set("server", "private_key", path("encrypted.key"))
        .folder();
    wrong.unless(
        "encrypted",
        folder.command(&["run"]),
        64,
        &["server.private_key", "encrypted", "openssl pkey"],
    );

    mode(&dir.path().join("server.key"), 0o644);
    let folder = options()
        .https()
        .set("server", "certificate", path("server.pem"))
        .set("server", "private_key", path("server.key"))
        .folder();
    let checked = folder.cli(&["check"], "");
    assert_eq!(checked.code, Some(0), "it is warned of: {checked:?}");
    assert!(format!("{}{}", checked.stdout, checked.stderr).contains("server.private_key"), "{checked:?}");

    let pipe = dir.path().join("pipe");
    let made = Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let folder = options().set(
        "token",
        "keys",
        format!("[{{ kid = \"k\", algorithm = \"HS256\", file = {pipe:?} }}]"),
    );
    wrong.unless("a pipe", folder.folder().command(&["run"]), 64, &["token.keys", "not a regular file"]);
    let folder = options().https().set("server", "certificate", path("pipe")).set(
        "server",
        "private_key",
        path("server.key"),
    );
    wrong.unless(
        "a pipe",
        folder.folder().command(&["run"]),
        64,
        &["server.certificate", "not a regular file"],
    );

    let folder = options().set("server", "grace", "\"18446744073709551615s\"").folder();
    wrong.unless("for ever", folder.command(&["check"]), 64, &["server.grace", "100 years"]);
}

#[test]
fn where_file_descriptors_are_few_the_limits_are_lowered() {
    let folder = options().folder();
    let command = started_by(&["prlimit", "--nofile=400:400"], &folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let lines = gateway.log.lines();
    let warning = lines.iter().find(|line| line.contains("\"warn\"") && line.contains("LimitNOFILE"));
    assert!(
        warning.is_some_and(|line| line.contains("limits.connections") && line.contains("400")),
        "{lines:?}"
    );
    assert!(warning.is_some_and(|line| line.contains("limits.connections is 50")), "{lines:?}");
    drop(gateway);
    let folder = options().folder();
    let mut wrong = Wrong::default();
    let command = started_by(&["prlimit", "--nofile=200:200"], &folder.command(&["run"]));
    wrong.unless("hardly any", command, 1, &["LimitNOFILE", "332"]);
    drop(wrong);
    // A soft limit alone is none.
    let folder = options().set("limits", "connections", "100").folder();
    let command = started_by(&["prlimit", "--nofile=120:1024"], &folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    assert!(gateway.log.lines().iter().all(|line| !line.contains("LimitNOFILE")));
    assert_eq!(gateway.metric("process_max_fds", &[]), 1024.0);
}
