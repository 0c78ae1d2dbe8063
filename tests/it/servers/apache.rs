//! Apache httpd: its own reading of a path, with escaped slashes refused, kept and decoded, and what CGI is given.

use super::running::{Process, Server, folder, free_addresses, program, write};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

pub fn paths() -> Vec<Server> {
    let addresses @ [refusing, keeping, decoding, cgi] = free_addresses();
    let mut text = addresses.map(|address| format!("Listen {address}\n")).concat();
    for (address, slashes) in [(refusing, "Off"), (keeping, "NoDecode"), (decoding, "On")] {
        text += &format!(
            "<VirtualHost {address}>\nAllowEncodedSlashes {slashes}\n\
             Header always set X-Read-Route other\n\
             Header always set X-Read-Uri \"expr=%{{REQUEST_URI}}\"\n\
             <LocationMatch \"(?i)^/ds-api/user-token(/|$)\">\nHeader always set X-Read-Route endpoint\n</LocationMatch>\n\
             </VirtualHost>\n"
        );
    }
    text +=
        &format!("<VirtualHost {cgi}>\nAllowEncodedSlashes On\nScriptAlias / www/env.sh/\n</VirtualHost>\n");
    let process = start(&text);
    vec![
        Server::new("Apache", refusing, "/ds-api/x/../user-token", &process),
        Server::new("Apache AllowEncodedSlashes NoDecode", keeping, "/ds-api//user-token", &process),
        Server::new("Apache AllowEncodedSlashes On", decoding, "/ds-api%2fuser-token", &process),
        Server::new("Apache, CGI", cgi, "/ds-api/%2e/user-token", &process),
    ]
}

pub fn fields() -> Vec<Server> {
    let [address] = free_addresses();
    let text =
        format!("Listen {address}\n<VirtualHost {address}>\nScriptAlias / www/env.sh/\n</VirtualHost>\n");
    vec![Server::new("Apache, CGI", address, "", &start(&text))]
}

fn start(hosts: &str) -> Arc<Process> {
    let folder = folder();
    scripts(&folder);
    let modules = ["mpm_event", "authz_core", "headers", "alias", "env", "setenvif", "cgi"];
    let modules = modules.map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")).concat();
    let root = folder.path().display();
    let text = format!(
        "ServerRoot {root}\nDefaultRuntimeDir {root}\nPidFile {root}/pid\nServerName gateway.test\nUser nobody\nGroup nogroup\n\
         {modules}ErrorLog /dev/stderr\nLogLevel crit\nDocumentRoot {root}/www\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\n\
         HttpProtocolOptions Unsafe\n<Directory {root}/www>\nRequire all granted\n</Directory>\n{hosts}"
    );
    let file = write(&folder, "apache.conf", &text);
    let mut command = Command::new("apache2");
    command.arg("-DFOREGROUND").arg("-f").arg(file);
    Process::start(folder, command)
}

/// A folder with the CGI program.
pub fn scripts(folder: &TempDir) {
    let www = folder.path().join("www");
    fs::create_dir(&www).expect("a folder");
    let script = www.join("env.sh");
    fs::copy(program("env.sh"), &script).expect("a copy");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Where Debian has them.
const MODULES: &str = "/usr/lib/apache2/modules";
