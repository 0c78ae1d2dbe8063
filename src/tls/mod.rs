//! TLS towards clients: the handshake, and the certificate where the operator has none.

pub mod acceptor;
pub mod self_signed;
