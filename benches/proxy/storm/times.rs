//! Whether the time of a failed login tells what account it was: none, one whose password is wrong or imported, or a
//! disabled one. By themselves, and beside clients that log in without end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::login::{LoginClient, TRUST, TRUSTED_PROXY, forwarded_login};
use super::promises::Promises;
use super::waiting::Waiting;
use crate::gateway::{Gateway, PASSWORD, password_hash};
use crate::report::{Report, print_table};
use crate::stats::{auc, median, quantile};

/// A failed login of one kind.
struct Kind {
    name: &'static str,
    /// How its users' names begin.
    prefix: &'static str,
    /// None: there are no such users.
    hash: Option<String>,
    is_disabled: bool,
    password: &'static str,
}

/// What came of all kinds, in their order.
struct Phase {
    name: &'static str,
    took_ms: Vec<Vec<f64>>,
    /// Answers that told to come again: no samples.
    postponed: u64,
}

pub async fn measure(
    folder: &Path,
    platform: SocketAddr,
    samples: usize,
    at_once: usize,
    promises: &mut Promises,
    report: &mut Report,
) -> Result<()> {
    let kinds: Arc<[Kind]> = kinds()?.into();
    let accounts = samples.div_ceil(TRIES);
    let gateway = Gateway::prepare(folder.join("gateway"), platform).await?;
    let waiting = gateway.import_users(WAITING)?;
    for kind in kinds.iter() {
        let Some(hash) = &kind.hash else { continue };
        let names: Vec<_> = (0..accounts).map(|number| kind.user(number)).collect();
        gateway.import(names.iter().map(|name| (name.as_str(), hash.as_str())))?;
        if kind.is_disabled {
            gateway.disable(kind.prefix)?;
        }
    }
    let server = gateway.start_with(&[TRUST]).await?;
    let addresses = Arc::new(AtomicU64::new(0));

    let alone = Phase::run("alone", server.http, &kinds, (samples, at_once), &addresses).await?;
    alone.tell(&kinds, samples, promises);
    let storm = Waiting::start(server.http, &waiting);
    let under_load = Phase::run("under load", server.http, &kinds, (samples, at_once), &addresses).await?;
    let logins = storm.end().await;
    under_load.tell(&kinds, samples, promises);
    println!("The load: {WAITING} clients that log in without end were answered {}.\n", logins.cell());
    let json = |phase: &Phase| {
        let took = kinds.iter().zip(&phase.took_ms);
        let took = took.map(|(kind, took_ms)| json!({ "kind": kind.name, "took_ms": took_ms }));
        json!({ "phase": phase.name, "kinds": took.collect::<Vec<_>>(), "postponed": phase.postponed })
    };
    report.note("times", [&alone, &under_load].map(json).to_vec());
    Ok(())
}

fn kinds() -> Result<Vec<Kind>> {
    let today = password_hash()?;
    let bcrypt = |cost| bcrypt::hash_with_salt(PASSWORD, cost, [7; 16]).context("bcrypt");
    let kind = |name, prefix, hash| Kind { name, prefix, hash, is_disabled: false, password: "a wrong one" };
    Ok(vec![
        kind(WRONG, "wrong-", Some(today.clone())),
        kind("no such user", "unknown-", None),
        Kind {
            is_disabled: true,
            password: PASSWORD,
            ..kind("disabled, the right password", "disabled-", Some(today))
        },
        kind("imported, PBKDF2 of 1,000 rounds", "pbkdf2-", Some(PBKDF2.to_owned())),
        kind("imported, bcrypt of cost 5", "bcrypt5-", Some(bcrypt(5)?.to_string())),
        kind("imported, bcrypt of cost 11", "bcrypt11-", Some(bcrypt(11)?.to_string())),
    ])
}

impl Kind {
    fn user(&self, number: usize) -> String {
        format!("{}{number}", self.prefix)
    }
}

/// What the clients of a phase share.
struct Shared {
    gateway: SocketAddr,
    kinds: Arc<[Kind]>,
    /// Kind and account of each login, in the order in which they begin.
    order: Vec<(usize, usize)>,
    next: AtomicUsize,
    addresses: Arc<AtomicU64>,
    until: Instant,
    phase: Mutex<Phase>,
}

impl Phase {
    /// So many failed logins of each kind, so many at once, or as many as there is time for.
    async fn run(
        name: &'static str,
        gateway: SocketAddr,
        kinds: &Arc<[Kind]>,
        (samples, at_once): (usize, usize),
        addresses: &Arc<AtomicU64>,
    ) -> Result<Self> {
        let phase = Self { name, took_ms: kinds.iter().map(|_| Vec::new()).collect(), postponed: 0 };
        let shared = Arc::new(Shared {
            gateway,
            kinds: kinds.clone(),
            order: order(kinds.len(), samples),
            next: AtomicUsize::new(0),
            addresses: addresses.clone(),
            until: Instant::now() + LONGEST,
            phase: Mutex::new(phase),
        });
        let mut asking = JoinSet::new();
        for _ in 0..at_once {
            asking.spawn(shared.clone().ask());
        }
        while let Some(client) = asking.join_next().await {
            client??;
        }
        let shared = Arc::into_inner(shared).context("all clients have ended")?;
        Ok(shared.phase.into_inner())
    }

    fn tell(&self, kinds: &[Kind], samples: usize, promises: &mut Promises) {
        let Self { name, took_ms, postponed } = self;
        println!("\n**The time of a failed login, {name}**\n");
        let wrong = kinds.iter().zip(took_ms).find(|(kind, _)| kind.name == WRONG);
        let wrong = wrong.map_or(&[][..], |(_, took_ms)| took_ms);
        let mut rows = Vec::new();
        for (kind, took_ms) in kinds.iter().zip(took_ms) {
            let auc = auc(took_ms, wrong);
            let (low, high) = (quantile(took_ms, 0.1), quantile(took_ms, 0.9));
            let count = took_ms.len();
            rows.push(format!(
                "{} | {count} of {samples} | {:.2}, {low:.2}–{high:.2} | {auc:.3}",
                kind.name,
                median(took_ms)
            ));
            if kind.name != WRONG {
                let is_kept = (auc - 0.5).abs() <= AUC_BAR;
                let bar = format!("0.5 ± {AUC_BAR}");
                promises.hold(
                    format!("{name}: {}, AUC against {WRONG}", kind.name),
                    format!("{auc:.3}"),
                    bar,
                    is_kept,
                );
            }
        }
        print_table(&format!("failed login | samples | median, spread in ms | AUC against {WRONG}"), rows);
        println!("{postponed} answers told to come again (429, 503): no samples.\n");
    }
}

impl Shared {
    async fn ask(self: Arc<Self>) -> Result<()> {
        let mut client = LoginClient::new(self.gateway, TRUSTED_PROXY);
        while let Some((kind, account)) = self.order.get(self.next.fetch_add(1, Relaxed)) {
            let login = self.kinds.get(*kind).context("a kind")?;
            let user = login.user(*account);
            let took = loop {
                if Instant::now() >= self.until {
                    return Ok(());
                }
                let request = forwarded_login(&user, login.password, self.address()?);
                let Ok(answer) = timeout(LOST_AFTER, client.ask(&request)).await else {
                    client.close();
                    continue;
                };
                let answer = answer?;
                match answer.status {
                    401 => break answer.took,
                    _ if answer.must_wait() => self.phase.lock().postponed += 1,
                    other => bail!("{user} got {other}, not 401"),
                }
                sleep(PATIENCE.mul_f64(0.5 + fastrand::f64())).await;
            };
            if let Some(took_ms) = self.phase.lock().took_ms.get_mut(*kind) {
                took_ms.push(took.as_secs_f64() * 1e3);
            }
        }
        Ok(())
    }

    /// Never the same twice, each in a /24 of its own as long as there are such.
    fn address(&self) -> Result<Ipv4Addr> {
        let number = self.addresses.fetch_add(1, Relaxed);
        let [.., turn, high, low] = number.to_be_bytes();
        ensure!(number >> 24 == 0, "there are no more addresses");
        Ok(Ipv4Addr::new(10, high, low, turn))
    }
}

/// As many logins of each kind, in an order by chance: whatever the machine does meanwhile falls on all kinds alike. Not in rounds
/// of one of each: all but the dearest would then wait behind the dearest of their round, which never waits behind itself.
fn order(kinds: usize, samples: usize) -> Vec<(usize, usize)> {
    let accounts = samples.div_ceil(TRIES);
    let mut order: Vec<_> =
        (0..samples).flat_map(|sample| (0..kinds).map(move |kind| (kind, sample % accounts))).collect();
    fastrand::shuffle(&mut order);
    order
}

/// What all others are compared with.
const WRONG: &str = "a wrong password";
/// Of "password", with 1,000 rounds: the fewest that are imported.
const PBKDF2: &str =
    "$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHRzYWx0c2FsdA$8nX7hwFEzIB8aPajJTYK8weHQc5Ngz0pFVAKvSu4jQA";
/// Failed logins at one account in a phase: no limit of an account is near.
const TRIES: usize = 5;
/// Clients that log in without end, for the load.
const WAITING: usize = 16;
/// A phase ends by then, with what it has.
const LONGEST: Duration = Duration::from_secs(600);
/// Longer than the gateway takes to say that it is busy.
const LOST_AFTER: Duration = Duration::from_secs(15);
/// Before the next try where there was no room, half of it to one and a half.
const PATIENCE: Duration = Duration::from_millis(10);

/// How far from 0.5 a kind may be.
const AUC_BAR: f64 = 0.05;
