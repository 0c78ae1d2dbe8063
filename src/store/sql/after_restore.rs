//! A store that was restored.

use super::transaction::{Apply, Transaction};
use super::{audit, cutoffs, keys};
use crate::auth::revocation::Subject;
use crate::store::after_restore::{AfterRestore, Resumed, resume_after};
use crate::store::command::KeyRecord;
use crate::store::decision;
use crate::store::error::StoreError;

impl Apply for AfterRestore {
    const REVOKES_KEYS: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<Resumed, StoreError> {
        resume(transaction, self.known, &self.revoked_keys)
    }
}

/// Goes on behind everything that was given out, with a cutoff on everybody and every key revoked that was.
pub(in crate::store) fn resume(
    transaction: &Transaction<'_>,
    known: u64,
    revoked_keys: &[KeyRecord],
) -> Result<Resumed, StoreError> {
    transaction.skip_to(resume_after(transaction.sequence(), known));
    // Those that ran when it was copied.
    transaction.write("DELETE FROM gateways", ())?;
    let stamp = transaction.stamp();
    let previous = cutoffs::get(transaction, &Subject::Everybody)?;
    let cutoff = decision::revoke_subject(&Subject::Everybody, previous, stamp);
    cutoffs::set(transaction, &Subject::Everybody, cutoff, Some("restore"))?;
    audit::write(transaction, stamp, "restore", "everybody", None)?;
    Ok(Resumed { sequence: stamp.sequence, revoked_keys: keys::revoke_known(transaction, revoked_keys)? })
}
