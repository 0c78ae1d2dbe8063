//! The room that touches and does not think: a thin shell around pingora that asks `auth` and carries out
//! its answers.
//!
//! A connection comes in through [`listener`] and is guarded by [`connection`]; each of its requests goes
//! through the phases of [`proxy`], which reads it ([`request`]), answers it itself ([`answer`],
//! [`token`] with [`login`]) or forwards it ([`rewrite`], [`upstream`]).

pub mod admin;
pub mod answer;
pub mod certificate;
pub mod connection;
pub mod failures;
pub mod listener;
pub mod login;
pub mod pending;
pub mod proxy;
pub mod request;
mod request_id;
pub mod rewrite;
pub mod stalled;
pub mod token;
pub mod upstream;
