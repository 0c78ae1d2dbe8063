//! ds-gateway, the authentication gateway in front of the Datasentinel platform API.
//!
//! ```text
//!              ┌─────────────────────── ds-gateway ────────────────────────┐
//!   client ──► │ edge: listener ─► connection ─► proxy ─┬─► upstream       │ ──► platform
//!              │                                        │                  │
//!              │ auth:            policy ◄─ gate ◄──────┤ (pure)           │
//!              │                                        │                  │
//!              │ edge:            token ─► login        ┘                  │
//!              │ store:           writer ─► SQLite ─► replica ─► gate      │
//!              └───────────────────────────────────────────────────────────┘
//! ```
//!
//! Two rooms and a door, arrows one way: [`auth`] thinks and touches nothing; [`edge`] touches and does not
//! think; [`store`] remembers; [`app`] joins them; [`cli`] is the door. A request that may go on carries a
//! [`Pass`](auth::gate::Pass), which only the gate and the policy can make.
//!
//! The modules stand in the order of their arrows: each uses only those above it.

pub mod auth;
pub mod thread_slot;
pub mod config;
pub mod clock;
pub mod metrics;
pub mod logging;
pub mod store;
pub mod state_dir;
pub mod service;
pub mod tls;
pub mod edge;
pub mod admin;
pub mod app;
pub mod cli;

/// The binary's allocator, so that a test can ask it what a decision allocates. It needs more stack than a model has.
#[cfg(all(test, not(feature = "model")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
