//! Two TLS hosts of one Apache, told apart by name alone: each is reached by its own `server_name`, with the `Host` that belongs to it.

use super::running::{Process, folder, free_addresses, write};
use crate::client::Client;
use crate::command::within;
use crate::options::Options;
use crate::platform_side::get;
use crate::platform_tls::certificates;
use std::process::Command;
use tempfile::TempDir;

#[test]
fn two_tls_hosts_of_one_apache_are_two_servers() {
    if !super::is_long() {
        return;
    }
    let (folder, [address]) = (folder(), free_addresses());
    let files = TempDir::new().expect("a temporary folder");
    certificates(files.path());
    let modules = ["mpm_event", "authz_core", "ssl", "headers"];
    let modules = modules.map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")).concat();
    let root = folder.path().display();
    let host = |name: &str, file: &str| {
        let path = files.path().join(file);
        let path = path.display();
        format!(
            "<VirtualHost {address}>\nServerName {name}\nSSLEngine on\nSSLStrictSNIVHostCheck on\n\
             SSLCertificateFile {path}.pem\nSSLCertificateKeyFile {path}.key\nHeader always set X-Host {name}\n</VirtualHost>\n"
        )
    };
    let hosts = host("platform.test", "server") + &host("second.test", "second");
    let text = format!(
        "ServerRoot {root}\nDefaultRuntimeDir {root}\nPidFile {root}/pid\nServerName gateway.test\nUser nobody\nGroup nogroup\n\
         {modules}ErrorLog /dev/stderr\nListen {address}\nDocumentRoot {root}\nMaxKeepAliveRequests 0\n\
         <Directory {root}>\nRequire all granted\n</Directory>\n{hosts}"
    );
    let file = write(&folder, "apache.conf", &text);
    let mut command = Command::new("apache2");
    command.arg("-DFOREGROUND").arg("-f").arg(file);
    let _apache = Process::start(folder, command);
    within(60, || Client::try_connect(address).ok()).expect("Apache listens");
    // One address, written in two ways.
    let port = address.port();
    let servers = format!(
        "[{{ url = \"https://{address}\", server_name = \"platform.test\" }}, \
          {{ url = \"https://[::ffff:127.0.5.1]:{port}\", server_name = \"second.test\" }}]"
    );
    // A client's name is of neither: Apache takes it for the first one's, and refuses it where TLS was for the second.
    for (setting, statuses) in [("server", [404, 404]), ("keep", [404, 421])] {
        let gateway = Options::servers(&[])
            .set("platform", "servers", &servers)
            .set("platform", "ca_file", format!("{:?}", files.path().join("ca.pem")))
            .set("platform", "host", format!("{setting:?}"))
            .set("server", "threads", "1")
            .start();
        let token = gateway.mint();
        let answers = [get(&gateway, "/absent", &token), get(&gateway, "/absent", &token)];
        let mut found = answers.each_ref().map(|answer| answer.status);
        found.sort_unstable();
        assert_eq!(found, statuses, "{setting}");
        if setting == "server" {
            let mut hosts = answers.each_ref().map(|answer| answer.value("x-host"));
            hosts.sort_unstable();
            assert_eq!(hosts, ["platform.test", "second.test"]);
        }
    }
}

/// Where Debian has them.
const MODULES: &str = "/usr/lib/apache2/modules";
