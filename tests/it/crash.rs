//! "Durable before acknowledged": processes killed at any moment, disks that are full or held by somebody else, and
//! the order of the system calls themselves.

use crate::client::{Client, basic, request};
use crate::command::{eventually, started_by, told_of_full_disks};
use crate::contract::ENDPOINT;
use crate::deployment::Deployment;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::options::Options;
use crate::postgres_server::TestServer;
use crate::revocation::{Forge, delete, deployment_with, number_of};
use crate::seeds::{number, seeds};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many clients revoke at once.
const CLIENTS: u64 = 4;

/// Revocations that a client has at hand; a round ends long before.
const EACH: u64 = 2_000;

/// Seeds whose three rounds end at once, behind many revocations and behind a login.
const SEEDS: [u64; 2] = [27_308, 78_679];

/// What one client did before the end.
#[derive(Default)]
struct Told {
    revoked: Vec<String>,
    minted: Vec<String>,
}

/// Mints and revokes until the connection breaks; remembers what was acknowledged.
fn revoke_until_the_end(address: SocketAddr, tokens: impl Iterator<Item = String>, acks: &AtomicU64) -> Told {
    let mut told = Told::default();
    let Ok(mut client) = Client::try_connect(address) else { return told };
    for token in tokens {
        let Ok(answer) =
            client.try_send(delete(&token)).map_err(drop).and_then(|()| client.answer().map_err(drop))
        else {
            return told;
        };
        assert_eq!(answer.status, 204, "{answer:?}");
        acks.fetch_add(1, Ordering::Relaxed);
        told.revoked.push(token);
    }
    told
}

fn mint_until_the_end(address: SocketAddr, mints: &AtomicU64) -> Told {
    let mut told = Told::default();
    let Ok(mut client) = Client::try_connect(address) else { return told };
    let mint = request("POST", ENDPOINT, &[("Authorization", &basic(USER, PASSWORD))]);
    while let Ok(answer) = client.try_send(&mint).map_err(drop).and_then(|()| client.answer().map_err(drop)) {
        match answer.status {
            // More than a user may have at once is no loss.
            429 => break,
            // No thread had time for the password.
            503 => continue,
            _ => {}
        }
        assert_eq!(answer.status, 201, "{answer:?}");
        mints.fetch_add(1, Ordering::Relaxed);
        told.minted.push(answer.json()["user-token"].as_str().expect("a token").to_owned());
    }
    told
}

/// Those of the tokens that do not get this status; all on one connection.
fn not<'t>(gateway: &Gateway, status: u16, tokens: impl IntoIterator<Item = &'t String>) -> Vec<&'t String> {
    let mut client = gateway.client();
    let mut get = |token: &String| client.exchange(request("GET", "/x", &[("user-token", token)])).status;
    tokens.into_iter().filter(|token| get(token) != status).collect()
}

#[test]
fn killed_at_random_moments_it_loses_no_acknowledged_revocation_and_no_token() {
    let rounds = number("CRASH_ROUNDS").unwrap_or(10);
    for (seed, rounds) in seeds("CRASH_SEED", &SEEDS, 3, rounds) {
        eprintln!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
        loses_nothing(deployment_with(quiet), fastrand::Rng::with_seed(seed), rounds);
    }
}

#[test]
fn killed_at_random_moments_it_loses_nothing_in_a_database_either() {
    let server = TestServer::start();
    let rounds = number("CRASH_ROUNDS").unwrap_or(5);
    for (seed, rounds) in seeds("CRASH_SEED", &SEEDS[..1], 3, rounds) {
        eprintln!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
        let url = format!("{:?}", server.unix_url(&server.create_database()));
        let deployment = deployment_with(|options| quiet(options).set("store", "url", url));
        loses_nothing(deployment, fastrand::Rng::with_seed(seed), rounds);
    }
}

fn quiet(options: Options) -> Options {
    options.set("log", "access", "false")
}

fn loses_nothing(deployment: Deployment, mut random: fastrand::Rng, rounds: u64) {
    let forge = Forge::of(&deployment);
    let Deployment { platform: _platform, gateway, .. } = deployment;
    let (mut gateway, mut longest) = (gateway, Duration::ZERO);
    let (mut revoked, mut minted) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Another user each round: the cutoffs that replace very many revocations are not what is looked at here.
        let user = format!("round{round}");
        let (acks, mints, address) = (AtomicU64::new(0), AtomicU64::new(0), gateway.http());
        let (enough, pause) = (random.u64(0..60), Duration::from_micros(random.u64(0..3_000)));
        // A password takes as long as many revocations: some rounds wait for one.
        let logins = u64::from(random.u8(0..3) == 0);
        let mut folder = None;
        let told: Vec<Told> = thread::scope(|scope| {
            let mut threads: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    // Two and two revoke the same tokens: an answer that only repeats another must hold as well.
                    let serials = (0..EACH).map(move |serial| client / 2 * EACH + serial);
                    let (forge, user, acks) = (&forge, &user, &acks);
                    scope.spawn(move || {
                        revoke_until_the_end(address, serials.map(|serial| forge.token(user, serial)), acks)
                    })
                })
                .collect();
            threads.push(scope.spawn(|| mint_until_the_end(address, &mints)));
            eventually("revocations and mints", || {
                let done = [&acks, &mints].map(|count| count.load(Ordering::Relaxed));
                (done[0] >= enough && done[1] >= logins).then_some(())
            });
            thread::sleep(pause);
            folder = Some(gateway.kill());
            threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
        });
        let began = Instant::now();
        gateway = folder.expect("its folder").run(&[]);
        longest = longest.max(began.elapsed());
        let new: BTreeSet<String> = told.iter().flat_map(|told| told.revoked.clone()).collect();
        let lost = not(&gateway, 401, &new);
        assert!(
            lost.is_empty(),
            "round {round}: {} of {} revocations were lost: {lost:?}",
            lost.len(),
            new.len()
        );
        let new_minted: Vec<String> = told.into_iter().flat_map(|told| told.minted).collect();
        let untouched: Vec<String> =
            (0..3).map(|serial| forge.token(&user, CLIENTS * EACH + serial)).collect();
        let lost = not(&gateway, 200, new_minted.iter().chain(&untouched));
        assert!(lost.is_empty(), "round {round}: tokens that nobody revoked are refused: {lost:?}");
        revoked.extend(new);
        minted.extend(new_minted);
    }
    let lost = not(&gateway, 401, &revoked);
    assert!(lost.is_empty(), "{} of {} revocations were lost in the end", lost.len(), revoked.len());
    assert!(not(&gateway, 200, &minted).is_empty());
    let numbers: BTreeSet<u64> = minted.iter().map(|token| number_of(token)).collect();
    assert_eq!(numbers.len(), minted.len(), "no number is given out twice");
    assert!(revoked.len() as u64 >= rounds, "{} revocations in {rounds} rounds", revoked.len());
    eprintln!("{} revoked, {} minted; the longest start took {longest:?}", revoked.len(), minted.len());
    gateway.still_healthy();
}

/// What the gateway says of revocations that wait for the store.
#[track_caller]
fn waiting(gateway: &Gateway, count: u32) {
    assert_eq!(gateway.metric("ds_gateway_revocations_pending", &[]), f64::from(count));
    let ready = gateway.admin("/readyz");
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &false.into()));
    assert!(ready.json()["reasons"].to_string().contains("revocations are waiting"), "{}", ready.text());
}

#[track_caller]
fn becomes_durable(gateway: &Gateway) {
    let pending = || gateway.metric("ds_gateway_revocations_pending", &[]);
    eventually("the store to take what waits", || (pending() == 0.0).then_some(()));
    assert_eq!(gateway.admin("/readyz").status, 200);
}

#[test]
fn while_the_disk_is_full_a_revocation_is_in_force_and_not_acknowledged() {
    let deployment = Deployment::open();
    let forge = Forge::of(&deployment);
    let folder = deployment.gateway.stop();
    let command = told_of_full_disks(&folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let [one, other, neighbour] = [1, 2, 3].map(|serial| forge.token(USER, serial));
    assert!(not(&gateway, 200, [&one, &other, &neighbour]).is_empty());
    gateway.disk("4096");
    let mut client = gateway.client();
    client.exchange(delete(&one)).is_away();
    assert_eq!(gateway.status(&one), 401, "at once, all the same");
    waiting(&gateway, 1);
    client.exchange(delete(&one)).is_away();
    waiting(&gateway, 1);
    client.exchange(delete(&other)).is_away();
    waiting(&gateway, 2);
    assert_eq!([&one, &other, &neighbour].map(|token| gateway.status(token)), [401, 401, 200]);
    assert_eq!(gateway.admin("/healthz").status, 200);
    let outcome = ["action=\"revoke\"", "outcome=\"store_unavailable\""];
    assert_eq!(gateway.metric("ds_gateway_token_requests_total", &outcome), 3.0);
    assert!(gateway.metric("ds_gateway_store_commit_errors_total", &[]) >= 3.0);

    gateway.disk("unlimited");
    becomes_durable(&gateway);
    assert_eq!(client.exchange(delete(&one)).status, 204);
    let gateway = gateway.kill().run(&[]);
    assert_eq!([&one, &other, &neighbour].map(|token| gateway.status(token)), [401, 401, 200]);
    assert_eq!(gateway.metric("ds_gateway_revocations", &["kind=\"token\""]), 2.0);
    gateway.still_healthy();
}

#[test]
fn what_is_in_force_and_not_yet_durable_is_acknowledged_to_nobody() {
    let deployment = Deployment::open();
    let (gateway, forge) = (&deployment.gateway, Forge::of(&deployment));
    let [token, left] = [1, 2].map(|serial| forge.token(USER, serial));
    let store = rusqlite::Connection::open(gateway.folder.state().join("gateway.db")).expect("a store");
    store.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
    let [mut first, mut second, mut gone] = [(); 3].map(|()| gateway.client());
    first.send(delete(&token));
    eventually("it to be in force", || (gateway.status(&token) == 401).then_some(()));
    // The store has not taken it: a second request for the same must not be told that it has.
    second.send(delete(&token));
    gone.send(delete(&left));
    eventually("it to be in force", || (gateway.status(&left) == 401).then_some(()));
    drop(gone);
    second.answer().expect("an answer").is_away();
    first.answer().expect("an answer").is_away();
    let pending = || gateway.metric("ds_gateway_revocations_pending", &[]);
    eventually("the one whose client went away to wait too", || (pending() == 2.0).then_some(()));
    waiting(gateway, 2);
    store.execute_batch("ROLLBACK").expect("an end");
    drop(store);
    becomes_durable(gateway);
    let gateway = deployment.gateway.kill().run(&[]);
    assert!(not(&gateway, 401, [&token, &left]).is_empty());
    gateway.still_healthy();
}

/// The system calls of the gateway that matter here, in the order in which they ended.
struct Trace(Vec<String>);

impl Trace {
    /// A call that another thread interrupted is on two lines, and counts where it ended.
    fn read(text: &str) -> Self {
        let mut begun = BTreeMap::new();
        let mut calls = Vec::new();
        for line in text.lines() {
            let (process, call) = line.trim_start().split_once(' ').expect("a process");
            let call = call.trim_start();
            if let Some(start) = call.strip_suffix("<unfinished ...>") {
                begun.insert(process, start);
            } else if let Some((_, end)) = call.split_once("resumed>") {
                calls.push(format!("{}{end}", begun.remove(process).unwrap_or_default()));
            } else {
                calls.push(call.to_owned());
            }
        }
        Self(calls)
    }

    /// The next call at or after `from` for which this holds.
    #[track_caller]
    fn next(&self, from: usize, what: &str, is: impl Fn(&str) -> bool) -> usize {
        let found = self.0.iter().skip(from).position(|call| is(call));
        from + found.unwrap_or_else(|| {
            let rest: Vec<&str> = self.0.iter().skip(from).take(60).map(String::as_str).collect();
            panic!("no {what} in what follows call {from}:\n{}", rest.join("\n"))
        })
    }
}

#[test]
fn the_disk_has_a_revocation_before_its_204_is_written() {
    let deployment = Deployment::open();
    let forge = Forge::of(&deployment);
    let folder = deployment.gateway.stop();
    let file = folder.dir.path().join("trace");
    let calls = "trace=read,recvfrom,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync";
    let strace = ["strace", "-D", "-f", "-y", "-s", "40", "-e", calls, "-o", file.to_str().expect("a path")];
    let command = started_by(&strace, &folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let mut client = gateway.client();
    let count = 5;
    for serial in 0..count {
        assert_eq!(client.exchange(delete(&forge.token(USER, serial))).status, 204);
    }
    drop(client);
    let folder = gateway.stop();
    let text = eventually("the whole trace", || {
        fs::read_to_string(&file).ok().filter(|text| text.trim_end().ends_with("+++"))
    });
    let (trace, mut at) = (Trace::read(&text), 0);
    for _ in 0..count {
        at = trace.next(at, "request", |call| call.contains("\"DELETE /ds-api/user-token"));
        let answered = trace.next(at, "answer", |call| call.contains("\"HTTP/1.1 204"));
        let wal = |call: &str, name: &str| call.starts_with(name) && call.contains("gateway.db-wal>");
        let written = trace.next(at, "write", |call| wal(call, "pwrite64("));
        let synced = trace.next(written, "sync", |call| {
            (wal(call, "fdatasync(") || wal(call, "fsync(")) && call.trim_end().ends_with("= 0")
        });
        let order = trace.0.get(at..=answered).unwrap_or_default();
        assert!(synced < answered, "the 204 came before the sync:\n{}", order.join("\n"));
        at = answered;
    }
    folder.run(&[]).still_healthy();
}
