//! What `--version` and the metrics say of a build: the commit where git knows it, profile and compiler.

use std::process::Command;

fn main() {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let rustc = output(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()), &["--version"]);
    let profile = std::env::var("PROFILE").ok();
    for (name, value) in [("BUILD_COMMIT", commit), ("BUILD_RUSTC", rustc), ("BUILD_PROFILE", profile)] {
        println!("cargo::rustc-env={name}={}", value.as_deref().unwrap_or("unknown"));
    }
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    println!("cargo::rerun-if-changed=src/build.rs");
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
