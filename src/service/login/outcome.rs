//! What comes of a login.

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
    /// As the store held it when the password was checked.
    pub user: User,
    /// The same password with today's costs, if the stored hash has others.
    pub rehashed: Option<Phc>,
}
