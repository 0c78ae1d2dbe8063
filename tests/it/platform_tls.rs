//! A platform behind TLS: it is believed only with a certificate that can be checked.

use crate::command::finish;
use crate::options::Options;
use crate::platform_side::get;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use tempfile::TempDir;

/// A TLS server of the `openssl` program, which answers every request with a page about the connection.
pub struct TlsServer {
    child: Child,
    pub port: u16,
}

impl TlsServer {
    pub fn start(folder: &Path, extra: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-key", "server.key", "-www"])
            .args(extra)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.starts_with("ACCEPT")).expect("an address");
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
        thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A CA, a certificate of it for `platform.test`, one for a client, and a CA that signed none of them.
pub fn certificates(folder: &Path) {
    let script = r#"
        set -e
        for ca in ca other; do
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$ca" -keyout $ca.key -out $ca.pem
        done
        for name in server client; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name-of-the-test" -keyout $name.key -out $name.csr
            printf 'subjectAltName=DNS:platform.test\n' > $name.ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $name.ext -out $name.pem
        done
        chmod 600 *.key"#;
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(folder);
    finish(command, "").ok();
}

pub fn over_tls(folder: &Path, port: u16) -> Options {
    Options::servers(&[&format!("https://127.0.0.1:{port}")])
        .set("platform", "ca_file", format!("{:?}", folder.join("ca.pem")))
        .set("platform", "server_name", "\"platform.test\"")
}

#[test]
fn an_https_platform_is_believed_only_with_a_certificate_that_can_be_checked() {
    let dir = TempDir::new().expect("a temporary folder");
    certificates(dir.path());
    let server = TlsServer::start(dir.path(), &[]);
    let good = || over_tls(dir.path(), server.port);
    let other = format!("{:?}", dir.path().join("other.pem"));
    for (name, options, status) in [
        ("its CA and its name", good(), 200),
        ("another CA", good().set("platform", "ca_file", &other), 502),
        ("no CA but the system's", good().unset("platform", "ca_file"), 502),
        ("another name", good().set("platform", "server_name", "\"elsewhere.test\""), 502),
        (
            "not verified, as asked for",
            good().set("platform", "ca_file", &other).set("platform", "verify", "false"),
            200,
        ),
    ] {
        let gateway = options.start();
        let token = gateway.mint();
        let answer = get(&gateway, "/", &token);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        if status == 502 {
            answer.is_error(502);
        }
    }
}

#[test]
fn the_platform_can_ask_for_the_gateways_certificate() {
    let dir = TempDir::new().expect("a temporary folder");
    certificates(dir.path());
    let server = TlsServer::start(dir.path(), &["-Verify", "2", "-CAfile", "ca.pem", "-verify_return_error"]);
    let file = |name: &str| format!("{:?}", dir.path().join(name));
    let gateway = over_tls(dir.path(), server.port)
        .set("platform", "client_certificate", file("client.pem"))
        .set("platform", "client_key", file("client.key"))
        .start();
    let answer = get(&gateway, "/", &gateway.mint());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("client-of-the-test"), "{}", answer.text());
    let without = over_tls(dir.path(), server.port).start();
    get(&without, "/", &without.mint()).is_error(502);
}
