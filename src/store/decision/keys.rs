//! What becomes of signing keys.

use crate::auth::keys::Fingerprint;
use crate::auth::time::UnixTime;
use crate::store::command::{ActivateKeyOutcome, KeyRecord, RetireKeyOutcome, RevokeKeyOutcome};
use crate::store::records::RecordedKey;

/// What of a key is to be done to record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum KeyRecording {
    /// Nothing: it is recorded.
    Known,
    /// A new row.
    New,
    /// Its `kid` stands for another secret.
    Conflict,
}

/// Decides from the fingerprint that is recorded under the key's `kid`.
pub(in crate::store) fn record_key(recorded: Option<Fingerprint>, fingerprint: Fingerprint) -> KeyRecording {
    match recorded {
        None => KeyRecording::New,
        Some(recorded) if recorded == fingerprint => KeyRecording::Known,
        Some(_) => KeyRecording::Conflict,
    }
}

/// What comes of a key's revocation without a change, from its record and the sequence of its last change. `None`: it
/// is to be revoked.
pub(in crate::store) fn revoke_key(recorded: Option<(&RecordedKey, u64)>) -> Option<RevokeKeyOutcome> {
    match recorded {
        None => Some(RevokeKeyOutcome::Unknown),
        Some((key, sequence)) if key.is_revoked() => Some(RevokeKeyOutcome::Revoked(sequence)),
        Some(_) => None,
    }
}

/// What of a key is to be done so that a store which may not know of it holds it for revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum KeyRevocation {
    /// Nothing.
    Known,
    /// Every row with its fingerprint is revoked.
    Revoke,
    /// A new row of this name.
    Add(String),
}

/// Decides from all that is recorded. It is the fingerprint that counts; where its `kid` stands for another secret, it gets a
/// name that no key can have, since it is too long.
pub(in crate::store) fn revoke_fingerprint(recorded: &[RecordedKey], key: &KeyRecord) -> KeyRevocation {
    let same: Vec<_> = recorded.iter().filter(|row| row.fingerprint == key.fingerprint).collect();
    let is_name_free = recorded.iter().all(|row| row.kid != key.kid);
    match same.as_slice() {
        [] if is_name_free => KeyRevocation::Add(key.kid.clone()),
        [] => KeyRevocation::Add(format!("revoked-{}", key.fingerprint)),
        rows if rows.iter().all(|row| row.is_revoked()) => KeyRevocation::Known,
        _ => KeyRevocation::Revoke,
    }
}

/// Why a key is not activated, if it is not, from its record.
pub(in crate::store) fn refuse_activation(recorded: Option<&RecordedKey>) -> Option<ActivateKeyOutcome> {
    match recorded {
        None => Some(ActivateKeyOutcome::Unknown),
        Some(key) if key.is_revoked() => Some(ActivateKeyOutcome::Revoked),
        Some(key) if !key.may_sign() => Some(ActivateKeyOutcome::Retired),
        Some(_) => None,
    }
}

/// What comes of a key's retirement without a change, from its record, the sequence of its last change, and all keys. `None`: it is to be retired.
///
/// Which key is the first of a configuration the store does not know, so another one must have been activated, and every gateway must have it: only
/// then does none sign with this one any more.
pub(in crate::store) fn refuse_retirement(
    recorded: Option<(&RecordedKey, u64)>,
    all: &[RecordedKey],
    now: UnixTime,
    is_shared: impl Fn(Fingerprint) -> bool,
) -> Option<RetireKeyOutcome> {
    let Some((key, sequence)) = recorded else { return Some(RetireKeyOutcome::Unknown) };
    if key.is_revoked() {
        return Some(RetireKeyOutcome::Revoked);
    }
    if let Some(ends_at) = key.key_use.ends_at {
        return Some(RetireKeyOutcome::Retired { sequence, ends_at });
    }
    let in_force = |key: &RecordedKey| key.key_use.activation.filter(|activation| activation.from <= now);
    let own = in_force(key);
    let is_later = |other: &&RecordedKey| {
        other.fingerprint != key.fingerprint && other.may_sign() && in_force(other) > own
    };
    let mut successors = all.iter().filter(is_later).peekable();
    let Some(first) = successors.peek().map(|key| key.kid.clone()) else {
        return Some(RetireKeyOutcome::Signs);
    };
    let is_everywhere = successors.any(|key| is_shared(key.fingerprint));
    (!is_everywhere).then_some(RetireKeyOutcome::NotEverywhere(first))
}
