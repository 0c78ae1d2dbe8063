//! A store that was restored.

use super::transaction::{Apply, Transaction};
use super::{audit, cutoffs, sequence};
use crate::auth::revocation::Subject;
use crate::store::after_restore::AfterRestore;
use crate::store::decision;
use crate::store::error::StoreError;

impl Apply for AfterRestore {
    fn apply(self, transaction: &Transaction<'_>) -> Result<u64, StoreError> {
        resume(transaction, self.known)
    }
}

/// Goes on behind everything that was given out, with a cutoff on everybody; says which sequence that has.
pub(super) fn resume(transaction: &Transaction<'_>, known: u64) -> Result<u64, StoreError> {
    sequence::skip(transaction, known)?;
    // Those that ran when it was copied.
    transaction.execute("DELETE FROM gateways", [])?;
    let stamp = transaction.stamp()?;
    let previous = cutoffs::get(transaction, &Subject::Everybody)?;
    let cutoff = decision::revoke_subject(&Subject::Everybody, previous, stamp);
    cutoffs::set(transaction, &Subject::Everybody, cutoff, Some("restore"))?;
    audit::write(transaction, stamp, "restore", "everybody", None)?;
    Ok(stamp.sequence)
}
