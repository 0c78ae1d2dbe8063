//! The rules that every store keeps, written against the commands and the reads alone.
//!
//! A store is trusted because it passes this suite, so no test knows what is below [`Store`](super::Store): no SQL, no
//! tables, no files. [`ENGINES`](harness::ENGINES) lists the engines, and every test runs on each of them.

mod about;
mod after_restore;
mod audit;
mod audit_shares;
mod backup;
mod concurrency;
mod copy;
mod durability;
mod feed;
mod feed_histories;
pub(super) mod harness;
mod heartbeat;
mod import;
mod inspection;
mod keys;
mod logins;
mod mint;
mod platform_changes;
mod recorded_logins;
mod repair_clock;
mod retention;
mod revocation_limit;
mod revocation_list;
mod revocations;
pub(super) mod samples;
mod tokens;
mod user_changes;
mod user_list;
mod users;
