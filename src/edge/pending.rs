//! Revocations that are in force here and not yet in the store: its disk was full, or failing.
//!
//! The client was told 503, so nothing was promised; still the token is refused from that moment, and the
//! revocation is written as soon as the store takes it, while this process lives.

use parking_lot::Mutex;

use crate::auth::token::TokenId;
use crate::auth::token_set::Keep;
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::revocations::revoke_token;
use crate::store::users::Act;
use crate::store::writer::Writer;

/// One token whose revocation could not be written.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The token.
    pub id: TokenId,
    /// Its expiry.
    pub keep: Keep,
    /// Whose it is.
    pub user: Box<str>,
    /// Where the request came from.
    pub origin: String,
}

impl Revocation {
    /// Writes it, by the writer's thread.
    pub async fn write(self, writer: &Writer, clock: &Clock) -> Result<u64, StoreError> {
        let now = clock.moment().now;
        let write = writer.write(move |connection| {
            let act = Act { now, actor: &self.user, origin: &self.origin };
            revoke_token(connection, self.id, self.keep, Some(&self.user), act)
        });
        write.await
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
    pub async fn retry(&self, writer: &Writer, clock: &Clock) {
        loop {
            let Some(next) = self.waiting.lock().first().cloned() else {
                return;
            };
            let id = next.id;
            if next.write(writer, clock).await.is_err() {
                return;
            }
            self.waiting.lock().retain(|waiting| waiting.id != id);
        }
    }
}
