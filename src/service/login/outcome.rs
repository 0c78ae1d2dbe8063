//! What comes of a login.

use std::time::Instant;

use super::throttle::Throttled;
use crate::auth::password::Phc;
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
}

/// A login that succeeded.
#[derive(Debug)]
pub struct Accepted {
    /// Whom the password fits.
    pub verified: Verified,
    /// Who refuses it for another reason answers then, as a wrong password would be.
    pub refuse_at: Instant,
}

/// A user whose password was right.
#[derive(Debug)]
pub struct Verified {
    /// As the store held it when the password was checked.
    pub user: User,
    /// The same password with today's costs, if the stored hash has others and ignored nothing of it.
    pub rehashed: Option<Phc>,
}
