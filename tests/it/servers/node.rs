//! Node's own server and those of npm.

use super::installed;
use super::running::{Process, Server, folder, free_addresses, program};
use std::process::Command;

/// In the order of `apps.js`, each with a spelling that it reads as the endpoint.
const KINDS: [(&str, &str); 5] = [
    ("Node http, URL", "//x/ds-api/user-token"),
    ("Express 4", "/DS-API/user-token"),
    ("Express 5", "/DS-API/user-token"),
    ("Fastify", "/ds-api//user-token"),
    ("Koa", "/ds-api/%75ser-token"),
];

pub fn servers() -> Vec<Server> {
    let modules = installed("node/node_modules");
    let addresses = free_addresses::<{ KINDS.len() }>();
    let mut command = Command::new("node");
    command.arg(program("apps.js")).env("NODE_PATH", modules);
    command.arg(addresses[0].ip().to_string());
    command.args(addresses.map(|address| address.port().to_string()));
    let process = Process::start(folder(), command);
    let named = KINDS.iter().zip(addresses);
    named.map(|((name, naive), address)| Server::new(name, address, naive, &process)).collect()
}
