//! lighttpd, as it normalises a path by default and with that switched off, and what CGI is given.

use super::apache::scripts;
use super::running::{Process, Server, folder, free_addresses, write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

pub fn paths() -> Vec<Server> {
    let [by_default, lenient, cgi] = free_addresses();
    let route = "setenv.add-response-header = ( \"X-Read-Route\" => \"other\" )\n\
         $HTTP[\"url\"] =~ \"(?i)^/ds-api/user-token(/|$)\" { setenv.set-response-header = ( \"X-Read-Route\" => \"endpoint\" ) }\n";
    let off =
        "server.http-parseopts = ( \"url-normalize\" => \"disable\", \"header-strict\" => \"disable\" )\n";
    vec![
        server("lighttpd", by_default, "/ds-api/x/../user-token", route),
        server("lighttpd url-normalize off", lenient, "/ds-api//user-token", &format!("{off}{route}")),
        server("lighttpd, CGI", cgi, "/ds-api/%75ser-token", CGI),
    ]
}

pub fn fields() -> Vec<Server> {
    let [strict, lenient] = free_addresses();
    let off = "server.http-parseopts = ( \"header-strict\" => \"disable\" )\n";
    vec![
        server("lighttpd, CGI", strict, "", CGI),
        server("lighttpd header-strict off, CGI", lenient, "", &format!("{off}{CGI}")),
    ]
}

fn server(name: &'static str, address: SocketAddr, naive: &'static str, settings: &str) -> Server {
    Server::new(name, address, naive, &start(address, settings))
}

fn start(address: SocketAddr, settings: &str) -> Arc<Process> {
    let folder = folder();
    scripts(&folder);
    let www = folder.path().join("www");
    let text = format!(
        "server.document-root = \"{www}\"\nserver.bind = \"{}\"\nserver.port = {}\n\
         server.modules = ( \"mod_setenv\", \"mod_alias\", \"mod_cgi\" )\n\
         server.max-keep-alive-requests = 65535\nserver.max-keep-alive-idle = 60\n{}",
        address.ip(),
        address.port(),
        settings.replace("WWW", &www.display().to_string()),
        www = www.display(),
    );
    let file = write(&folder, "lighttpd.conf", &text);
    let mut command = Command::new("lighttpd");
    command.arg("-D").arg("-f").arg(file);
    Process::start(folder, command)
}

/// Every request is one for the program.
const CGI: &str = "alias.url = ( \"/\" => \"WWW/env.sh/\" )\ncgi.assign = ( \".sh\" => \"/bin/sh\" )\n";
