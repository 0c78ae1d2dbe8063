//! What a command does, given the rows that it read: pure functions, the same for every store.
//!
//! A store reads the rows, asks here, and writes what it is told. Nothing here knows SQL, reads a clock or fails.

mod keys;
mod logins;
mod minted;

pub(super) use self::keys::{
    KeyRecording, KeyRevocation, record_key, refuse_activation, refuse_retirement, revoke_fingerprint,
    revoke_key,
};
pub(super) use self::logins::{LoginStep, described, is_remembered, record_login, recorded};
pub(super) use self::minted::{MintedRow, Owner, complete_revocation, token_state};

use super::command::{
    ChangeUser, Difference, Expiry, ImportConflict, ImportEffect, ImportedUser, Mint, MintOutcome,
    NameConflict, NewUser, Prune, Role, UserChange,
};
use super::records::{FieldChange, User, UserRecord};
use crate::auth::identity::Identity;
use crate::auth::password::HashDigest;
use crate::auth::revocation::{Cutoff, Subject, is_revoked_since};
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token::{self, Minted};
use crate::auth::token_set::Keep;
use crate::auth::user_source::SourceName;

/// What a transaction knows beside the rows that it read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// The sequence that it took.
    pub(super) sequence: u64,
    /// Its time.
    pub(super) now: UnixTime,
    /// How long the store has lived by then.
    pub(super) lived: Lived,
}

/// The rows that a mint reads.
#[derive(Debug)]
pub(super) struct MintRows {
    /// Credential version and whether the user is disabled; `None` if there is no such user.
    pub(super) user: Option<(u64, bool)>,
    /// Whether the key that is to sign was revoked or retired.
    pub(super) signer_ended: bool,
    /// How many of the user's tokens were revoked one by one and are kept.
    pub(super) revocations: u64,
    /// The cutoffs that concern the user.
    pub(super) cutoffs: Vec<(Subject, Cutoff)>,
}

/// Why nothing is minted, if nothing is.
pub(super) fn refuse_mint(command: &Mint, rows: &MintRows) -> Option<MintOutcome> {
    let is_same = rows.user == Some((command.user.credential_version, false));
    if !is_same || is_revoked_since(&rows.cutoffs, command.asked_at) {
        return Some(MintOutcome::UserChanged);
    }
    if rows.revocations >= command.max_revocations {
        return Some(MintOutcome::RevocationLimit);
    }
    rows.signer_ended.then_some(MintOutcome::SignerRevoked)
}

/// The token, issued at `now` and no earlier than the cutoffs that concern its user; `None` if it cannot be signed.
pub(super) fn mint(
    command: &Mint,
    cutoffs: &[(Subject, Cutoff)],
    now: UnixTime,
    stamp: Stamp,
) -> Option<Minted> {
    let Mint { user, random, rules, signer, max_revocations: _, source: _, asked_at: _, checked_by: _ } =
        command;
    let cutoff = cutoffs.iter().map(|(_, cutoff)| cutoff.time).fold(UnixTime(0), UnixTime::max);
    token::mint_after(cutoff, &user.identity, stamp.sequence, *random, now, rules, signer)
}

/// How one token is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenRevocation {
    /// It was, by that sequence.
    Already(u64),
    /// By a row of its own, kept as long as this.
    Single(Keep),
}

/// Decides from the sequence of an earlier revocation of the same token. However many its user has, it is never refused: a mint
/// is, in its place.
pub(super) fn revoke_token(expiry: Expiry, earlier: Option<u64>, now: UnixTime) -> TokenRevocation {
    if let Some(sequence) = earlier {
        return TokenRevocation::Already(sequence);
    }
    TokenRevocation::Single(match expiry {
        Expiry::At(time) => Keep::Expires(time),
        // By then it has expired, even by a clock that is ahead.
        Expiry::Within { max_lifetime } => Keep::Until(now.plus(max_lifetime + DAY)),
    })
}

/// The cutoff that takes the place of `previous`. Its time never goes back.
pub(super) fn cutoff(previous: Option<Cutoff>, stamp: Stamp, blocked: bool) -> Cutoff {
    let earliest = previous.map_or(UnixTime(0), |previous| previous.time);
    Cutoff {
        sequence: stamp.sequence,
        time: stamp.now.max(earliest),
        lived: stamp.lived,
        blocked,
        revocation: true,
    }
}

/// The cutoff of a new user. It revokes nothing, but takes the place of one that did.
pub(super) fn first_cutoff(previous: Option<Cutoff>, stamp: Stamp) -> Cutoff {
    let revocation = previous.is_some_and(|previous| previous.revocation);
    Cutoff { revocation, ..cutoff(previous, stamp, false) }
}

/// The cutoff that revokes every token of a subject. A disabled user stays blocked.
pub(super) fn revoke_subject(subject: &Subject, previous: Option<Cutoff>, stamp: Stamp) -> Cutoff {
    let blocked = matches!(subject, Subject::User(_)) && previous.is_some_and(|previous| previous.blocked);
    cutoff(previous, stamp, blocked)
}

/// How a revocation of that subject is called in the audit trail, and whom it is about.
pub(super) fn audit_of(subject: &Subject) -> (&'static str, &str) {
    match subject {
        Subject::Everybody => ("revoke_all", "everybody"),
        Subject::Organization(name) => ("revoke_organization", name),
        Subject::Email(email) => ("revoke_email", email),
        Subject::User(name) => ("revoke_user", name),
    }
}

/// Why a user cannot be added, from the name of the user that a person would confuse with it.
pub(super) fn refuse_user(user: &NewUser, confusable: Option<&str>) -> Option<NameConflict> {
    match confusable {
        None => None,
        Some(name) if name == user.identity.user.as_str() => Some(NameConflict::Exists),
        Some(name) => Some(NameConflict::Confusable(name.to_owned())),
    }
}

/// What is to be done to import a user.
#[derive(Clone, Debug)]
pub(super) enum ImportStep {
    /// Add it, and then make these changes.
    Add(Vec<UserChange>),
    /// Make these changes.
    Change(Vec<UserChange>),
    /// Nothing.
    Nothing,
    /// Refuse it.
    Refuse(ImportConflict),
}

impl ImportStep {
    /// What it does to the user, for who asks before.
    pub(super) fn effect(self) -> ImportEffect {
        match self {
            Self::Add(_) => ImportEffect::Added,
            Self::Change(_) => ImportEffect::Updated,
            Self::Nothing => ImportEffect::Unchanged,
            Self::Refuse(conflict) => ImportEffect::Conflict(conflict),
        }
    }
}

/// Decides from the user whose name is the same, or one that a person would confuse with it, and from the hash that was imported for it
/// last: a login may have replaced that by one with today's costs.
pub(super) fn import_user(
    imported: &ImportedUser,
    known: Option<(&UserRecord, Option<HashDigest>)>,
    update: bool,
) -> ImportStep {
    let ImportedUser { user: NewUser { identity, phc }, disabled } = imported;
    let Some((UserRecord { user, phc: known_phc, remembered: _ }, last)) = known else {
        return ImportStep::Add(
            disabled.filter(|disabled| *disabled).map(|_| UserChange::Disable).into_iter().collect(),
        );
    };
    if user.identity.user != identity.user {
        return ImportStep::Refuse(ImportConflict::Confusable(user.identity.user.to_string()));
    }
    let difference = Difference {
        email: user.identity.email != identity.email,
        organization: user.identity.organization != identity.organization,
        password: user.source != SourceName::Store
            || known_phc.as_ref() != Some(phc) && last != Some(phc.digest()),
        disabled: disabled.is_some_and(|disabled| disabled != user.disabled),
    };
    if difference == Difference::default() {
        return ImportStep::Nothing;
    }
    if !update {
        return ImportStep::Refuse(ImportConflict::Differs(difference));
    }
    let claims = (difference.email || difference.organization).then(|| UserChange::Claims {
        email: Some(identity.email.clone()),
        organization: Some(identity.organization.clone()),
    });
    let password = difference.password.then(|| UserChange::Password(phc.clone()));
    let disabled = if *disabled == Some(true) { UserChange::Disable } else { UserChange::Enable };
    let disabled = difference.disabled.then_some(disabled);
    ImportStep::Change(claims.into_iter().chain(password).chain(disabled).collect())
}

/// The row of a new user.
pub(super) fn add_user(user: NewUser, stamp: Stamp) -> UserRecord {
    let NewUser { identity, phc } = user;
    let user = User {
        identity,
        source: SourceName::Store,
        disabled: false,
        credential_version: stamp.sequence,
        created_at: stamp.now,
        updated_at: stamp.now,
    };
    UserRecord { user, phc: Some(phc), remembered: None }
}

/// A user after a change; without a row, it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChangedUser {
    /// The row that takes the place of the old one.
    pub(super) record: Option<UserRecord>,
    /// Whether its cutoff refuses every token: a disabled user stays blocked whatever else is changed.
    pub(super) blocked: bool,
}

/// Would the change leave the user as it is? A new password never does, even one that is the same.
pub(super) fn is_unchanged(change: &UserChange, user: &User) -> bool {
    match change {
        UserChange::Claims { email, organization } => {
            let Identity { email: old_email, organization: old_organization, .. } = &user.identity;
            email.as_ref().is_none_or(|email| email == old_email)
                && organization.as_ref().is_none_or(|organization| organization == old_organization)
        }
        UserChange::Disable => user.disabled,
        UserChange::Enable => !user.disabled,
        UserChange::Password(_) | UserChange::Remove => false,
    }
}

/// What a change makes of the fields whose values may be shown.
pub(super) fn changed_fields(change: &UserChange, user: &User) -> Vec<FieldChange> {
    let UserChange::Claims { email, organization } = change else { return Vec::new() };
    let Identity { user: name, email: old_email, organization: old_organization } = &user.identity;
    let changed = Identity {
        user: name.clone(),
        email: email.as_ref().unwrap_or(old_email).clone(),
        organization: organization.as_ref().unwrap_or(old_organization).clone(),
    };
    FieldChange::between(&user.identity, &changed)
}

/// What a change makes of a user's row.
pub(super) fn change_user(command: ChangeUser, mut record: UserRecord, stamp: Stamp) -> ChangedUser {
    // Whatever is changed of a user, its source is to say again whether its password is right.
    if record.remembered.take().is_some() {
        record.phc = None;
    }
    let user = &mut record.user;
    user.updated_at = stamp.now;
    match command.change {
        UserChange::Claims { email, organization } => {
            user.identity.email = email.unwrap_or_else(|| std::mem::take(&mut user.identity.email));
            if let Some(organization) = organization {
                user.identity.organization = organization;
            }
            user.credential_version = stamp.sequence;
        }
        UserChange::Password(phc) => {
            user.credential_version = stamp.sequence;
            user.source = SourceName::Store;
            record.phc = Some(phc);
        }
        UserChange::Disable => user.disabled = true,
        UserChange::Enable => user.disabled = false,
        UserChange::Remove => return ChangedUser { record: None, blocked: true },
    }
    ChangedUser { blocked: record.user.disabled, record: Some(record) }
}

/// How a change is called in the audit trail.
pub(super) const fn audit_of_change(change: &UserChange) -> &'static str {
    match change {
        UserChange::Claims { .. } => "user_set",
        UserChange::Password(_) => "user_passwd",
        UserChange::Disable => "user_disable",
        UserChange::Enable => "user_enable",
        UserChange::Remove => "user_remove",
    }
}

/// How many rows of the audit trail tell of clients and of operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountedRows {
    pub(super) clients: u64,
    pub(super) operators: u64,
}

/// Whose rows of the audit trail go next where all take more room than is allowed, and how many of them. Clients keep half of the
/// room: an import writes a row for each user, and a flood of requests lets no operator's row go before.
pub(super) fn excess_rows(command: Prune, rows: CountedRows) -> Option<(Role, u64)> {
    let room = command.bytes / AUDIT_ROW_BYTES;
    let excess = (rows.clients + rows.operators).saturating_sub(room);
    let of_clients = excess.min(rows.clients.saturating_sub(room / 2));
    match (excess, of_clients) {
        (0, _) => None,
        (_, 0) => Some((Role::Operator, excess)),
        _ => Some((Role::Client, of_clients)),
    }
}

/// How many of the oldest rows of the largest share go at once: until the next one is the largest.
pub(super) fn cut_of_share(largest: u64, next: u64, excess: u64) -> u64 {
    (largest.saturating_sub(next) + 1).min(excess)
}

/// The most rows that a purge or a pruning deletes at once. Each may lie on a page of its own, which the commit writes.
pub(super) const SLICE: u64 = 500;

/// How many sources of a user are remembered: beyond them the one not seen for longest goes.
pub(super) const SOURCES_PER_USER: usize = 64;

/// For how long a source is remembered that was not seen, in seconds of lived time.
pub(super) const SOURCE_RETENTION: u64 = 90 * DAY;

/// When a source was last seen is known to so many seconds of lived time, so that most mints need not write it.
pub(super) const SOURCE_REFRESH: u64 = DAY;

/// What a row of the audit trail takes on the disk with its indexes, on average and rounded up.
pub(super) const AUDIT_ROW_BYTES: u64 = 256;

const DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests;
