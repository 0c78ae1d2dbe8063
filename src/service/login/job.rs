//! A login as the threads that hash see it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::outcome::{LoginError, Verified};
use super::throttle::Counts;
use crate::auth::endpoint::Credentials;
use crate::auth::password::{HashMemory, Phc};
use crate::auth::secret::Secret;
use crate::store::records::UserRecord;

/// A login that is checked.
pub(super) struct Job {
    pub(super) credentials: Credentials,
    /// What the store has of that user.
    pub(super) record: Option<UserRecord>,
    pub(super) counts: Counts,
    pub(super) client: Option<IpAddr>,
    pub(super) since: Instant,
    pub(super) answer: Mutex<Option<oneshot::Sender<Answer>>>,
}

/// What came of a login.
pub(super) struct Answer {
    pub(super) result: Result<Verified, LoginError>,
    /// How long it waited for a thread.
    pub(super) waited: Duration,
}

impl Job {
    /// Does nobody wait for it any more?
    pub(super) fn is_given_up(&self, now: Instant) -> bool {
        self.since + MAX_WAIT <= now || self.is_answered()
    }

    pub(super) fn is_answered(&self) -> bool {
        // Who holds it may have lost its core.
        self.answer.try_lock().is_some_and(|answer| answer.as_ref().is_none_or(oneshot::Sender::is_closed))
    }

    pub(super) fn end(&self, result: Result<Verified, LoginError>, waited: Duration) {
        if let Some(answer) = self.answer.lock().take() {
            // A client that went away does not want to know.
            let _ = answer.send(Answer { result, waited });
        }
    }
}

/// Checks all passwords that a client may have meant. A failure costs at least as much as that of a user that does not exist.
pub(super) fn check(job: &Job, memory: &mut HashMemory) -> Result<Verified, LoginError> {
    let unknown = Phc::dummy();
    let record = job.record.as_ref().and_then(|record| Some((&record.user, record.phc.as_ref()?)));
    let phc = record.map_or(&unknown, |(_, phc)| phc);
    let fitting = job.credentials.all_passwords().find(|password| phc.verify(password, memory));
    match (record, fitting) {
        (Some((user, _)), Some(password)) if !user.disabled => {
            // A password of which the old hash ignored a part need not be the right one.
            let stays = phc.is_current() || phc.is_lossy_for(password);
            let rehashed = if stays { None } else { rehash(password, memory) };
            Ok(Verified { user: user.clone(), rehashed })
        }
        _ => {
            if !phc.is_current() {
                job.credentials.all_passwords().for_each(|password| _ = unknown.verify(password, memory));
            }
            Err(LoginError::Refused)
        }
    }
}

fn rehash(password: &Secret, memory: &mut HashMemory) -> Option<Phc> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).ok()?;
    Phc::hash(password, salt, memory)
}

/// The longest time that a login waits for a thread, where hashes have become dearer than they were when it came.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);
