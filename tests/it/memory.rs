//! Lists and imports of any length take the memory of a page.

use crate::command::{Folder, eventually, within};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::io::{BufWriter, Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

/// The most memory that a process has had, in MB.
fn most(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

fn folder() -> Folder {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder
}

const ROWS: usize = 80_000;

#[test]
fn a_list_takes_no_more_memory_at_its_end_than_at_its_beginning() {
    let folder = folder();
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})");
    for rows in [
        "INSERT INTO audit (number, at, actor, action, subject, origin, count)
         SELECT 9, unixepoch(), 'a', 'mint', 'somebody with a long name', 'command line', 1 FROM n",
        "INSERT INTO marks (kind, name, number, second, closed, reason)
         SELECT 'user', 'somebody ' || i, 100 + i, 0, 0, 'revoke_user' FROM n",
        // Names that begin with anything: the pages go by their bytes.
        "INSERT INTO users SELECT char(33 + i % 90) || 'é' || i, i, email, organization, phc, 0, 1, 0, 0, 100 + i, NULL, 'store', NULL, NULL
         FROM n, users WHERE name = 'myUser' AND char(33 + i % 90) != ':'",
    ] {
        store.execute(&format!("{numbers} {rows}"), []).expect("rows");
    }
    let users: usize = store.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).expect("a count");
    for (arguments, rows, before_the_first) in [
        (&["user", "list"][..], users, 1),
        (&["user", "list", "--json"], users, 0),
        (&["audit", "list"], ROWS, 0),
        (&["revoke", "list", "--json"], ROWS, 0),
    ] {
        let mut child = folder.command(arguments).stdout(Stdio::piped()).spawn().expect("a command");
        let mut out = child.stdout.take().expect("stdout");
        let mut text = vec![0; 1 << 16];
        out.read_exact(&mut text).expect("a beginning");
        let early = most(child.id()).expect("a process");
        let mut late = early;
        let mut piece = vec![0; 1 << 16];
        loop {
            let count = out.read(&mut piece).expect("the rest");
            if count == 0 {
                break;
            }
            text.extend(&piece[..count]);
            late = most(child.id()).map_or(late, |now| now.max(late));
        }
        assert!(child.wait().expect("an end").success(), "{arguments:?}");
        let text = String::from_utf8(text).expect("UTF-8");
        if arguments == ["user", "list", "--json"] {
            let all: Vec<Value> = serde_json::from_str(&text).expect("a JSON array");
            assert_eq!(all.len(), rows);
        } else {
            let lines = text.lines().count() - before_the_first;
            assert!((rows..rows + 5).contains(&lines), "{arguments:?}: {lines} lines for {rows} rows");
        }
        assert!(late < early + 16, "{arguments:?}: {early} MB at first, {late} MB later");
    }
    let empty = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    assert_eq!(empty.cli(&["user", "list", "--json"], "").ok(), "[]\n");
    assert_eq!(
        empty.cli(&["user", "list"], "").ok(),
        "NAME  ORGANIZATION  EMAIL  SOURCE  STATE  LAST LOGIN  LIVE TOKENS\n"
    );
}

#[test]
fn an_import_holds_a_slice_however_long_the_file_is() {
    let folder = folder();
    let hash = "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i";
    let path = folder.dir.path().join("users.jsonl");
    let line = |name: &str| {
        format!(
            "{{\"name\":\"{name}\",\"email\":\"x@{}example.com\",\"organization\":\"O\",\"password\":\"{hash}\"}}\n",
            "host.".repeat(40)
        )
    };
    let mut file = BufWriter::new(fs::File::create(&path).expect("a file"));
    for number in 0..ROWS {
        file.write_all(line(&format!("user{number}")).as_bytes()).expect("a line");
    }
    // One that is there twice, one that a person would confuse, one that is too long, and one that is no user.
    for bad in [line("user7"), line("USER8"), format!("{}\n", "x".repeat(100_000)), "{}\n".to_owned()] {
        file.write_all(bad.as_bytes()).expect("a line");
    }
    file.flush().expect("a file");
    for from in [path.to_str().expect("a path"), "-"] {
        let input = if from == "-" { fs::File::open(&path).expect("a file").into() } else { Stdio::null() };
        let mut command = folder.command(&["user", "import", from]);
        let mut child = command.stdin(input).stderr(Stdio::piped()).spawn().expect("a command");
        let (mut early, mut late) = (None, 0);
        let status = within(120, || {
            late = most(child.id()).unwrap_or(late);
            early = early.or((late > 0).then_some(late));
            child.try_wait().expect("a child")
        });
        assert_eq!(status.expect("an end").code(), Some(65), "{from}");
        let mut said = String::new();
        child.stderr.take().expect("stderr").read_to_string(&mut said).expect("UTF-8");
        let faults: Vec<&str> = said.lines().skip(1).collect();
        assert_eq!(faults.len(), 4, "{said}");
        for (place, (fault, word)) in faults.iter().zip(["already", "user8", "longer", "missing"]).enumerate()
        {
            let number = ROWS + 1 + place;
            assert!(fault.contains(&format!(":{number}: ")) && fault.contains(word), "{fault}");
        }
        // The names' hashes are a few MB of it; the file itself is more than 25.
        assert!(late < 48, "{from}: {early:?} MB at first, {late} MB later");
    }
    assert_eq!(folder.cli(&["user", "list"], "").ok().lines().count(), 2, "nothing was imported");

    // From a pipe, which can be read only once.
    let few = format!("{}{}\n{}", line("one"), "  ", line("two"));
    assert_eq!(
        folder.cli(&["user", "import", "-"], &few).ok(),
        "imported 2 users, added: 2, updated: 0, unchanged: 0\n"
    );
    assert_eq!(
        folder.cli(&["user", "import", "-"], &few).ok(),
        "imported 2 users, added: 0, updated: 0, unchanged: 2\n"
    );
    eventually("both", || folder.cli(&["user", "list"], "").stdout.contains("two").then_some(()));
}

/// What a process has in memory now, in kB.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number")
}

/// The default of `limits.revocations_per_user`.
const LIMIT: u64 = 300_000;

/// So many revoked tokens of one user, from this sequence on, that expire within a day.
fn revoke_many(folder: &Folder, first: u64, last: u64) {
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    store.busy_timeout(Duration::from_secs(60)).expect("a connection");
    store
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF;
             BEGIN IMMEDIATE;
             WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO revoked_tokens (token_id, keep, dated, lived, user, number)
               SELECT randomblob(16), unixepoch() + i % 86400, 1, 0, '{USER}', 1000000 + i FROM n;
             UPDATE sequence SET number = 1000000 + {last};
             COMMIT;"
        ))
        .expect("rows");
}

#[test]
fn a_user_at_the_limit_of_revocations_takes_no_more_than_its_bytes_say() {
    let count = |gateway: &Gateway| gateway.metric("ds_gateway_revocations", &["kind=\"token\""]) as u64;
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let before = resident(gateway.process());
    // One after the other, while it runs.
    let pieces = 60;
    for piece in 0..pieces {
        let size = LIMIT / pieces;
        revoke_many(&gateway.folder, piece * size, (piece + 1) * size - 1);
        eventually("the gateway to know", || (count(&gateway) == (piece + 1) * size).then_some(()));
    }
    let grown = resident(gateway.process()) - before;
    let gateway = gateway.stop().run(&[]);
    assert_eq!(count(&gateway), LIMIT);
    let loaded = resident(gateway.process()).saturating_sub(before);
    // Past the harness, which would keep it to itself.
    drop(writeln!(std::io::stderr(), "{LIMIT} revocations: {grown} kB grown, {loaded} kB loaded"));
    // About 12 MB; a load has read ahead besides.
    assert!(grown < 18_000 && loaded < 30_000, "{grown} kB grown, {loaded} kB loaded");
    gateway.log_in(USER, PASSWORD).is_error(429);
}
