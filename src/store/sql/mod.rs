//! What every store says in SQL: commands, reads and the change feed, each by the statements that carry it out.
//!
//! Statements run on a [`Connection`], which an engine provides, and are written in what SQLite and PostgreSQL have in common:
//! `?1` is the first parameter, an integer has 64 bits, and whatever is decided is decided by the pure functions of `decision`, not here.

pub(super) mod about;
pub(super) mod after_restore;
pub(super) mod audit;
pub(super) mod audit_shares;
pub(super) mod connection;
pub(super) mod cutoffs;
pub(super) mod feed;
pub(super) mod heartbeat;
pub(super) mod inspect;
pub(super) mod keys;
pub(super) mod known_sources;
pub(super) mod logins;
mod mint;
pub(super) mod new_store;
mod retention;
pub(super) mod revocations;
pub(super) mod sequence;
pub(super) mod skeletons;
mod slice;
pub(super) mod tables;
pub(super) mod time;
pub(super) mod tokens;
pub(super) mod transaction;
pub(super) mod user_changes;
pub(super) mod users;
pub(super) mod value;
