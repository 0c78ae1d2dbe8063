//! PHP's own server.

use super::running::{Process, Server, folder, free_addresses, program};
use std::process::Command;

pub fn servers() -> Vec<Server> {
    let [address] = free_addresses();
    let folder = folder();
    let mut command = Command::new("php");
    command.args(["-n", "-S", &address.to_string()]).arg(program("router.php"));
    vec![Server::new("PHP", address, "//x/ds-api/user-token", &Process::start(folder, command))]
}
