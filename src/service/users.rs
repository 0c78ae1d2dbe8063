//! Administration of the embedded users. A change that ends a user's tokens waits for the store ([`Retry`]); what only allows
//! something does not.

use thiserror::Error;

use super::blocking::run_blocking;
use super::retry::Retry;
use crate::auth::identity::Identity;
use crate::auth::name::{Name, NameError, check_email, is_mailbox};
use crate::auth::password::{HashMemory, Phc};
use crate::auth::secret::Secret;
use crate::store::command::{
    Actor, AddUser, ChangeOutcome, ChangeUser, NameConflict, NewUser, UnlockOutcome, UnlockUser, UserChange,
};
use crate::store::recorded_login::{MoveOutcome, MoveUser};
use crate::store::records::{ListedUser, User, UserFilter};
use crate::store::{Store, StoreError};

/// Administers the users of a store for one actor.
#[derive(Clone, Debug)]
pub struct Users {
    store: Store,
    actor: Actor,
    retry: Retry,
}

/// What is said of a user and cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidField {
    /// The name.
    #[error("the name {0}")]
    Name(NameError),
    /// The e-mail address.
    #[error("the e-mail address {0}")]
    Email(NameError),
    /// The e-mail address is a text, and none that mail could be sent to.
    #[error("the e-mail address is invalid; expected for example anna@example.com")]
    NotAnAddress,
    /// The organization.
    #[error("the organization {0}")]
    Organization(NameError),
}

/// Why a password cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Nothing in it.
    #[error("the password must not be empty")]
    Empty,
    /// Fewer than [`NewPassword::MIN_CHARS`] characters.
    #[error("the password must have at least 8 characters")]
    TooShort,
    /// More than [`Phc::MAX_PASSWORD`] bytes.
    #[error("the password must not be longer than 1024 bytes")]
    TooLong,
    /// Basic authentication could not transport it (RFC 7617).
    #[error("the password must be UTF-8 without control characters")]
    NotText,
    /// The system has no randomness for a salt.
    #[error("{0}")]
    Random(getrandom::Error),
    /// Its hash cannot be computed.
    #[error("the password cannot be hashed")]
    NotHashed,
}

/// A password that a user may be given.
#[derive(Clone, Debug)]
pub struct NewPassword(Secret);

impl NewPassword {
    /// The fewest characters of an ordinary one (NIST SP 800-63B §5.1.1.2).
    pub const MIN_CHARS: usize = 8;

    /// One that is not easily guessed for being short.
    pub fn parse(password: Secret) -> Result<Self, PasswordError> {
        let password = Self::parse_weak(password)?;
        // UTF-8, in which these bytes do not begin a character.
        let chars = password.0.expose_secret().iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        if chars < Self::MIN_CHARS { Err(PasswordError::TooShort) } else { Ok(password) }
    }

    /// Any that can be sent, however short.
    pub fn parse_weak(password: Secret) -> Result<Self, PasswordError> {
        check_password(password.expose_secret())?;
        Ok(Self(password))
    }
}

/// Why a user was not added.
#[derive(Debug, Error)]
pub enum AddError {
    /// Its password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Its name is another user's, or could be taken for one.
    #[error("the name is taken: {0:?}")]
    Conflict(NameConflict),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a password was not changed.
#[derive(Debug, Error)]
pub enum SetPasswordError {
    /// The new password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Users {
    /// The users of that store, administered by `actor`.
    pub const fn new(store: Store, actor: Actor, retry: Retry) -> Self {
        Self { store, actor, retry }
    }

    /// The user of that name, byte for byte.
    pub async fn find(&self, name: &str) -> Result<Option<User>, StoreError> {
        Ok(self.store.user(name).await?.map(|record| record.user))
    }

    /// The same, with what the audit trail knows of it.
    pub async fn find_listed(&self, name: &str) -> Result<Option<ListedUser>, StoreError> {
        self.store.listed_user(name).await
    }

    /// The next users by name that the filter admits, at most `limit` and a thousand, behind the one of that name; `""` for the
    /// first. Empty at the end.
    pub async fn page(
        &self,
        filter: UserFilter,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ListedUser>, StoreError> {
        self.store.users(filter, after, limit.min(PAGE)).await
    }

    /// Adds a user. A user that was removed may come again: its old tokens stay revoked.
    pub async fn add(&self, identity: Identity, password: NewPassword) -> Result<(), AddError> {
        let user = NewUser { identity, phc: hash(password).await? };
        self.store.execute(AddUser { user }, self.actor.clone()).await?.map_err(AddError::Conflict)
    }

    /// Changes e-mail address and organization, where given, and revokes the user's tokens.
    pub async fn set_claims(
        &self,
        name: &str,
        email: Option<Box<str>>,
        organization: Option<Name>,
    ) -> Result<ChangeOutcome, StoreError> {
        self.revoke_by(name, UserChange::Claims { email, organization }).await
    }

    /// Changes the password and revokes the user's tokens.
    pub async fn set_password(
        &self,
        name: &str,
        password: NewPassword,
    ) -> Result<ChangeOutcome, SetPasswordError> {
        let change = UserChange::Password(hash(password).await?);
        Ok(self.revoke_by(name, change).await?)
    }

    /// Blocks logins and revokes the user's tokens.
    pub async fn disable(&self, name: &str) -> Result<ChangeOutcome, StoreError> {
        self.revoke_by(name, UserChange::Disable).await
    }

    /// Allows logins again; the old tokens stay revoked.
    pub async fn enable(&self, name: &str) -> Result<ChangeOutcome, StoreError> {
        let change = ChangeUser { name: name.into(), change: UserChange::Enable };
        self.store.execute(change, self.actor.clone()).await
    }

    /// Removes the user and revokes its tokens.
    pub async fn remove(&self, name: &str) -> Result<ChangeOutcome, StoreError> {
        self.revoke_by(name, UserChange::Remove).await
    }

    /// Lets the failed logins of the user be forgotten: it may log in again at once, from everywhere.
    pub async fn unlock(&self, name: &str) -> Result<UnlockOutcome, StoreError> {
        self.store.execute(UnlockUser { name: name.into() }, self.actor.clone()).await
    }

    /// Makes a user of another source the store's own, with the hash that is remembered.
    pub async fn move_to_store(&self, name: &str) -> Result<MoveOutcome, StoreError> {
        self.store.execute(MoveUser { name: name.into() }, self.actor.clone()).await
    }

    async fn revoke_by(&self, name: &str, change: UserChange) -> Result<ChangeOutcome, StoreError> {
        self.retry.execute(&self.store, ChangeUser { name: name.into(), change }, &self.actor).await
    }
}

/// Who a user is to be.
pub fn identity(name: &str, email: &str, organization: &str) -> Result<Identity, InvalidField> {
    Ok(Identity {
        user: Name::parse_user(name).map_err(InvalidField::Name)?,
        email: parse_email(email)?,
        organization: parse_organization(organization)?,
    })
}

/// An e-mail address that a user can have.
pub fn parse_email(text: &str) -> Result<Box<str>, InvalidField> {
    check_email(text).map_err(InvalidField::Email)?;
    if is_mailbox(text) { Ok(text.into()) } else { Err(InvalidField::NotAnAddress) }
}

/// An organization that a user can be of.
pub fn parse_organization(text: &str) -> Result<Name, InvalidField> {
    Name::parse(text).map_err(InvalidField::Organization)
}

/// Hashes a new password with a new salt.
async fn hash(NewPassword(password): NewPassword) -> Result<Phc, PasswordError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(PasswordError::Random)?;
    let hashed = run_blocking(move || Phc::hash(&password, salt, &mut HashMemory::default())).await;
    hashed.ok_or(PasswordError::NotHashed)
}

fn check_password(bytes: &[u8]) -> Result<(), PasswordError> {
    if bytes.is_empty() {
        return Err(PasswordError::Empty);
    }
    if bytes.len() > Phc::MAX_PASSWORD {
        return Err(PasswordError::TooLong);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(()),
        _ => Err(PasswordError::NotText),
    }
}

/// Users that are read at once.
const PAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_password_is_text_of_1_to_1024_bytes() {
        let longest = "x".repeat(Phc::MAX_PASSWORD);
        let too_long = "x".repeat(Phc::MAX_PASSWORD + 1);
        for (password, expected) in [
            (&b"p\xc3\xa4ss word"[..], Ok(())),
            (longest.as_bytes(), Ok(())),
            (b"", Err(PasswordError::Empty)),
            (too_long.as_bytes(), Err(PasswordError::TooLong)),
            (b"a\tb", Err(PasswordError::NotText)),
            (b"a\xff", Err(PasswordError::NotText)),
        ] {
            assert_eq!(check_password(password), expected);
        }
    }

    #[test]
    fn ordinary_password_has_8_characters() {
        let parsed = |text: &str| NewPassword::parse(Secret::new(text.into())).map(drop);
        for (text, expected) in [
            ("12345678", Ok(())),
            ("1234567", Err(PasswordError::TooShort)),
            ("ääääääää", Ok(())),
            ("äääääää", Err(PasswordError::TooShort)),
            ("", Err(PasswordError::Empty)),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        assert!(NewPassword::parse_weak(Secret::new(b"x".to_vec())).is_ok());
    }

    #[test]
    fn error_names_the_field_that_cannot_be() {
        let error = |name, email, organization| identity(name, email, organization).unwrap_err();
        assert_eq!(error("a:b", "a@b", "O"), InvalidField::Name(NameError::Colon));
        assert_eq!(error("a", "", "O"), InvalidField::Email(NameError::Empty));
        assert_eq!(error("a", "b", "O"), InvalidField::NotAnAddress);
        assert_eq!(
            error("a", "a@b", " O").to_string(),
            "the organization must not begin or end with a blank"
        );
    }
}
