//! Checks passwords, within limits of their number and time.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::failed_logins::FailedLogins;
use super::job::{Job, MAX_WAIT};
use super::outcome::{Accepted, LoginError};
use super::pool::{Pool, Shared};
use super::queue::Waiter;
use super::sketch::{Sketch, Ticks};
use super::slots::{Slot, Slots};
use super::throttle::{Attempt, Counts, Throttle};
use crate::auth::endpoint::Credentials;
use crate::auth::source::{Network, Source};
use crate::auth::user_source::SourceName;
use crate::config::{Limits, Networks};
use crate::metrics::{Latency, LoginOutcome, Metrics};
use crate::store::records::{LoginRecord, UserRecord};

/// A login to be checked.
#[derive(Debug)]
pub struct Login {
    /// As sent.
    pub credentials: Credentials,
    /// What the store has of that name, and of that name at this place.
    pub record: LoginRecord,
    /// Where it comes from.
    pub client: Option<IpAddr>,
    /// When it came, before the store was asked.
    pub arrived: Instant,
}

/// Checks logins.
pub struct Logins {
    pool: Pool,
    metrics: Arc<Metrics>,
    /// Places that every account knows.
    trusted: ArcSwap<Networks>,
}

impl Logins {
    /// Starts the threads. `saved` is what [`Logins::save`] gave, if there is any.
    pub fn start(
        limits: &Limits,
        trusted: Networks,
        saved: Option<&[u8]>,
        metrics: Arc<Metrics>,
        failures: Arc<FailedLogins>,
    ) -> std::io::Result<Self> {
        let sketch = saved.and_then(|bytes| {
            let sketch = Sketch::restore(bytes, Ticks(0));
            if sketch.is_none() {
                log::warn!("the saved counts of failed logins cannot be read: counting restarts at zero");
            }
            sketch
        });
        let sketch = match sketch {
            Some(sketch) => sketch,
            None => {
                let mut secret = [0; 32];
                getrandom::fill(&mut secret).map_err(std::io::Error::other)?;
                Sketch::new(secret)
            }
        };
        let pool = Pool::start(limits.login_workers, Throttle::new(sketch), Arc::clone(&metrics), failures)?;
        Ok(Self { pool, metrics, trusted: ArcSwap::from_pointee(trusted) })
    }

    /// Every account knows these places from now on.
    pub fn set_trusted(&self, trusted: Networks) {
        self.trusted.store(Arc::new(trusted));
    }

    /// What has been counted of failed logins, so that it outlives the process.
    pub fn save(&self) -> Vec<u8> {
        let shared = self.pool.shared();
        shared.throttle.sketch().dump(shared.ticks())
    }

    /// Takes over what another process of this gateway has counted: of each count the larger one. Says whether these were such counts.
    pub fn take_over(&self, saved: &[u8]) -> bool {
        let shared = self.pool.shared();
        shared.throttle.sketch().take_over(saved, shared.ticks())
    }

    /// Checks a password that the store has a hash of. A failure is answered at one time for all, however little its hash cost.
    pub async fn check(&self, login: Login) -> Result<Accepted, LoginError> {
        let Login { credentials, record, client, arrived } = login;
        let admitted = self.admit(&credentials, &record, client, arrived)?;
        admitted.check(credentials, record.user, record.sequence).await
    }

    /// May the password of a login be checked? `arrived` is when it came, before the store was asked.
    pub(super) fn admit(
        &self,
        credentials: &Credentials,
        record: &LoginRecord,
        client: Option<IpAddr>,
        arrived: Instant,
    ) -> Result<Admitted<'_>, LoginError> {
        let shared = self.pool.shared();
        let is_trusted = client.is_some_and(|client| self.trusted.load().contains(client));
        let attempt = Attempt {
            name: credentials.user.as_str(),
            unlocks: record.unlocks,
            source: client.map(|client| (Source::of(client), Network::of(client))),
            is_known: is_trusted || record.is_known_source,
        };
        let (counts, now) = (shared.throttle.counts(&attempt), shared.ticks());
        if let Err(throttled) = shared.throttle.check(&counts, now) {
            shared.throttled(throttled);
            return Err(LoginError::Throttled(throttled));
        }
        let waiter = Waiter {
            is_known: attempt.is_known,
            from: attempt.source,
            pair: pair(&attempt),
            debt: shared.throttle.debt(&counts, now),
        };
        Ok(Admitted {
            logins: self,
            waiter,
            counts,
            client,
            arrived,
            waited: Duration::ZERO,
            is_counted: false,
        })
    }
}

/// A login whose password may be checked: here, or by a source that is asked.
pub(super) struct Admitted<'l> {
    logins: &'l Logins,
    waiter: Waiter,
    counts: Counts,
    client: Option<IpAddr>,
    arrived: Instant,
    /// How long it waited for its turn.
    waited: Duration,
    /// Its password counts as a wrong one until it is known to be right.
    is_counted: bool,
}

impl Admitted<'_> {
    /// Checks the password by the hash of that user. The store's sequence was `asked_at` when the hash was read.
    pub(super) async fn check(
        mut self,
        credentials: Credentials,
        record: Option<UserRecord>,
        asked_at: u64,
    ) -> Result<Accepted, LoginError> {
        // The thread that hashes counts it.
        self.uncount();
        let shared = self.logins.pool.shared();
        let passwords = credentials.passwords();
        let (answer, receiver) = oneshot::channel();
        let since = Instant::now();
        let Self { waiter, counts, client, .. } = self;
        let answer = Mutex::new(Some(answer));
        self.logins.pool.push(waiter, Job { credentials, record, counts, client, since, answer });
        // No answer in time, or none at all: the same to who asked.
        let answer = tokio::time::timeout(LONGEST, receiver).await;
        self.logins.metrics.latency(Latency::Login, since.elapsed());
        let Ok(Ok(answer)) = answer else {
            self.logins.metrics.login(LoginOutcome::Late);
            return Err(LoginError::Busy);
        };
        let refuse_at = refuse_at(shared, self.arrived + self.waited + answer.waited, passwords);
        if let Err(LoginError::Refused) = answer.result {
            tokio::time::sleep_until(refuse_at.into()).await;
        }
        answer.result.map(|verified| Accepted {
            verified,
            asked_at,
            refuse_at,
            remembers: None,
            checked_by: None,
        })
    }

    /// Waits for its turn at a source, and counts the password as a wrong one.
    pub(super) async fn turn(&mut self, slots: &Arc<Slots>) -> Result<Slot, LoginError> {
        let (shared, since) = (self.logins.pool.shared(), Instant::now());
        let slot = slots.acquire(self.waiter, MAX_WAIT).await;
        self.waited += since.elapsed();
        let Ok(slot) = slot else {
            self.uncount();
            self.logins.metrics.login(LoginOutcome::QueueFull);
            return Err(LoginError::Busy);
        };
        if !self.is_counted {
            shared.count(&self.counts, 1)?;
            self.is_counted = true;
        }
        Ok(slot)
    }

    /// The password is right; who refuses the login for another reason answers at that time.
    pub(super) fn accept(mut self) -> Instant {
        if std::mem::take(&mut self.is_counted) {
            self.logins.pool.shared().throttle.give_back(&self.counts, 1);
        }
        self.logins.metrics.login(LoginOutcome::Ok);
        refuse_at(self.logins.pool.shared(), self.arrived + self.waited, 1)
    }

    /// The password is wrong, as `source` says, or nobody bears the name; `known` is the user if the store has one. Returns when that may be
    /// answered.
    pub(super) async fn refuse(self, known: Option<&str>, source: SourceName) -> LoginError {
        let shared = self.logins.pool.shared();
        shared.refused(known, self.client, source);
        tokio::time::sleep_until(refuse_at(shared, self.arrived + self.waited, 1).into()).await;
        LoginError::Refused
    }

    /// The source could not be asked: nobody knows whether the password is right.
    pub(super) fn give_up(mut self) -> LoginError {
        self.uncount();
        self.logins.metrics.login(LoginOutcome::Unanswered);
        LoginError::Unavailable
    }

    /// The password does not count as a wrong one, and says nothing of those before it.
    pub(super) fn uncount(&mut self) {
        if std::mem::take(&mut self.is_counted) {
            self.logins.pool.shared().throttle.uncount(&self.counts, 1);
        }
    }
}

/// When a failure is answered that began then, if its passwords could be so many.
fn refuse_at(shared: &Shared, began: Instant, passwords: u32) -> Instant {
    // From its arrival, so that the store's look-up is no part of it.
    let time = shared.answer_time.of(passwords);
    let mut refuse_at = began + time;
    // Where it took longer, not at once: how much longer would tell of the hash.
    while refuse_at < Instant::now() {
        refuse_at += time;
    }
    refuse_at
}

fn pair(attempt: &Attempt<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (attempt.name, attempt.source.map(|(source, _)| source)).hash(&mut hasher);
    hasher.finish()
}

/// The longest time until the answer: a thread may lose its core in the middle, and then another one does it again.
const LONGEST: Duration = Duration::from_secs(10);
