//! Attackers: from where they come, what they try, and what they were told.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::login::{LoginAnswer, LoginClient, TRUSTED_PROXY, forwarded_login};
use crate::client::login;
use crate::gateway::PASSWORD;

/// A storm.
#[derive(Clone, Copy)]
pub struct Storm {
    pub name: &'static str,
    pub clients: usize,
    pub from: From,
    pub tries: Tries,
    pub pace: Pace,
}

/// Where its clients come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum From {
    OneAddress,
    /// Each client from an address in a /24 of its own.
    Networks,
    /// Each from an address of its own, all in one /24.
    OneNetwork,
    /// All through the trusted proxy, each try from the next of [`CROWD`] addresses.
    Crowd,
    /// Where the owner of the account has minted before.
    OwnersAddress,
}

/// What they try.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Wrong passwords of the one account.
    TheAccount,
    /// Wrong passwords of many accounts.
    ManyAccounts,
    /// Names without an account.
    UnknownNames,
    /// The right password of the one account.
    TheRightPassword,
}

/// How fast.
#[derive(Clone, Copy)]
pub enum Pace {
    /// The next as soon as there is an answer.
    NoPause,
    /// So many a second, in all.
    PerSecond(f64),
    /// So many by the end, in all.
    Total(f64),
}

/// Whom they attack.
#[derive(Clone)]
pub struct Victims {
    pub account: String,
    pub others: Arc<[String]>,
    /// Where the account's owner is.
    pub owners_address: Ipv4Addr,
}

/// What they were told.
#[derive(Default)]
pub struct Answers {
    pub by_status: BTreeMap<u16, u64>,
    /// No answer: the connection was closed, or it took too long.
    pub lost: u64,
    /// `Retry-After`, in seconds.
    pub retry_after: BTreeMap<u64, u64>,
    /// 401 by account, or by name: each is a password that was hashed.
    pub hashed: HashMap<u64, u64>,
}

/// A storm under way.
pub struct UnderWay {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    start: Instant,
}

struct Shared {
    storm: Storm,
    gateway: SocketAddr,
    victims: Victims,
    tried: AtomicU64,
    is_over: AtomicBool,
    answers: Mutex<Answers>,
}

impl Storm {
    pub fn start(self, gateway: SocketAddr, victims: Victims, length: Duration) -> UnderWay {
        let rate = match self.pace {
            Pace::NoPause => None,
            Pace::PerSecond(rate) => Some(rate),
            Pace::Total(count) => Some(count / length.as_secs_f64()),
        };
        let pause = rate.map(|rate| Duration::from_secs_f64(self.clients as f64 / rate));
        let shared = Arc::new(Shared {
            storm: self,
            gateway,
            victims,
            tried: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            answers: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        let start = Instant::now();
        for number in 0..self.clients {
            let first = start + pause.unwrap_or_default().mul_f64(number as f64 / self.clients as f64);
            clients.spawn(shared.clone().attack(number, first, pause));
        }
        UnderWay { shared, clients, start }
    }

    fn source(&self, number: usize, victims: &Victims) -> Ipv4Addr {
        // There are no more than a hundred clients.
        let number = number as u8;
        match self.from {
            From::OneAddress => Ipv4Addr::new(127, 0, 1, 1),
            From::Networks => Ipv4Addr::new(127, 1, number, 1),
            From::OneNetwork => Ipv4Addr::new(127, 1, 0, number + 1),
            From::Crowd => TRUSTED_PROXY,
            From::OwnersAddress => victims.owners_address,
        }
    }
}

impl UnderWay {
    /// Lets every client have its last answer; what they were told, and how long the storm lasted.
    pub async fn end(mut self) -> (Answers, Duration) {
        self.shared.is_over.store(true, Relaxed);
        let lasted = self.start.elapsed();
        while self.clients.join_next().await.is_some() {}
        let answers = std::mem::take(&mut *self.shared.answers.lock());
        (answers, lasted)
    }
}

impl Shared {
    async fn attack(self: Arc<Self>, number: usize, first: Instant, pause: Option<Duration>) {
        let mut client = LoginClient::new(self.gateway, self.storm.source(number, &self.victims));
        let mut due = first;
        while !self.is_over.load(Relaxed) {
            if let Some(pause) = pause {
                sleep_until(due).await;
                due += pause;
            }
            let (aim, request) = self.next();
            let answer = timeout(LOST_AFTER, client.ask(&request)).await;
            if let Ok(Ok(answer)) = answer {
                self.answers.lock().add(aim, &answer);
                continue;
            }
            self.answers.lock().lost += 1;
            client.close();
            // One whose connection is refused must not try as fast as it can.
            sleep(AFTER_LOSS).await;
        }
    }

    /// The next try, and the number of the account or name that it aims at. No password is tried twice.
    fn next(&self) -> (u64, Vec<u8>) {
        let Victims { account, others, .. } = &self.victims;
        let tried = self.tried.fetch_add(1, Relaxed);
        let wrong = format!("wrong-{tried}");
        let random = fastrand::u32(..);
        let unknown = format!("nobody-{random:x}");
        let (aim, user, password) = match self.storm.tries {
            Tries::TheAccount => (0, account.as_str(), wrong.as_str()),
            Tries::ManyAccounts => {
                let aim = tried % others.len().max(1) as u64;
                (aim, others.get(aim as usize).map_or("", String::as_str), wrong.as_str())
            }
            Tries::UnknownNames => (u64::from(random), unknown.as_str(), wrong.as_str()),
            Tries::TheRightPassword => (0, account.as_str(), PASSWORD),
        };
        let request = if self.storm.from == From::Crowd {
            let [.., high, low] = (tried % CROWD).to_be_bytes();
            forwarded_login(user, password, Ipv4Addr::new(10, high, low, 7))
        } else {
            login(user, password)
        };
        (aim, request)
    }
}

impl Answers {
    fn add(&mut self, aim: u64, answer: &LoginAnswer) {
        *self.by_status.entry(answer.status).or_default() += 1;
        if answer.status == 401 {
            *self.hashed.entry(aim).or_default() += 1;
        }
        if let Some(seconds) = answer.retry_after {
            *self.retry_after.entry(seconds).or_default() += 1;
        }
    }

    /// 401s of the account that had most.
    pub fn most_hashed(&self) -> u64 {
        self.hashed.values().copied().max().unwrap_or_default()
    }

    pub fn cell(&self) -> String {
        let lost = (self.lost > 0).then(|| format!("no answer: {}", self.lost));
        let answers = self.by_status.iter().map(|(status, count)| format!("{status}: {count}"));
        answers.chain(lost).collect::<Vec<_>>().join(", ")
    }

    /// Smallest, largest, and how many different ones there were.
    pub fn retry_after_cell(&self) -> String {
        let ends = self.retry_after.first_key_value().zip(self.retry_after.last_key_value());
        let cell = |((low, _), (high, _))| format!("{low}–{high} s ({})", self.retry_after.len());
        ends.map_or_else(|| "–".to_owned(), cell)
    }
}

/// Addresses behind the trusted proxy, each in a /24 of its own.
const CROWD: u64 = 10_000;
/// A login without an answer by then gets none: the gateway itself gives up after ten seconds.
const LOST_AFTER: Duration = Duration::from_secs(15);
const AFTER_LOSS: Duration = Duration::from_millis(10);
