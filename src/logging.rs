//! Log lines: one writer thread, a bounded queue in front of it, and no line with a secret.
//!
//! A request never waits for the reader of the log: when the queue is full the line is dropped and counted, and so is one
//! that cannot be written.
//!
//! It may use `config` and `auth`.

mod redact;
mod visible;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::{SecondsFormat, Utc};
use log::{LevelFilter, Metadata, Record};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

pub use self::redact::{redact_path, redact_text};
pub use self::visible::visible;

use self::redact::Redaction;
use crate::config::{Log, LogFormat};

/// Where lines go. Its copies share the queue.
#[derive(Clone)]
pub struct Sink {
    queue: SyncSender<Entry>,
    /// Bytes in the queue, and with the writer.
    queued: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    /// What a reload may replace.
    settings: Arc<ArcSwap<Settings>>,
}

struct Settings {
    /// For people.
    is_text: bool,
    level: LevelFilter,
    access: bool,
    redaction: Redaction,
}

impl Settings {
    fn of(Log { format, level, access, redact }: &Log) -> Self {
        let is_text = match format {
            LogFormat::Auto => std::io::stderr().is_terminal(),
            LogFormat::Text => true,
            LogFormat::Json => false,
        };
        Self { is_text, level: *level, access: *access, redaction: Redaction::new(redact) }
    }
}

enum Entry {
    Line(String),
    Flush(SyncSender<()>),
}

/// What is said of one request, in the order in which a person reads it: who asked, for what, and what came of it.
#[derive(Serialize)]
pub struct AccessLine {
    /// Address of the client: the other end of the connection, or whom a trusted proxy names.
    pub client: Option<String>,
    /// As sent.
    pub method: String,
    /// Path and query, tokens redacted.
    pub path: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// Of the answer; 499 where the client went away first.
    pub status: u16,
    /// The host that the request is for: `Host`, or `:authority` over HTTP/2.
    pub host: Option<String>,
    /// `User-Agent`, tokens redacted.
    pub user_agent: Option<String>,
    /// Which way it went.
    pub route: &'static str,
    /// What was decided, or how the token endpoint answered.
    pub decision: &'static str,
    /// Why it would have been refused, where it was observed and went on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_refuse: Option<&'static str>,
    /// Who was let in.
    pub user: Option<String>,
    /// Names the token, and is no secret.
    pub token_id: Option<String>,
    /// From the end of the header to the end of the answer.
    pub duration_ms: f64,
    /// From forwarding to the header of the platform's answer.
    pub platform_ms: Option<f64>,
    /// Body bytes read from the client.
    pub bytes_received: usize,
    /// Body bytes sent to the client.
    pub bytes_sent: usize,
    /// The server of the platform that it was sent to last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// How often it was sent to one, or would have been if there had been a connection.
    #[serde(skip_serializing_if = "is_zero")]
    pub tries: usize,
    /// Also sent to the client and the platform.
    pub request_id: String,
    /// The trace that a trusted proxy began; else it is the request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What failed on the way to the platform, or, where the client went away first (499), to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<&'static str>,
}

const fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Sink {
    /// Starts the writer and makes it the process's logger, once.
    pub fn install(settings: Log) -> Self {
        let (queue, entries) = sync_channel(QUEUE);
        let level = settings.level;
        let settings = Arc::new(ArcSwap::from_pointee(Settings::of(&settings)));
        let sink = Self { queue, queued: Arc::default(), dropped: Arc::default(), settings };
        let (queued, dropped) = (Arc::clone(&sink.queued), Arc::clone(&sink.dropped));
        thread::spawn(move || write(&entries, &queued, &dropped));
        if log::set_boxed_logger(Box::new(sink.clone())).is_ok() {
            log::set_max_level(level);
        }
        sink
    }

    /// Writes lines as these settings say from now on.
    pub fn configure(&self, settings: &Log) {
        self.settings.store(Arc::new(Settings::of(settings)));
        log::set_max_level(settings.level);
    }

    /// Writes the line of a request, where the configuration wants one.
    pub fn access(&self, line: &AccessLine) {
        if self.writes_access() {
            self.push(self.format("info", "ds_gateway::access", "access", Some(line)));
        }
    }

    /// Are access lines written at all?
    pub fn writes_access(&self) -> bool {
        let settings = self.settings.load();
        settings.access && settings.level >= LevelFilter::Info
    }

    /// Path and query as they may be logged.
    pub fn redact_target(&self, target: &[u8]) -> String {
        self.settings.load().redaction.target(target)
    }

    /// Lines that were lost: nobody read them in time, or they could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits, for a while, until all lines so far are written.
    pub fn drain(&self) {
        let (done, wait) = sync_channel(1);
        let deadline = Instant::now() + Duration::from_secs(1);
        // A reader that does not read keeps the queue full: then the rest is lost, not the process stuck.
        while self.queue.try_send(Entry::Flush(done.clone())).is_err() {
            if Instant::now() > deadline {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    fn push(&self, line: String) {
        let bytes = line.len();
        let is_full = self.queued.fetch_add(bytes, Ordering::Relaxed) > QUEUE_BYTES;
        if is_full || self.queue.try_send(Entry::Line(line)).is_err() {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn format<T: Serialize>(&self, level: &str, target: &str, message: &str, more: Option<T>) -> String {
        let line = Line {
            time: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            level,
            target,
            message,
            more,
        };
        let line = match self.settings.load().is_text {
            false => serde_json::to_string(&line).unwrap_or_default() + "\n",
            true => as_text(&line),
        };
        match visible(&line) {
            Cow::Borrowed(_) => line,
            Cow::Owned(escaped) => escaped,
        }
    }
}

impl log::Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The engine's own lines below a warning are about itself. Its errors about single requests and
        // handshakes are ours to tell, in the access line.
        let quiet = metadata.target().starts_with("pingora");
        let limit = if quiet { LevelFilter::Warn } else { self.settings.load().level };
        metadata.level() <= limit && !metadata.target().starts_with("pingora_proxy")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let engine = record.target().starts_with("pingora");
        let about_one = ["Downstream handshake", "failed to acquire reusable stream"];
        if engine && about_one.iter().any(|begin| message.starts_with(begin)) {
            return;
        }
        let message = if engine { redact_text(&message) } else { message };
        let level = record.level().as_str().to_ascii_lowercase();
        let fields = Fields::of(record);
        self.push(self.format(&level, record.target(), &message, Some(fields)));
    }

    fn flush(&self) {
        self.drain();
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    time: String,
    level: &'a str,
    target: &'a str,
    message: &'a str,
    #[serde(flatten)]
    more: Option<T>,
}

/// Key-value pairs of a record: numbers and truth values as such, all else as text.
#[derive(Serialize)]
struct Fields(#[serde(with = "fields")] Vec<(String, serde_json::Value)>);

impl Fields {
    fn of(record: &Record<'_>) -> Self {
        struct Visitor(Vec<(String, serde_json::Value)>);
        impl<'kvs> log::kv::VisitSource<'kvs> for Visitor {
            fn visit_pair(
                &mut self,
                key: log::kv::Key<'kvs>,
                value: log::kv::Value<'kvs>,
            ) -> Result<(), log::kv::Error> {
                let json = value
                    .to_u64()
                    .map(Into::into)
                    .or_else(|| value.to_i64().map(Into::into))
                    .or_else(|| value.to_f64().map(Into::into))
                    .or_else(|| value.to_bool().map(Into::into));
                self.0.push((key.to_string(), json.unwrap_or_else(|| value.to_string().into())));
                Ok(())
            }
        }
        let mut visitor = Visitor(Vec::new());
        // Our visitor never fails.
        let _ = record.key_values().visit(&mut visitor);
        Self(visitor.0)
    }
}

mod fields {
    use serde::ser::{SerializeMap, Serializer};

    pub(super) fn serialize<S: Serializer>(
        pairs: &[(String, serde_json::Value)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(pairs.len()))?;
        for (key, value) in pairs {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The members of a JSON object in their order, which a map of them would not keep.
struct Pairs(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Members)
    }
}

/// `time LEVEL message key=value …`, in the order of the fields; values keep their JSON form, so that no line break gets out.
fn as_text<T: Serialize>(line: &Line<'_, T>) -> String {
    let mut text = format!("{} {:5} ", line.time, line.level.to_ascii_uppercase());
    let quoted = serde_json::Value::from(line.message).to_string();
    text.push_str(quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&quoted));
    let more = serde_json::to_string(&line.more).unwrap_or_default();
    if let Ok(Some(Pairs(more))) = serde_json::from_str::<Option<Pairs>>(&more) {
        for (key, value) in more.iter().filter(|(_, value)| !value.is_null()) {
            let _ = write!(text, " {key}={value}");
        }
    }
    text.push('\n');
    text
}

fn write(entries: &Receiver<Entry>, queued: &AtomicUsize, dropped: &AtomicU64) {
    // Not locked for good: what the command line says at its end goes there too.
    let mut out = Output { to: std::io::stderr(), is_torn: false };
    let mut pending = String::new();
    while let Ok(first) = entries.recv() {
        let mut flushed = Vec::new();
        // A moment for more to come: one write for many lines, and one waking.
        thread::sleep(GATHER);
        for entry in std::iter::once(first).chain(entries.try_iter().take(QUEUE)) {
            match entry {
                Entry::Line(line) => pending.push_str(&line),
                Entry::Flush(done) => flushed.push(done),
            }
        }
        // A log that cannot be written is no reason to stop; there is nowhere but in a metric to say so.
        dropped.fetch_add(out.write(pending.as_bytes()), Ordering::Relaxed);
        queued.fetch_sub(pending.len(), Ordering::Relaxed);
        pending.clear();
        pending.shrink_to(KEPT_BYTES);
        for done in flushed {
            let _ = done.try_send(());
        }
    }
}

/// Where lines are written to.
struct Output<W> {
    to: W,
    /// Part of a line was written last, and its rest was lost.
    is_torn: bool,
}

impl<W: std::io::Write> Output<W> {
    /// Writes lines; says how many of them were lost. None is written twice.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && self.to.write_all(b"\n").is_ok() {
            self.is_torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(0) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let written = lines.get(..lines.len() - rest.len()).unwrap_or_default();
        self.is_torn = written.last().map_or(self.is_torn, |last| *last != b'\n');
        rest.iter().filter(|byte| **byte == b'\n').count() as u64
    }
}

/// How long a line waits for company.
const GATHER: Duration = Duration::from_millis(5);

/// Lines that may wait for a slow reader.
const QUEUE: usize = 8192;

/// Bytes of lines that may wait: a client chooses how long a line is.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Memory that the writer keeps for the next lines.
const KEPT_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
