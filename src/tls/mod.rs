//! TLS towards clients: the handshake, and the certificate where the operator has none.
//!
//! It may use `clock` and `config`.

pub mod acceptor;
pub mod self_signed;
