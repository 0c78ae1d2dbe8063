//! The room that touches and does not think: a thin shell around pingora that asks `auth` and carries out
//! its answers.
//!
//! A connection comes in through [`listener`], which asks [`admission`] for a place and hands it to a worker; there
//! [`connection`] bounds it, and each of its requests goes through the phases of [`proxy`], which reads it ([`request`]),
//! answers it itself ([`answer`]) or forwards it ([`rewrite`], [`upstream`]).

pub mod admission;
pub mod answer;
pub mod client;
pub mod connection;
mod connection_log;
mod cut;
mod deadline;
pub mod listener;
pub mod local;
pub mod proxy;
mod proxy_protocol;
pub mod quota;
pub mod request;
mod request_id;
pub mod rewrite;
mod socket;
mod trace;
pub mod upstream;
mod worker;
