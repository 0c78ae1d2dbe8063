//! Mints.

use super::audit::Details;
use super::transaction::{Apply, Transaction};
use super::{audit, cutoffs, keys, known_sources, revocations};
use crate::store::command::{Mint, MintOutcome};
use crate::store::decision::{self, MintRows};
use crate::store::error::StoreError;
use crate::store::records::FieldChange;

impl Apply for Mint {
    fn apply(self, transaction: &Transaction<'_>) -> Result<MintOutcome, StoreError> {
        let identity = &self.user.identity;
        let name = identity.user.as_str();
        let user = transaction.find(
            "SELECT credential_version, disabled FROM users WHERE name = ?1",
            [name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let rows = MintRows {
            user,
            signer_revoked: keys::is_revoked(transaction, &self.signer)?,
            revocations: revocations::count(transaction, name)?,
            cutoffs: cutoffs::of(transaction, identity)?,
        };
        if let Some(refusal) = decision::refuse_mint(&self, &rows) {
            return Ok(refusal);
        }
        let cutoffs = rows.cutoffs;
        let stamp = transaction.stamp();
        let minted =
            decision::mint(&self, &cutoffs, transaction.issue_time, stamp).ok_or(StoreError::Signing)?;
        if let Some(source) = self.source {
            known_sources::remember(transaction, name, source)?;
        }
        let details = Details {
            token: Some(minted.id),
            expires_at: Some(minted.expires_at),
            kid: Some(self.signer.kid()),
            changes: self
                .checked_by
                .iter()
                .map(|(source, millis)| FieldChange::checked_by(*source, Some(*millis)))
                .collect(),
        };
        audit::write_details(transaction, stamp, "mint", name, &details)?;
        Ok(MintOutcome::Minted(minted, cutoffs))
    }
}
