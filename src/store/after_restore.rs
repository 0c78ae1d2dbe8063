//! What must be done to a store that was put in the place of a newer one, before anybody trusts it: it has forgotten what was
//! revoked after it was copied, and the sequences that were given out since.

use super::command::{Command, KeyRecord};
use super::error::StoreError;

/// Makes a restored store safe to serve from: sequences go on where none has been given out, every token that was minted
/// before is refused, and keys that were revoked stay so.
#[derive(Clone, Debug)]
pub struct AfterRestore {
    /// The last sequence that is known to have been given out, by the store that this one replaces or what lies beside it.
    pub known: u64,
    /// Keys that are known to have been revoked there.
    pub revoked_keys: Vec<KeyRecord>,
}

/// What was done to a restored store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The sequence of the cutoff on everybody.
    pub sequence: u64,
    /// The keys, by their names, whose revocation the store did not know of.
    pub revoked_keys: Vec<String>,
}

impl Command for AfterRestore {
    type Outcome = Resumed;
}

/// What a store that is about to be replaced hands on, as far as it, and what lies beside it, can be read.
#[derive(Debug, Default)]
pub struct Legacy {
    /// The last sequence that was given out.
    pub sequence: u64,
    /// Keys that were revoked.
    pub revoked_keys: Vec<KeyRecord>,
    /// Why there may be more of both.
    pub fault: Option<StoreError>,
}

/// The sequence that a restored store goes on from: far behind whatever may have been given out since it was copied.
pub(super) const fn resume_after(own: u64, known: u64) -> u64 {
    let latest = if own > known { own } else { known };
    latest.saturating_add(GAP)
}

/// More changes than a store makes between two backups.
const GAP: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_store_goes_on_behind_both() {
        assert_eq!(
            (resume_after(5, 0), resume_after(5, 9), resume_after(9, 5)),
            (1_000_005, 1_000_009, 1_000_009)
        );
    }
}
