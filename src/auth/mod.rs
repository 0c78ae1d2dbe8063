//! Pure logic: no I/O, clock, randomness, environment, log or global state. Everything that it needs comes in as an argument. It
//! uses no other layer.
//!
//! In the order of its arrows: [`time`], [`secret`], [`name`], [`source`], [`client_address`], [`user_source`], [`identity`], [`password`], [`keys`],
//! [`fields`], [`cors`], [`denial`], [`directory`], [`token`], [`names`], `shared`, [`token_set`], [`revocation`], [`cache`], [`policy`], [`endpoint`], [`gate`], [`explain`], [`reply`].

pub mod cache;
pub mod client_address;
pub mod cors;
pub mod denial;
pub mod directory;
pub mod endpoint;
pub mod explain;
pub mod fields;
pub mod gate;
mod hmac;
pub mod identity;
pub mod keys;
#[cfg(test)]
#[cfg(feature = "model")]
mod model;
pub mod name;
pub mod names;
pub mod password;
pub mod policy;
pub mod reply;
pub mod revocation;
pub mod secret;
mod shared;
pub mod source;
pub mod time;
pub mod token;
pub mod token_set;
pub mod user_source;
