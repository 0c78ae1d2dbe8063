//! What a new store begins with.

use super::transaction::Transaction;
use super::{cutoffs, keys};
use crate::auth::revocation::Subject;
use crate::store::after_restore::resume_after;
use crate::store::command::KeyRecord;
use crate::store::decision;
use crate::store::error::StoreError;

/// Puts a cutoff on everybody: nothing minted before is trusted. Sequences go on behind the last one that is `known` to have been given out
/// by a store in this place, whose keys may be in use and stay revoked.
pub(in crate::store) fn fill(
    transaction: &Transaction<'_>,
    known: u64,
    revoked: &[KeyRecord],
) -> Result<(), StoreError> {
    if known > 0 {
        transaction.skip_to(resume_after(transaction.sequence(), known));
    }
    let everybody = decision::cutoff(None, transaction.stamp(), false);
    cutoffs::set(transaction, &Subject::Everybody, everybody, Some("store_created"))?;
    keys::revoke_known(transaction, revoked)?;
    Ok(())
}
