//! Users, keys, tokens and commands as the tests need them, and the times at which things happen.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::auth::identity::Identity;
use crate::auth::keys::{Algorithm, Fingerprint, Key, KeySet};
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::revocation::Subject;
use crate::auth::secret::Secret;
use crate::auth::time::UnixTime;
use crate::auth::token::{Minted, Origin, TokenId, TokenRules, UnknownUsers, Verified, folded_email, verify};
use crate::store::command::{
    Actor, Expiry, ImportedUser, KeyRecord, Mint, MintOutcome, NewUser, RevokeToken,
};
use crate::store::records::User;

/// What all the clocks read at first. They are never moved before it.
pub(super) const START: u64 = 1_800_000_000;

/// More rows than any test writes.
pub(super) const ALL: usize = usize::MAX;

/// The rules of every token that is minted and checked.
pub(super) const RULES: TokenRules = TokenRules::DEFAULT;

/// Foreign tokens of users that the store does not know are accepted.
pub(super) const ACCEPT: TokenRules = TokenRules { unknown_users: UnknownUsers::Accept, ..RULES };

pub(super) const DAY: u64 = 24 * 3600;

pub(super) fn actor() -> Actor {
    Actor::operator("operator", "command line")
}

pub(in crate::store) fn new_user(name: &str) -> NewUser {
    NewUser {
        identity: Identity {
            user: Name::parse_user(name).unwrap(),
            email: format!("{name}@example.com").into(),
            organization: organization("Main Org."),
        },
        phc: phc(0),
    }
}

/// The same as a line of an import that says nothing of `disabled`.
pub(super) fn imported_user(name: &str) -> ImportedUser {
    ImportedUser { user: new_user(name), disabled: None }
}

pub(super) fn organization(name: &str) -> Name {
    Name::parse(name).unwrap()
}

/// One of 256 hashes of nobody's password.
pub(super) fn phc(which: u8) -> Phc {
    let salt = "WlpaWlpaWlpaWlpaWlpaWg";
    let hash = STANDARD_NO_PAD.encode([which; 32]);
    Phc::parse(&format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${hash}")).unwrap()
}

/// A key of that name, and one of 53 secrets.
pub(super) fn key(kid: &str, secret: u8) -> Arc<Key> {
    Arc::new(new_key(kid, secret))
}

/// A set of that one key.
pub(in crate::store) fn key_set(kid: &str, secret: u8) -> KeySet {
    KeySet::new(vec![new_key(kid, secret)]).unwrap()
}

fn new_key(kid: &str, secret: u8) -> Key {
    let secret = Secret::new((0..48).map(|byte| byte + 4 * secret).collect());
    Key::new(kid, Algorithm::Hs256, &secret, true).unwrap()
}

pub(in crate::store) fn key_record(kid: &str, secret: u8) -> KeyRecord {
    KeyRecord { kid: kid.to_owned(), fingerprint: key(kid, secret).fingerprint() }
}

pub(super) fn key_records(keys: &[(&str, u8)]) -> Vec<KeyRecord> {
    keys.iter().map(|(kid, secret)| key_record(kid, *secret)).collect()
}

/// The key that signs, if a test names no other.
pub(in crate::store) const SIGNER: (&str, u8) = ("signer", 0);

pub(in crate::store) fn mint_for(user: User) -> Mint {
    mint_with(user, key(SIGNER.0, SIGNER.1))
}

pub(super) fn mint_with(user: User, signer: Arc<Key>) -> Mint {
    let (asked_at, checked_by) = (Mint::NO_PASSWORD, None);
    Mint {
        user,
        random: [7; 16],
        rules: RULES,
        signer,
        max_revocations: u64::MAX,
        source: None,
        asked_at,
        checked_by,
    }
}

pub(in crate::store) fn minted(outcome: MintOutcome) -> Minted {
    match outcome {
        MintOutcome::Minted(minted, _) => minted,
        refused => panic!("{refused:?}"),
    }
}

/// A minted token as a gate with the key [`SIGNER`] reads it.
pub(in crate::store) fn verified(minted: &Minted) -> Verified {
    verify(minted.token.as_bytes(), &key_set(SIGNER.0, SIGNER.1), &RULES).unwrap()
}

/// A token that the platform issued to a user at that time, in the same organization as [`new_user`]'s.
pub(super) fn foreign_token(user: &str, issued_at: u64) -> Verified {
    let identity = new_user(user).identity;
    Verified {
        id: TokenId::of(format!("{user} {issued_at}").as_bytes()),
        folded_email: folded_email(&identity),
        fields: identity.fields().unwrap(),
        identity,
        origin: Origin::Foreign,
        issued_at: UnixTime(issued_at),
        expires_at: UnixTime(issued_at).plus(RULES.lifetime),
        not_before: None,
        key: Fingerprint([0; 32]),
        generation: 0,
    }
}

/// The sequence at which a token of ours was minted.
pub(super) fn sequence_of(token: &Verified) -> u64 {
    match token.origin {
        Origin::Ours { sequence: number } => number,
        Origin::Foreign => panic!("a foreign token has no sequence"),
    }
}

pub(super) fn token_id(which: u64) -> TokenId {
    TokenId::of(&which.to_be_bytes())
}

/// Revokes one of many tokens that nobody minted.
pub(super) fn revoke_id(which: u64, expires_at: u64, user: Option<&str>) -> RevokeToken {
    let expiry = Expiry::At(UnixTime(expires_at));
    RevokeToken { id: token_id(which), expiry, user: user.map(Into::into) }
}

pub(in crate::store) fn user_subject(name: &str) -> Subject {
    Subject::User(name.into())
}

pub(super) fn email_subject(folded: &str) -> Subject {
    Subject::Email(folded.into())
}

pub(in crate::store) fn organization_subject(name: &str) -> Subject {
    Subject::Organization(name.into())
}
