//! The store in PostgreSQL.

#![allow(dead_code, reason = "the engine that uses the connections is not there yet")]

mod connect;
mod error;
mod tls;
#[cfg(test)]
pub(crate) mod test_server;
