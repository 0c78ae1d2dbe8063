//! The control socket of a running gateway: what the command line asks of it, and later its own successor.
//!
//! `control/<id>` in the state folder is a Unix domain socket. Whoever connects sends one request, a line of JSON, and gets one line back. A request
//! that is not known is an error by name, so that either side may be the newer one.
//!
//! It may use no other layer.

mod client;
mod protocol;
mod server;
mod socket;

pub use self::client::{Asked, ask_all};
pub use self::protocol::{Reply, Request, Verdict};
pub use self::server::Server;
