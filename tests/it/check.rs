//! `check` tries what `run` will: what would be refused then is refused now, with the same words and the same code, and nothing is
//! left behind.

use crate::command::{Done, Folder, finish, held_to_modes, private, started_by};
use crate::configuration::options;
use crate::file_access::{ACCOUNT, as_account, mode, owned, tree, with_key};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Key, Options, User};
use crate::platform::{Behaviour, Platform};
use crate::platform_tls::{TlsServer, certificates, over_tls};
use nix::unistd::geteuid;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

/// What is in a folder: names, modes, owners, times of change.
fn picture(folder: &Path) -> Vec<(String, u32, u32, SystemTime)> {
    let row = |path: &std::path::PathBuf| {
        let metadata = fs::symlink_metadata(path).expect("a file");
        // SQLite's log and index come and go with a reader; the folder's own time says no more than that.
        let time =
            if metadata.is_dir() { SystemTime::UNIX_EPOCH } else { metadata.modified().expect("a time") };
        (path.display().to_string(), metadata.mode(), metadata.uid(), time)
    };
    let mut rows: Vec<_> = tree(folder).iter().map(row).collect();
    rows.sort();
    rows
}

fn with_user() -> Folder {
    let folder = options().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder
}

/// The sentence that a refused `run` ends with.
fn sentence(done: &Done) -> String {
    let lines = done.stderr.lines().filter(|line| !line.starts_with('{'));
    lines.collect::<Vec<_>>().join("\n").trim_start_matches("ds-gateway: ").to_owned()
}

#[test]
fn what_run_refuses_check_refuses_with_the_same_words() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    let listening = |address: &str| options().set("server", "http", format!("[{address:?}]")).folder();
    let key_of = |folder: &Folder| tree(&folder.state().join("keys")).pop().expect("a key");
    let harmed = |harm: &dyn Fn(&Folder)| {
        let folder = with_user();
        harm(&folder);
        folder
    };
    let rows: Vec<(&str, Folder, &[&str])> = vec![
        ("a port that is taken", listening(&taken.to_string()), &[]),
        ("an address of another machine", listening("192.0.2.1:80"), &[]),
        ("the admin listener's port", options().set("admin", "listen", format!("\"{taken}\"")).folder(), &[]),
        ("an open folder", harmed(&|folder| mode(&folder.state(), 0o755)), &[]),
        ("a file for the folder", options().set("server", "state_dir", "\"gateway.toml\"").folder(), &[]),
        ("a folder below a file", options().set("server", "state_dir", "\"gateway.toml/x\"").folder(), &[]),
        (
            "a folder that cannot be made",
            {
                let folder = options().set("server", "state_dir", "\"closed/state\"").folder();
                fs::create_dir(folder.dir.path().join("closed")).expect("a folder");
                mode(&folder.dir.path().join("closed"), 0o500);
                folder
            },
            &[],
        ),
        ("a folder that is read-only", harmed(&|folder| mode(&folder.state(), 0o500)), &[]),
        ("a store that is unreadable", harmed(&|folder| mode(&folder.state().join("gateway.db"), 0)), &[]),
        (
            "a store that is damaged",
            harmed(&|folder| {
                let store = folder.state().join("gateway.db");
                let mut bytes = fs::read(&store).expect("a store");
                bytes[8192..].fill(0x55);
                fs::write(&store, bytes).expect("a store");
            }),
            &[],
        ),
        (
            "a store that is gone",
            harmed(&|folder| fs::remove_file(folder.state().join("gateway.db")).expect("a store")),
            &[],
        ),
        ("a key that is gone", harmed(&|folder| fs::remove_file(key_of(folder)).expect("a key")), &[]),
        ("a key for all", harmed(&|folder| mode(&key_of(folder), 0o644)), &[]),
        (
            "another key",
            harmed(&|folder| private(&key_of(folder), b"another secret, also long enough for a key")),
            &[],
        ),
        (
            "no key to sign with",
            harmed(&|folder| {
                let kid = key_of(folder);
                let kid = kid.file_stem().and_then(|stem| stem.to_str()).expect("a kid");
                folder.cli(&["revoke", "key", kid, "--replace"], "");
                let is_new =
                    |path: &std::path::PathBuf| path.is_file() && !path.ends_with(format!("{kid}.hs256"));
                let keys = tree(&folder.state().join("keys"));
                fs::remove_file(keys.iter().find(|path| is_new(path)).expect("another key")).expect("a key");
            }),
            &[],
        ),
        (
            "a file for the folder of certificates",
            {
                let folder = options().https().folder();
                folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
                fs::write(folder.state().join("tls"), "in the way").expect("a file");
                folder
            },
            &[],
        ),
        (
            "a name that nobody has",
            Options::servers(&["http://platform.invalid:9000"]).nobody().folder(),
            &[],
        ),
        ("a lock that may not be written", harmed(&|folder| mode(&folder.state().join("lock"), 0o400)), &[]),
        (
            "a folder for the lock",
            harmed(&|folder| {
                fs::remove_file(folder.state().join("lock")).expect("a lock");
                fs::create_dir(folder.state().join("lock")).expect("a folder");
            }),
            &[],
        ),
        (
            "a folder of keys where none can be made",
            {
                let folder = options().folder();
                fs::create_dir_all(folder.state().join("keys")).expect("a folder");
                mode(&folder.state(), 0o700);
                mode(&folder.state().join("keys"), 0o500);
                folder
            },
            &[],
        ),
        (
            "a link that leads nowhere for the folder",
            {
                let folder = options().folder();
                std::os::unix::fs::symlink("nowhere", folder.state()).expect("a link");
                folder
            },
            &[],
        ),
        (
            "a folder for the store",
            harmed(&|folder| {
                fs::remove_file(folder.state().join("gateway.db")).expect("a store");
                fs::create_dir(folder.state().join("gateway.db")).expect("a folder");
            }),
            &[],
        ),
        ("a store in no folder", options().set("store", "url", "\"sqlite:absent/gateway.db\"").folder(), &[]),
        (
            "a store in no folder of a folder that is there",
            {
                let folder = options().set("store", "url", "\"sqlite:absent/gateway.db\"").folder();
                fs::create_dir(folder.state()).expect("a folder");
                mode(&folder.state(), 0o700);
                folder
            },
            &[],
        ),
        ("few descriptors", options().folder(), &["prlimit", "--nofile=200:200"]),
    ];
    let mut wrong = Vec::new();
    for (name, folder, prefix) in rows {
        let run = |command: &str| {
            let command = held_to_modes(folder.command(&[command]));
            finish(if prefix.is_empty() { command } else { started_by(prefix, &command) }, "")
        };
        let before = picture(folder.dir.path());
        let check = run("check");
        let after = picture(folder.dir.path());
        let started = run("run");
        let said = sentence(&started);
        let is_refused = check.code == started.code && check.code == Some(1);
        if !is_refused || said.is_empty() || !check.stderr.contains(&said) || check.stdout.contains("OK") {
            wrong.push(format!("{name}:\n  check: {check:?}\n  run:   {started:?}"));
        }
        if before != after {
            wrong.push(format!("{name}: check has changed something: {before:?} {after:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn all_reasons_are_given_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = Options::servers(&["http://platform.invalid:9000"])
        .set("server", "http", format!("[{address:?}]"))
        .nobody()
        .folder();
    fs::create_dir(folder.state()).expect("a folder");
    mode(&folder.state(), 0o755);
    for command in ["check", "run"] {
        let done = folder.cli(&[command], "");
        assert_eq!(done.code, Some(1), "{done:?}");
        for word in ["chmod 700", "platform.invalid", &address] {
            assert!(done.stderr.contains(word), "{command}: {word}: {done:?}");
        }
    }
}

#[test]
fn a_start_that_would_work_is_ok_and_leaves_nothing_behind() {
    let platform = Platform::echo();
    let folder = Options::new(&platform).https().nobody().folder();
    let before = picture(folder.dir.path());
    let done = folder.cli(&["check"], "");
    assert!(done.code == Some(0) && done.stdout.contains(": OK\n"), "{done:?}");
    assert_eq!(picture(folder.dir.path()), before);

    // And beside the gateway that it is about.
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let folder = folder.run(&[]).stop();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let text = fs::read_to_string(folder.config()).expect("a configuration");
    fs::write(
        folder.config(),
        text.replace("http = [\"127.0.0.1:0\"]", &format!("http = [\"127.0.0.1:{port}\"]")),
    )
    .expect("a configuration");
    let gateway = folder.run(&[]);
    let done = gateway.folder.cli(&["check"], "");
    assert!(done.code == Some(0) && done.stdout.contains("OK, provided that"), "{done:?}");
    assert!(done.stdout.contains(&format!("127.0.0.1:{port}")), "{done:?}");
    assert_eq!(gateway.status(&gateway.mint()), 200);
    // A port that something else has is not its own.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let _taken = TcpListener::bind(("127.0.0.1", other)).expect("a port");
    let text = fs::read_to_string(gateway.folder.config()).expect("a configuration");
    fs::write(gateway.folder.config(), text.replace(&port.to_string(), &other.to_string()))
        .expect("a configuration");
    let done = gateway.folder.cli(&["check"], "");
    assert!(done.code == Some(1) && done.stderr.contains(&format!("127.0.0.1:{other}")), "{done:?}");
    // Nor is its own port on an address that it does not have.
    let _taken = TcpListener::bind(("127.0.0.2", port)).expect("a port");
    let text = fs::read_to_string(gateway.folder.config()).expect("a configuration");
    let elsewhere = text.replace(&format!("127.0.0.1:{other}"), &format!("127.0.0.2:{port}"));
    fs::write(gateway.folder.config(), elsewhere).expect("a configuration");
    let done = gateway.folder.cli(&["check"], "");
    assert!(done.code == Some(1) && done.stderr.contains(&format!("127.0.0.2:{port}")), "{done:?}");
    gateway.still_healthy();
}

#[test]
fn a_store_that_only_init_makes_is_a_condition() {
    let folder = options().key(Key::ours("k1")).folder();
    let done = folder.cli(&["check"], "");
    assert!(done.code == Some(0) && done.stdout.contains("OK, provided that"), "{done:?}");
    assert!(done.stdout.contains("--init"), "{done:?}");
    let done = folder.run(&["--init"]).stop().cli(&["check"], "");
    assert!(done.code == Some(0) && done.stdout.contains(": OK\n"), "{done:?}");
}

#[test]
fn a_platform_that_does_not_answer_is_warned_of() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_url = format!("http://{}", silent.local_addr().expect("an address"));
    let garbage = Platform::start(Behaviour::Raw(b"220 mail.test ESMTP\r\n".to_vec()));
    let echo = Platform::echo();
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path());
    let tls = TlsServer::start(dir.path(), &[]);
    let https = || over_tls(dir.path(), tls.port);
    let other = format!("{:?}", dir.path().join("other.pem"));
    for (name, options, word) in [
        ("it answers", Options::new(&echo), None),
        ("over TLS", https(), None),
        ("nobody listens", Options::servers(&["http://127.0.0.1:1"]), Some("refused")),
        ("silent", Options::servers(&[&silent_url]), Some("nothing for 5 s")),
        ("something else", Options::servers(&[garbage.url().as_str()]), Some("does not speak HTTP")),
        ("HTTP on the TLS port", Options::servers(&[&format!("http://127.0.0.1:{}", tls.port)]), Some("")),
        (
            "TLS on the HTTP port",
            Options::servers(&[&echo.url().replace("http:", "https:")]).set(
                "platform",
                "server_name",
                "\"platform.test\"",
            ),
            Some("TLS"),
        ),
        ("another CA", https().set("platform", "ca_file", &other), Some("certificate verify failed")),
        ("another name", https().set("platform", "server_name", "\"x.test\""), Some("mismatch")),
    ] {
        let done = options.nobody().folder().cli(&["check"], "");
        assert_eq!(done.code, Some(0), "{name}: it starts all the same: {done:?}");
        let warning = done.stderr.lines().find(|line| line.starts_with("warning: platform.servers"));
        match (word, warning) {
            (None, None) => {}
            (Some(word), Some(line)) => assert!(line.contains(word), "{name}: {line}"),
            _ => panic!("{name}: {done:?}"),
        }
    }
}

/// What a start logs as a warning, `check` prints.
#[test]
fn what_run_warns_of_check_warns_of() {
    let platform = Platform::echo();
    let folder = Options::servers(&["http://platform.invalid:9000", &platform.url()]).nobody().folder();
    // Without a store there are no users either.
    let words = ["no users yet", "platform.servers: platform.invalid:9000", "file descriptors"];
    let limited =
        |arguments: &[&str]| started_by(&["prlimit", "--nofile=1000:1000"], &folder.command(arguments));
    for round in ["no store", "a store"] {
        let done = finish(limited(&["check"]), "");
        assert_eq!(done.code, Some(0), "{round}: {done:?}");
        for word in words {
            let is_told =
                done.stderr.lines().any(|line| line.starts_with("warning: ") && line.contains(word));
            assert!(is_told, "{round}: {word}: {done:?}");
        }
        assert!(!done.stderr.contains("last known"), "{done:?}");
        if round == "no store" {
            folder.cli(&["user", "list"], "").ok();
        }
    }
    let command = limited(&["run"]);
    let gateway = Gateway::start(folder, command);
    let lines = gateway.log.lines();
    for word in words {
        let is_told = lines.iter().any(|line| line.contains("\"warn\"") && line.contains(word));
        assert!(is_told, "{word}: {lines:?}");
    }
}

#[test]
fn the_order_and_the_end_of_a_chain_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path());
    let read = |name: &str| fs::read(dir.path().join(name)).expect("a file");
    let chain = |name: &str, parts: &[&str]| {
        private(&dir.path().join(name), &parts.iter().map(|part| read(part)).collect::<Vec<_>>().concat());
    };
    chain("good.pem", &["server.pem", "ca.pem"]);
    chain("reversed.pem", &["ca.pem", "server.pem"]);
    chain("unrelated.pem", &["server.pem", "other.pem"]);
    let with = |certificate: &str| {
        let path = |name: &str| format!("{:?}", dir.path().join(name));
        options()
            .https()
            .set("server", "certificate", path(certificate))
            .set("server", "private_key", path("server.key"))
            .folder()
    };
    for command in ["check", "run"] {
        let done = with("reversed.pem").cli(&[command], "");
        assert_eq!(done.code, Some(64), "{done:?}");
        assert!(
            done.stderr.contains("server.certificate") && done.stderr.contains("must be the first"),
            "{done:?}"
        );
    }
    // The test's certificates end in two days.
    let done = with("good.pem").cli(&["check"], "");
    assert!(done.code == Some(0) && done.stderr.contains("server.certificate expires "), "{done:?}");
    assert!(!done.stderr.contains("did not issue"), "{done:?}");
    let done = with("unrelated.pem").cli(&["check"], "");
    assert!(
        done.code == Some(0) && done.stderr.contains("number 2 of the chain did not issue number 1"),
        "{done:?}"
    );
}

#[test]
fn check_reads_as_the_user_that_the_gateway_runs_as() {
    if !geteuid().is_root() {
        return;
    }
    let (folder, key) = with_key();
    let as_user = ["check", "--as-user", &ACCOUNT.to_string()].map(str::to_owned);
    let as_user: Vec<&str> = as_user.iter().map(String::as_str).collect();
    // Root can read everything; the gateway could not.
    folder.cli(&["check"], "").ok();
    let done = folder.cli(&as_user, "");
    assert!(
        done.code == Some(64) && done.stderr.contains("a.key") && done.stderr.contains("denied"),
        "{done:?}"
    );
    owned(&key, ACCOUNT, ACCOUNT);
    // Nor could it make a folder there.
    let done = folder.cli(&as_user, "");
    assert!(done.code == Some(77) || done.code == Some(1), "{done:?}");
    assert!(done.stderr.contains("state") && done.stderr.contains("denied"), "{done:?}");
    fs::create_dir(folder.state()).expect("a folder");
    mode(&folder.state(), 0o700);
    owned(&folder.state(), ACCOUNT, ACCOUNT);
    let done = folder.cli(&as_user, "");
    assert!(done.code == Some(0) && done.stdout.contains("OK"), "{done:?}");
    assert!(fs::read_dir(folder.state()).expect("a folder").next().is_none(), "nothing is made there");
    for (user, word) in [("nobody-has-this-name", "no user"), ("", "no user")] {
        let done = folder.cli(&["check", "--as-user", user], "");
        assert!(done.code == Some(64) && done.stderr.contains(word) || user.is_empty(), "{done:?}");
    }
    let done = finish(as_account(&folder.command(&["check", "--as-user", "root"])), "");
    assert!(done.code == Some(64) && done.stderr.contains("as root"), "{done:?}");
}

#[test]
fn a_port_of_the_systems_needs_a_capability_that_the_unit_gives() {
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if !geteuid().is_root() || start.trim() == "0" {
        return;
    }
    let folder = options()
        .set("server", "http", "[\"127.0.0.1:923\"]")
        .set("server", "state_dir", "\"state\"")
        .folder();
    mode(folder.dir.path(), 0o777);
    let as_user = ["check", "--as-user", &ACCOUNT.to_string()].map(str::to_owned);
    let as_user: Vec<&str> = as_user.iter().map(String::as_str).collect();
    let done = folder.cli(&as_user, "");
    assert!(done.code == Some(0) && done.stdout.contains("CAP_NET_BIND_SERVICE"), "{done:?}");
    let done = finish(as_account(&folder.command(&["check"])), "");
    assert!(done.code == Some(1) && done.stderr.contains("CAP_NET_BIND_SERVICE"), "{done:?}");
    // What is in use shows all the same.
    let _taken = TcpListener::bind("127.0.0.1:923").expect("a port");
    let done = folder.cli(&as_user, "");
    assert!(done.code == Some(1) && done.stderr.contains("127.0.0.1:923"), "{done:?}");
}

#[test]
fn a_configuration_of_another_machine_is_read_alone() {
    let folder = Options::servers(&["http://platform.invalid:9000"])
        .set("server", "http", "[\"192.0.2.1:80\"]")
        .set("server", "state_dir", "\"/proc/nowhere\"")
        .nobody()
        .folder();
    let done = folder.cli(&["check", "--config-only"], "");
    assert!(done.code == Some(0) && done.stdout.contains("OK"), "{done:?}");
    assert_eq!(folder.cli(&["check"], "").code, Some(1));
}
