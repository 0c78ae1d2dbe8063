//! The manual pages, which say what `--help` says.

use crate::command::{binary, finish};
use std::fs;
use std::process::Command;

#[test]
fn manual_has_a_page_for_each_command_and_is_sound() {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let mut write = binary();
    write.arg("man").arg(dir.path());
    assert!(finish(write, "").ok().contains(dir.path().to_str().expect("a path")));
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.path()).expect("a folder").flatten() {
        names.push(entry.file_name().into_string().expect("a name"));
        let mut check = Command::new("man");
        check
            .args(["--warnings", "--local-file"])
            .arg(entry.path())
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8");
        // Not everybody has it.
        let Ok(done) = check.output() else { continue };
        assert!(done.status.success() && done.stderr.is_empty(), "{:?}: {done:?}", entry.path());
    }
    names.sort_unstable();
    assert!(names.len() > 30, "{names:?}");
    for page in [
        "ds-gateway.1",
        "ds-gateway-user-list.1",
        "ds-gateway-store-repair-clock.1",
        "ds-gateway-token-list.1",
    ] {
        assert!(names.iter().any(|name| name == page), "no {page} in {names:?}");
    }
    let page = fs::read_to_string(dir.path().join("ds-gateway-token-list.1")).expect("a page");
    assert!(
        page.contains("The user may have been removed") || page.contains("may have been removed"),
        "{page}"
    );

    let mut nowhere = binary();
    nowhere.args(["man", "/nonexistent/folder"]);
    let done = finish(nowhere, "");
    assert!(done.code == Some(1) && done.stderr.contains("/nonexistent/folder"), "{done:?}");
}
