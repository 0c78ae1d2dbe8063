//! Revocations that are in force here and not yet in the store: its disk was full, or failing.
//!
//! The client was told 503, so nothing was promised; still the token is refused from that moment, and the
//! revocation is written as soon as the store takes it, while this process lives.

use parking_lot::Mutex;

use crate::auth::time::UnixTime;
use crate::auth::token::TokenId;
use crate::store::command::{Actor, Expiry, RevokeToken};
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
        let actor = Actor::new(self.user.clone(), self.origin);
        let revoke = RevokeToken { id: self.id, expiry: Expiry::At(self.expires_at), user: Some(self.user) };
        store.execute(revoke, actor).await
    }
}

/// Those that wait. At most one for each token that holds, so the tokens bound it.
#[derive(Debug, Default)]
pub struct Pending {
    waiting: Mutex<Vec<Revocation>>,
}

impl Pending {
    /// One more, unless that token waits already.
    pub fn push(&self, revocation: Revocation) {
        let mut waiting = self.waiting.lock();
        if waiting.iter().all(|known| known.id != revocation.id) {
            waiting.push(revocation);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Does none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tries again, oldest first, until one fails.
    pub async fn retry(&self, store: &Store) {
        loop {
            let Some(next) = self.waiting.lock().first().cloned() else {
                return;
            };
            let id = next.id;
            if next.write(store).await.is_err() {
                return;
            }
            self.waiting.lock().retain(|waiting| waiting.id != id);
        }
    }
}
