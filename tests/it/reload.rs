//! Signing keys that appear while the gateway runs: loaded as soon as they can be, and only if they are what was recorded.

use crate::command::{Folder, eventually, private};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::options::Options;
use crate::platform::Platform;
use crate::revocation::number_of;
use std::fs;
use std::path::{Path, PathBuf};

fn key_files(folder: &Folder) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.state().join("keys")).expect("keys");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

fn verifying(gateway: &Gateway) -> f64 {
    gateway.metric("ds_gateway_keys", &["state=\"verifying\""])
}

fn kid(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).expect("a kid")
}

#[test]
fn new_key_is_loaded_once_it_can_be_read_and_is_the_recorded_one() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 3] = [
        ("too short", |path| private(path, b"short")),
        ("missing", |path| fs::remove_file(path).expect("a key")),
        ("another secret", |path| private(path, b"another secret, also long enough for a key")),
    ];
    for (name, harm) in harms {
        let platform = Platform::echo();
        let gateway = Options::new(&platform).start();
        let token = gateway.mint();
        let old = key_files(&gateway.folder);
        // While it sleeps a key is made and spoiled.
        gateway.signal("STOP");
        gateway.folder.cli(&["key", "generate"], "").ok();
        let new = key_files(&gateway.folder).into_iter().find(|file| !old.contains(file)).expect("a new key");
        let content = fs::read(&new).expect("a key");
        harm(&new);
        gateway.signal("CONT");
        let told = |what: &str| gateway.log.lines().iter().filter(|line| line.contains(what)).count();
        eventually(&format!("{name}: a line that says so"), || (told("cannot be loaded") > 0).then_some(()));
        // Whatever else changes meanwhile does not hide it.
        assert!(number_of(&gateway.mint()) > number_of(&token));
        assert_eq!(verifying(&gateway), 0.0, "{name}");
        assert_eq!(gateway.status(&token), 200, "{name}: what the old key signed is still admitted");
        assert_eq!(told("cannot be loaded"), 1, "{name}: once, not ten times a second");

        private(&new, &content);
        eventually(&format!("{name}: the new key"), || (verifying(&gateway) == 1.0).then_some(()));
        // It signs when the old one is revoked.
        let done = gateway.folder.cli(&["revoke", "key", kid(&old[0])], "");
        assert_eq!(done.code, Some(0), "{name}: {done:?}");
        let by_new = gateway.login(USER, PASSWORD).expect("a token");
        assert_eq!([gateway.status(&token), gateway.status(&by_new)], [401, 200], "{name}");
        gateway.still_healthy();
    }
}
