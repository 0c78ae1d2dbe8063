//! HAProxy, as it is and with all that it can normalise. It is installed for every run.

use super::NAMES;
use super::running::{Process, Server, folder, free_addresses, write};
use std::process::Command;

pub fn paths() -> Vec<Server> {
    let [plain, normal] = free_addresses();
    let route = "acl endpoint path,url_dec -i -m reg ^/ds-api/user-token(/|$)\n\
         http-request return status 200 content-type text/plain lf-string \"read route endpoint\\n\" if endpoint\n\
         http-request return status 200 content-type text/plain lf-string \"read route other\\nread path %[path]\\nread url_dec %[path,url_dec]\\n\"\n";
    let all = "http-request normalize-uri fragment-strip\n\
         http-request normalize-uri percent-decode-unreserved\n\
         http-request normalize-uri path-merge-slashes\n\
         http-request normalize-uri path-strip-dot\n\
         http-request normalize-uri path-strip-dotdot full\n";
    let text = format!(
        "{COMMON}frontend plain\nbind {plain}\n{ACCEPT}{route}\nfrontend normal\nbind {normal}\n{ACCEPT}{all}{route}"
    );
    let process = start(&text);
    vec![
        Server::new("HAProxy", plain, "/ds%2dapi/user-token", &process),
        Server::new("HAProxy normalize-uri", normal, "/x/..//ds-api/./user-token", &process),
    ]
}

pub fn fields() -> Vec<Server> {
    let [address] = free_addresses();
    let values = NAMES.map(|name| format!("{name}: %[req.fhdr({name})]\\n")).concat();
    let text = format!(
        "{COMMON}frontend fields\nbind {address}\n{ACCEPT}http-request return status 200 content-type text/plain lf-string \"{values}\"\n"
    );
    vec![Server::new("HAProxy", address, "", &start(&text))]
}

fn start(configuration: &str) -> std::sync::Arc<Process> {
    let folder = folder();
    let file = write(&folder, "haproxy.cfg", configuration);
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(file);
    Process::start(folder, command)
}

const COMMON: &str = "global\nmaxconn 500\nexpose-experimental-directives\n\
    defaults\nmode http\ntimeout connect 20s\ntimeout client 120s\ntimeout server 20s\n";

/// It refuses what is not RFC 3986's, unless it is told not to.
const ACCEPT: &str = "option accept-invalid-http-request\n";
