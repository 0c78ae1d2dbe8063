//! ds-gateway, the authentication gateway in front of the Datasentinel platform API.
pub mod auth;
pub mod store;
pub mod config;
