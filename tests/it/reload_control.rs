//! What a reload says: what it applied, what takes a restart, every error; and what it changes where it is refused: nothing.

use crate::client::request;
use crate::command::eventually;
use crate::gateway::Gateway;
use crate::options::{Key, Options};
use crate::platform::Platform;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

const SUCCESS: &str = "ds_gateway_config_last_reload_successful";
const WHEN: &str = "ds_gateway_config_last_reload_success_timestamp_seconds";
const WAITING: &str = "ds_gateway_config_settings_awaiting_restart";

/// The digest of the configuration in force.
fn hash(gateway: &Gateway) -> String {
    let text = gateway.admin("/metrics").text();
    let line = text.lines().find(|line| line.starts_with("ds_gateway_config_info{")).expect("a line");
    let (_, rest) = line.split_once("hash=\"").expect("a hash");
    rest.split('"').next().expect("a value").to_owned()
}

#[test]
fn every_error_is_named_and_the_configuration_before_stays_in_force() {
    let platform = Platform::echo();
    let options = Options::new(&platform).public("[\"/open\"]");
    let gateway = options.clone().start();
    let open = || gateway.exchange(request("GET", "/open", &[])).status;
    let (before, since) = (hash(&gateway), gateway.metric(WHEN, &[]));
    assert!(since > 0.0 && before.len() == 16, "{since} {before}");
    let wrong = options
        .clone()
        .public("[\"/other\"]")
        .set("limits", "header_bytes", "1")
        .set("platform", "colour", "\"blue\"")
        .set("token", "keys", "[{ kid = \"a\", algorithm = \"HS256\", file = \"absent.key\" }]");
    let done = gateway.reload(&wrong);
    assert_eq!(done.code, Some(64), "{done:?}");
    for error in [
        "not reloaded",
        "3 errors",
        "limits.header_bytes: must be",
        "platform.colour: unknown key",
        "token.keys: the key \"a\"",
    ] {
        assert!(done.stderr.contains(error), "{error}: {done:?}");
        let is_logged =
            || gateway.log.lines().iter().any(|line| line.contains("limits.header_bytes: must be"));
        eventually("the log", || is_logged().then_some(()));
    }
    assert_eq!((open(), gateway.metric(SUCCESS, &[])), (200, 0.0));
    assert_eq!((hash(&gateway), gateway.metric(WHEN, &[])), (before.clone(), since));
    // A name that cannot be resolved is found before anything is applied, and so is a file that is not TOML.
    let nowhere =
        options.clone().public("[\"/other\"]").set("platform", "servers", "[\"http://nowhere.invalid:1\"]");
    let done = gateway.reload(&nowhere);
    assert!(done.code == Some(64) && done.stderr.contains("nowhere.invalid"), "{done:?}");
    fs::write(gateway.folder.config(), "[server\n").expect("a configuration");
    let done = gateway.folder.cli(&["reload"], "");
    assert!(done.code == Some(64) && done.stderr.contains("not valid TOML"), "{done:?}");
    fs::write(gateway.folder.config(), "[server\n").expect("a configuration");
    gateway.signal("HUP");
    eventually("the log", || {
        gateway.log.lines().iter().any(|line| line.contains("not valid TOML")).then_some(())
    });
    assert_eq!((open(), hash(&gateway)), (200, before.clone()));
    // And then it is right.
    assert_eq!(gateway.reloaded(&options.clone().public("[\"/other\"]")), ["routes.public"]);
    assert_eq!((open(), gateway.metric(SUCCESS, &[])), (401, 1.0));
    assert_ne!(hash(&gateway), before);
    gateway.reloaded(&options);
    assert_eq!(hash(&gateway), before, "the same configuration is the same digest");
}

#[test]
fn what_takes_a_restart_is_named_and_the_rest_is_applied() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let gateway = options.clone().start();
    let changed = options
        .public("[\"/open\"]")
        .set("server", "http", "[\"127.0.0.1:1\"]")
        .set("server", "threads", "3")
        .set("store", "max_staleness", "\"10m\"");
    changed.clone().write(&gateway.folder);
    let names = ["server.http", "server.threads", "store.max_staleness"];
    let named = |said: &str| names.iter().all(|name| said.contains(&format!("- takes a restart: {name}\n")));
    let said = gateway.folder.cli(&["check", "--against-running"], "").ok();
    assert!(named(&format!("{said}\n")) && said.contains("- applied at once: routes.public"), "{said}");
    let open = || gateway.exchange(request("GET", "/open", &[])).status;
    assert_eq!((open(), gateway.metric(WAITING, &[])), (401, 0.0), "a comparison applies nothing");
    for _ in 0..2 {
        let said = gateway.folder.cli(&["reload"], "").ok();
        assert!(named(&format!("{said}\n")), "it is said for as long as it is so: {said}");
    }
    assert_eq!((open(), gateway.metric(WAITING, &[])), (200, 3.0));
}

#[test]
fn a_file_is_compared_with_what_runs_before_it_is_put_in_its_place() {
    let platform = Platform::echo();
    let options = Options::new(&platform).key(Key::ours("a"));
    let gateway = options.clone().start();
    let next = gateway.folder.dir.path().join("next.toml");
    let text = fs::read_to_string(gateway.folder.config()).expect("a configuration");
    let compare = || {
        let mut command = crate::command::binary();
        command.args(["check", "--against-running", "--config"]).arg(&next);
        crate::command::finish(command, "")
    };
    fs::write(&next, &text).expect("a file");
    assert!(compare().ok().contains("nothing differs"));
    fs::write(&next, text.replace("[platform]", "[platform]\nforward_token = false")).expect("a file");
    assert!(compare().ok().contains("- applied at once: platform.forward_token"));
    fs::write(&next, text.replace("[platform]", "[platform]\nforward_tokens = false")).expect("a file");
    let done = compare();
    assert!(
        done.code == Some(64) && done.stderr.contains("platform.forward_tokens: unknown key"),
        "{done:?}"
    );
    assert_eq!(gateway.metric(SUCCESS, &[]), 1.0, "a comparison is no reload");
    let done = gateway.stop().cli(&["check", "--against-running"], "");
    assert!(done.code == Some(1) && done.stderr.contains("no gateway"), "{done:?}");
}

#[test]
fn the_control_socket_is_the_accounts_own_and_goes_with_its_gateway() {
    let platform = Platform::echo();
    let mut gateway = Options::new(&platform).start();
    let folder = gateway.folder.state().join("control");
    let sockets = || fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mode = |path: &std::path::Path| fs::metadata(path).expect("a file").mode() & 0o777;
    let found: Vec<_> = sockets().collect();
    assert_eq!((found.len(), mode(&folder), mode(&found[0])), (1, 0o700, 0o600));
    // One that was killed leaves its socket, which is in nobody's way.
    let killed = gateway.kill();
    assert_eq!(sockets().count(), 1);
    let done = killed.cli(&["reload"], "");
    assert!(done.code == Some(1) && done.stderr.contains("no gateway"), "{done:?}");
    gateway = killed.run(&[]);
    assert_eq!(sockets().count(), 1);
    gateway.folder.cli(&["reload"], "").ok();
    let stopped = gateway.stop();
    assert_eq!(sockets().count(), 0);
    drop(stopped);
}

#[test]
fn two_gateways_on_one_state_folder_are_both_asked() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let one = options.clone().start();
    let mut command = one.folder.command(&["run"]);
    command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut other = command.spawn().expect("the binary starts");
    let sockets = || fs::read_dir(one.folder.state().join("control")).expect("a folder").count();
    eventually("both sockets", || (sockets() == 2).then_some(()));
    let said = one.reload(&options.public("[\"/open\"]")).ok();
    drop((other.kill(), other.wait()));
    assert_eq!(said.matches(": reloaded (configuration ").count(), 2, "{said}");
}
