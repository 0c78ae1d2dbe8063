//! Servers of Debian in front of the gateway, as they are shipped, and Apache with several TLS hosts behind it.

use super::{Place, UPLOADED, check, check_lane, is_long, with_curl};
use crate::client::request;
use crate::command::{eventually, finish};
use crate::curl::{Protocol, curl_any};
use crate::gateway::Gateway;
use crate::http2::token_field;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::servers::running::{Process, folder, free_addresses, write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

/// Has curl do all steps through a balancer, and get a body back whose length the platform does not say.
#[track_caller]
fn serves(name: &str, balancer: SocketAddr, platform: &Platform, gateway: &Gateway) {
    eventually(name, || TcpStream::connect(balancer).ok());
    let place = Place { base: format!("http://{balancer}"), ca: "unused".into() };
    let told = with_curl(Protocol::Http1, &place);
    assert_eq!(check(name, &told, platform), Ok(()));
    // What nginx speaks unless it is told otherwise costs more.
    if name != "nginx, HTTP/1.0" {
        assert_eq!(check_lane(name, gateway), Ok(()));
    }
    platform.behave(Behaviour::Mirror { chunked: true });
    let token = token_field(&gateway.mint());
    let body = "c".repeat(UPLOADED);
    for _ in 0..3 {
        let answer = curl_any(&["-H", &token, "-T", "-"], &format!("http://{balancer}/mirror"), &body);
        answer.is(200);
        assert!(answer.body == body.as_bytes(), "{name}: {} bytes", answer.body.len());
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn nginx_in_front_is_served() {
    if !is_long() {
        return;
    }
    // It speaks HTTP/1.0 to what is behind it unless it is told otherwise.
    for (name, settings) in [
        ("nginx, HTTP/1.0", ""),
        ("nginx, HTTP/1.1", "proxy_http_version 1.1;"),
        (
            "nginx, HTTP/1.1, kept connections",
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;",
        ),
    ] {
        let platform = Platform::echo();
        let gateway = Options::new(&platform).set("server", "trusted_proxies", "[\"127.0.0.1\"]").start();
        let ([address], folder) = (free_addresses(), folder());
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {of};"));
        let text = format!(
            "daemon off; master_process off; pid pid; error_log stderr warn; events {{ worker_connections 64; }}\n\
             http {{ access_log off; {}\nupstream gateway {{ server {}; keepalive 4; }}\n\
             server {{ listen {address}; client_max_body_size 0; location / {{ proxy_pass http://gateway; {settings} }} }} }}\n",
            temporary.concat(),
            gateway.http()
        );
        write(&folder, "nginx.conf", &text);
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder.path());
        let nginx = Process::start(folder, command);
        serves(name, address, &platform, &gateway);
        drop(nginx);
    }
}

#[test]
fn haproxy_in_front_is_served_and_its_health_check_is_answered() {
    for (name, health) in [
        ("HAProxy, a check of HTTP/1.0", "option httpchk GET /readyz"),
        (
            "HAProxy, a check of HTTP/1.1",
            "option httpchk\n http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost",
        ),
    ] {
        let platform = Platform::echo();
        let mut gateway = Options::new(&platform)
            .set("server", "trusted_proxies", "[\"127.0.0.1\"]")
            .set("server", "drain_delay", "\"10m\"")
            .start();
        let ([address], folder) = (free_addresses(), folder());
        let text = format!(
            "global\n maxconn 100\n log stdout format raw local0\n\
             defaults\n mode http\n log global\n option log-health-checks\n timeout connect 20s\n timeout client 60s\n timeout server 60s\n timeout check 20s\n\
             frontend clients\n bind {address}\n option forwardfor\n default_backend gateways\n\
             backend gateways\n {health}\n default-server inter 100ms rise 1 fall 1\n server one {} check port {}\n",
            gateway.http(),
            gateway.admin_address().port()
        );
        let file = write(&folder, "haproxy.cfg", &text);
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(file);
        let haproxy = Process::start(folder, command);
        eventually("the first check", || haproxy.log().contains("check passed, code: 200").then_some(()));
        serves(name, address, &platform, &gateway);
        // A gateway that is about to stop says so while it still serves.
        gateway.signal("TERM");
        eventually("the check to fail", || haproxy.log().contains("wrong status, code: 503").then_some(()));
        let answer = curl_any(&[], &format!("http://{address}/ds-api/x"), "");
        assert_eq!(
            (answer.status, answer.values("x-request-id").len()),
            (503, 0),
            "HAProxy's own: {answer:?}"
        );
        assert_eq!(gateway.client().exchange(request("GET", "/ds-api/x", &[])).status, 401, "still served");
        gateway.signal("TERM");
        gateway.ends();
    }
}

/// One address, two hosts, each with a certificate of its own: which one answers, the name in TLS decides.
#[test]
fn apache_with_two_tls_hosts_behind_answers_as_the_one_that_is_configured() {
    if !is_long() {
        return;
    }
    let ([address], folder) = (free_addresses(), folder());
    let script = "set -e\n\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem\n\
        for host in one two; do\n\
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$host -keyout $host.key -out $host.csr\n\
        printf \"subjectAltName=DNS:$host.test\\n\" > $host.ext\n\
        openssl x509 -req -in $host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $host.ext -out $host.pem\n\
        done";
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(folder.path());
    finish(command, "").ok();
    let root = folder.path().display().to_string();
    let modules = ["mpm_event", "authz_core", "headers", "ssl", "alias"];
    let modules =
        modules.map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    let hosts = ["one", "two"].map(|host| {
        format!(
            "<VirtualHost {address}>\nServerName {host}.test\nSSLEngine on\nSSLCertificateFile {root}/{host}.pem\n\
             SSLCertificateKeyFile {root}/{host}.key\nHeader always set X-Host {host}\nRedirect 404 /\n</VirtualHost>\n"
        )
    });
    let text = format!(
        "ServerRoot {root}\nDefaultRuntimeDir {root}\nPidFile {root}/pid\nServerName apache.test\nUser nobody\nGroup nogroup\n\
         {}ErrorLog /dev/stderr\nLogLevel warn\nListen {address} https\nSSLSessionCache none\n{}",
        modules.concat(),
        hosts.concat()
    );
    let file = write(&folder, "apache.conf", &text);
    let ca = folder.path().join("ca.pem");
    let mut command = Command::new("apache2");
    command.arg("-DFOREGROUND").arg("-f").arg(file);
    let apache = Process::start(folder, command);
    eventually("Apache", || TcpStream::connect(address).ok());
    for host in ["one", "two"] {
        let gateway = Options::servers(&[&format!("https://{address}")])
            .set("platform", "server_name", format!("\"{host}.test\""))
            .set("platform", "ca_file", format!("{ca:?}"))
            .start();
        let token = gateway.mint();
        // A host that is another one's is refused by Apache itself (421).
        let other = if host == "one" { "two" } else { "one" };
        for (name, status) in [(host, 404), (other, 421)] {
            let ask = format!("GET /ds-api/x HTTP/1.1\r\nHost: {name}.test\r\nuser-token: {token}\r\n\r\n");
            let answer = gateway.client().exchange(ask);
            assert_eq!(answer.status, status, "{name}: {answer:?} {}", apache.log());
            assert!(status != 404 || answer.values("x-host") == [host], "{answer:?}");
        }
        assert_eq!(gateway.client().exchange(request("GET", "/ds-api/x", &[])).status, 401);
    }
}
