//! Processes: pinned to a core, killed when dropped, and what they used.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::{sleep, timeout};

/// The proxy measured has this core; what else was started idles there.
pub const PROXY_CORE: usize = 0;
/// Clients and platform share this one.
pub const LOAD_CORE: usize = 1;
/// How long a fresh process is left alone before its memory is read.
pub const REST: Duration = Duration::from_secs(1);

/// A process that is pinned to a core, the proxy's in most cases.
pub struct Running(Child);

/// CPU time so far, by thread.
pub struct CpuTimes(HashMap<String, Duration>);

impl Running {
    /// Of a command from [`on_proxy_core`].
    pub fn spawn(mut command: Command) -> Result<Self> {
        Ok(Self(command.stdin(Stdio::null()).spawn().context("taskset")?))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// It and those that it has started: nginx has a process for each worker.
    fn processes(&self) -> Result<Vec<String>> {
        let mut processes = vec![self.id().to_string()];
        for thread in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let children =
                fs::read_to_string(thread?.path().join("children")).context("no list of children")?;
            processes.extend(children.split_whitespace().map(ToOwned::to_owned));
        }
        Ok(processes)
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }

    /// Of all its processes, in nanoseconds, as the scheduler accounts it: `stat` of the process has user and system time in steps of 10 ms only.
    pub fn cpu_times(&self) -> Result<CpuTimes> {
        let mut times = HashMap::new();
        for process in self.processes()? {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?;
                let schedstat = fs::read_to_string(thread.path().join("schedstat"))?;
                let on_cpu = schedstat.split(' ').next().context("schedstat")?.parse()?;
                times.insert(thread.file_name().to_string_lossy().into_owned(), Duration::from_nanos(on_cpu));
            }
        }
        Ok(CpuTimes(times))
    }

    /// All threads together since `before`; a thread born meanwhile counts whole.
    pub fn cpu_since(&self, before: &CpuTimes) -> Result<Duration> {
        let now = self.cpu_times()?;
        Ok(now
            .0
            .iter()
            .map(|(thread, time)| time.saturating_sub(before.0.get(thread).copied().unwrap_or_default()))
            .sum())
    }

    /// CPU time so far of all threads whose name begins so, in nanoseconds too.
    pub fn cpu_of(&self, prefix: &str) -> Result<Duration> {
        let CpuTimes(times) = self.cpu_times()?;
        let has_name = |thread: &str| {
            let name = fs::read_to_string(format!("/proc/{}/task/{thread}/comm", self.0.id()));
            name.is_ok_and(|name| name.starts_with(prefix))
        };
        Ok(times.iter().filter(|(thread, _)| has_name(thread)).map(|(_, time)| *time).sum())
    }

    /// As an operator would, and waits until it has ended.
    pub fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status()?;
        ensure!(asked.success() && self.0.wait()?.success(), "it did not end as it should");
        Ok(())
    }

    /// Resident memory.
    pub fn resident_mb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before it has ended: they are nobody's children afterwards.
        let processes = self.processes().unwrap_or_default();
        let _ = self.0.kill();
        let _ = self.0.wait();
        if let [_, children @ ..] = &processes[..]
            && !children.is_empty()
        {
            let _ = Command::new("kill").arg("-KILL").args(children).stderr(Stdio::null()).status();
        }
    }
}

/// `program`, to be pinned: `taskset` becomes the program, so the child's id is the program's.
pub fn on_proxy_core(program: impl AsRef<OsStr>) -> Command {
    on_proxy_core_under(&[], program)
}

/// The same, with a command and its arguments before it.
pub fn on_proxy_core_under(wrapper: &[String], program: impl AsRef<OsStr>) -> Command {
    on_core(PROXY_CORE, wrapper, program)
}

/// The same, on any core.
pub fn on_core(core: usize, wrapper: &[String], program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).args(wrapper).arg(program);
    command
}

/// Pins this process; not by the system call, which would need `unsafe`.
pub fn pin_this_to(core: usize) -> Result<()> {
    ensure!(std::thread::available_parallelism()?.get() > core, "the bench needs two cores");
    let pinned = Command::new("taskset")
        .args(["-pc", &core.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status();
    ensure!(pinned.context("taskset")?.success(), "taskset failed");
    Ok(())
}

/// As many files as this process may have: it is both ends of every connection.
pub fn raise_descriptors() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// An address that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Asks every millisecond until it is so, for at most a minute.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<()> {
    let asking = async {
        while !is_so().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let asked = timeout(Duration::from_secs(60), asking).await;
    asked.with_context(|| format!("waited a minute in vain until {what}"))
}

/// Cores, processor and kernel.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let siblings = fs::read_to_string("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list");
    let siblings = siblings.unwrap_or_default();
    let shared = if siblings.contains([',', '-']) { ", whose threads share a core" } else { "" };
    format!("{cores} cores{shared}, {}, Linux {}", model.trim_start_matches(['\t', ':', ' ']), kernel.trim())
}
