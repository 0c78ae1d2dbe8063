//! What is said of a new user, one or many, and what may stand against it.

use super::output::Failure;
use crate::auth::identity::Identity;
use crate::auth::name::{Name, check_email};
use crate::store::command::NameConflict;

/// Why a user cannot be added, as a sentence.
pub(super) fn explain(conflict: &NameConflict, name: &str) -> Failure {
    match conflict {
        NameConflict::Exists => Failure::usage(format!("there is a user {name:?} already")),
        NameConflict::Confusable(other) => {
            Failure::usage(format!("{name:?} could be taken for the user {other:?}: choose another name"))
        }
    }
}

/// Who a new user is to be.
pub(super) fn identity(name: &str, email: &str, organization: &str) -> Result<Identity, Failure> {
    Ok(Identity {
        user: Name::parse_user(name).map_err(|error| Failure::usage(format!("the name {error}")))?,
        email: email_of(email)?,
        organization: organization_of(organization)?,
    })
}

pub(super) fn email_of(text: &str) -> Result<Box<str>, Failure> {
    check_email(text).map_err(|error| Failure::usage(format!("the e-mail address {error}")))?;
    Ok(text.into())
}

pub(super) fn organization_of(text: &str) -> Result<Name, Failure> {
    Name::parse(text).map_err(|error| Failure::usage(format!("the organization {error}")))
}
