//! A real server: started with what was written into a folder of its own, asked, and ended when dropped.

use crate::client::{Answer, Client};
use crate::command::{finish, in_time, within};
use crate::wire::Fault;
use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use tempfile::TempDir;

/// One address of a real server, and a way of its own to read a request.
pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    /// Another spelling of the endpoint's path, which this server takes for it where no gateway is in front. Empty where
    /// only fields are asked for.
    pub naive: &'static str,
    processes: Vec<Arc<Process>>,
}

impl Server {
    /// Waits until the server answers at that address.
    pub fn new(name: &'static str, address: SocketAddr, naive: &'static str, process: &Arc<Process>) -> Self {
        let server = Self { name, address, naive, processes: vec![Arc::clone(process)] };
        // A Java machine takes its time on a machine that is busy.
        let ready = within(120, || {
            let mut client = Client::try_connect(address).ok()?;
            client
                .try_send(b"GET /ready HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n")
                .ok()?;
            client.answer().ok()
        });
        assert!(ready.is_some(), "{name} does not answer at {address}: {}", process.log());
        server
    }

    /// Keeps another process that it needs.
    pub fn with(mut self, process: Arc<Process>) -> Self {
        self.processes.push(process);
        self
    }
}

/// A process with its folder.
pub struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts a server whose files are in `folder`. One that is not installed stops the test.
    pub fn start(folder: TempDir, mut command: Command) -> Arc<Self> {
        let log = File::create(folder.path().join("log")).expect("a file");
        let error = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(error).current_dir(folder.path()).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{:?}, which `make test-long` installs: {error}", command.get_program())
        });
        Arc::new(Self { child, folder })
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Several have children, which end with them if they are asked to.
        let mut ask = Command::new("bash");
        ask.args(["-c", &format!("kill -s TERM {}", self.child.id())]);
        finish(ask, "");
        if in_time(|| self.child.try_wait().ok().flatten()).is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if thread::panicking() {
            eprintln!("--- what a server said ---\n{}", self.log());
        }
    }
}

/// A folder that every account may read, since some servers change theirs.
pub fn folder() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("its mode");
    folder
}

/// Writes a file into the folder of a server.
pub fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file");
    path
}

/// A program beside the tests.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/servers").join(name)
}

/// Addresses that are free now, on one that no client of the tests connects from.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.5.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address"))
}

/// A client that keeps its connection where the other side does.
pub struct Asker {
    address: SocketAddr,
    client: Option<Client>,
}

impl Asker {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, client: None }
    }

    /// Sends a request of that method. `None`: the other side closed and said nothing, twice.
    pub fn ask(&mut self, method: &str, bytes: &[u8]) -> Option<Answer> {
        for _ in 0..2 {
            let mut client = self.client.take().unwrap_or_else(|| Client::connect(self.address));
            let answer = match client.try_send(bytes) {
                Ok(()) => client.answer_to(method),
                Err(_) => Err(Fault::Closed),
            };
            match answer {
                Ok(answer) => {
                    let is_kept = answer.head.start.starts_with("HTTP/1.1") && !answer.says_close();
                    self.client = is_kept.then_some(client);
                    return Some(answer);
                }
                // A kept connection may have been closed since.
                Err(Fault::Closed | Fault::Truncated) => {}
                Err(fault) => panic!("{fault:?} after {:?}", String::from_utf8_lossy(bytes)),
            }
        }
        None
    }
}
