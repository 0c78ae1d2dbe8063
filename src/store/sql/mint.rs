//! Mints.

use super::audit::Details;
use super::connection::Connection;
use super::transaction::{Apply, Group, Transaction};
use super::{audit, cutoffs, keys, known_sources, revocations, users};
use crate::store::command::{Mint, MintOutcome};
use crate::store::decision::{self, MintRows};
use crate::store::error::StoreError;
use crate::store::records::FieldChange;

impl Apply for Mint {
    fn group(&self) -> Group {
        Group::Mints
    }

    fn foresee(&self, connection: &Connection<'_>) {
        let identity = &self.user.identity;
        let name = identity.user.as_str();
        drop(users::version(connection, name));
        drop(keys::has_ended(connection, &self.signer));
        drop(revocations::count(connection, name));
        drop(cutoffs::of(connection, identity));
        drop(self.source.map(|source| known_sources::last_seen(connection, name, source)));
    }

    fn apply(self, transaction: &Transaction<'_>) -> Result<MintOutcome, StoreError> {
        let identity = &self.user.identity;
        let name = identity.user.as_str();
        let rows = MintRows {
            user: users::version(transaction, name)?,
            signer_ended: keys::has_ended(transaction, &self.signer)?,
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
