//! Each storm at a gateway of its own, beside honest logins and proxied requests, which are measured quiet before it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::attack::{Answers, From, Pace, Storm, Tries, Victims};
use super::honest::{Account, Honest, Tallies};
use super::login::TRUST;
use super::promises::Promises;
use super::proxied::{Proxied, Windows};
use crate::burst;
use crate::gateway::Gateway;
use crate::report::{Report, print_table};
use crate::stats::median;

/// What there was in one storm.
struct Row {
    storm: Storm,
    lasted: Duration,
    answers: Answers,
    honest: Tallies,
    quiet: Windows,
    stormy: Windows,
    /// Before the storm and after it.
    resident_mb: [f64; 2],
}

const fn storm(name: &'static str, clients: usize, from: From, tries: Tries, pace: Pace) -> Storm {
    Storm { name, clients, from, tries, pace }
}

const STORMS: [Storm; 13] = [
    storm("one address, 4 clients, one account", 4, From::OneAddress, Tries::TheAccount, Pace::NoPause),
    storm("one address, 64 clients, one account", 64, From::OneAddress, Tries::TheAccount, Pace::NoPause),
    storm("one address, 4 clients, unknown names", 4, From::OneAddress, Tries::UnknownNames, Pace::NoPause),
    storm("one address, 64 clients, unknown names", 64, From::OneAddress, Tries::UnknownNames, Pace::NoPause),
    storm("a paced one, 40 a second", 40, From::OneAddress, Tries::TheAccount, Pace::PerSecond(40.0)),
    storm("100 addresses, 100 /24, one account", 100, From::Networks, Tries::TheAccount, Pace::NoPause),
    storm("100 addresses, 100 /24, many accounts", 100, From::Networks, Tries::ManyAccounts, Pace::NoPause),
    storm("100 addresses, 100 /24, unknown names", 100, From::Networks, Tries::UnknownNames, Pace::NoPause),
    storm("100 addresses, one /24, one account", 100, From::OneNetwork, Tries::TheAccount, Pace::NoPause),
    storm("100 addresses, one /24, many accounts", 100, From::OneNetwork, Tries::ManyAccounts, Pace::NoPause),
    storm("100 addresses, one /24, unknown names", 100, From::OneNetwork, Tries::UnknownNames, Pace::NoPause),
    // Three tries from each.
    storm("10,000 addresses, one account", 64, From::Crowd, Tries::TheAccount, Pace::Total(30_000.0)),
    storm("valid account, 32 clients", 32, From::OwnersAddress, Tries::TheRightPassword, Pace::NoPause),
];

pub async fn measure(
    folder: &Path,
    platform: SocketAddr,
    length: Duration,
    promises: &mut Promises,
    report: &mut Report,
) -> Result<()> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let storms = STORMS.into_iter().filter(|storm| storm.name.contains(&only));
    let mut rows = Vec::new();
    for (number, storm) in storms.enumerate() {
        let row = run(&folder.join(number.to_string()), platform, storm, length).await?;
        eprintln!("{}", row.cells());
        row.judge(promises);
        rows.push(row);
        report.note("storms", rows.iter().map(Row::json).collect::<Vec<_>>());
        report.save()?;
    }
    ensure!(!rows.is_empty(), "no storm has ONLY={only} in its name");
    println!("\n**Storms of {} s**\n", length.as_secs());
    print_table(
        "storm | passwords hashed of the account with most, and in an hour at that rate | \
         honest logins within 3 s: known address, new address, owner | their p50, p99 in ms | \
         proxied p50, p99 in µs: quiet | in the storm | p99 in the storm / quiet | p99 without a proxy: quiet, storm | \
         proxied requests that failed | resident before, after in MB | answers to the attackers | Retry-After (different ones)",
        rows.iter().map(Row::cells),
    );
    Ok(())
}

async fn run(folder: &Path, platform: SocketAddr, storm: Storm, length: Duration) -> Result<Row> {
    let gateway = Gateway::prepare(folder.to_path_buf(), platform).await?;
    let (honest, victims) = people(&gateway, storm, length)?;
    let server = gateway.start_with(&[TRUST]).await?;
    honest.become_known(server.http).await?;
    let pace = burst::Pace::Steady(RATE);
    let mut proxied = Proxied::start(server.http, platform, &gateway.token, CLIENTS, pace).await?;

    let each = length / WINDOWS as u32;
    let (mut quiet, mut stormy) = (Windows::default(), Windows::default());
    proxied.watch(&mut quiet, QUIET_WINDOWS, each).await?;
    let before_mb = server.process.resident_mb()?;
    let under_way = storm.start(server.http, victims, length);
    let honest = tokio::spawn(honest.run(server.http, length));
    proxied.watch(&mut stormy, WINDOWS, each).await?;
    // The last honest logins have all of their time beside the storm.
    let honest = honest.await??;
    let (answers, lasted) = under_way.end().await;
    let resident_mb = [before_mb, server.process.resident_mb()?];
    Ok(Row { storm, lasted, answers, honest, quiet, stormy, resident_mb })
}

/// Who logs in honestly, and whom the storm attacks.
fn people(gateway: &Gateway, storm: Storm, length: Duration) -> Result<(Honest, Victims)> {
    let mut users = gateway.import_users(1 + KNOWN + OTHERS + Honest::newcomers(length))?.into_iter();
    let account = users.next().context("a user")?;
    let owner = Account { user: account.clone(), address: Ipv4Addr::new(127, 21, 0, 1) };
    let others = users.by_ref().take(OTHERS).collect();
    let at = |network, (number, user): (usize, String)| {
        let [.., high, low] = number.to_be_bytes();
        Account { user, address: Ipv4Addr::new(127, network + high, low, 1) }
    };
    let known = users.by_ref().take(KNOWN).enumerate().map(|one| at(20, one)).collect();
    let new = users.enumerate().map(|one| at(30, one)).collect();
    let victims = Victims { account, others, owners_address: owner.address };
    let owner = matches!(storm.tries, Tries::TheAccount | Tries::TheRightPassword).then_some(owner);
    let honest = Honest { known, new, owner };
    Ok((honest, victims))
}

impl Row {
    fn judge(&self, promises: &mut Promises) {
        let Storm { name, from, tries, .. } = self.storm;
        let mut enough = |who, tally: &super::honest::Tally| {
            promises.hold(
                format!("{name}: {who}"),
                tally.cell(),
                "≥ 95 of 100 within 3 s",
                tally.is_enough(),
            );
        };
        enough("honest logins from known addresses", &self.honest.known);
        if matches!(from, From::Networks | From::OneNetwork) || tries == Tries::TheRightPassword {
            enough("honest logins from new addresses", &self.honest.new);
        }
        if from == From::Crowd {
            enough("the owner's logins", &self.honest.owner);
        }
        if tries != Tries::TheRightPassword {
            let most = self.answers.most_hashed();
            let value = format!("{most} in {:.0} s", self.lasted.as_secs_f64());
            let is_kept = most <= MOST_GUESSES;
            promises.hold(
                format!("{name}: passwords of one account hashed"),
                value,
                format!("≤ {MOST_GUESSES} in any hour"),
                is_kept,
            );
        }
        let ratio = self.stormy.ratio_to(&self.quiet);
        let bar = format!("≤ {SLOWER} × quiet");
        promises.warn(format!("{name}: proxied p99"), format!("{ratio:.2} ×"), bar, ratio <= SLOWER);
    }

    fn an_hour(&self) -> f64 {
        self.answers.most_hashed() as f64 * 3600.0 / self.lasted.as_secs_f64()
    }

    fn cells(&self) -> String {
        let Self { storm, answers, honest, quiet, stormy, resident_mb: [before_mb, after_mb], .. } = self;
        let Tallies { known, new, owner } = honest;
        let [p50_ms, p99_ms] = honest.quantiles_ms();
        format!(
            "{} | {} in {:.0} s, {:.0} | {}, {}, {} | {p50_ms:.0}, {p99_ms:.0} | {} | {} | {:.2} | {:.0}, {:.0} | {} | \
             {before_mb:.1}, {after_mb:.1} | {} | {}",
            storm.name,
            answers.most_hashed(),
            self.lasted.as_secs_f64(),
            self.an_hour(),
            known.cell(),
            new.cell(),
            owner.cell(),
            quiet.cell(),
            stormy.cell(),
            stormy.ratio_to(quiet),
            median(&quiet.direct_p99_us),
            median(&stormy.direct_p99_us),
            quiet.faults + stormy.faults,
            answers.cell(),
            answers.retry_after_cell(),
        )
    }

    fn json(&self) -> Value {
        let Tallies { known, new, owner } = &self.honest;
        let logins = [("known", known), ("new", new), ("owner", owner)].map(|(sort, tally)| {
            json!({ "address": sort, "asked": tally.asked, "succeeded": tally.succeeded, "took_ms": tally.took_ms })
        });
        json!({
            "storm": self.storm.name,
            "seconds": self.lasted.as_secs_f64(),
            "most_hashed": self.answers.most_hashed(),
            "most_hashed_in_an_hour": self.an_hour(),
            "answers": self.answers.by_status,
            "no_answer": self.answers.lost,
            "retry_after": self.answers.retry_after,
            "honest": logins,
            "quiet": self.quiet.json(),
            "stormy": self.stormy.json(),
            "resident_mb": self.resident_mb,
        })
    }
}

/// Proxied requests a second, and clients that ask for them.
const RATE: f64 = 500.0;
const CLIENTS: usize = 50;
/// Of a storm, and as long ones before it.
const WINDOWS: usize = 10;
const QUIET_WINDOWS: usize = 4;
/// Accounts that log in from addresses that are known.
const KNOWN: usize = 10;
/// Accounts that are attacked where many are.
const OTHERS: usize = 200;

/// Passwords of one account that clients at unknown addresses may have hashed in an hour.
const MOST_GUESSES: u64 = 100;
/// How many times as long the 99th percentile of proxied requests may be.
const SLOWER: f64 = 2.0;
