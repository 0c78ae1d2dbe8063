//! What is known of a token that was minted here.

use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::time::UnixTime;
use crate::store::command::{Expiry, RevokeToken};
use crate::store::records::{RevocationKind, TokenState};

/// The rows that tell what has become of a token that was minted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct MintedRow {
    /// The sequence of its mint.
    pub(in crate::store) sequence: u64,
    /// Its `exp`; `None` where an older program minted it.
    pub(in crate::store) expires_at: Option<UnixTime>,
    /// Whether it was revoked by itself.
    pub(in crate::store) is_revoked: bool,
    /// Whether the key that signed it was revoked.
    pub(in crate::store) is_key_revoked: bool,
}

/// What the gate says of such a token, and why: the rule is [`RevocationSnapshot::check`]'s for a token of ours, whose `iat` is
/// never before a cutoff that its sequence is behind. Tokens below `expired_below` have expired whatever their `exp` says.
///
/// [`RevocationSnapshot::check`]: crate::auth::revocation::RevocationSnapshot::check
pub(in crate::store) fn token_state(
    minted: &MintedRow,
    cutoffs: &[(Subject, Cutoff)],
    expired_below: u64,
    now: UnixTime,
) -> TokenState {
    let is_past = minted.expires_at.is_some_and(|expires_at| expires_at <= now);
    if is_past || minted.sequence < expired_below {
        return TokenState::Expired;
    }
    let covered = |kind: RevocationKind| {
        cutoffs.iter().any(|(subject, cutoff)| {
            let of_kind = match subject {
                Subject::Everybody => RevocationKind::Everybody,
                Subject::Organization(_) => RevocationKind::Organization,
                Subject::Email(_) => RevocationKind::Email,
                Subject::User(_) => RevocationKind::User,
            };
            of_kind == kind && (cutoff.blocked || minted.sequence < cutoff.sequence)
        })
    };
    let is_revoked_by = |kind: &RevocationKind| match kind {
        RevocationKind::Key => minted.is_key_revoked,
        RevocationKind::Token => minted.is_revoked,
        _ => covered(*kind),
    };
    let kinds = [
        RevocationKind::Key,
        RevocationKind::Everybody,
        RevocationKind::Organization,
        RevocationKind::User,
        RevocationKind::Email,
        RevocationKind::Token,
    ];
    kinds.into_iter().find(is_revoked_by).map_or(TokenState::Live, TokenState::Revoked)
}

/// Whose a token is that was minted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Owner {
    pub(in crate::store) user: Box<str>,
    /// Its `exp`; `None` where an older program minted it.
    pub(in crate::store) expires_at: Option<UnixTime>,
}

/// A revocation with what is known of its token: a caller that gives a TokenId alone knows neither whose it is nor when it ends, and the
/// mint in the audit trail may.
pub(in crate::store) fn complete_revocation(command: RevokeToken, owner: Option<Owner>) -> RevokeToken {
    match (command.user.is_none(), owner) {
        (true, Some(Owner { user, expires_at })) => RevokeToken {
            expiry: match (command.expiry, expires_at) {
                (Expiry::Within { .. }, Some(expires_at)) => Expiry::At(expires_at),
                (given, _) => given,
            },
            user: Some(user),
            ..command
        },
        _ => command,
    }
}
