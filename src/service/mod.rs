//! Use cases without the engine and without SQL: what `edge` and `cli` ask for.

pub mod login;
pub mod pending_revocations;
pub mod token_endpoint;
