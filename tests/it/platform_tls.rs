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
        Self::named(folder, "server", extra)
    }

    /// With the certificate of that name.
    fn named(folder: &Path, name: &str, extra: &[&str]) -> Self {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", &certificate, "-key", &key, "-www"])
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

/// A CA, certificates of it for `platform.test` and `second.test`, for 127.0.0.1 and for 127.0.0.9, one for a client, and a CA that signed none
/// of them.
pub fn certificates(folder: &Path) {
    let script = r#"
        set -e
        for ca in ca other; do
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$ca" -keyout $ca.key -out $ca.pem
        done
        for name in server client second address elsewhere; do
            case $name in
                address) san=IP:127.0.0.1 ;;
                elsewhere) san=IP:127.0.0.9,DNS:127.0.0.1 ;;
                second) san=DNS:second.test ;;
                *) san=DNS:platform.test ;;
            esac
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name-of-the-test" -keyout $name.key -out $name.csr
            printf 'subjectAltName=%s\n' $san > $name.ext
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

/// An address is compared with the addresses in the certificate, never with its names (RFC 9110 §4.3.5).
#[test]
fn a_server_that_is_an_address_needs_a_certificate_of_that_address() {
    let dir = TempDir::new().expect("a temporary folder");
    certificates(dir.path());
    for (certificate, name, status) in [
        ("address", None, 200),
        ("address", Some("127.0.0.1"), 200),
        ("address", Some("127.0.0.9"), 502),
        ("elsewhere", None, 502),
        ("elsewhere", Some("127.0.0.9"), 200),
        ("server", None, 502),
        ("server", Some("platform.test"), 200),
    ] {
        let server = TlsServer::named(dir.path(), certificate, &[]);
        let options = over_tls(dir.path(), server.port).unset("platform", "server_name");
        let options = match name {
            Some(name) => options.set("platform", "server_name", format!("{name:?}")),
            None => options,
        };
        let gateway = options.start();
        let token = gateway.mint();
        // The second one would be sent on a connection that was kept.
        for _ in 0..2 {
            let answer = get(&gateway, "/", &token);
            assert_eq!(answer.status, status, "{certificate} {name:?}: {}", answer.text());
        }
        let failed = gateway.metric("ds_gateway_platform_tries_failed_total", &["fault=\"tls\""]);
        assert_eq!(failed > 0.0, status == 502, "{certificate} {name:?}");
    }
}

#[test]
fn each_server_is_checked_by_its_own_name() {
    let dir = TempDir::new().expect("a temporary folder");
    certificates(dir.path());
    let (one, two) = (TlsServer::start(dir.path(), &[]), TlsServer::named(dir.path(), "second", &[]));
    let servers = |second: &str| {
        format!(
            "[{{ url = \"https://127.0.0.1:{}\", server_name = \"platform.test\" }}, \
              {{ url = \"https://127.0.0.1:{}\", server_name = \"{second}\" }}]",
            one.port, two.port
        )
    };
    for (second, good) in [("second.test", 20), ("third.test", 20)] {
        let options = over_tls(dir.path(), one.port).unset("platform", "server_name");
        let gateway = options.set("platform", "servers", servers(second)).start();
        let token = gateway.mint();
        let answers = (0..20).filter(|_| get(&gateway, "/", &token).status == 200).count();
        assert_eq!(answers, good, "{second}: what one cannot prove is sent to the other");
        let server = format!("server=\"127.0.0.1:{}\"", two.port);
        let failed = gateway.metric("ds_gateway_platform_tries_failed_total", &[&server, "fault=\"tls\""]);
        assert_eq!(failed > 0.0, second == "third.test", "{second}");
    }
}
