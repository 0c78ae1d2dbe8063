//! What a login needs to know before a password is hashed, and unlocks.

use super::connection::Connection;
use std::collections::HashMap;

use super::audit::Details;
use super::transaction::{Apply, Transaction};
use super::{audit, cutoffs, known_sources, sequence, users};
use crate::auth::name::fold_email;
use crate::auth::revocation::{Cutoff, Subject, is_revoked_since};
use crate::auth::source::Source;
use crate::auth::user_source::SourceName;
use crate::store::command::{UnlockOutcome, UnlockUser};
use crate::store::decision::{self, LoginStep};
use crate::store::error::StoreError;
use crate::store::recorded_login::{MoveOutcome, MoveUser, RecordLogin, RecordedLogin, Remember};
use crate::store::records::{LoginRecord, UserRecord};

impl Apply for UnlockUser {
    fn apply(self, transaction: &Transaction<'_>) -> Result<UnlockOutcome, StoreError> {
        // By the look-up of a login, so that both mean the same user.
        if users::find(transaction, &self.name)?.is_none() {
            return Ok(UnlockOutcome::Unknown);
        }
        let stamp = transaction.stamp();
        // Nothing for the feed: each login reads the count, and what was counted under another one counts no more.
        transaction.write(
            "INSERT INTO unlocks (\"user\", count) VALUES (?1, 1)
                 ON CONFLICT (\"user\") DO UPDATE SET count = unlocks.count + 1",
            [&self.name],
        )?;
        audit::write(transaction, stamp, "user_unlock", &self.name, None)?;
        Ok(UnlockOutcome::Unlocked)
    }
}

impl Apply for RecordLogin {
    fn apply(self, transaction: &Transaction<'_>) -> Result<RecordedLogin, StoreError> {
        let name = self.identity.user.clone();
        let known = users::find(transaction, name.as_str())?;
        let confusable = match known {
            Some(_) => None,
            None => users::confusable(transaction, &name)?,
        };
        let mut cutoffs = cutoffs_of(transaction, known.as_ref())?;
        cutoffs.extend(cutoffs::of(transaction, &self.identity)?);
        let step = decision::record_login(&self, known.as_ref(), confusable.as_deref(), &cutoffs);
        match step {
            LoginStep::Nothing(outcome) => return Ok(outcome),
            LoginStep::Refuse(owner) => {
                let stamp = transaction.stamp();
                audit::write(transaction, stamp, "login_conflict", name.as_str(), None)?;
                return Ok(RecordedLogin::Conflict(owner));
            }
            LoginStep::Add | LoginStep::Change => {}
        }
        let stamp = transaction.stamp();
        let change = known.as_ref().map(|known| decision::described(&self, &known.user));
        let record = decision::recorded(self, known, stamp.sequence, stamp.now);
        match change {
            None => users::insert(&record, None, stamp, transaction)?,
            Some(changes) => {
                users::update(transaction, &record, None, stamp.sequence)?;
                let subject = Subject::User(name.as_str().into());
                let cutoff = decision::cutoff(cutoffs::get(transaction, &subject)?, stamp, false);
                cutoffs::set(transaction, &subject, cutoff, Some("user_set"))?;
                let details = Details { changes, ..Details::default() };
                audit::write_details(transaction, stamp, "user_set", name.as_str(), &details)?;
            }
        }
        Ok(RecordedLogin::Recorded(record.user, stamp.sequence))
    }
}

impl Apply for Remember {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        // What was revoked meanwhile ended it before it was kept, and must not be forgotten before it is.
        let known = users::find(transaction, self.user.as_str())?;
        if is_revoked_since(&cutoffs_of(transaction, known.as_ref())?, self.asked_at) {
            return Ok(());
        }
        // A login that began earlier and is kept later may have had an older password.
        transaction.write(
            "UPDATE users SET phc = ?3, remembered_at = ?4, remembered_number = ?5
                 WHERE name = ?1 AND credential_version = ?2 AND source <> 'store'
                   AND (remembered_number IS NULL OR remembered_number <= ?5)",
            (
                self.user.as_str(),
                self.credential_version,
                self.phc.as_str(),
                transaction.now.0,
                self.asked_at,
            ),
        )
    }
}

impl Apply for MoveUser {
    fn apply(self, transaction: &Transaction<'_>) -> Result<MoveOutcome, StoreError> {
        let Some(record) = users::find(transaction, &self.name)? else {
            return Ok(MoveOutcome::Unknown);
        };
        if record.user.source == SourceName::Store {
            return Ok(MoveOutcome::Unchanged);
        }
        if !decision::is_remembered(&record, &cutoffs_of(transaction, Some(&record))?) {
            return Ok(MoveOutcome::NotRemembered);
        }
        let stamp = transaction.stamp();
        let mut record = UserRecord { remembered: None, ..record };
        record.user.source = SourceName::Store;
        record.user.updated_at = stamp.now;
        users::update(transaction, &record, None, stamp.sequence)?;
        audit::write(transaction, stamp, "user_move", &self.name, None)?;
        Ok(MoveOutcome::Moved)
    }
}

/// Forgets the hashes that a cutoff has ended which is about to be forgotten itself: the oldest `rows` of those that lived before `before`.
/// A hash may be kept for longer than any token lives.
pub(in crate::store) fn forget_ended(
    transaction: &Transaction<'_>,
    before: u64,
    rows: usize,
) -> Result<(), StoreError> {
    let is_any_remembered: bool = transaction.one(
        "SELECT EXISTS (SELECT 1 FROM users WHERE remembered_number IS NOT NULL)",
        (),
        |row| row.get(0),
    )?;
    if !is_any_remembered {
        return Ok(());
    }
    let mut emails: HashMap<Box<str>, u64> = HashMap::new();
    let old: Vec<(Subject, u64)> = transaction.all(
        "SELECT kind, name, number FROM marks WHERE lived < ?1 ORDER BY lived LIMIT ?2",
        (before, rows),
        |row| Ok((cutoffs::read_subject(row)?, row.get(2)?)),
    )?;
    for (subject, number) in old {
        match subject {
            Subject::User(name) => forget_of_user(transaction, &name, number)?,
            Subject::Organization(name) => {
                transaction.write(
                    "UPDATE users SET phc = '', remembered_at = NULL, remembered_number = NULL
                         WHERE organization = ?1 AND remembered_number < ?2",
                    (name, number),
                )?;
            }
            Subject::Email(email) => _ = emails.insert(email, number),
            Subject::Everybody => {}
        }
    }
    let Some(latest) = emails.values().max() else { return Ok(()) };
    let remembered: Vec<(String, String)> =
        transaction.all("SELECT name, email FROM users WHERE remembered_number < ?1", [latest], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    for (name, email) in remembered {
        if let Some(number) = emails.get(fold_email(&email).as_str()) {
            forget_of_user(transaction, &name, *number)?;
        }
    }
    Ok(())
}

/// Forgets the hash of a user that is older than that sequence.
fn forget_of_user(transaction: &Transaction<'_>, name: &str, sequence: u64) -> Result<(), StoreError> {
    transaction.write(
        "UPDATE users SET phc = '', remembered_at = NULL, remembered_number = NULL
             WHERE name = ?1 AND remembered_number < ?2",
        (name, sequence),
    )
}

/// The cutoffs that concern a user.
fn cutoffs_of(
    connection: &Connection<'_>,
    record: Option<&UserRecord>,
) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
    record.map_or(Ok(Vec::new()), |record| cutoffs::of(connection, &record.user.identity))
}

/// What is known of that name and of a login from there. The statements are the same whether or not there is such a user, so that
/// the time they take does not tell.
pub(in crate::store) fn record(
    connection: &Connection<'_>,
    name: &str,
    source: Option<Source>,
) -> Result<LoginRecord, StoreError> {
    let mut user = users::find(connection, name)?;
    if let Some(record) = user.as_mut().filter(|record| record.remembered.is_some())
        && !decision::is_remembered(record, &cutoffs_of(connection, Some(record))?)
    {
        // For a login that mints nothing too.
        record.remembered = None;
    }
    Ok(LoginRecord {
        user,
        is_known_source: known_sources::is_known(connection, name, source)?,
        unlocks: unlocks(connection, name)?,
        sequence: sequence::current(connection)?,
    })
}

/// How often the user of that name was unlocked.
fn unlocks(connection: &Connection<'_>, name: &str) -> Result<u64, StoreError> {
    Ok(connection
        .find("SELECT count FROM unlocks WHERE \"user\" = ?1", [name], |row| row.get(0))?
        .unwrap_or(0))
}
