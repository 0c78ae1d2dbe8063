//! Logins: a name and a password become a user, or a refusal that says nothing.
//!
//! ```text
//! Authenticator   who may log in: a chain of sources, of which the store is one
//! Chain           ─► source     a directory or the platform, asked in a turn of `slots`
//! Logins::check ─► throttle   too many wrong passwords: refused before anything is hashed
//!               ─► queue      in a fair order, as many as can be checked in two seconds
//!               ─► pool       hashes in idle time, and a little where there is none
//!               ─► answer_time   a failure is answered at one time for all
//! ```
//!
//! The numbers and their reasons: `docs/decisions/0021-logins.md`. Places outside the store that users come from: [`source`], [`ldap`].

mod answer_time;
mod authenticator;
pub mod chain;
pub mod failed_logins;
mod job;
pub mod ldap;
mod outcome;
pub mod platform;
pub mod passwords;
mod pool;
mod priority;
mod queue;
pub mod remember;
pub mod revalidation;
mod sketch;
mod slots;
pub mod source;
mod throttle;

pub use self::authenticator::{AuthenticationError, Authenticator, LoginAttempt};
pub use self::outcome::{Accepted, LoginError, Verified};
pub use self::throttle::{MAX_RETRY_AFTER, Throttled};
