//! A reader that is not ours: HAProxy, as strict as it can be, is sent the bytes that the platform was sent. It must find one request in
//! each, the same, and nothing behind it: that two sides agree does not show that they are right.

use super::recorder::{Arrived, Recorder};
use crate::client::{Channel, Client};
use crate::servers::running::{Process, Server, folder, free_addresses, write};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

pub struct ThirdReader {
    recorder: Recorder,
    strict: Server,
    /// For targets and names that are beyond RFC 3986, or that many servers hide from applications.
    lenient: Server,
    _process: Arc<Process>,
}

impl ThirdReader {
    pub fn open() -> Self {
        let recorder = Recorder::plain();
        let [strict, lenient] = free_addresses();
        let text = format!(
            "global\nmaxconn 500\ntune.bufsize 131072\ntune.maxrewrite 4096\ntune.http.maxhdr 256\n\
             defaults\nmode http\ntimeout connect 20s\ntimeout client 20s\ntimeout server 20s\n\
             frontend strict\nbind {strict}\noption http-restrict-req-hdr-names reject\ndefault_backend platform\n\
             frontend lenient\nbind {lenient}\noption accept-invalid-http-request\n\
             option http-restrict-req-hdr-names preserve\ndefault_backend platform\n\
             backend platform\noption http-restrict-req-hdr-names preserve\nserver one {}\n",
            recorder.platform.address
        );
        let folder = folder();
        let file = write(&folder, "haproxy.cfg", &text);
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(file);
        let process = Process::start(folder, command);
        let strict = Server::new("HAProxy", strict, "", &process);
        let lenient = Server::new("HAProxy", lenient, "", &process);
        Self { recorder, strict, lenient, _process: process }
    }

    /// Holds what arrived against what HAProxy reads.
    pub fn check(&self, arrived: &[Arrived]) {
        let mut seen = BTreeSet::new();
        let mut faults = Vec::new();
        let (mut strict, mut lenient) = (0, 0);
        for arrived in arrived {
            // But for its own id, and the peer, one request comes often.
            if !seen.insert(shape(arrived)) {
                continue;
            }
            let server = if is_usual(arrived) {
                strict += 1;
                &self.strict
            } else {
                lenient += 1;
                &self.lenient
            };
            if let Err(fault) = self.read(server.address, arrived) {
                faults.push(format!("{}: \"{}\": {fault}", server.name, shown(&arrived.raw)));
            }
        }
        eprintln!("HAProxy read {strict} strictly and {lenient} leniently");
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
        assert!(strict > lenient, "{strict} and {lenient}");
    }

    /// Sends it, with another request behind it: both must come out, and nothing between.
    fn read(&self, address: SocketAddr, sent: &Arrived) -> Result<(), String> {
        const LAST: &str =
            "GET /last HTTP/1.1\r\nHost: last.test\r\nConnection: close\r\nX-Forwarded-For: third\r\n\r\n";
        let client = sent.head.values("x-forwarded-for").concat();
        let client = client.rsplit([',', ' ']).next().unwrap_or_default().to_owned();
        let mut connection: Client<Box<dyn Channel>> = Client::connect(address).plain();
        drop(connection.try_send([&sent.raw, LAST.as_bytes()].concat()));
        let raw = connection.wire().rest().map_err(|fault| format!("{fault:?}"))?;
        let (found, last) = (self.recorder.take(&client), self.recorder.take("third"));
        let [found] = found.as_slice() else {
            return Err(format!("{} requests; {}", found.len(), shown(&raw)));
        };
        if shape(found) != shape(sent) {
            return Err(format!("read as \"{}\"", shown(&found.raw)));
        }
        if last.len() != 1 || !last[0].body.is_empty() {
            return Err(format!("{} behind it; {}", last.len(), shown(&raw)));
        }
        Ok(())
    }
}

fn shown(raw: &[u8]) -> String {
    raw[..raw.len().min(1_500)].escape_ascii().to_string()
}

/// What must be the same: request line, fields but for those of one connection, body.
fn shape(arrived: &Arrived) -> String {
    let mut fields: Vec<(String, &str)> = arrived
        .head
        .fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .filter(|(name, _)| !matches!(name.as_str(), "connection" | "x-request-id" | "traceparent"))
        .collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    format!("{} {fields:?} {}", arrived.head.start, arrived.body.escape_ascii())
}

fn is_usual(arrived: &Arrived) -> bool {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let target = arrived.head.start.split(' ').nth(1).unwrap_or_default();
    let is_target = target.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"#<>[]\\^`{|}".contains(&byte));
    is_target && arrived.head.fields.iter().all(|(name, _)| is_name(name))
}
