//! Hashes of passwords that the platform has found right, for the time in which it cannot be asked.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::priority::hash_in_idle_time;
use crate::auth::password::{HashMemory, Phc};
use crate::auth::secret::Secret;
use crate::store::Store;
use crate::store::command::Actor;
use crate::store::recorded_login::Remember;
use crate::store::records::User;

/// Keeps hashes, one at a time and in idle time. Dropped, it ends its thread.
pub struct Remembering {
    period: Duration,
    sender: SyncSender<Found>,
}

/// A password that was found right.
struct Found {
    user: User,
    password: Secret,
    asked_at: u64,
}

impl Remembering {
    /// Keeps them in that store. Each serves for `period`.
    pub fn start(store: Store, period: Duration) -> std::io::Result<Self> {
        let (sender, found) = sync_channel(WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new().name("login-remember".into()).spawn(move || {
            hash_in_idle_time();
            runtime.block_on(keep_all(&store, &found));
        })?;
        Ok(Self { period, sender })
    }

    /// For how long one serves.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Keeps the hash of a password. Where too many wait, the user's next login has it kept.
    pub(super) fn keep(&self, user: &User, password: Secret, asked_at: u64) {
        let _ = self.sender.try_send(Found { user: user.clone(), password, asked_at });
    }
}

async fn keep_all(store: &Store, found: &Receiver<Found>) {
    let mut memory = HashMemory::default();
    while let Ok(Found { user, password, asked_at }) = found.recv() {
        let mut salt = [0; 16];
        let hashed = getrandom::fill(&mut salt).ok().and_then(|()| Phc::hash(&password, salt, &mut memory));
        memory.release();
        let Some(phc) = hashed else { continue };
        let (name, credential_version) = (user.identity.user, user.credential_version);
        let actor = Actor::client(name.as_str(), "login");
        let remember = Remember { user: name, credential_version, phc, asked_at };
        if let Err(error) = store.execute(remember, actor).await {
            log::warn!("the hash of a password is not remembered: {error}");
        }
    }
}

/// How many may wait to be hashed.
const WAITING: usize = 256;
