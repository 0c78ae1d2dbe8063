//! `server.watch`: a change of a file is a reload, however it is made.

use crate::client::request;
use crate::command::eventually;
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::Platform;
use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

fn status(gateway: &Gateway, target: &str) -> u16 {
    gateway.exchange(request("GET", target, &[])).status
}

fn reloads(gateway: &Gateway) -> usize {
    gateway.log.messages("the configuration was reloaded").len()
}

#[test]
fn a_file_that_is_written_renamed_or_linked_anew_is_a_reload() {
    let platform = Platform::echo();
    let options = Options::new(&platform).set("server", "watch", "true");
    let gateway = options.clone().start();
    let (config, folder) = (gateway.folder.config(), gateway.folder.dir.path());
    let text = |path: &str| options.clone().public(&format!("[{path:?}]")).text();
    let follows = |path: &str| eventually(path, || (status(&gateway, path) == 200).then_some(()));
    // In place.
    fs::write(&config, text("/in-place")).expect("a configuration");
    follows("/in-place");
    // As editors do it.
    let draft = folder.join("draft");
    fs::write(&draft, text("/renamed")).expect("a configuration");
    fs::rename(&draft, &config).expect("a name");
    follows("/renamed");
    // As certbot and clusters do it: the link stays, and what it leads to is another.
    for (version, path) in [("v1", "/linked-1"), ("v2", "/linked-2")] {
        fs::create_dir(folder.join(version)).expect("a folder");
        let text =
            text(path).replace("state_dir = \"state\"", &format!("state_dir = {:?}", folder.join("state")));
        fs::write(folder.join(version).join("gateway.toml"), text).expect("a configuration");
        let (link, new) = (folder.join("current"), folder.join("new"));
        symlink(folder.join(version), &new).expect("a link");
        fs::rename(&new, &link).expect("a name");
        if version == "v1" {
            symlink("current/gateway.toml", folder.join("config.link")).expect("a link");
            fs::rename(folder.join("config.link"), &config).expect("a name");
        }
        follows(path);
    }
    assert_eq!([status(&gateway, "/linked-1"), status(&gateway, "/renamed")], [401, 401]);
    // Nothing changes, nothing happens.
    eventually("their lines", || (reloads(&gateway) == 4).then_some(()));
    let before = reloads(&gateway);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(reloads(&gateway), before);
}

#[test]
fn half_a_file_changes_nothing_and_the_whole_is_taken_when_it_is_there() {
    let platform = Platform::echo();
    let options = Options::new(&platform).set("server", "watch", "true").public("[\"/open\"]");
    let gateway = options.clone().start();
    let config = gateway.folder.config();
    fs::write(&config, "[server]\nhttp = [\"127.0.0.1:0\"").expect("a configuration");
    eventually("an error", || {
        (gateway.metric("ds_gateway_config_last_reload_successful", &[]) == 0.0).then_some(())
    });
    assert_eq!(status(&gateway, "/open"), 200);
    fs::write(&config, options.clone().public("[\"/open\", \"/more\"]").text()).expect("a configuration");
    eventually("the rest", || (status(&gateway, "/more") == 200).then_some(()));
    eventually("its line", || (reloads(&gateway) == 1).then_some(()));
    // One that is still being written is not read, though what is there would be a configuration.
    let before = reloads(&gateway);
    for number in 0..30 {
        let text = options.clone().public(&format!("[\"/draft-{number}\"]")).text();
        fs::write(&config, text).expect("a configuration");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(reloads(&gateway), before);
    eventually("the last", || (status(&gateway, "/draft-29") == 200).then_some(()));
    // Switched off, it is off.
    let off = options.set("server", "watch", "false");
    fs::write(&config, off.clone().public("[\"/off\"]").text()).expect("a configuration");
    eventually("off", || (status(&gateway, "/off") == 200).then_some(()));
    eventually("its line", || (reloads(&gateway) == 3).then_some(()));
    let before = reloads(&gateway);
    fs::write(&config, off.public("[\"/unseen\"]").text()).expect("a configuration");
    thread::sleep(Duration::from_secs(4));
    assert_eq!((reloads(&gateway), status(&gateway, "/unseen")), (before, 401));
}
