//! The control socket of a running gateway: what the command line asks of it, and its own successor.
//!
//! `control/<id>` in the state folder is a Unix domain socket. Whoever connects sends a request, a line of JSON, and gets one line back, and may go on
//! so. A request that is not known is an error by name, so that either side may be the newer one.
//!
//! It may use no other layer.

mod client;
mod link;
mod protocol;
mod server;
mod socket;

pub use self::client::{Asked, ask_all};
pub use self::link::Link;
pub use self::protocol::{Reply, Request, Upgraded, Verdict};
pub use self::server::{Progress, Server};
