//! nginx, with slashes merged and not, and in front of PHP's FastCGI.

use super::NAMES;
use super::running::{Process, Server, folder, free_addresses, program, write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

pub fn paths() -> Vec<Server> {
    let [merging, keeping] = free_addresses();
    let answers = "default_type text/plain;\n\
         location ~* \"^/ds-api/user-token(/|$)\" { return 200 \"read route endpoint\\nread uri $uri\\n\"; }\n\
         location / { return 200 \"read route other\\nread uri $uri\\n\"; }\n";
    let text = format!(
        "server {{ listen {merging};\n{answers}}}\nserver {{ listen {keeping}; merge_slashes off;\n{answers}}}\n"
    );
    let process = start(folder(), &text);
    vec![
        Server::new("nginx", merging, "/ds-api/x/../user-token", &process),
        Server::new("nginx merge_slashes off", keeping, "/ds-api/%75ser-token", &process),
    ]
}

/// Its variables, and what it hands to PHP.
pub fn fields() -> Vec<Server> {
    let [variables, fastcgi, php] = free_addresses();
    let mut values = String::new();
    for name in NAMES {
        let variable = name.replace('-', "_");
        values += &format!("{name}: $http_{variable}\\n");
    }
    let text = format!(
        "server {{ listen {variables}; location / {{ default_type text/plain; return 200 \"{values}\"; }} }}\n\
         server {{ listen {fastcgi}; location / {{\n\
         fastcgi_pass {php}; fastcgi_param SCRIPT_FILENAME {}; fastcgi_param REQUEST_METHOD $request_method;\n\
         fastcgi_param REQUEST_URI $request_uri; fastcgi_param REDIRECT_STATUS 200; }} }}\n",
        program("router.php").display()
    );
    let process = start(folder(), &text);
    let behind = start_php(php);
    vec![
        Server::new("nginx variables", variables, "", &process),
        Server::new("nginx, php-cgi", fastcgi, "", &process).with(behind),
    ]
}

fn start_php(address: SocketAddr) -> Arc<Process> {
    let mut command = Command::new("php-cgi");
    // It would end after 500.
    command.args(["-n", "-b", &address.to_string()]).env("PHP_FCGI_MAX_REQUESTS", "1000000");
    Process::start(folder(), command)
}

fn start(folder: TempDir, servers: &str) -> Arc<Process> {
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {of};\n"));
    let text = format!(
        "daemon off; master_process off; pid pid; error_log stderr crit;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; keepalive_requests 1000000; ignore_invalid_headers off; underscores_in_headers on;\n{}\n{servers}}}\n",
        temporary.concat()
    );
    write(&folder, "nginx.conf", &text);
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder.path());
    Process::start(folder, command)
}
