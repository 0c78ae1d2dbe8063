//! Revocations that are in force here and not yet in the store: its disk was full, failing or hanging.
//!
//! The client was told 503, so nothing was promised; still the token is refused from that moment, and the
//! revocation is written as soon as the store takes it, while this process lives.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::auth::gate::Gate;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::auth::token::TokenId;
use crate::store::command::{Actor, Expiry, RevokeToken};
use crate::store::user_change::EndChange;
use crate::store::{Store, StoreError};

/// One token whose revocation could not be written.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The token.
    pub id: TokenId,
    /// When it expires.
    pub expires_at: UnixTime,
    /// Whose it is.
    pub user: Box<str>,
    /// Where the request came from.
    pub origin: String,
}

impl Revocation {
    /// Makes it durable; says which sequence it has.
    pub async fn write(self, store: &Store) -> Result<u64, StoreError> {
        let actor = Actor::client(self.user.clone(), self.origin);
        let revoke = RevokeToken { id: self.id, expiry: Expiry::At(self.expires_at), user: Some(self.user) };
        store.execute(revoke, actor).await
    }
}

/// Those that wait. At most one for each token that holds, so the tokens bound it.
#[derive(Debug, Default)]
pub struct Pending {
    waiting: Mutex<BTreeMap<TokenId, Revocation>>,
    changes: Mutex<Vec<PendingChange>>,
    /// Subjects that a start holds in the gate, whose cutoffs the store has not taken.
    held_by_start: Mutex<Vec<Subject>>,
}

/// A change on the platform that has ended tokens here and could not be written.
#[derive(Clone, Debug)]
pub struct PendingChange {
    /// What is to be written.
    pub command: EndChange,
    /// Who asked for the change.
    pub actor: Actor,
}

impl Pending {
    /// One more, unless that token waits already.
    pub fn push(&self, revocation: Revocation) {
        self.waiting.lock().entry(revocation.id).or_insert(revocation);
    }

    /// One more change. The store took the note of it a moment ago, so there are few.
    pub fn push_change(&self, change: PendingChange) {
        self.changes.lock().push(change);
    }

    /// These are held in the gate, until the changes that they are about can be ended.
    pub fn held_by_start(&self) -> Vec<Subject> {
        self.held_by_start.lock().clone()
    }

    /// Says what [`held_by_start`](Self::held_by_start) gives from now on.
    pub fn set_held_by_start(&self, subjects: Vec<Subject>) {
        *self.held_by_start.lock() = subjects;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.lock().len() + self.changes.lock().len()
    }

    /// Does none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One after the other. What they hold in the gate is released once its cutoff is there.
    async fn retry_changes(&self, store: &Store, gate: &Gate) {
        while !store.health().hangs() {
            let Some(PendingChange { command, actor }) = self.changes.lock().first().cloned() else { return };
            let Ok(cutoffs) = store.execute(command.clone(), actor).await else { return };
            gate.apply_cutoffs(&cutoffs);
            gate.apply(|snapshot| command.subjects.iter().for_each(|subject| snapshot.release(subject)));
            self.changes.lock().retain(|change| change.command.id != command.id);
        }
    }

    /// Tries again, many in one commit, until none waits or one fails. While a commit hangs, its queue is long enough.
    pub async fn retry(&self, store: &Store, gate: &Gate) {
        self.retry_changes(store, gate).await;
        while !store.health().hangs() {
            let next: Vec<Revocation> = self.waiting.lock().values().take(AT_ONCE).cloned().collect();
            if next.is_empty() {
                return;
            }
            let mut writes = JoinSet::new();
            for revocation in next {
                let (id, store) = (revocation.id, store.clone());
                writes.spawn(async move { (id, revocation.write(&store).await) });
            }
            let mut all_written = true;
            while let Some(written) = writes.join_next().await {
                match written {
                    Ok((id, Ok(_))) => drop(self.waiting.lock().remove(&id)),
                    _ => all_written = false,
                }
            }
            if !all_written {
                return;
            }
        }
    }
}

/// Half of what the store takes into one commit: others may be in it.
const AT_ONCE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_waits_once() {
        let pending = Pending::default();
        for (id, origin) in [(1, "first"), (2, "other"), (1, "again")] {
            let (id, origin) = (TokenId([id; 16]), origin.to_owned());
            pending.push(Revocation { id, expires_at: UnixTime(1), user: "anna".into(), origin });
        }
        assert_eq!(pending.len(), 2);
        let waiting = pending.waiting.lock();
        assert_eq!(waiting.get(&TokenId([1; 16])).map(|one| one.origin.as_str()), Some("first"));
    }
}
