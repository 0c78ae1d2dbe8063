//! Why a request was not let through. A denial is an answer, not an error: the reason goes to the log and
//! the metrics, the client sees one 401 for all of them.

/// Each reason for which the gate refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// No `user-token` field.
    TokenMissing,
    /// More than one `user-token` field, or several values in one.
    TokenRepeated,
    /// A field that some servers read as `user-token` (`user_token`, `User.Token`).
    TokenAlias,
    /// An empty `user-token` field.
    TokenEmpty,
    /// Longer than `token.max_bytes`.
    TokenOversized,
    /// Not three base64url parts, or not JSON inside them.
    TokenMalformed,
    /// A header member that is refused everywhere, or one that our tokens never have.
    TokenHeader,
    /// Another algorithm than the key's.
    TokenAlgorithm,
    /// Names a key that is not in the key set, or none where one is needed.
    TokenKey,
    /// The signature is not the key's.
    TokenSignature,
    /// A claim is missing, of the wrong type, unknown, or no valid name.
    TokenClaims,
    /// `exp` is now or in the past (RFC 7519 §4.1.4).
    TokenExpired,
    /// `iat` or `nbf` lies in the future (RFC 7519 §4.1.5, §4.1.6).
    TokenNotYetValid,
    /// Lives longer than `token.max_lifetime`.
    TokenLifetime,
    /// Not minted here, under a key that admits only tokens minted here.
    TokenForeign,
    /// A foreign token of a user that the store does not know.
    UserUnknown,
    /// Revoked by itself.
    RevokedToken,
    /// Covered by a cutoff on its user: revoked, changed, disabled or removed.
    RevokedUser,
    /// Covered by a cutoff on its organization.
    RevokedOrganization,
    /// Covered by a cutoff on its e-mail address.
    RevokedEmail,
    /// Covered by the cutoff on everybody.
    RevokedEverybody,
    /// Signed with a key that was revoked.
    RevokedKey,
    /// The store has not been read for longer than `store.max_staleness`.
    StateStale,
}

impl Denial {
    /// Every reason, for metrics that are there before the first event.
    pub const ALL: [Self; 23] = [
        Self::TokenMissing,
        Self::TokenRepeated,
        Self::TokenAlias,
        Self::TokenEmpty,
        Self::TokenOversized,
        Self::TokenMalformed,
        Self::TokenHeader,
        Self::TokenAlgorithm,
        Self::TokenKey,
        Self::TokenSignature,
        Self::TokenClaims,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenLifetime,
        Self::TokenForeign,
        Self::UserUnknown,
        Self::RevokedToken,
        Self::RevokedUser,
        Self::RevokedOrganization,
        Self::RevokedEmail,
        Self::RevokedEverybody,
        Self::RevokedKey,
        Self::StateStale,
    ];

    /// Is the request refused for its form, as any that is malformed, and not for what its token says?
    pub const fn is_for_form(self) -> bool {
        matches!(self, Self::TokenAlias)
    }

    /// Did the token hold once, and was it ended before its time?
    pub const fn is_revocation(self) -> bool {
        matches!(
            self,
            Self::RevokedToken
                | Self::RevokedUser
                | Self::RevokedOrganization
                | Self::RevokedEmail
                | Self::RevokedEverybody
                | Self::RevokedKey
        )
    }

    /// The reason as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenMissing => "token_missing",
            Self::TokenRepeated => "token_repeated",
            Self::TokenAlias => "token_alias",
            Self::TokenEmpty => "token_empty",
            Self::TokenOversized => "token_oversized",
            Self::TokenMalformed => "token_malformed",
            Self::TokenHeader => "token_header",
            Self::TokenAlgorithm => "token_algorithm",
            Self::TokenKey => "token_key",
            Self::TokenSignature => "token_signature",
            Self::TokenClaims => "token_claims",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenLifetime => "token_lifetime",
            Self::TokenForeign => "token_foreign",
            Self::UserUnknown => "user_unknown",
            Self::RevokedToken => "revoked_token",
            Self::RevokedUser => "revoked_user",
            Self::RevokedOrganization => "revoked_organization",
            Self::RevokedEmail => "revoked_email",
            Self::RevokedEverybody => "revoked_everybody",
            Self::RevokedKey => "revoked_key",
            Self::StateStale => "state_stale",
        }
    }
}
