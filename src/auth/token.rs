//! The token: how it is minted, and what must hold before one is believed.
//!
//! [`verify`] checks what never changes for a given key set: shape, key, signature, claims. What depends
//! on the moment is asked of the [`Verified`] it returns, every time: [`Verified::check_time`] here, the
//! cutoffs in [`revocation`](super::revocation). That split is what lets a verified identity be kept without
//! ever keeping a verdict.

mod claim_fault;
mod claims;
mod id;
mod mint;
mod numeric_date;
mod parts;
mod rules;
mod verified;
mod verify;

pub use self::claim_fault::{Claim, ClaimError, ClaimFault};
pub use self::id::TokenId;
pub use self::mint::{Minted, mint, mint_after};
pub use self::rules::{TokenRules, UnknownUsers};
pub use self::verified::{Origin, Verified};
pub use self::verify::{Refused, examine, folded_email, verify};

#[cfg(test)]
mod tests;
