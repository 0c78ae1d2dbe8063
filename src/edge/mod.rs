//! HTTP towards clients and platform: it asks `auth` and `service` and carries their answers out, for plain requests by itself and for
//! all others as a thin shell around the engine. It may use every layer below `app`.
//!
//! A connection comes in through [`listener`], which asks [`admission`] for a place and hands it to a worker. There [`lane`] takes plain
//! requests; every other, with what was read of it (`replay`), goes through the engine's phases ([`mod@pingora`]), bounded by [`connection`].
//! For both, [`gateway`] asks [`decide`], which reads a request ([`request`]) and knows no engine. Then it is answered ([`answer`]) or
//! forwarded ([`forward`], [`upstream`]).

mod access_log;
pub mod admission;
pub mod answer;
pub mod client;
mod clock_reading;
pub mod connection;
mod connection_context;
mod connection_log;
mod cors;
mod cut;
mod deadline;
pub mod decide;
pub mod ending;
mod errors;
mod expect_continue;
pub mod forward;
pub mod gateway;
pub mod lane;
pub mod listener;
pub mod local;
mod normalize;
mod ongoing;
pub mod pingora;
pub mod platform_api;
pub mod platforms;
mod proxy_protocol;
pub mod quota;
pub mod raw_head;
mod replay;
pub mod request;
pub mod request_head;
mod request_id;
mod request_line;
mod request_state;
mod response;
mod retry;
pub mod runtime;
mod socket;
mod trace;
pub mod upstream;
pub mod worker;
