//! Use cases, asynchronous, without the engine and without SQL: what `edge`, `admin` and `cli` ask for. It may use `state_dir`,
//! `store` and all below them.

pub mod login;
pub mod pending_revocations;
pub mod token_endpoint;
