//! TLS towards clients: the handshake, and the certificate where the operator has none.
//!
//! It may use `config` and `auth`.

pub mod acceptor;
mod contexts;
pub mod self_signed;
