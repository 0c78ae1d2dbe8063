//! The room that remembers: users, marks, key fingerprints and the audit trail, in one SQLite file.
//!
//! Every change is a transaction that takes the next number, so that the order of mints and revocations
//! comes from here and not from a clock. [`writer`] is the only door for a running gateway's own changes,
//! [`follow`] the way back from the file into memory; the command line opens the file itself.

pub mod audit;
pub mod follow;
pub mod keys;
pub mod revocations;
#[cfg(test)]
mod simulation;
pub mod sqlite;
pub mod users;
pub mod writer;

pub use sqlite::{Store, StoreError};
