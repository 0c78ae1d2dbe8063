//! Users of a directory who have tokens are asked for again in the background: one that is gone loses them.
//!
//! A directory does not say when an account is closed. The questions are spread over the interval; a directory that cannot be asked ends
//! nobody's tokens.

use std::sync::Arc;
use std::time::Duration;

use super::source::{Presence, UserSource};
use crate::auth::revocation::Subject;
use crate::auth::user_source::SourceName;
use crate::store::command::{Actor, RevokeSubject};
use crate::store::recorded_login::RecordLogin;
use crate::store::records::{ListedUser, UserFilter};
use crate::store::{Store, StoreError};

/// Asks for users again.
pub struct Revalidation {
    store: Store,
    source: Arc<dyn UserSource>,
    interval: Duration,
    /// How many had tokens in the last round.
    last: usize,
}

/// Why a round did not come to its end.
enum Stopped {
    Store(StoreError),
    /// The directory cannot be asked.
    Unavailable(&'static str),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Revalidation {
    /// Asks `source` for each of its users once in `interval`.
    pub const fn new(store: Store, source: Arc<dyn UserSource>, interval: Duration) -> Self {
        Self { store, source, interval, last: 0 }
    }

    /// Round after round, without an end.
    pub async fn run(&mut self) {
        let mut is_failing = false;
        loop {
            tokio::time::sleep(self.interval / 2).await;
            match self.round().await {
                Ok(asked) => {
                    self.last = asked;
                    is_failing = false;
                }
                Err(stopped) => {
                    let reason = match &stopped {
                        Stopped::Store(error) => error.to_string(),
                        Stopped::Unavailable(reason) => (*reason).to_owned(),
                    };
                    if !std::mem::replace(&mut is_failing, true) {
                        log::warn!(
                            "users of the directory cannot be asked for again; their tokens stay: {reason}"
                        );
                    }
                }
            }
        }
    }

    /// Asks for everybody once; says how many had tokens.
    async fn round(&self) -> Result<usize, Stopped> {
        let filter =
            UserFilter { source: Some(SourceName::Ldap), disabled: Some(false), ..UserFilter::default() };
        let (mut after, mut asked) = (String::new(), 0);
        let pause = self.pause();
        loop {
            let page = self.store.users(filter.clone(), &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(asked) };
            last.user.identity.user.as_str().clone_into(&mut after);
            for listed in page.into_iter().filter(|listed| listed.live_tokens > 0) {
                asked += 1;
                self.ask(listed).await?;
                tokio::time::sleep(pause).await;
            }
            tokio::time::sleep(PAGE_PAUSE).await;
        }
    }

    /// Between two questions, so that a round takes half of the interval.
    fn pause(&self) -> Duration {
        let each = self.interval / 2 / u32::try_from(self.last + 1).unwrap_or(u32::MAX);
        each.clamp(LEAST_PAUSE, MOST_PAUSE)
    }

    async fn ask(&self, listed: ListedUser) -> Result<(), Stopped> {
        let kept = listed.user.identity;
        let asked_at = self.store.login_record(kept.user.as_str(), None).await?.sequence;
        match self.source.find(&kept.user).await {
            Some(Presence::Present(identity)) if identity == kept => {}
            Some(Presence::Present(identity)) => {
                // Its tokens say what it no longer is.
                let login = RecordLogin { identity, source: SourceName::Ldap, asked_at };
                self.store.execute(login, actor()).await?;
            }
            Some(Presence::Gone) => {
                let user = kept.user.as_str();
                log::info!(user; "a user is gone from the directory: its tokens are revoked");
                let revoke = RevokeSubject { subject: Subject::User(user.into()) };
                self.store.execute(revoke, actor()).await?;
            }
            Some(Presence::Unavailable(reason)) => return Err(Stopped::Unavailable(reason.as_str())),
            None => return Err(Stopped::Unavailable("it does not tell without a password")),
        }
        Ok(())
    }
}

fn actor() -> Actor {
    Actor::operator("ds-gateway", "revalidation")
}

/// How many users are read at once.
const PAGE: usize = 100;

/// Between two pages, which take the store's reader.
const PAGE_PAUSE: Duration = Duration::from_millis(20);

/// Between two questions, at least: 50 a second.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// And at most.
const MOST_PAUSE: Duration = Duration::from_secs(60);
