//! Checks passwords, within limits of their number and time.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::failed_logins::FailedLogins;
use super::job::Job;
use super::outcome::{Accepted, LoginError};
use super::pool::Pool;
use super::queue::Waiter;
use super::sketch::{Sketch, Ticks};
use super::throttle::{Attempt, Throttle};
use crate::auth::endpoint::Credentials;
use crate::auth::source::{Network, Source};
use crate::config::{Limits, Networks};
use crate::metrics::{Latency, LoginOutcome, Metrics};
use crate::store::records::LoginRecord;

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
    trusted: Networks,
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
        Ok(Self { pool, metrics, trusted })
    }

    /// What has been counted of failed logins, so that it outlives the process.
    pub fn save(&self) -> Vec<u8> {
        let shared = self.pool.shared();
        shared.throttle.sketch().dump(shared.ticks())
    }

    /// Checks a password. A failure is answered at one time for all, however little its hash cost.
    pub async fn check(&self, login: Login) -> Result<Accepted, LoginError> {
        let (shared, arrived) = (self.pool.shared(), login.arrived);
        let is_trusted = login.client.is_some_and(|client| self.trusted.contains(client));
        let from = login.client.map(|client| (Source::of(client), Network::of(client)));
        let attempt = Attempt {
            name: login.credentials.user.as_str(),
            unlocks: login.record.unlocks,
            source: from,
            is_known: is_trusted || login.record.is_known_source,
        };
        let (counts, now) = (shared.throttle.counts(&attempt), shared.ticks());
        if let Err(throttled) = shared.throttle.check(&counts, now) {
            shared.throttled(throttled);
            return Err(LoginError::Throttled(throttled));
        }
        let waiter = Waiter {
            is_known: attempt.is_known,
            from,
            pair: pair(&attempt),
            debt: shared.throttle.debt(&counts, now),
        };
        let passwords = login.credentials.passwords();
        let (answer, receiver) = oneshot::channel();
        let since = Instant::now();
        self.pool.push(
            waiter,
            Job {
                credentials: login.credentials,
                record: login.record.user,
                counts,
                client: login.client,
                since,
                answer: Mutex::new(Some(answer)),
            },
        );
        // No answer in time, or none at all: the same to who asked.
        let answer = tokio::time::timeout(LONGEST, receiver).await;
        self.metrics.latency(Latency::Login, since.elapsed());
        let Ok(Ok(answer)) = answer else {
            self.metrics.login(LoginOutcome::Late);
            return Err(LoginError::Busy);
        };
        // From its arrival, so that the store's look-up is no part of it.
        let (began, time) = (arrived + answer.waited, shared.answer_time.of(passwords));
        let mut refuse_at = began + time;
        // Where it took longer, not at once: how much longer would tell of the hash.
        while refuse_at < Instant::now() {
            refuse_at += time;
        }
        if let Err(LoginError::Refused) = answer.result {
            tokio::time::sleep_until(refuse_at.into()).await;
        }
        answer.result.map(|verified| Accepted { verified, refuse_at })
    }
}

fn pair(attempt: &Attempt<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (attempt.name, attempt.source.map(|(source, _)| source)).hash(&mut hasher);
    hasher.finish()
}

/// The longest time until the answer: a thread may lose its core in the middle, and then another one does it again.
const LONGEST: Duration = Duration::from_secs(10);
