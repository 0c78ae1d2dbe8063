//! The processes of a server.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::folder::{as_server_user, program};
use super::within;

/// Ends the server once standard input is closed, which it is as well when this process is killed. A paused server gets its signal only
/// when it goes on.
const SCRIPT: &str = r#"
exec 3<&0
"$@" </dev/null >/dev/null 3<&- & pid=$!
echo $pid
exec >/dev/null
{ cat <&3; kill -QUIT $pid; kill -CONT $pid $(cat /proc/$pid/task/$pid/children); } </dev/null 2>/dev/null & watcher=$!
exec 3<&-
wait $pid
kill $watcher
"#;

/// The first process of a server, below a shell.
#[derive(Debug)]
pub(super) struct Postmaster {
    shell: std::sync::Mutex<Child>,
    process: u32,
    _watched: ChildStdin,
}

impl Postmaster {
    /// Starts it in a folder with `data`.
    pub(super) fn start(folder: &Path, settings: &[(&str, String)]) -> Self {
        let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log");
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "sh"]).arg(program("postgres")).arg("-D").arg(folder.join("data"));
        for (name, value) in settings {
            shell.arg("-c").arg(format!("{name}={value}"));
        }
        // Of a process group of its own, so that Ctrl-C at a terminal reaches the test first.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut shell = as_server_user(shell).spawn().expect("a shell");
        let watched = shell.stdin.take().expect("a pipe");
        let process = first_line(&mut shell).parse().expect("a process");
        Self { shell: shell.into(), process, _watched: watched }
    }

    pub(super) fn is_running(&self) -> bool {
        self.shell.lock().is_ok_and(|mut shell| matches!(shell.try_wait(), Ok(None)))
    }

    /// Sends a signal and waits for the end.
    pub(super) fn end_by(self, name: &str) {
        signal(name, &[self.process]);
        self.wait();
    }

    /// Ends every process by SIGKILL, and waits for that.
    pub(super) fn kill(self) {
        // The first one last: the others would end by themselves when it is gone, in their own time.
        signal("STOP", &[self.process]);
        let children = children(self.process);
        signal("KILL", &[self.process]);
        signal("KILL", &children);
        self.wait();
        within(10, "the processes to end", || children.iter().all(|process| state(*process).is_none()));
    }

    pub(super) fn pause(&self) {
        // The first one first, so that it starts no others.
        signal("STOP", &[self.process]);
        within(10, "the first process to stop", || state(self.process) == Some('T'));
        let children = children(self.process);
        signal("STOP", &children);
        let is_stopped = |process: &u32| matches!(state(*process), None | Some('T' | 'Z'));
        within(10, "every process to stop", || children.iter().all(is_stopped));
    }

    pub(super) fn resume(&self) {
        signal("CONT", &children(self.process));
        signal("CONT", &[self.process]);
    }

    fn wait(self) {
        if let Ok(mut shell) = self.shell.into_inner() {
            drop(shell.wait());
        }
    }
}

/// Removes what a server leaves behind that was killed: the segment by which it notices that another one works on its data.
pub(super) fn remove_shared_memory(data: &Path) {
    let state = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    // Key and number of the segment.
    if let Some(number) = state.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
        drop(Command::new("ipcrm").args(["-m", number]).stderr(Stdio::null()).status());
    }
}

fn first_line(shell: &mut Child) -> String {
    use std::io::{BufRead as _, BufReader};
    let mut line = String::new();
    BufReader::new(shell.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

fn signal(name: &str, processes: &[u32]) {
    if processes.is_empty() {
        return;
    }
    let mut command = Command::new("kill");
    command.arg(format!("-{name}")).args(processes.iter().map(u32::to_string));
    // One may have ended since.
    command.stderr(Stdio::null()).status().expect("kill");
}

/// All processes that this one has started.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|process| fields(*process).is_some_and(|(_, of)| of == parent)).collect()
}

/// The state of a process, such as `T` for a stopped one.
fn state(process: u32) -> Option<char> {
    fields(process).map(|(state, _)| state)
}

/// State and parent.
fn fields(process: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
