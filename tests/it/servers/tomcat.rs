//! Tomcat, with what it refuses by default and with what it can be told to take.

use super::running::{Process, Server, folder, free_addresses, program};
use std::fs;
use std::process::Command;

pub fn servers() -> Vec<Server> {
    let [by_default, lenient] = free_addresses();
    let folder = folder();
    let jars = fs::read_dir("/usr/share/java").into_iter().flatten().flatten().map(|entry| entry.path());
    let jars = jars.filter(|path| path.to_string_lossy().contains("/tomcat10-"));
    let jars: Vec<String> = jars.map(|path| path.display().to_string()).collect();
    assert!(!jars.is_empty(), "libtomcat10-java, which `make servers` installs");
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-cp", &jars.join(":")]).arg(program("Readers.java")).arg(folder.path());
    command.args([by_default.ip().to_string(), by_default.port().to_string(), lenient.port().to_string()]);
    let process = Process::start(folder, command);
    vec![
        Server::new("Tomcat", by_default, "/ds-api;x/user-token", &process),
        Server::new("Tomcat, lenient", lenient, "/ds-api%2fuser-token", &process),
    ]
}
