//! Housekeeping end to end: a store full of what is to be deleted, while clients go on. `HOUSEKEEPING_ROWS` says how many rows of
//! each kind.

use crate::audit::token_id;
use crate::client::Client;
use crate::command::{Folder, eventually, within};
use crate::gateway::{Gateway, USER};
use crate::revocation::{Forge, delete, deployment_with, is_204};
use rusqlite::Connection;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Rows of each kind; a few thousand take seconds.
fn row_count() -> u64 {
    std::env::var("HOUSEKEEPING_ROWS").map_or(5_000, |text| text.parse().expect("a number"))
}

/// Seconds, only to end a test that hangs.
fn deadline() -> u64 {
    60 + row_count() / 500
}

fn store(folder: &Folder) -> Connection {
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    store.busy_timeout(Duration::from_secs(60)).expect("a connection");
    store
}

/// So many rows of each kind, all as old as the store, and then four days in which gateways ran: the hour of the rows has ended.
fn fill(folder: &Folder, rows: u64) {
    let store = store(folder);
    store
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF;
             BEGIN IMMEDIATE;
             CREATE TEMP TABLE n AS
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i FROM n;
             INSERT INTO revoked_tokens (token_id, keep, dated, lived, user, number)
               SELECT randomblob(16), unixepoch() + i % 3600, 1, 0, 'user ' || i % 1000, 1 FROM n;
             INSERT INTO marks (kind, name, number, second, lived, closed, reason)
               SELECT 'user', 'gone ' || i, 1, 0, 0, 1, 'user_remove' FROM n;
             INSERT INTO audit (number, at, lived, actor, action, subject, origin, count)
               SELECT 1, unixepoch(), 0, 'test', 'test', 'row ' || i, 'test', 1 FROM n;
             INSERT INTO gateways (id, applied, seen_at, lived) SELECT 'killed ' || i, 1, 0, 0 FROM n;
             INSERT INTO hours (lived, number) VALUES (3600, 0);
             UPDATE clock SET lived = lived + 4 * 86400;
             COMMIT;"
        ))
        .expect("rows");
}

const KINDS: [&str; 4] = [
    "SELECT count(*) FROM revoked_tokens WHERE lived = 0",
    "SELECT count(*) FROM marks WHERE name LIKE 'gone %'",
    "SELECT count(*) FROM audit WHERE action = 'test'",
    "SELECT count(*) FROM gateways WHERE id LIKE 'killed %'",
];

fn left(store: &Connection) -> [u64; 4] {
    KINDS.map(|query| store.query_row(query, [], |row| row.get(0)).expect("a count"))
}

/// Revokes tokens, each after the answer to the last, until it is told to end; how long each took.
fn revoke_all_the_time(gateway: &Gateway, forge: &Forge, is_over: impl Fn() -> bool) -> Vec<Duration> {
    let mut client: Client = gateway.client();
    let mut waits = Vec::new();
    for serial in 1_000.. {
        if is_over() {
            break;
        }
        let token = forge.token(USER, serial);
        let began = Instant::now();
        let answer = client.exchange(delete(&token));
        waits.push(began.elapsed());
        is_204(&answer);
        // A pause, as clients make one.
        std::thread::sleep(Duration::from_millis(20));
    }
    waits.sort_unstable();
    waits
}

#[test]
fn old_rows_of_every_kind_go_while_clients_revoke_and_purge_and_prune_take_turns() {
    let rows = row_count();
    let deployment = deployment_with(|options| {
        options.set("store", "upkeep_interval", "\"100ms\"").set("audit", "keep", "\"24h\"").set(
            "audit",
            "max_bytes",
            1_u64 << 40,
        )
    });
    let forge = Forge::of(&deployment);
    let folder = deployment.gateway.stop();
    fill(&folder, rows);
    let gateway = folder.run(&[]);
    let store = store(&gateway.folder);
    let kept = forge.token(USER, 1);
    is_204(&gateway.exchange(delete(&kept)));
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let (waits, histories) = std::thread::scope(|scope| {
        let (gateway, forge) = (&gateway, &forge);
        let writer = scope.spawn(move || {
            revoke_all_the_time(gateway, forge, || {
                is_done.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty)
            })
        });
        let mut histories = vec![left(&store)];
        let cleared = within(deadline(), || {
            let now = left(&store);
            histories.push(now);
            (now == [0; 4]).then_some(())
        });
        drop(done);
        assert!(cleared.is_some(), "left: {:?}", histories.last());
        (writer.join().expect("a client that was answered"), histories)
    });
    // Neither waits for the end of the other.
    let [mut both, mut seen] = [false; 2];
    for [tokens, cutoffs, audit, _] in histories {
        let (purged, pruned) = (2 * rows - tokens - cutoffs, rows - audit);
        both |= purged > 0 && pruned > 0 && tokens + cutoffs > 0 && audit > 0;
        seen |= tokens + cutoffs > 0;
    }
    assert!(both || !seen, "purge and prune take turns");
    let last = store.query_row("SELECT count(*) FROM revoked_tokens", [], |row| row.get::<_, u64>(0));
    assert_eq!(last, Ok(waits.len() as u64 + 1), "what is young stays");
    assert_eq!(gateway.status(&kept), 401);
    eventually("the memory to forget what the store has", || {
        (gateway.metric("ds_gateway_revocations", &["kind=\"user\""]) <= 1.0).then_some(())
    });
    assert!(token_id(&kept).len() == 32);
    let at = |part: f64| waits.get((waits.len() as f64 * part) as usize).copied().unwrap_or_default();
    // Past the harness, which would keep it to itself.
    drop(writeln!(
        std::io::stderr(),
        "housekeeping: {rows} rows of each kind, {} revocations meanwhile: p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        waits.len(),
        at(0.5),
        at(0.99),
        waits.last().copied().unwrap_or_default(),
    ));
    gateway.still_healthy();
}
