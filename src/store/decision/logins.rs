//! What a login leaves behind of a user whose password another source checks.

use crate::auth::revocation::{Cutoff, Subject, is_revoked_since};
use crate::auth::time::UnixTime;
use crate::auth::user_source::SourceName;
use crate::store::recorded_login::{RecordLogin, RecordedLogin};
use crate::store::records::{FieldChange, User, UserRecord};

/// What is to be done to record a login.
#[derive(Clone, Debug)]
pub(in crate::store) enum LoginStep {
    /// Nothing: this is the outcome.
    Nothing(RecordedLogin),
    /// Add the user.
    Add,
    /// Change it to what the source says of it, and end its older tokens.
    Change,
    /// Note in the audit trail that this user has the name.
    Refuse(String),
}

/// Decides from the user that has the name, from the one whose name a person would confuse with it, and from the cutoffs that concern
/// either.
pub(in crate::store) fn record_login(
    command: &RecordLogin,
    known: Option<&UserRecord>,
    confusable: Option<&str>,
    cutoffs: &[(Subject, Cutoff)],
) -> LoginStep {
    let Some(UserRecord { user, .. }) = known else {
        return match confusable {
            Some(name) => LoginStep::Refuse(name.to_owned()),
            None if is_revoked_since(cutoffs, command.asked_at) => LoginStep::Nothing(RecordedLogin::Revoked),
            None => LoginStep::Add,
        };
    };
    if user.source == SourceName::Store {
        // Its password is here, and nobody else's answer takes its place.
        return LoginStep::Refuse(user.identity.user.to_string());
    }
    if user.disabled {
        return LoginStep::Nothing(RecordedLogin::Disabled);
    }
    if is_revoked_since(cutoffs, command.asked_at) {
        return LoginStep::Nothing(RecordedLogin::Revoked);
    }
    if (user.source, &user.identity) == (command.source, &command.identity) {
        return LoginStep::Nothing(RecordedLogin::Recorded(user.clone(), command.asked_at));
    }
    LoginStep::Change
}

/// What of the fields whose values may be shown a source describes otherwise than before.
pub(in crate::store) fn described(command: &RecordLogin, user: &User) -> Vec<FieldChange> {
    let mut changes = FieldChange::between(&user.identity, &command.identity);
    if user.source != command.source {
        let [from, to] = [user.source, command.source].map(|source| source.to_string());
        changes.push(FieldChange { field: "source".into(), from, to });
    }
    changes
}

/// The row of a user that a source has described.
pub(in crate::store) fn recorded(
    command: RecordLogin,
    known: Option<UserRecord>,
    sequence: u64,
    now: UnixTime,
) -> UserRecord {
    let user = User {
        identity: command.identity,
        source: command.source,
        disabled: false,
        credential_version: sequence,
        created_at: known.map_or(now, |known| known.user.created_at),
        updated_at: now,
    };
    UserRecord { user, phc: None, remembered: None }
}

/// Is the hash of its password known that its source found right, and was nothing revoked since?
pub(in crate::store) fn is_remembered(record: &UserRecord, cutoffs: &[(Subject, Cutoff)]) -> bool {
    let is_kept = record.remembered.is_some_and(|remembered| !is_revoked_since(cutoffs, remembered.sequence));
    is_kept && record.phc.is_some()
}
