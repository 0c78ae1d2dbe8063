//! A real browser with a page of another origin: it can mint, call and see why it is refused, if its origin is listed, and nothing
//! otherwise.

use super::{is_long, program};
use crate::command::within;
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::wire::{Head, Wire};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tempfile::TempDir;

/// Serves the page, and passes on what the page reports.
fn serve(listener: TcpListener) -> Receiver<Value> {
    let (sender, receiver) = channel();
    let page = fs::read_to_string(program("page.html")).expect("the page");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (page, sender) = (page.clone(), sender.clone());
            thread::spawn(move || answer(stream, &page, &sender));
        }
    });
    receiver
}

fn answer(stream: TcpStream, page: &str, sender: &Sender<Value>) -> Option<()> {
    let mut answers = stream.try_clone().ok()?;
    let mut wire = Wire::new(stream);
    let head: Head = wire.head().ok()?;
    let body = wire.sized(head.length().unwrap_or_default()).ok()?;
    let (kind, content) = if head.start.starts_with("POST /seen") {
        // The test may be over.
        let _ = sender.send(serde_json::from_slice(&body).ok()?);
        ("text/plain", "")
    } else {
        ("text/html", page)
    };
    let length = content.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}"
    );
    answers.write_all(answer.as_bytes()).ok()
}

/// A browser with a profile of its own, ended with the test.
struct Browser {
    child: Child,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = TempDir::new().expect("a temporary folder");
        let mut command = Command::new("chromium-headless-shell");
        // As root its sandbox cannot be had. A port to debug it by keeps it open.
        command.args([
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("chromium-headless-shell, which `make clients` installs");
        Self { child, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the page saw.
fn seen(gateway: &Gateway, address: SocketAddr, reports: &Receiver<Value>) -> Value {
    let browser = Browser::open(&format!("http://{address}/?gateway=http://{}", gateway.http()));
    let report = within(120, || reports.try_recv().ok()).expect("a report of the page");
    drop(browser);
    report
}

#[test]
fn a_page_of_a_listed_origin_can_do_what_any_client_can() {
    if !is_long() {
        return;
    }
    let listener = TcpListener::bind("127.0.6.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let reports = serve(listener);
    let platform = Platform::start(Behaviour::Custom(std::sync::Arc::new(|seen, stream| {
        if seen.target == "/ds-api/broken" {
            return Ok(());
        }
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nX-Platform: yes\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        )
    })));
    let listed = Options::new(&platform).set("cors", "origins", format!("[\"http://{address}\"]")).start();
    let report = seen(&listed, address, &reports);
    let failed = "TypeError: Failed to fetch";
    let step = |name: &str| {
        let steps = report.as_array().expect("a list");
        steps.iter().find(|step| step[0] == name).cloned().unwrap_or_default()
    };
    for (name, status, from_platform) in [
        ("wrong password", 401, None),
        ("mint", 201, None),
        ("call", 200, Some("yes")),
        ("put", 200, Some("yes")),
        ("without", 401, None),
        ("broken", 502, None),
        ("revoke", 204, None),
        ("after", 401, None),
    ] {
        let step = step(name);
        assert_eq!(
            (&step[1], &step[3], &step[4]),
            (&json!(status), &json!(true), &json!(from_platform)),
            "{name}: {report}"
        );
    }
    let challenge = |name: &str| step(name)[2].as_str().unwrap_or_default().to_owned();
    assert!(challenge("wrong password").starts_with("Basic "), "{report}");
    assert!(challenge("without").contains("realm="), "{report}");
    assert!(challenge("after").contains("invalid_token"), "{report}");
    // Neither a field that is not listed, nor cookies.
    assert_eq!(step("field")[1], failed, "{report}");
    assert_eq!(step("cookies")[1], failed, "{report}");

    // Another port is another origin.
    let other = Options::new(&platform).set("cors", "origins", "[\"http://127.0.6.1:1\"]").start();
    let off = Options::new(&platform).start();
    let before = platform.requests().len();
    for gateway in [&other, &off] {
        let report = seen(gateway, address, &reports);
        let steps = report.as_array().expect("a list");
        assert!(steps.len() > 8 && steps.iter().all(|step| step[1] == failed), "{report}");
    }
    assert_eq!(platform.requests().len(), before, "nothing was sent behind a question that was refused");
}
