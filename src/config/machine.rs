//! What the machine has: how much memory this process may have, and IPv6.

use std::fs;
use std::path::Path;

use super::addresses::Ipv6;

/// What there is of IPv6.
pub(super) fn ipv6() -> Ipv6 {
    let interfaces = fs::read_to_string("/proc/net/if_inet6").ok();
    let loopback = "00000000000000000000000000000001";
    Ipv6 {
        any: interfaces.is_some(),
        loopback: interfaces.is_some_and(|lines| lines.lines().any(|line| line.starts_with(loopback))),
    }
}

/// The machine's memory or its control group's, whichever is less, in bytes.
pub(super) fn memory() -> u64 {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = files(&groups).into_iter().filter_map(|file| limit(&fs::read_to_string(file).ok()?));
    of_machine.into_iter().chain(of_groups).min().unwrap_or(FALLBACK)
}

/// `MemTotal` of /proc/meminfo.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The files that say how much each group, and each one above it, may have: of version 2, and of version 1's memory controller.
fn files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the group's own folder may be mounted as the root.
        let above = Path::new(group).ancestors().filter_map(|path| path.to_str());
        files.extend(above.map(|path| format!("{root}{}/{name}", path.trim_end_matches('/'))));
    }
    files
}

/// What such a file says; none if there is no limit.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes > 0)
}

/// Where nothing can be read.
const FALLBACK: u64 = 1024 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_groups_and_machine_are_found() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:        2048 kB\n"), Some(2_097_152));
        assert_eq!(
            files("9:name=systemd:/\n4:cpu,memory:/pod/one\n0::/two\n"),
            [
                "/sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/pod/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/two/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!((limit("max\n"), limit("268435456\n"), limit("0")), (None, Some(268_435_456), None));
        assert!(memory() >= 16 * 1024 * 1024);
    }
}
