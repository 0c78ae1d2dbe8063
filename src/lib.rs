//! ds-gateway, the authentication gateway in front of the Datasentinel platform API.
//!
//! ```text
//!             ┌──────────────────────────── ds-gateway ────────────────────────────┐
//!  client ──► │ edge: listener ─► connection ─► phases ─┬─► decide ─► forward ─────┼──► platform
//!             │                                         │     │                    │
//!             │                                         │     └─► auth: policy, gate (pure)
//!             │                                         │                    ▲     │
//!             │ service: token endpoint, logins ◄───────┘                    │     │
//!             │    └─► store: writer ─► SQLite ─► change feed ─► replica ────┘     │
//!             └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Layers, arrows one way: [`cli`] parses and prints; [`app`] joins the parts; [`edge`] and [`admin`] do the I/O and ask for
//! decisions; [`service`] has the use cases; [`state_dir`] and [`store`] keep what must last; [`auth`] is pure logic. A request
//! that may go on carries a [`Pass`](auth::gate::Pass), which only the gate and the policy can make.
//!
//! The modules stand in the order of their arrows: each uses only those above it.

pub mod auth;
pub mod thread_slot;
pub mod control;
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
