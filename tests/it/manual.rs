//! The manual pages, which say what `--help` says.

use crate::command::{binary, finish};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A page as a reader sees it, without a warning.
fn shown(page: &Path) -> String {
    let mut man = Command::new("man");
    man.args(["--warnings", "--local-file"]).arg(page).env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
    let done = man.output().expect("man");
    assert!(done.status.success() && done.stderr.is_empty(), "{page:?}: {done:?}");
    String::from_utf8(done.stdout).expect("UTF-8")
}

#[test]
fn examples_stand_in_the_manual_as_in_the_help() {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let mut write = binary();
    write.arg("man").arg(dir.path());
    finish(write, "").ok();
    for words in [&["user", "import"][..], &[]] {
        let mut help = binary();
        help.args(words).arg("--help");
        let help = finish(help, "").ok();
        let name = [&["ds-gateway"], words].concat().join("-");
        let page = shown(&dir.path().join(format!("{name}.1")));
        let (_, after) = help
            .split_once("help (see a summary")
            .or_else(|| help.split_once("Print version"))
            .expect("options");
        let indented: Vec<&str> = after.lines().filter(|line| line.starts_with("  ")).collect();
        assert!(indented.len() >= 6, "{help}");
        for line in indented {
            assert!(page.lines().any(|shown| shown.trim() == line.trim()), "{line:?} is not in\n{page}");
        }
        let lines: Vec<&str> = page.lines().collect();
        let head = name.to_uppercase() + "(1)";
        assert!(lines[0].starts_with(&head) && lines[0].ends_with(&head), "{}", lines[0]);
        let version = format!("ds-gateway {}", env!("CARGO_PKG_VERSION"));
        let footer = lines.iter().rfind(|line| !line.trim().is_empty()).expect("a footer");
        assert!(footer.starts_with(&version) && !footer.contains("rustc"), "{footer}");
        assert!(!lines.contains(&"EXTRA"), "{page}");
    }
    let page = shown(&dir.path().join("ds-gateway-check.1"));
    assert!(page.contains("ds-gateway check [--config <FILE>] [--as-user <USER>]"), "{page}");
}

#[test]
fn manual_has_a_page_for_each_command_and_is_sound() {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let mut write = binary();
    write.arg("man").arg(dir.path());
    assert!(finish(write, "").ok().contains(dir.path().to_str().expect("a path")));
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.path()).expect("a folder").flatten() {
        names.push(entry.file_name().into_string().expect("a name"));
        shown(&entry.path());
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
