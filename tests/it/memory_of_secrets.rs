//! What a crash or a debugger would show.

use std::fs;
use std::os::unix::fs::FileExt as _;

use crate::client::request;
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::Platform;
use nix::unistd::geteuid;

/// How often these bytes are in the memory of a process.
fn occurrences(process: u32, bytes: &[u8]) -> usize {
    let memory = fs::File::open(format!("/proc/{process}/mem")).expect("its memory");
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("its maps");
    let mut found = 0;
    for line in
        maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw")))
    {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        let mut content = vec![0; (number(to) - number(from)) as usize];
        // Some of the kernel's own cannot be read.
        let read = memory.read_at(&mut content, number(from)).unwrap_or(0);
        found += content[..read].windows(bytes.len()).filter(|window| *window == bytes).count();
    }
    found
}

/// The same, started again. Who is not root has that in every test.
fn allowing_cores(gateway: Gateway) -> Gateway {
    gateway.stop().run(if geteuid().is_root() { &["--allow-core"] } else { &[] })
}

fn limit(gateway: &Gateway) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.process())).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    line.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

#[test]
fn a_signing_key_is_in_memory_once() {
    let platform = Platform::echo();
    let gateway = allowing_cores(Options::new(&platform).start());
    let file = fs::read_dir(gateway.folder.state().join("keys"))
        .expect("keys")
        .next()
        .expect("a key")
        .expect("a key");
    let key = fs::read_to_string(file.path()).expect("a key");
    for _ in 0..3 {
        let token = gateway.mint();
        assert_eq!(gateway.exchange(request("GET", "/x", &[("user-token", &token)])).status, 200);
    }
    assert_eq!(occurrences(gateway.process(), key.trim_end().as_bytes()), 1);
    gateway.still_healthy();
}

#[test]
fn no_core_is_written_unless_it_is_allowed() {
    let platform = Platform::echo();
    let ours = fs::read_to_string("/proc/self/limits").expect("limits");
    let is_none_here = ours
        .lines()
        .any(|line| line.starts_with("Max core file size") && line.split_whitespace().nth(5) == Some("0"));
    let gateway = Options::new(&platform).start();
    if geteuid().is_root() {
        assert_eq!(limit(&gateway), ["0", "0"]);
    }
    let allowed = allowing_cores(gateway);
    assert!(limit(&allowed)[1] != "0" || is_none_here, "{:?}", limit(&allowed));
}
