//! A start over many revocations, on each of the engines: the real program, until it is ready.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ds_gateway::clock::wall;

use crate::database::{self, memory};
use crate::gateway::configuration;

/// Prints what it is without revocations, and with so many.
pub fn measure(rows: u64) {
    println!("| store | revocations | ready after | rows/s | resident | at most |");
    println!("|---|---|---|---|---|---|");
    let server = database::start(3);
    for count in [0, rows] {
        let folder = tempfile::tempdir().unwrap();
        let database = server.create_database();
        for (engine, url) in [("SQLite", "sqlite:bench.db".to_owned()), ("PostgreSQL", server.url(&database))]
        {
            let folder = folder.path().join(engine);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("gateway.toml"), configuration(&url)).unwrap();
            drop(Running::start(&folder, &["--init"]));
            if count > 0 {
                eprintln!("filling {engine} with {count} revocations");
                match engine {
                    "SQLite" => fill_file(&folder.join("state/bench.db"), count),
                    _ => drop(server.psql_in(&database, &filling(count))),
                }
            }
            // The first one finds nothing in the caches of the machine that was not just written.
            for _ in 0..3 {
                let (running, ready) = Running::start(&folder, &[]);
                thread::sleep(Duration::from_secs(1));
                let process = running.0.id().to_string();
                println!(
                    "| {engine} | {count} | {:.2} s | {:.2} M | {:.1} MB | {:.1} MB |",
                    ready.as_secs_f64(),
                    count as f64 / ready.as_secs_f64() / 1e6,
                    memory(&process, "VmRSS") as f64 / 1e6,
                    memory(&process, "VmHWM") as f64 / 1e6,
                );
            }
        }
    }
}

/// A gateway that is ended when it is dropped.
struct Running(Child);

impl Running {
    /// Starts it; how long it took until it was ready.
    fn start(folder: &Path, options: &[&str]) -> (Self, Duration) {
        let log = folder.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ds-gateway"));
        command.args(["run", "--config", "gateway.toml"]).args(options).current_dir(folder);
        command.stdin(Stdio::null()).stderr(File::create(&log).unwrap());
        let began = Instant::now();
        let mut running = Self(command.spawn().unwrap());
        while !is_ready(&log) {
            let has_ended = running.0.try_wait().unwrap().is_some();
            assert!(!has_ended, "{}", fs::read_to_string(&log).unwrap_or_default());
            thread::sleep(Duration::from_millis(1));
        }
        (running, began.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        self.0.wait().unwrap();
    }
}

/// Does it say so, at the address that it has logged?
fn is_ready(log: &Path) -> bool {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut lines = lines.filter(|line| line["message"] == "listening" && line["listener"] == "admin");
    let address = lines.find_map(|line| line["address"].as_str()?.parse::<SocketAddr>().ok());
    let mut answer = String::new();
    address.is_some_and(|address| {
        let Ok(mut stream) = TcpStream::connect(address) else { return false };
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    })
}

/// Revokes tokens that nobody has and that expire in the same hour, in the order of their names: one after the other, by way of a gateway, it would take hours.
fn filling(count: u64) -> String {
    let (step, keep) = (i64::MAX.unsigned_abs() / count, wall().plus(86_400).0);
    format!(
        "INSERT INTO revoked_tokens (token_id, keep, dated, number) \
         SELECT decode(lpad(to_hex(n * {step}), 16, '0') || left(md5(n::text), 16), 'hex'), {keep}, true, \
         (SELECT number FROM sequence) FROM generate_series(1, {count}::bigint) AS n; ANALYZE revoked_tokens"
    )
}

fn fill_file(path: &Path, count: u64) {
    let (step, keep) = (i64::MAX.unsigned_abs() / count, wall().plus(86_400).0);
    let mut store = rusqlite::Connection::open(path).unwrap();
    store.pragma_update(None, "synchronous", "OFF").unwrap();
    let rows: Vec<u64> = (1..=count).collect();
    for rows in rows.chunks(500_000) {
        let transaction = store.transaction().unwrap();
        let sql = "INSERT INTO revoked_tokens (token_id, keep, dated, number) \
                   VALUES (?1, ?2, 1, (SELECT number FROM sequence))";
        let mut insert = transaction.prepare(sql).unwrap();
        for row in rows {
            let id = (u128::from(row * step) << 64) | u128::from(fastrand::u64(..));
            insert.execute((id.to_be_bytes(), keep)).unwrap();
        }
        drop(insert);
        transaction.commit().unwrap();
    }
}
