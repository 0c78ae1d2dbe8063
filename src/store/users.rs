//! Users, and the tokens minted for them. Every function runs inside a transaction of its caller.

use rusqlite::{Connection, OptionalExtension, Row};

use super::audit::Event;
use super::keys::is_revoked;
use super::sqlite::{StoreError, marks_on, next_number, set_mark};
use crate::auth::identity::Identity;
use crate::auth::keys::Key;
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::revocation::{Mark, Subject};
use crate::auth::time::UnixTime;
use crate::auth::token::{self, Minted, TokenId, TokenRules};

/// A user as stored, without the password hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who it is.
    pub identity: Identity,
    /// No token is minted and none is admitted.
    pub disabled: bool,
    /// Grows with every change of the password or of a claim.
    pub credential_version: u64,
    /// When the user was added.
    pub created_at: UnixTime,
    /// When anything of the user last changed.
    pub updated_at: UnixTime,
}

/// A user to be added.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Who it is.
    pub identity: Identity,
    /// The hash of its password.
    pub phc: Phc,
}

/// Who changes something, when, and from where: what every audit row says.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// The moment of the change.
    pub now: UnixTime,
    /// A user of the API, or the account that runs the command line.
    pub actor: &'a str,
    /// A client's address, or the command line.
    pub origin: &'a str,
}

impl<'a> Act<'a> {
    /// This act as a row of the trail.
    pub fn event(self, number: u64, action: &'a str, subject: &'a str, token: Option<TokenId>) -> Event<'a> {
        let Self { now: at, actor, origin } = self;
        Event { number, at, actor, action, subject, token, origin, count: 1 }
    }
}

/// Why a change of a user was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// Nobody has that name.
    Unknown,
    /// Somebody has that name already.
    Exists,
    /// Somebody has a name that a person would take for it.
    Twin(String),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for UserError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for UserError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a change does to a user.
#[derive(Clone, Debug)]
pub enum Change {
    /// New claims, where given.
    Set {
        /// The new e-mail address.
        email: Option<Box<str>>,
        /// The new organization.
        organization: Option<Name>,
    },
    /// A new password.
    Password(Phc),
    /// No more tokens, and none of the old ones.
    Disable,
    /// Tokens again; the old ones stay dead.
    Enable,
    /// Gone; its mark stays.
    Remove,
}

impl Change {
    const fn action(&self) -> &'static str {
        match self {
            Self::Set { .. } => "user_set",
            Self::Password(_) => "user_passwd",
            Self::Disable => "user_disable",
            Self::Enable => "user_enable",
            Self::Remove => "user_remove",
        }
    }
}

/// Adds a user. Re-adding a name that was removed leaves the tokens of its former bearer dead.
pub fn add(connection: &Connection, user: &NewUser, act: Act<'_>) -> Result<(), UserError> {
    let name = user.identity.user.as_str();
    let folded = user.identity.user.folded();
    let twin: Option<String> = connection
        .prepare_cached("SELECT name FROM users WHERE folded = ?1")?
        .query_row([&folded], |row| row.get(0))
        .optional()?;
    match twin {
        Some(twin) if twin == name => return Err(UserError::Exists),
        Some(twin) => return Err(UserError::Twin(twin)),
        None => {}
    }
    let number = next_number(connection)?;
    connection
        .prepare_cached(
            "INSERT INTO users (name, folded, email, organization, phc, credential_version,
                                created_at, updated_at, number)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?6)",
        )?
        .execute((
            name,
            folded,
            &user.identity.email,
            user.identity.organization.as_str(),
            user.phc.as_str(),
            number,
            act.now.0,
        ))?;
    set_mark(connection, &Subject::User(name.into()), number, act.now, false)?;
    act.event(number, "user_add", name, None).write(connection)?;
    Ok(())
}

/// Changes a user and marks it, so that what was minted before no longer counts.
pub fn change(connection: &Connection, name: &str, change: &Change, act: Act<'_>) -> Result<(), UserError> {
    let number = next_number(connection)?;
    let rows = match change {
        Change::Set { email, organization } => connection
            .prepare_cached(
                "UPDATE users SET email = coalesce(?2, email),
                   organization = coalesce(?3, organization),
                   credential_version = ?4, updated_at = ?5, number = ?4 WHERE name = ?1",
            )?
            .execute((name, email, organization.as_ref().map(Name::as_str), number, act.now.0))?,
        Change::Password(phc) => connection
            .prepare_cached(
                "UPDATE users SET phc = ?2, credential_version = ?3, updated_at = ?4, number = ?3
                 WHERE name = ?1",
            )?
            .execute((name, phc.as_str(), number, act.now.0))?,
        Change::Disable | Change::Enable => connection
            .prepare_cached("UPDATE users SET disabled = ?2, updated_at = ?4, number = ?3 WHERE name = ?1")?
            .execute((name, matches!(change, Change::Disable), number, act.now.0))?,
        Change::Remove => connection.prepare_cached("DELETE FROM users WHERE name = ?1")?.execute([name])?,
    };
    if rows == 0 {
        return Err(UserError::Unknown);
    }
    // A disabled user stays closed whatever else is changed.
    let closed: bool = connection
        .prepare_cached("SELECT disabled FROM users WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?
        .unwrap_or(true);
    set_mark(connection, &Subject::User(name.into()), number, act.now, closed)?;
    act.event(number, change.action(), name, None).write(connection)?;
    Ok(())
}

/// Replaces an old hash by one of today's costs: same password, so no mark and no new version.
pub fn rehash(
    connection: &Connection,
    name: &str,
    credential_version: u64,
    phc: &Phc,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE users SET phc = ?3 WHERE name = ?1 AND credential_version = ?2")?
        .execute((name, credential_version, phc.as_str()))?;
    Ok(())
}

/// The user of that name and its password hash.
pub fn find(connection: &Connection, name: &str) -> Result<Option<(User, Phc)>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    let found =
        statement.query_row([name], |row| Ok((user_of(row)?, row.get::<_, String>("phc")?))).optional()?;
    let Some((user, phc)) = found else {
        return Ok(None);
    };
    let corrupt = || StoreError::NotAStore(format!("the row of user {name:?} is malformed"));
    let phc = Phc::parse(&phc).map_err(|_| corrupt())?;
    Ok(Some((user.ok_or_else(corrupt)?, phc)))
}

/// All users, by name.
pub fn list(connection: &Connection) -> Result<Vec<User>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
    let rows = statement.query_map([], user_of)?;
    let corrupt = || StoreError::NotAStore("the row of a user is malformed".into());
    rows.map(|row| row?.ok_or_else(corrupt)).collect()
}

/// What became of a request for a token.
#[derive(Debug)]
pub enum MintOutcome {
    /// The token, in the store's order, and the marks that it was minted after: a gate that has not heard
    /// of them yet must, before the token is handed out.
    Minted(Minted, Vec<(Subject, Mark)>),
    /// The user changed since its password was checked, or is disabled or gone.
    Changed,
}

/// Mints a token for a user whose password was checked at `credential_version`.
pub fn mint(
    connection: &Connection,
    user: &User,
    random: [u8; 16],
    rules: &TokenRules,
    signer: &Key,
    act: Act<'_>,
) -> Result<MintOutcome, StoreError> {
    let name = user.identity.user.as_str();
    let current: Option<(u64, bool)> = connection
        .prepare_cached("SELECT credential_version, disabled FROM users WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if current != Some((user.credential_version, false)) {
        return Ok(MintOutcome::Changed);
    }
    let organization = user.identity.organization.as_str();
    if is_revoked(connection, signer.kid())? {
        // Revoked a moment ago: this gateway has not heard of it, and of the key in its place.
        return Err(StoreError::Busy);
    }
    let marks = marks_on(connection, name, organization)?;
    let issued_at = marks.iter().map(|(_, mark)| mark.second).fold(act.now, UnixTime::max);
    let number = next_number(connection)?;
    let minted = token::mint(&user.identity, number, random, issued_at, rules, signer)
        .ok_or_else(|| StoreError::Failed("the token could not be signed".into()))?;
    act.event(number, "mint", name, Some(minted.id)).write(connection)?;
    Ok(MintOutcome::Minted(minted, marks))
}

/// `None` for a row that breaks the rules for names: somebody else wrote it.
fn user_of(row: &Row<'_>) -> rusqlite::Result<Option<User>> {
    let name: String = row.get("name")?;
    let organization: String = row.get("organization")?;
    let (Ok(user), Ok(organization)) = (Name::parse_user(&name), Name::parse(&organization)) else {
        return Ok(None);
    };
    Ok(Some(User {
        identity: Identity { user, email: row.get("email")?, organization },
        disabled: row.get("disabled")?,
        credential_version: row.get("credential_version")?,
        created_at: UnixTime(row.get("created_at")?),
        updated_at: UnixTime(row.get("updated_at")?),
    }))
}

const SELECT: &str = "SELECT name, email, organization, phc, disabled, credential_version,
                             created_at, updated_at FROM users";

#[cfg(test)]
mod tests;
