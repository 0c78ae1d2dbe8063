//! Starts the real binary in a temporary folder, on ports the system chose, and stops only what it started.

use crate::client::{Answer, Client, basic, request};
use crate::command::{Folder, eventually, finish};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

pub const USER: &str = "myUser";
pub const PASSWORD: &str = "myPassword";
pub const EMAIL: &str = "my.user@example.com";
pub const ORGANIZATION: &str = "Main Org.";

/// The lines of a child's standard error, as they come.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("a lock").clone()
    }

    /// The JSON lines with this message.
    pub fn messages(&self, message: &str) -> Vec<Value> {
        let parsed = self.lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        parsed.filter(|line| line["message"] == message).collect()
    }
}

/// A running gateway; dropping it kills it, and prints what it logged if the test has failed.
pub struct Gateway {
    child: Child,
    /// Processes that have taken over, in their order.
    pub successors: Vec<u32>,
    pub folder: Folder,
    pub log: Log,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Gateway {
    /// Starts a command that runs the gateway, and waits for its listeners and for `/readyz`.
    pub fn start(folder: Folder, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Log::default();
        let (lines, stderr) = (log.clone(), child.stderr.take().expect("stderr"));
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                lines.0.lock().expect("a lock").push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let text = fs::read_to_string(folder.config()).expect("a configuration");
        let mut wanted = vec!["admin"];
        wanted.extend(["http", "https"].into_iter().filter(|kind| text.contains(&format!("\n{kind} = "))));
        let found = eventually("the listeners", || {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("the gateway ended with {status}:\n{}", log.lines().join("\n"));
            }
            let found: BTreeMap<String, SocketAddr> =
                log.messages("listening").iter().map(listener).collect();
            wanted.iter().all(|kind| found.contains_key(*kind)).then_some(found)
        });
        let of = |kind: &str| found.get(kind).copied();
        let (http, https, admin) = (of("http"), of("https"), of("admin").expect("the admin listener"));
        let gateway = Self { child, successors: Vec::new(), folder, log, http, https, admin };
        eventually("/readyz", || (gateway.admin("/readyz").status == 200).then_some(()));
        gateway
    }

    /// Starts a gateway whose log says nothing of its listeners, or is not read here: plain HTTP on 127.0.0.1, the
    /// admin listener on 127.0.0.2, ports as the system chose them.
    pub fn start_unheard(folder: Folder, mut command: Command, stderr: impl Into<Stdio>) -> Self {
        let stderr = stderr.into();
        let mut child = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("the binary starts");
        let listener = |child: &Child, host: &str| {
            let host: IpAddr = host.parse().expect("an address");
            listening(child.id()).into_iter().find(|address| address.ip() == host)
        };
        let (http, admin) = eventually("the listeners", || {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "the gateway ended with {ended:?}");
            Some((listener(&child, "127.0.0.1")?, listener(&child, "127.0.0.2")?))
        });
        let gateway = Self {
            child,
            successors: Vec::new(),
            folder,
            log: Log::default(),
            http: Some(http),
            https: None,
            admin,
        };
        eventually("/readyz", || (gateway.admin("/readyz").status == 200).then_some(()));
        gateway
    }

    /// The other end of the standard error of a gateway that was started unheard, with a pipe.
    pub fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("a pipe that nobody has taken")
    }

    pub fn http(&self) -> SocketAddr {
        self.http.expect("a plain listener")
    }

    pub fn https(&self) -> SocketAddr {
        self.https.expect("a TLS listener")
    }

    /// A new connection to the plain listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub fn client(&self) -> Client {
        Client::connect(self.http())
    }

    /// One request on a connection of its own. A password for which no thread had time comes again, as it was told to:
    /// on a machine that is busy with other tests, little time is idle.
    #[track_caller]
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let is_busy = |answer: &Answer| answer.status == 503 && answer.text().contains("too many logins");
        eventually("a thread that hashes", || {
            Some(self.client().exchange(bytes.as_ref())).filter(|answer| !is_busy(answer))
        })
    }

    pub fn admin(&self, path: &str) -> Answer {
        admin_at(self.admin, path)
    }

    /// As [`Self::admin`], of a gateway that may be about to close that listener.
    pub fn try_admin(&self, path: &str) -> Option<Answer> {
        let mut client = Client::try_connect(self.admin).ok()?;
        client.try_send(admin_request("GET", path)).ok()?;
        client.answer().ok()
    }

    /// The process that serves.
    pub fn process(&self) -> u32 {
        self.successors.last().copied().unwrap_or_else(|| self.child.id())
    }

    /// Lets no file of the process grow beyond so many bytes, or `unlimited`.
    #[track_caller]
    pub fn disk(&self, limit: &str) {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &self.process().to_string(), &format!("--fsize={limit}:")]);
        finish(command, "").ok();
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("kill -s {name} {}", self.process())]);
        finish(command, "").ok();
    }

    /// Waits until the process ends, and says with which code; none if a signal ended it.
    pub fn ends(&mut self) -> Option<i32> {
        eventually("the process to end", || self.child.try_wait().expect("a child")).code()
    }

    /// Stops the gateway as an operator does, and gives its folder back.
    #[track_caller]
    pub fn stop(mut self) -> Folder {
        self.signal("TERM");
        assert_eq!(self.ends(), Some(0));
        self.kill()
    }

    /// The sum of all samples of a metric whose labels contain every one of these texts.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        metric_at(self.admin, name, labels)
    }

    /// Asks for a token with a name and a password.
    pub fn log_in(&self, user: &str, password: &str) -> Answer {
        self.exchange(request("POST", "/ds-api/user-token", &[("Authorization", &basic(user, password))]))
    }

    /// A token, or nothing if the answer was 401. A gateway that has to be asked later is: a disk that stands still for
    /// seconds is nothing that most tests are about.
    #[track_caller]
    pub fn login(&self, user: &str, password: &str) -> Option<String> {
        eventually("a log in", || {
            let answer = self.log_in(user, password);
            match answer.status {
                201 => Some(Some(answer.json()["user-token"].as_str().expect("a token").to_owned())),
                401 => Some(None),
                503 => None,
                _ => panic!("{answer:?}"),
            }
        })
    }

    /// A token of the user of the published example.
    #[track_caller]
    pub fn mint(&self) -> String {
        self.login(USER, PASSWORD).expect("the right password")
    }

    /// The status of a protected request with this token.
    pub fn status(&self, token: &str) -> u16 {
        self.exchange(request("GET", "/ds-api/status-of-a-token", &[("user-token", token)])).status
    }

    /// "Still healthy": alive, ready, and a new user of it gets through to the platform.
    #[track_caller]
    pub fn still_healthy(&self) {
        assert_eq!(self.admin("/healthz").status, 200);
        assert_eq!(self.admin("/readyz").status, 200);
        let token = self.mint();
        let answer = self.exchange(request("GET", "/ds-api/still-healthy", &[("user-token", &token)]));
        assert_eq!((answer.status, answer.values("x-platform")), (200, vec!["yes"]), "{}", answer.text());
    }

    /// Kills the gateway and gives its folder back.
    pub fn kill(mut self) -> Folder {
        self.end();
        let empty = Folder { dir: TempDir::new().expect("a temporary folder") };
        std::mem::replace(&mut self.folder, empty)
    }

    fn end(&mut self) {
        for process in self.successors.drain(..) {
            kill(process);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("--- the gateway's standard error ---\n{}", self.log.lines().join("\n"));
        }
    }
}

/// Kills a process that is not a child of this one, and waits until it is gone.
fn kill(process: u32) {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("kill -s KILL {process}")]);
    finish(command, "");
    eventually("a process to end", || (!is_alive(process)).then_some(()));
}

/// Does this process live? One that nobody has waited for does not.
pub fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

fn admin_at(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).exchange(admin_request("GET", path))
}

/// As a scraper asks, which has no more than an address.
fn admin_request(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n").into_bytes()
}

/// As [`Gateway::metric`], for threads that have no gateway but its admin listener's address.
pub fn metric_at(address: SocketAddr, name: &str, labels: &[&str]) -> f64 {
    let text = admin_at(address, "/metrics").text();
    let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let of_labels = |line: &&str| labels.iter().all(|label| line.contains(label));
    let value = |line: &str| line.rsplit(' ').next().and_then(|word| word.parse::<f64>().ok());
    text.lines().filter(of_name).filter(of_labels).filter_map(value).sum()
}

/// Where a process listens, as the kernel has it: IPv4 only.
fn listening(process: u32) -> Vec<SocketAddr> {
    let links = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let sockets: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.split_once(':')?;
        let mine = sockets.contains(&format!("socket:[{}]", words.get(9)?));
        // State 0A is LISTEN; an address is written as the number that the machine has in memory.
        let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        (mine && *words.get(3)? == "0A").then_some(SocketAddr::from((address, port)))
    };
    table.lines().filter_map(of_line).collect()
}

fn listener(line: &Value) -> (String, SocketAddr) {
    let text = |key: &str| line[key].as_str().expect("a text").to_owned();
    (text("listener"), text("address").parse().expect("an address"))
}
