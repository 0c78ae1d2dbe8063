//! What comes of a login.

use std::time::Instant;

use super::throttle::Throttled;
use crate::auth::password::Phc;
use crate::auth::secret::Secret;
use crate::auth::user_source::SourceName;
use crate::store::records::User;

/// Why a login did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// Unknown user, wrong password or disabled: one answer.
    Refused,
    /// More logins than can be checked in time.
    Busy,
    /// Too many wrong passwords came before.
    Throttled(Throttled),
    /// The source of users that may know the name could not be asked.
    Unavailable,
}

/// A login that succeeded.
#[derive(Debug)]
pub struct Accepted {
    /// Whom the password fits.
    pub verified: Verified,
    /// The store's sequence before anybody was asked whether the password is right.
    pub asked_at: u64,
    /// Who refuses it for another reason answers then, as a wrong password would be.
    pub refuse_at: Instant,
    /// A password that another source has found right and whose hash is to be kept.
    pub remembers: Option<Secret>,
    /// Which source found it right, where that is not the store, and in how many milliseconds.
    pub checked_by: Option<(SourceName, u64)>,
}

/// A user whose password was right.
#[derive(Debug)]
pub struct Verified {
    /// As the store held it when the password was checked.
    pub user: User,
    /// The same password with today's costs, if the stored hash has others and ignored nothing of it.
    pub rehashed: Option<Phc>,
}
