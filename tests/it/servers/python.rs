//! Python's own server and those of PyPI.

use super::installed;
use super::running::{Process, Server, folder, free_addresses, program};
use std::process::Command;

/// The name, what `apps.py` calls it, and a spelling that it reads as the endpoint.
const KINDS: [(&str, &str, &str); 8] = [
    ("Python http.server, urllib", "stdlib", "/ds%2dapi/user-token"),
    ("WSGI, wsgiref", "wsgiref", "/ds-api/%75ser-token"),
    ("Flask, Werkzeug", "flask", "/ds-api/%75ser-token"),
    ("WSGI, gunicorn", "gunicorn", "/ds-api/%75ser-token"),
    ("Django, gunicorn", "django", "/ds-api/%75ser-token"),
    ("Starlette, uvicorn", "starlette", "/ds-api%2fuser-token"),
    ("aiohttp", "aiohttp", "/ds-api/%75ser-token"),
    ("Tornado", "tornado", "/ds-api/%75ser-token"),
];

pub fn servers() -> Vec<Server> {
    let python = installed("venv/bin/python");
    let of_kind = |(name, kind, naive): (&'static str, &str, &'static str)| {
        let [address] = free_addresses();
        let mut command = Command::new(&python);
        command.arg("-B").arg(program("apps.py"));
        command.args([kind, &address.ip().to_string(), &address.port().to_string()]);
        Server::new(name, address, naive, &Process::start(folder(), command))
    };
    KINDS.map(of_kind).into()
}
