//! Changes of users on the platform that end tokens here: noted before they are sent, and carried out here before the client has the
//! platform's answer.
//!
//! In doubt tokens end: that costs a login, and the opposite would leave a token to somebody who lost the right to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::pending_revocations::{Pending, PendingChange};
use crate::auth::gate::{Gate, Permit};
use crate::auth::policy::Affected;
use crate::auth::revocation::Subject;
use crate::clock::Clock;
use crate::store::command::Actor;
use crate::store::user_change::{BeginChange, ChangeEnd, ChangeId, EndChange, EndForgottenChanges};
use crate::store::{Store, StoreError};

/// Begins and ends them.
#[derive(Clone)]
pub struct UserChanges {
    store: Store,
    gate: Arc<Gate>,
    clock: Clock,
    pending: Arc<Pending>,
    /// How many have begun, and their end is neither written nor pending.
    open: Arc<AtomicUsize>,
}

/// A change that the platform is asked for. Dropped before it has ended, it has ended in a way that nobody knows.
pub struct Change {
    changes: UserChanges,
    id: ChangeId,
    subjects: Vec<Subject>,
    actor: Actor,
    /// The platform was asked once before, and may have made it then.
    may_be_made: bool,
    has_ended: bool,
    open: Arc<Open>,
}

/// One more change that is open, until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(open: &Arc<AtomicUsize>) -> Arc<Self> {
        open.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self(Arc::clone(open)))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What becomes of tokens when a change ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The platform refused the change: they stay.
    Unchanged,
    /// They are revoked, and that is durable. The sequence is that of the cutoffs.
    Durable(u64),
    /// They are revoked here, and the store has not taken it yet, or the other process of an upgrade has not said that it has it.
    Pending,
}

impl UserChanges {
    /// Of that store and gate.
    pub fn new(store: Store, gate: Arc<Gate>, clock: Clock, pending: Arc<Pending>) -> Self {
        Self { store, gate, clock, pending, open: Arc::default() }
    }

    /// Has one begun whose end is neither written nor pending?
    pub fn is_one_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }

    /// Notes a change durably; nothing if it ends nobody's tokens. On an error it must not be sent.
    pub async fn begin(
        &self,
        affected: &BTreeSet<Affected>,
        permit: Option<&Permit>,
        origin: &str,
    ) -> Result<Option<Change>, StoreError> {
        let subjects: Vec<Subject> =
            affected.iter().filter_map(|affected| subject(affected, permit)).collect();
        if subjects.is_empty() {
            return Ok(None);
        }
        let name = permit.map_or("unknown", |permit| permit.identity().user.as_str());
        let actor = Actor::client(name, origin);
        let open = Open::count(&self.open);
        let id = self.store.execute(BeginChange { subjects: subjects.clone() }, actor.clone()).await?;
        let change =
            Change { changes: self.clone(), id, subjects, actor, may_be_made: false, has_ended: false, open };
        Ok(Some(change))
    }

    /// Carries out the changes that nobody has ended for [`FORGOTTEN`], and those that a start could not.
    pub async fn end_forgotten(&self) -> Result<(), StoreError> {
        let held = self.pending.held_by_start();
        self.carry_out(!held.is_empty()).await?;
        self.pending.set_held_by_start(Vec::new());
        self.release(&held);
        Ok(())
    }

    /// Carries out all that a process before this one has begun. The platform may still be at it, and so may another gateway, so all of it
    /// stays noted until it is forgotten. Where the store takes nothing it is in force here alone until it does.
    pub async fn end_those_of_before(&self) -> Result<(), StoreError> {
        let Err(error) = self.carry_out(true).await else { return Ok(()) };
        log::warn!(
            "changes of users on the platform that had no known end cannot be ended in the store: {error}"
        );
        let subjects = self.store.open_changes().await?;
        self.hold(&subjects);
        self.pending.set_held_by_start(subjects);
        Ok(())
    }

    async fn carry_out(&self, all: bool) -> Result<(), StoreError> {
        let before = self.clock.now().minus(FORGOTTEN.as_secs());
        let cutoffs = self.store.execute(EndForgottenChanges { before, all }, Actor::gateway()).await?;
        if !cutoffs.is_empty() {
            log::warn!(
                "changes of users on the platform had no known end; the tokens that they are about are revoked"
            );
        }
        self.gate.apply_cutoffs(&cutoffs);
        Ok(())
    }

    fn release(&self, subjects: &[Subject]) {
        self.gate.apply(|snapshot| subjects.iter().for_each(|subject| snapshot.release(subject)));
    }

    /// Refuses their tokens here until the store has the cutoffs.
    fn hold(&self, subjects: &[Subject]) {
        self.gate.apply(|snapshot| subjects.iter().for_each(|subject| snapshot.hold(subject.clone())));
    }
}

impl Change {
    /// It is sent once more, and the platform may have made it already: that nothing is left to be changed is no refusal then.
    pub const fn sent_again(&mut self) {
        self.may_be_made = true;
    }

    /// The platform has answered with that status: an error of the client's changed nothing, anything else may have.
    pub async fn answered(self, status: u16) -> Ended {
        let end = match status {
            // It says that it is at it, or a proxy in between says that it does not know.
            202 | 408 | 502 | 503 | 504 => ChangeEnd::Unknown,
            // 409 and 425 say that it was not done this time, and 429 that it was not begun.
            400..500 if !self.may_be_made => ChangeEnd::Refused,
            _ => ChangeEnd::Made,
        };
        self.end(end).await
    }

    /// It was not sent.
    pub async fn not_sent(self) -> Ended {
        self.end(ChangeEnd::Refused).await
    }

    /// The platform has not answered. It may have made the change, or be at it.
    pub async fn failed(self) -> Ended {
        self.end(ChangeEnd::Unknown).await
    }

    /// In a task of its own, so that whoever waits may go.
    async fn end(mut self, end: ChangeEnd) -> Ended {
        self.has_ended = true;
        tokio::spawn(self.work(end)).await.unwrap_or(Ended::Pending)
    }

    fn work(&mut self, end: ChangeEnd) -> impl Future<Output = Ended> + use<> {
        let (changes, id, subjects) = (self.changes.clone(), self.id, std::mem::take(&mut self.subjects));
        let (actor, open) = (self.actor.clone(), Arc::clone(&self.open));
        async move {
            let ended = end_change(changes, EndChange { id, subjects, end }, actor).await;
            drop(open);
            ended
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // In force before anything else.
        let (changes, subjects) = (self.changes.clone(), self.subjects.clone());
        changes.hold(&subjects);
        let work = self.work(ChangeEnd::Unknown);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A work that could not be written holds them by itself.
                work.await;
                changes.release(&subjects);
            });
        }
    }
}

async fn end_change(changes: UserChanges, command: EndChange, actor: Actor) -> Ended {
    let is_refused = command.end == ChangeEnd::Refused;
    match changes.store.execute(command.clone(), actor.clone()).await {
        Ok(cutoffs) => {
            changes.gate.apply_cutoffs(&cutoffs);
            // Without a cutoff nothing was revoked.
            let Some(sequence) = cutoffs.iter().map(|(_, cutoff)| cutoff.sequence).max() else {
                return Ended::Unchanged;
            };
            match changes.store.peers().applied().await {
                Ok(()) => Ended::Durable(sequence),
                // Once more would be one more cutoff, of tokens that came since.
                Err(error) => {
                    log::error!("a change of users on the platform has ended tokens here: {error}");
                    Ended::Pending
                }
            }
        }
        // It stays noted, and ends tokens later that need not have ended.
        Err(error) if is_refused => {
            log::warn!("that the platform refused a change of users is not noted: {error}");
            Ended::Unchanged
        }
        Err(error) => {
            log::error!(
                "a change of users on the platform has ended tokens here and not yet in the store; retrying: {error}"
            );
            changes.hold(&command.subjects);
            changes.pending.push_change(PendingChange { command, actor });
            Ended::Pending
        }
    }
}

/// Whose tokens. A sender without a token that was admitted is nobody who is known here: that of everybody would let strangers end them.
fn subject(affected: &Affected, permit: Option<&Permit>) -> Option<Subject> {
    let identity = permit.map(Permit::identity);
    Some(match affected {
        Affected::Email(email) => Subject::Email(email.clone()),
        Affected::User(name) => Subject::User(name.clone()),
        Affected::Own => Subject::User(identity?.user.as_str().into()),
        Affected::Organization => Subject::Organization(identity?.organization.as_str().into()),
        Affected::Everybody => Subject::Everybody,
    })
}

/// A change that has no end for so long is forgotten: longer than any request takes.
pub const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
