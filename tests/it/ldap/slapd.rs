//! A slapd of the test's own.

use crate::command::{eventually, within};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

use super::certificates;
use super::people::everybody;

/// How a slapd is to be.
#[derive(Clone)]
pub struct Setup {
    /// Which of the certificates it shows.
    pub certificate: &'static str,
    /// Further lines of its configuration, before the database.
    pub lines: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self { certificate: "good", lines: "" }
    }
}

/// A running slapd; stopped when it is dropped.
pub struct Slapd {
    child: Child,
    dir: TempDir,
    setup: Setup,
    plain: u16,
    tls: u16,
}

impl Slapd {
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        certificates::write(dir.path());
        fs::create_dir(dir.path().join("data")).expect("a folder");
        write_configuration(dir.path(), &setup);
        load(dir.path(), &everybody());
        let (child, plain, tls) = launch(dir.path(), None);
        Self { child, dir, setup, plain, tls }
    }

    /// Its folder, with the certificates.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// A file of its folder, as a value of the configuration.
    pub fn file(&self, name: &str) -> String {
        format!("{:?}", self.folder().join(name))
    }

    pub fn ldap(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.plain)
    }

    pub fn ldaps(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls)
    }

    pub fn unix(&self) -> String {
        format!("unix:{}", socket(self.folder()).display())
    }

    /// Sends a signal to it.
    pub fn signal(&self, name: &str) {
        let process = self.child.id();
        let status = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status();
        assert!(status.expect("kill").success());
        if name == "STOP" {
            eventually("every thread to stop", || is_stopped(process).then_some(()));
        }
    }

    pub fn stop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        self.stop();
        write_configuration(self.dir.path(), &self.setup);
        (self.child, self.plain, self.tls) = launch(self.dir.path(), Some((self.plain, self.tls)));
    }

    /// Starts it again where it was, with these entries in place of all others.
    pub fn start_again_with(&mut self, entries: &str) {
        self.stop();
        let data = self.dir.path().join("data");
        fs::remove_dir_all(&data).expect("the data");
        fs::create_dir(&data).expect("a folder");
        write_configuration(self.dir.path(), &self.setup);
        load(self.dir.path(), entries);
        (self.child, self.plain, self.tls) = launch(self.dir.path(), Some((self.plain, self.tls)));
    }

    /// How often somebody whose name begins so was bound, or was to be. It logs each twice.
    pub fn binds(&self, name: &str) -> usize {
        let begin = format!(" BIND dn=\"{name}");
        self.log().lines().filter(|line| line.contains(&begin) && line.contains(" method=")).count()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).expect("a log")
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("ldapi")
}

fn is_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

fn write_configuration(folder: &Path, setup: &Setup) {
    let (shown, certificate, lines) = (folder.display(), setup.certificate, setup.lines);
    let text = format!(
        r#"
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
moduleload ppolicy
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.159 NAME 'accountExpires' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.662 NAME 'lockoutTime' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 2.16.840.1.113730.3.1.610 NAME 'nsAccountLock' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.4203.666.1 NAME 'testAccount' SUP top AUXILIARY
  MAY ( userAccountControl $ accountExpires $ lockoutTime $ nsAccountLock ) )
pidfile {shown}/pid
TLSCACertificateFile {shown}/ca.pem
TLSCertificateFile {shown}/{certificate}.pem
TLSCertificateKeyFile {shown}/{certificate}.key
{lines}
database mdb
suffix "dc=example,dc=com"
rootdn "cn=admin,dc=example,dc=com"
directory {shown}/data
maxsize 16777216
dbnosync
overlay memberof
overlay ppolicy
ppolicy_default "cn=policy,dc=example,dc=com"
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=gateway,ou=services,dc=example,dc=com" read by self read by * none
"#
    );
    fs::write(folder.join("slapd.conf"), text).expect("a configuration");
}

fn load(folder: &Path, entries: &str) {
    let mut command = Command::new("slapadd");
    command.arg("-q").arg("-f").arg(folder.join("slapd.conf")).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("slapadd, which `make deps` installs");
    child.stdin.take().expect("an input").write_all(entries.as_bytes()).expect("entries");
    let output = child.wait_with_output().expect("slapadd");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// It cannot say which ports it chose, so it is given some that were free a moment ago.
fn launch(folder: &Path, ports: Option<(u16, u16)>) -> (Child, u16, u16) {
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("a port").port()
    };
    for _ in 0..5 {
        let (plain, tls) = ports.unwrap_or_else(|| (free(), free()));
        let path = socket(folder).display().to_string().replace('/', "%2F");
        let urls = format!("ldap://127.0.0.1:{plain} ldaps://127.0.0.1:{tls} ldapi://{path}");
        let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log");
        let mut child = Command::new("slapd")
            // It stays in the foreground, and logs each connection and each request.
            .args(["-d", "256", "-h", &urls, "-f"])
            .arg(folder.join("slapd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("slapd, which `make deps` installs");
        let is_up = within(20, || match child.try_wait().expect("a child") {
            Some(_) => Some(false),
            None => {
                let listens = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
                (listens(plain) && listens(tls) && UnixStream::connect(socket(folder)).is_ok())
                    .then_some(true)
            }
        });
        if is_up == Some(true) {
            return (child, plain, tls);
        }
        drop(child.kill());
        drop(child.wait());
    }
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    panic!("slapd does not start: {log}");
}
