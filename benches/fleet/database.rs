//! A PostgreSQL that counts what it is asked.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::postgres_server::{Setup, TestServer};

/// The server, as an operator would set it up for so many gateways.
pub fn start(gateways: usize) -> TestServer {
    let setup = Setup::default()
        .set("fsync", "on")
        .set("shared_buffers", "512MB")
        .set("max_wal_size", "4GB")
        .set("max_connections", (3 * gateways + 20).to_string())
        .set("shared_preload_libraries", "pg_stat_statements");
    let server = TestServer::with(setup);
    server.psql("CREATE EXTENSION pg_stat_statements");
    server
}

/// What the server and this process have done up to a moment.
pub struct Usage {
    at: Instant,
    statements: BTreeMap<String, u64>,
    database: Duration,
    process: Duration,
}

/// The same, in a second.
pub struct Rates {
    /// Statements of gateways.
    pub statements: f64,
    /// Transactions that were committed, of readers and writers.
    pub commits: f64,
    /// Cores that the server was busy on.
    pub database: f64,
    /// Cores that this process was busy on.
    pub process: f64,
    /// The statements by their text, the most frequent first.
    pub by_text: Vec<(String, f64)>,
}

impl Usage {
    /// Up to now.
    pub fn of(server: &TestServer, database: &str) -> Self {
        let sql = format!(
            "SELECT sum(calls), regexp_replace(left(query, 70), '\\s+', ' ', 'g') FROM pg_stat_statements \
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = '{database}') GROUP BY 2"
        );
        let rows = server.psql(&sql);
        let row = |line: &str| {
            let (calls, text) = line.split_once('|')?;
            Some((text.to_owned(), calls.parse().ok()?))
        };
        Self {
            at: Instant::now(),
            statements: rows.lines().filter_map(row).collect(),
            database: processes_of(server).iter().map(|process| cpu_time(&process.to_string())).sum(),
            process: cpu_time("self"),
        }
    }

    /// Since `before`.
    pub fn since(&self, before: &Self) -> Rates {
        let seconds = (self.at - before.at).as_secs_f64();
        let calls = |text: &String| before.statements.get(text).copied().unwrap_or_default();
        let rate = |(text, now): (&String, &u64)| (text.clone(), (now - calls(text)) as f64 / seconds);
        let mut by_text: Vec<_> = self.statements.iter().map(rate).collect();
        by_text.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        Rates {
            statements: by_text.iter().map(|(_, rate)| rate).sum(),
            commits: by_text.iter().filter(|(text, _)| text == "COMMIT").map(|(_, rate)| rate).sum(),
            database: (self.database - before.database).as_secs_f64() / seconds,
            process: (self.process - before.process).as_secs_f64() / seconds,
            by_text,
        }
    }
}

/// The server's first process, and all that it has started.
fn processes_of(server: &TestServer) -> Vec<u32> {
    let state = fs::read_to_string(server.folder().join("data/postmaster.pid")).unwrap();
    let first: u32 = state.lines().next().unwrap().parse().unwrap();
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).chain([first]).collect()
}

/// CPU time of a process up to now, in steps of 10 ms; zero if it has ended.
fn cpu_time(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or_default();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// A line of `/proc/PROCESS/status`, in bytes.
pub fn memory(process: &str, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap() * 1024
}
