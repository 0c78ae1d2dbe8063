//! The `curl` program: a client that speaks both protocols, and that is as strict as those in the field.

use crate::command::{Done, finish};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

pub const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// What curl is told to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    const fn option(self) -> &'static str {
        match self {
            Self::Http1 => "--http1.1",
            Self::Http2 => "--http2",
        }
    }

    /// As curl reports it.
    const fn version(self) -> &'static str {
        match self {
            Self::Http1 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// What curl got.
#[derive(Debug)]
pub struct Fetched {
    /// Zero only if the whole answer arrived.
    pub exit: Option<i32>,
    pub status: u64,
    pub version: String,
    /// The fields of the last answer, names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub stderr: String,
}

impl Fetched {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Checks that the whole answer came, with this status.
    #[track_caller]
    pub fn is(&self, status: u64) -> &Self {
        assert_eq!((self.exit, self.status), (Some(0), status), "{} {self:?}", self.text());
        self
    }

    /// Checks that this is one of the gateway's own errors.
    #[track_caller]
    pub fn is_error(&self, status: u64) {
        self.is(status);
        let json = self.json();
        assert!(json["error"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{json}");
        assert_eq!(self.values("content-type"), ["application/json"], "{self:?}");
        assert!(self.values("server").is_empty(), "{self:?}");
        assert_eq!(self.values("x-request-id").len(), 1, "{self:?}");
        assert_eq!(self.values("www-authenticate").len(), usize::from(status == 401), "{self:?}");
    }
}

/// Fetches a URL with more arguments, and `input` on standard input; checks that the protocol was the one asked for.
#[track_caller]
pub fn curl(protocol: Protocol, url: &str, arguments: &[&str], input: &str) -> Fetched {
    let fetched = curl_any(&[&[protocol.option()], arguments].concat(), url, input);
    let spoke = fetched.version == protocol.version() || fetched.exit != Some(0);
    assert!(spoke, "{protocol:?}: {fetched:?}");
    fetched
}

/// Fetches a URL, the protocol left to the arguments.
pub fn curl_any(arguments: &[&str], url: &str, input: &str) -> Fetched {
    let dir = TempDir::new().expect("a temporary folder");
    let mut command = Command::new("curl");
    command
        .args(["-q", "-sSk", "--max-time", "18", "-o", "body", "-D", "head", "-w", "%{json}"])
        .args(arguments)
        .arg(url)
        .current_dir(dir.path());
    read(finish(command, input), dir.path())
}

fn read(done: Done, folder: &Path) -> Fetched {
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let head = fs::read(folder.join("head")).unwrap_or_default();
    let head = String::from_utf8_lossy(&head).replace("\r\n", "\n");
    // Interim answers come first.
    let last = head.trim_end().rsplit("\n\n").next().unwrap_or_default();
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Fetched {
        exit: done.code,
        status: report["http_code"].as_u64().unwrap_or_default(),
        version: report["http_version"].as_str().unwrap_or_default().to_owned(),
        fields: last.lines().skip(1).filter_map(field).collect(),
        body: fs::read(folder.join("body")).unwrap_or_default(),
        stderr: done.stderr,
    }
}
