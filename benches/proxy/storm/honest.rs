//! Honest clients: the right password, and patience as the gateway asks for it, for three seconds.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::login::{LoginAnswer, LoginClient};
use crate::client::login;
use crate::gateway::PASSWORD;
use crate::stats::quantile;

/// A user, and where it logs in from.
#[derive(Clone)]
pub struct Account {
    pub user: String,
    pub address: Ipv4Addr,
}

/// Those that log in while a storm lasts.
pub struct Honest {
    /// Each from an address that has minted for it before, in turn.
    pub known: Vec<Account>,
    /// Each from an address never seen before, once.
    pub new: Vec<Account>,
    /// Of the account that is attacked, from an address that has minted for it.
    pub owner: Option<Account>,
}

/// What came of logins of one sort.
#[derive(Default)]
pub struct Tally {
    pub asked: usize,
    pub succeeded: usize,
    /// Of each; one that did not succeed counts as the time that it had.
    pub took_ms: Vec<f64>,
}

#[derive(Clone, Copy)]
enum Sort {
    Known,
    New,
    Owner,
}

#[derive(Default)]
pub struct Tallies {
    pub known: Tally,
    pub new: Tally,
    pub owner: Tally,
}

impl Honest {
    /// How many accounts [`Self::run`] needs that log in once.
    pub fn newcomers(length: Duration) -> usize {
        length.as_millis().div_ceil(TICK.as_millis() * 2) as usize + 1
    }

    /// Lets those log in that are to be known.
    pub async fn become_known(&self, gateway: SocketAddr) -> Result<()> {
        for account in self.known.iter().chain(&self.owner) {
            log_in(gateway, account).await.or_else(|fault| bail!("a login before any storm: {fault}"))?;
        }
        Ok(())
    }

    /// Two logins a second for `length`, by turns of a known and of a new address, and one of the owner every two; returns
    /// when all of them have ended.
    pub async fn run(self, gateway: SocketAddr, length: Duration) -> Result<Tallies> {
        let start = Instant::now();
        let mut logins = JoinSet::new();
        let (mut known, mut new) = (self.known.iter().cycle(), self.new.iter());
        for tick in 0.. {
            let due = start + TICK * tick;
            if due >= start + length {
                break;
            }
            sleep_until(due).await;
            let next = if tick % 2 == 0 { (Sort::Known, known.next()) } else { (Sort::New, new.next()) };
            let owner = self.owner.as_ref().filter(|_| tick % OWNER_EVERY == 1);
            for (sort, account) in [next, (Sort::Owner, owner)] {
                let Some(account) = account.cloned() else { continue };
                logins.spawn(async move { (sort, log_in(gateway, &account).await) });
            }
        }
        let mut tallies = Tallies::default();
        for (sort, outcome) in logins.join_all().await {
            let tally = match sort {
                Sort::Known => &mut tallies.known,
                Sort::New => &mut tallies.new,
                Sort::Owner => &mut tallies.owner,
            };
            tally.asked += 1;
            match outcome {
                Ok(took) => {
                    tally.succeeded += 1;
                    tally.took_ms.push(took.as_secs_f64() * 1e3);
                }
                Err(_) => tally.took_ms.push(WITHIN.as_secs_f64() * 1e3),
            }
        }
        Ok(tallies)
    }
}

impl Tally {
    /// Whether enough succeeded, if there were any.
    pub fn is_enough(&self) -> bool {
        self.succeeded as f64 >= self.asked as f64 * ENOUGH
    }

    pub fn cell(&self) -> String {
        if self.asked == 0 { "–".to_owned() } else { format!("{} of {}", self.succeeded, self.asked) }
    }
}

impl Tallies {
    /// p50 and p99 of all, in ms.
    pub fn quantiles_ms(&self) -> [f64; 2] {
        let all: Vec<_> =
            [&self.known, &self.new, &self.owner].iter().flat_map(|tally| &tally.took_ms).copied().collect();
        [quantile(&all, 0.5), quantile(&all, 0.99)]
    }
}

/// Asks until it has a token, and waits as it is told; how long all of that took, or why it did not succeed in time.
async fn log_in(gateway: SocketAddr, account: &Account) -> Result<Duration, String> {
    let start = Instant::now();
    let due = start + WITHIN;
    let request = login(&account.user, PASSWORD);
    let mut client = LoginClient::new(gateway, account.address);
    loop {
        let answer =
            timeout_at(due, client.ask(&request)).await.map_err(|_| "no answer in time".to_owned())?;
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        let took = start.elapsed();
        if answer.status == 201 && took <= WITHIN {
            return Ok(took);
        }
        if took > WITHIN {
            // This process may look at its clock later than it asked for.
            return Err("no answer in time".to_owned());
        }
        if !answer.must_wait() {
            return Err(format!("it got {}", answer.status));
        }
        let LoginAnswer { status, retry_after, .. } = answer;
        let wait = Duration::from_secs(retry_after.unwrap_or(1));
        if Instant::now() + wait >= due {
            return Err(format!("it got {status}, and {wait:?} to wait"));
        }
        sleep(wait).await;
    }
}

/// How long an honest client tries.
const WITHIN: Duration = Duration::from_secs(3);
/// The share of them that must succeed.
const ENOUGH: f64 = 0.95;
/// Between two logins.
const TICK: Duration = Duration::from_millis(500);
/// Ticks between two of the owner's.
const OWNER_EVERY: u32 = 4;
