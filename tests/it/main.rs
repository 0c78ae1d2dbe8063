//! The gateway as a black box: every test starts the real binary on free ports in a folder of its own, puts a
//! recording platform behind it and speaks to it byte by byte. Nothing here knows how the gateway is built, but for
//! [`architecture`], which reads the sources and holds the arrows between the rooms.
//!
//! A test that attacks ends twice: the attack was not forwarded, and the gateway is still healthy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop at once and say where"
)]

mod client;
mod command;
mod gateway;
mod house;
mod jwt;
mod platform;
mod wire;

mod architecture;
mod basic;
mod claims;
mod configuration;
mod contract;
mod demo;
mod foreign;
mod headers;
mod limits;
mod observability;
mod platform_side;
mod routes;
mod token;
mod users;
