//! The configuration as an operator meets it: every fault at once, each with its key, and `check` and `run` of one
//! mind.

use crate::command::{Done, Folder, binary, finish, private};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::jwt;
use crate::options::{Options, User};
use crate::platform::Platform;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub fn options() -> Options {
    Options::servers(&["http://127.0.0.1:1"]).nobody()
}

/// Checks that both commands refuse, and that a line on standard error begins with each key.
#[track_caller]
fn is_refused(folder: &Folder, keys: &[&str]) {
    for arguments in [&["check"][..], &["run"]] {
        let done = folder.cli(arguments, "");
        assert_eq!(done.code, Some(64), "{arguments:?} {keys:?}: {done:?}");
        for key in keys {
            // What is wrong and what cures it stand behind the key.
            let named = |line: &str| {
                line.split_once(*key).is_some_and(|(_, text)| text.trim_start_matches(':').len() > 10)
            };
            assert!(done.stderr.lines().any(named), "{arguments:?} does not name {key}:\n{}", done.stderr);
        }
    }
    assert!(!folder.state().exists(), "a refused start leaves nothing behind");
}

#[test]
fn every_file_in_conf_is_a_configuration_that_passes() {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let mut folders = vec![(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf"), dir.path().join("conf"))];
    let mut found = 0;
    while let Some((source, copy)) = folders.pop() {
        fs::create_dir(&copy).expect("a folder");
        for entry in fs::read_dir(source).expect("conf/").map(|entry| entry.expect("an entry").path()) {
            let target = copy.join(entry.file_name().expect("a name"));
            if entry.is_dir() {
                folders.push((entry, target));
                continue;
            }
            fs::copy(&entry, &target).expect("a copy");
            if entry.extension().is_some_and(|extension| extension == "toml") {
                let mut command = binary();
                command.args(["check", "--config-only", "--config"]).arg(&target);
                finish(command, "").ok();
                found += 1;
            }
        }
    }
    assert!(found >= 1, "there are samples to look at");
}

#[test]
fn all_faults_are_printed_at_once() {
    let folder = options()
        .unset("platform", "servers")
        .set("server", "htps", "[]")
        .set("token", "lifetime", "\"1 fortnight\"")
        .set("token", "inspect_auth", "\"none\"")
        .set("limits", "header_bytes", "\"many\"")
        .set("routes", "public", "[\"relative\"]")
        .set("sever", "x", "1")
        .folder();
    let keys = [
        "platform.servers",
        "server.htps",
        "token.lifetime",
        "token.inspect_auth",
        "limits.header_bytes",
        "routes.public",
        "sever",
    ];
    is_refused(&folder, &keys);
}

#[test]
fn each_fault_is_found() {
    let rows = [
        ("server", "state_dir", "7"),
        ("server", "threads", "0"),
        ("server", "threads", "-1"),
        ("server", "http", "\"127.0.0.1:0\""),
        ("server", "http", "[\"nowhere\"]"),
        ("server", "https", "[\"127.0.0.1:99999\"]"),
        ("server", "certificate", "\"absent.pem\""),
        ("admin", "listen", "\"here\""),
        ("platform", "servers", "[]"),
        ("platform", "servers", "[\"ftp://127.0.0.1:1\"]"),
        ("platform", "servers", "[\"127.0.0.1:1\"]"),
        ("platform", "servers", "[\"http://\"]"),
        ("platform", "verify", "\"yes\""),
        ("platform", "ca_file", "\"absent.pem\""),
        ("platform", "client_certificate", "\"absent.pem\""),
        ("platform", "read_timeout", "\"soon\""),
        ("platform", "connect_timeout", "2"),
        ("platform", "user_header", "\"not a name\""),
        ("platform", "email_header", "\"\""),
        ("platform", "user_header", "\"X-DS-Sequence\""),
        ("platform", "organization_header", "\"x-ds-at-least\""),
        ("platform", "forward_token", "1"),
        ("platform", "drop_headers", "[\"a b\"]"),
        ("platform", "drop_headers", "[\"Host\"]"),
        ("token", "lifetime", "\"0s\""),
        ("token", "max_lifetime", "\"-1h\""),
        ("token", "max_bytes", "\"8k\""),
        ("token", "unknown_users", "\"maybe\""),
        ("token", "inspect_auth", "true"),
        ("token", "keys", "7"),
        ("token", "keys", "[{ kid = \"a\", algorithm = \"HS256\", file = \"absent.key\" }]"),
        ("routes", "public", "\"/x\""),
        ("routes", "public", "[\"/a/../b\"]"),
        ("routes", "public", "[\"/a//b\"]"),
        ("routes", "public", "[\"/%61\"]"),
        ("routes", "public", "[{ methods = [\"GET\"] }]"),
        ("routes", "public", "[{ path = \"/x\", verbs = [] }]"),
        ("routes", "strict_paths", "\"\""),
        ("routes", "lenient", "[\"/a\"]"),
        ("routes", "lenient", "[\"/ds-api/*\"]"),
        ("store", "url", "\"mysql://x\""),
        ("store", "url", "\"sqlite:.\""),
        ("store", "url", "\"sqlite:..\""),
        ("store", "url", "\"sqlite:x/\""),
        ("store", "url", "\"sqlite:keys\""),
        ("store", "url", "\"sqlite:./keys\""),
        ("store", "url", "\"sqlite:lock\""),
        ("store", "url", "\"sqlite:gateways\""),
        ("store", "url", "\"sqlite:tls\""),
        ("store", "url", "\"sqlite:failed-logins\""),
        ("store", "max_staleness", "\"x\""),
        ("limits", "header_fields", "-1"),
        ("limits", "login_workers", "0"),
        ("limits", "revocations_per_user", "0"),
        ("limits", "body_timeout", "\"x\""),
        ("log", "format", "\"xml\""),
        ("log", "level", "\"loud\""),
        ("log", "access", "\"on\""),
        ("server", "unknown", "1"),
        ("log", "unknown", "1"),
    ];
    let mut wrong = Vec::new();
    for (section, key, value) in rows {
        let folder = options().set(section, key, value).folder();
        let done = folder.cli(&["check"], "");
        let name = format!("{section}.{key}");
        if done.code != Some(64) || !done.stderr.contains(&name) {
            wrong.push(format!("{name} = {value}: {:?} {}", done.code, done.stderr));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let missing = options().unset("server", "state_dir").folder();
    is_refused(&missing, &["server.state_dir"]);
}

#[test]
fn an_https_platform_that_cannot_be_checked_is_a_fault() {
    let https = |name: &str| {
        options().set("platform", "servers", "[\"https://127.0.0.1:1\"]").set("platform", "server_name", name)
    };
    is_refused(&https("\"\"").folder(), &["platform.server_name"]);
    is_refused(&https("\"a name\"").folder(), &["platform.server_name"]);
    // An address is checked as one.
    https("\"x\"").unset("platform", "server_name").folder().cli(&["check"], "").ok();
    https("\"platform.test\"").folder().cli(&["check"], "").ok();
}

#[test]
fn a_key_file_is_private_long_enough_and_named_once() {
    let secret = b"a secret of the tests, long enough";
    let keys = "[{ kid = \"a\", algorithm = \"HS256\", file = \"a.key\" }]";
    let twice = "[{ kid = \"a\", algorithm = \"HS256\", file = \"a.key\" }, { kid = \"a\", algorithm = \"HS512\", file = \"a.key\" }]";
    let none = keys.replace("HS256", "none");
    let with = |keys: &str, secret: &[u8], mode: u32| {
        let folder = options().set("token", "keys", keys).folder();
        let file = folder.dir.path().join("a.key");
        private(&file, secret);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
        folder
    };
    with(keys, secret, 0o600).cli(&["check"], "").ok();
    with(keys, secret, 0o400).cli(&["check"], "").ok();
    for (keys, secret, mode) in [
        (keys, &secret[..31], 0o600),
        (keys, b"", 0o600),
        (keys, &[&secret[..31], b"\n"].concat()[..], 0o600),
        (keys, secret, 0o644),
        (keys, secret, 0o604),
        (keys, secret, 0o620),
        (keys, secret, 0o640),
        (twice, secret, 0o600),
        (&none, secret, 0o600),
    ] {
        let done = with(keys, secret, mode).cli(&["check"], "");
        assert_eq!(done.code, Some(64), "{keys} {} bytes {mode:o}: {done:?}", secret.len());
        assert!(done.stderr.contains("token.keys"), "{done:?}");
        assert!(!done.stderr.contains("a secret of"), "{done:?}");
    }
}

#[test]
fn a_dangerous_choice_is_warned_of_and_not_forbidden() {
    let quiet = options().folder().cli(&["check"], "");
    let loud = options().set("routes", "public", "[\"/*\"]").folder().cli(&["check"], "");
    assert_eq!((quiet.code, loud.code), (Some(0), Some(0)), "{loud:?}");
    let warns = |done: &Done| format!("{}{}", done.stdout, done.stderr).contains("routes.public");
    assert!(!warns(&quiet) && warns(&loud), "{loud:?}");
}

#[test]
fn every_key_can_be_set_by_the_environment() {
    let platform = Platform::echo();
    let with = |pairs: &[(&str, &str)]| {
        let folder = options().folder();
        let mut command = folder.command(&["check"]);
        command.envs(pairs.iter().copied());
        finish(command, "")
    };
    for pair in [
        ("DS_GATEWAY__PLATFORM__SERVERS", "http://127.0.0.1:1,http://127.0.0.1:2"),
        ("DS_GATEWAY__PLATFORM__SERVERS", "[\"http://127.0.0.1:1\"]"),
        ("DS_GATEWAY__TOKEN__LIFETIME", "1h"),
        ("DS_GATEWAY__TOKEN__LIFETIME", "\"1h\""),
        ("DS_GATEWAY__LIMITS__HEADER_BYTES", "4096"),
        ("DS_GATEWAY__PLATFORM__FORWARD_TOKEN", "false"),
        ("DS_GATEWAY_CONFIG", "/nonexistent"),
    ] {
        with(&[pair]).ok();
    }
    for (name, value, key) in [
        ("DS_GATEWAY__PLATFORM__SERVERS", "ftp://x", "platform.servers"),
        ("DS_GATEWAY__LIMITS__HEADER_BYTES", "many", "limits.header_bytes"),
        ("DS_GATEWAY__PLATFORM__SERVRES", "http://x", "DS_GATEWAY__PLATFORM__SERVRES"),
        ("DS_GATEWAY__NOWHERE", "1", "DS_GATEWAY__NOWHERE"),
    ] {
        let done = with(&[(name, value)]);
        assert_eq!(done.code, Some(64), "{name}: {done:?}");
        let either = done.stderr.contains(key)
            || done.stderr.contains(&key.to_lowercase().replace("ds_gateway__", "").replace("__", "."));
        assert!(either, "{done:?}");
    }
    // The environment wins over the file, in a gateway that runs.
    let folder = options().folder();
    folder.add(&User::new(USER, PASSWORD, "x@example.com", "O"));
    let mut command = folder.command(&["run"]);
    command.env("DS_GATEWAY__PLATFORM__SERVERS", platform.url()).env("DS_GATEWAY__TOKEN__LIFETIME", "1h");
    let gateway = Gateway::start(folder, command);
    let (_, claims) = jwt::read(&gateway.mint());
    assert_eq!(claims["exp"].as_u64().expect("a time") - claims["iat"].as_u64().expect("a time"), 3_600);
    gateway.still_healthy();
}

#[test]
fn no_configuration_is_a_usage_error() {
    for arguments in [
        &["run"][..],
        &["check"],
        &["run", "--config", "/nonexistent.toml"],
        &["check", "--config", "/"],
        &[],
        &["--x"],
    ] {
        let mut command = binary();
        command.args(arguments);
        assert_eq!(finish(command, "").code, Some(64), "{arguments:?}");
    }
    let folder = options().folder();
    fs::write(folder.config(), "[server\n").expect("a file");
    is_refused(&folder, &[]);
}

#[test]
fn a_configuration_that_is_not_named_is_looked_for_and_must_be_trustworthy() {
    let folder = options().folder();
    let check = |variable: Option<&str>| {
        let mut command = binary();
        command.args(["check", "--config-only"]).current_dir(folder.dir.path());
        if let Some(value) = variable {
            command.env("DS_GATEWAY_CONFIG", value);
        }
        finish(command, "")
    };
    for variable in [None, Some("")] {
        let done = check(variable);
        assert!(done.code == Some(0) && done.stdout.starts_with("./gateway.toml: OK"), "{done:?}");
    }
    let done = check(Some("/nonexistent.toml"));
    assert!(done.code == Some(64) && done.stderr.contains("/nonexistent.toml"), "{done:?}");

    let mut wrong = Vec::new();
    // The owners of the file and of its folder: the account's own, or another one.
    for (bits, owner, folder_owner, is_accepted) in [
        (0o600, None, None, true),
        (0o644, None, None, true),
        (0o646, None, None, false),
        (0o664, None, None, false),
        (0o666, None, None, false),
        (0o644, Some(65_534), None, false),
        (0o600, Some(65_534), Some(65_534), false),
        (0o644, None, Some(65_534), false),
    ] {
        if !nix::unistd::geteuid().is_root() && (owner, folder_owner) != (None, None) {
            continue;
        }
        let own = nix::unistd::geteuid().as_raw();
        fs::set_permissions(folder.config(), fs::Permissions::from_mode(bits)).expect("a mode");
        std::os::unix::fs::chown(folder.config(), owner.or(Some(own)), None).expect("an owner");
        std::os::unix::fs::chown(folder.dir.path(), folder_owner.or(Some(own)), None).expect("an owner");
        let done = check(None);
        let is_right = match is_accepted {
            true => done.code == Some(0),
            false => done.code == Some(64) && done.stderr.contains("--config"),
        };
        if !is_right {
            wrong.push(format!("{bits:o} {owner:?} {folder_owner:?}: {done:?}"));
        }
        // Somebody who names it has chosen it.
        folder.cli(&["check", "--config-only"], "").ok();
        std::os::unix::fs::chown(folder.dir.path(), Some(own), None).expect("an owner");
        std::os::unix::fs::chown(folder.config(), Some(own), None).expect("an owner");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    fs::set_permissions(folder.config(), fs::Permissions::from_mode(0o644)).expect("a mode");
    // A link is somebody's choice, wherever it leads.
    let real = folder.dir.path().join("real.toml");
    fs::rename(folder.config(), &real).expect("a file");
    for target in [real.as_path(), Path::new("nowhere.toml")] {
        std::os::unix::fs::symlink(target, folder.config()).expect("a link");
        let done = check(None);
        assert!(done.code == Some(64) && done.stderr.contains("symbolic link"), "{target:?}: {done:?}");
        if target == real {
            folder.cli(&["check", "--config-only"], "").ok();
        }
        fs::remove_file(folder.config()).expect("a link");
    }
    let done = check(Some(""));
    // Not even a machine where the gateway is installed has it otherwise.
    if !Path::new("/etc/ds-gateway/gateway.toml").exists() {
        let places = ["./gateway.toml", "/etc/ds-gateway/gateway.toml", "DS_GATEWAY_CONFIG"];
        assert!(done.code == Some(64) && places.iter().all(|place| done.stderr.contains(place)), "{done:?}");
    }
}
