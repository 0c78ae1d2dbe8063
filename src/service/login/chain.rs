//! The sources of users, asked in order: a name is one source's, and no other is asked for it.
//!
//! A source that knows the name decides, whether it finds the password right or wrong. One that does not know it passes it on. One
//! that cannot be asked ends the login, since the name may be its own: a later source might take an older password. See
//! `docs/decisions/0044-sources-of-users.md`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::authenticator::{AuthenticationError, Authenticator, LoginAttempt};
use super::outcome::{Accepted, Verified};
use super::passwords::{Admitted, Logins};
use super::remember::Remembering;
use super::slots::Slots;
use super::source::{Answer, Refused, UserSource};
use crate::auth::endpoint::Credentials;
use crate::auth::identity::Identity;
use crate::auth::source::Source;
use crate::auth::user_source::SourceName;
use crate::clock::Clock;
use crate::metrics::{Metrics, SourceAnswer};
use crate::store::Store;
use crate::store::command::{Actor, Rehash};
use crate::store::recorded_login::{RecordLogin, RecordedLogin};
use crate::store::records::{LoginRecord, User, UserRecord};

/// The sources of users in their order, which all log in under the same limits.
pub struct Chain {
    store: Store,
    logins: Arc<Logins>,
    clock: Clock,
    metrics: Arc<Metrics>,
    links: Vec<Link>,
    /// Keeps hashes of what the platform finds right.
    remembering: Option<Remembering>,
}

/// One source.
pub enum Link {
    /// The store itself.
    Store,
    /// Another one.
    Other(Other),
}

/// A source beside the store.
pub struct Other {
    name: SourceName,
    source: Arc<dyn UserSource>,
    slots: Arc<Slots>,
}

impl Other {
    /// A source that is asked about so many logins at once.
    pub fn new(name: SourceName, source: Arc<dyn UserSource>, at_once: usize) -> Self {
        Self { name, source, slots: Slots::new(at_once) }
    }
}

impl Chain {
    /// The store's users alone.
    pub fn of_store(store: Store, logins: Arc<Logins>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { store, logins, clock, metrics, links: vec![Link::Store], remembering: None }
    }

    /// These sources, in this order.
    #[must_use]
    pub fn with(self, links: Vec<Link>, remembering: Option<Remembering>) -> Self {
        Self { links, remembering, ..self }
    }

    /// Asks one source after the other.
    async fn ask(
        &self,
        credentials: Credentials,
        record: LoginRecord,
        mut admitted: Admitted<'_>,
        client: Option<IpAddr>,
    ) -> Result<Accepted, AuthenticationError> {
        let LoginRecord { user: known, sequence: asked_at, .. } = record;
        let is_own = known.as_ref().is_none_or(|record| record.user.source == SourceName::Store);
        let name = known.as_ref().map(|record| record.user.identity.user.to_string());
        let mut refused_by = SourceName::Store;
        for link in &self.links {
            let other = match link {
                // Where there is nobody else, a name that nobody bears costs a hash as any other.
                Link::Store if is_own && (known.is_some() || self.links.len() == 1) => {
                    return Ok(admitted.check(credentials, known, asked_at).await?);
                }
                Link::Store => continue,
                Link::Other(other) => other,
            };
            if known.as_ref().is_some_and(|record| !is_own && record.user.disabled) {
                break;
            }
            let slot = admitted.turn(&other.slots).await?;
            let since = Instant::now();
            let answer = other.source.authenticate(&credentials).await;
            drop(slot);
            let elapsed = since.elapsed();
            refused_by = other.name;
            self.metrics.source_answered(other.name, answer_label(&answer), elapsed);
            match answer {
                Answer::Unknown => {}
                Answer::Refused(reason) => {
                    log_refusal(other.name, reason);
                    break;
                }
                Answer::Accepted(identity) => {
                    let login = RecordLogin { identity, source: other.name, asked_at };
                    let mut accepted = self.accept(login, known, credentials, admitted, client).await?;
                    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                    accepted.checked_by = Some((other.name, millis));
                    return Ok(accepted);
                }
                Answer::Unavailable(reason) => {
                    log::warn!(
                        "a login was not answered by the source {:?}: {}",
                        other.name,
                        reason.as_str()
                    );
                    let known = known.filter(|_| reason.is_outage());
                    return match self.remembered(other.name, known) {
                        Some((record, asked_at)) => {
                            Ok(admitted.check(credentials, Some(record), asked_at).await?)
                        }
                        None => Err(admitted.give_up().into()),
                    };
                }
            }
        }
        Err(admitted.refuse(name.as_deref(), refused_by).await.into())
    }

    /// A source has found the password right: is the user one that may have the name here?
    async fn accept(
        &self,
        login: RecordLogin,
        known: Option<UserRecord>,
        credentials: Credentials,
        mut admitted: Admitted<'_>,
        client: Option<IpAddr>,
    ) -> Result<Accepted, AuthenticationError> {
        let source = login.source;
        let remembers = (self.remembers(source)).then(|| credentials.password.clone());
        let name = known.as_ref().map(|record| record.user.identity.user.to_string());
        let (user, asked_at) = match known {
            Some(record) if is_same(&record.user, &login) => (record.user, login.asked_at),
            _ => {
                let actor = Actor::client(
                    login.identity.user.as_str(),
                    client.map(|client| client.to_string()).unwrap_or_default(),
                );
                match self.store.execute(login, actor).await {
                    Ok(RecordedLogin::Recorded(user, asked_at)) => (user, asked_at),
                    Ok(RecordedLogin::Revoked) => {
                        admitted.uncount();
                        return Err(AuthenticationError::Revoked);
                    }
                    Err(error) => {
                        admitted.uncount();
                        return Err(error.into());
                    }
                    Ok(RecordedLogin::Disabled | RecordedLogin::Conflict(_)) => {
                        return Err(admitted.refuse(name.as_deref(), source).await.into());
                    }
                }
            }
        };
        let refuse_at = admitted.accept();
        Ok(Accepted {
            verified: Verified { user, rehashed: None },
            asked_at,
            refuse_at,
            remembers,
            checked_by: None,
        })
    }

    fn remembers(&self, source: SourceName) -> bool {
        source == SourceName::Platform && self.remembering.is_some()
    }

    /// The hash by which a user of that source is known while it cannot be asked, and the sequence from which on a cutoff ends it.
    fn remembered(&self, source: SourceName, known: Option<UserRecord>) -> Option<(UserRecord, u64)> {
        let remembering = self.remembering.as_ref().filter(|_| self.remembers(source))?;
        let record = known.filter(|record| record.user.source == source && !record.user.disabled)?;
        let remembered = record.remembered?;
        let ends_at = remembered.at.plus(remembering.period().as_secs());
        (record.phc.is_some() && self.clock.now() < ends_at).then_some((record, remembered.sequence))
    }
}

#[async_trait]
impl Authenticator for Chain {
    async fn authenticate(&self, attempt: LoginAttempt) -> Result<Accepted, AuthenticationError> {
        let LoginAttempt { credentials, client, arrived } = attempt;
        let record = self.store.login_record(credentials.user.as_str(), client.map(Source::of)).await?;
        let admitted = self.logins.admit(&credentials, &record, client, arrived)?;
        self.ask(credentials, record, admitted, client).await
    }

    /// Replaces an old hash by one with today's costs, and keeps the hash of a password that another source found right.
    async fn complete(&self, accepted: Accepted) -> User {
        let Accepted { verified: Verified { user, rehashed }, asked_at, remembers, .. } = accepted;
        if let Some(phc) = rehashed {
            let name = user.identity.user.clone();
            let actor = Actor::client(name.as_str(), "login");
            let rehash = Rehash { user: name, credential_version: user.credential_version, phc };
            if let Err(error) = self.store.execute(rehash, actor).await {
                // The old hash still fits; the next login tries again.
                log::warn!("an old password hash was not replaced: {error}");
            }
        }
        if let (Some(password), Some(remembering)) = (remembers, &self.remembering) {
            remembering.keep(&user, password, asked_at);
        }
        user
    }
}

/// Is the user kept as the source describes it?
fn is_same(user: &User, login: &RecordLogin) -> bool {
    let RecordLogin { identity, source, .. } = login;
    let Identity { user: name, email, organization } = identity;
    let kept = &user.identity;
    !user.disabled
        && user.source == *source
        && (&kept.user, &kept.email, &kept.organization) == (name, email, organization)
}

fn log_refusal(source: SourceName, reason: Refused) {
    match reason {
        // The most usual thing, which is counted.
        Refused::Password => {}
        Refused::Account | Refused::Identity => {
            log::warn!("the source {source:?} refused a login: {}", reason.as_str());
        }
    }
}

const fn answer_label(answer: &Answer) -> SourceAnswer {
    match answer {
        Answer::Accepted(_) => SourceAnswer::Accepted,
        Answer::Refused(_) => SourceAnswer::Refused,
        Answer::Unknown => SourceAnswer::Unknown,
        Answer::Unavailable(_) => SourceAnswer::Unavailable,
    }
}

#[cfg(test)]
mod tests;
