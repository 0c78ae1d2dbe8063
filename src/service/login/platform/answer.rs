//! What the platform's answers to a login say. They came over a connection to the platform itself, so that nothing is verified here:
//! the platform may sign with a key that the gateway does not know.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

use crate::auth::identity::Identity;
use crate::auth::name::{Name, check_email};
use crate::auth::secret::Secret;

/// The token under that member of a JSON object.
pub(super) fn token_in(body: &Secret, member: &str) -> Option<Secret> {
    let members: HashMap<&str, &RawValue> = serde_json::from_slice(body.expose_secret()).ok()?;
    let token: &str = serde_json::from_str(members.get(member)?.get()).ok()?;
    Some(Secret::new(token.as_bytes().to_vec()))
}

/// Whom a token speaks for by its claims; `None` where they are missing, or nobody that a token could speak for.
pub(super) fn described_by_token(token: &Secret) -> Option<Identity> {
    let mut parts = token.expose_secret().split(|byte| *byte == b'.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = Secret::new(URL_SAFE_NO_PAD.decode(claims).ok()?);
    let Claims { user, email, database } = serde_json::from_slice(claims.expose_secret()).ok()?;
    identity(user, email, database)
}

/// Whom a token speaks for by what the platform says of it. `None`: the answer is none; `Some(None)`: nobody that a token could speak for.
pub(super) fn described_by_inspection(body: &Secret) -> Option<Option<Identity>> {
    let Inspection { user, email, organization_name } = serde_json::from_slice(body.expose_secret()).ok()?;
    Some(identity(user, email, organization_name))
}

fn identity(user: String, email: String, organization: String) -> Option<Identity> {
    check_email(&email).ok()?;
    Some(Identity {
        user: Name::parse_user(&user).ok()?,
        email: email.into(),
        organization: Name::parse(&organization).ok()?,
    })
}

#[derive(Deserialize)]
struct Claims {
    user: String,
    email: String,
    database: String,
}

#[derive(Deserialize)]
struct Inspection {
    user: String,
    email: String,
    organization_name: String,
}
