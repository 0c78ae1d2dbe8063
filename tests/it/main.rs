//! The gateway as a black box: every test starts the real binary on free ports in a folder of its own, puts a
//! recording platform behind it and speaks to it byte by byte. Nothing here knows how the gateway is built, but for
//! [`architecture`], which reads the sources and checks that layers use only those below, and [`ldap`], which asks a source of users
//! by itself.
//!
//! The suite runs twice: with the fast lane, and without it ([`options::has_fast_lane`]).
//!
//! A test that attacks ends twice: the attack was not forwarded, and the gateway is still healthy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop at once and say where"
)]
#![allow(unreachable_pub, reason = "nothing is outside of a test binary")]

mod client;
mod command;
mod curl;
mod gateway;
mod h2_client;
mod deployment;
mod jwt;
mod key_rotation;
mod options;
mod overload;
mod paths;
mod pipelining;
mod platform;
#[path = "../../src/store/postgres/test_server/mod.rs"]
mod postgres_server;
mod seeds;
mod wire;

mod access_lines;
mod actors;
mod answers;
mod architecture;
mod attack;
mod audit;
mod backup;
mod basic;
mod bodies;
mod certificates;
mod certificate_changes;
mod changes_at_load;
mod chaos;
mod check;
mod claims;
mod clients;
mod clocks;
mod commands;
mod configuration;
mod connections;
mod contract;
mod cors;
mod crash;
mod demo;
mod disk;
mod endpoint;
mod fast_lane;
mod faults;
mod file_access;
mod fleet;
mod foreign;
mod http10;
mod absolute_form;
mod target_bytes;
mod upgrades;
mod platform_answers;
mod headers;
mod housekeeping;
mod http2;
mod identity;
mod import;
mod in_flight;
mod in_flight_many;
mod inspection;
mod lane_clients;
mod lane;
mod large;
mod ldap;
mod limits;
mod listening;
mod logins;
mod logs;
mod manifests;
mod manual;
mod memory;
mod memory_of_secrets;
mod metrics;
mod new_keys;
mod observability;
mod observe;
mod pause;
mod lock_waits;
mod platform_host;
mod platform_routes;
mod platform_servers;
mod platform_side;
mod platform_tls;
mod platform_users;
mod postgres;
mod prometheus;
mod process_upgrade;
mod process_upgrade_faults;
mod proxies;
mod race;
mod reload;
mod reload_control;
mod reload_load;
mod reload_settings;
mod reload_watch;
mod revocation;
mod revocation_limit;
mod revoke_list;
mod revoked_keys;
mod rolling_restart;
mod routes;
mod running;
mod secrets;
mod sequence;
mod servers;
mod slow;
mod sources;
mod starts;
mod store_copy;
mod startup;
mod stop;
mod terminal;
mod token;
mod token_command;
mod token_list;
mod transport;
mod unauthenticated;
mod unchanged;
mod unwritable;
mod unwritten_log;
mod upkeep;
mod uploads;
mod user_changes;
mod users;
mod websocket;
