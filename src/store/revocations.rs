//! Revocations, each a transaction that takes the next number. There is none that takes one back.

use rusqlite::{Connection, OptionalExtension, Row};

use super::sqlite::{StoreError, next_number, set_mark};
use super::users::Act;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::auth::token::TokenId;
use crate::auth::token_set::Keep;

/// Revokes one token. Says which number did it: an earlier one if it was revoked before.
pub fn revoke_token(
    connection: &Connection,
    id: TokenId,
    keep: Keep,
    user: Option<&str>,
    act: Act<'_>,
) -> Result<u64, StoreError> {
    let before: Option<u64> = connection
        .prepare_cached("SELECT number FROM revoked_tokens WHERE token_id = ?1")?
        .query_row([id.0], |row| row.get(0))
        .optional()?;
    if let Some(number) = before {
        return Ok(number);
    }
    if let Some(user) = user
        && count(connection, user)? >= MAX_SINGLE
    {
        return replace_by_mark(connection, user, act);
    }
    let number = next_number(connection)?;
    let (keep, dated) = match keep {
        Keep::Expires(moment) => (moment, true),
        Keep::Until(moment) => (moment, false),
    };
    connection
        .prepare_cached(
            "INSERT INTO revoked_tokens (token_id, keep, dated, user, number) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((id.0, keep.0, dated, user, number))?;
    act.event(number, "revoke_token", user.unwrap_or_default(), Some(id)).write(connection)?;
    Ok(number)
}

/// Ends all tokens of a user, an organization or everybody that were minted before this.
pub fn revoke_all(connection: &Connection, subject: &Subject, act: Act<'_>) -> Result<u64, StoreError> {
    let number = next_number(connection)?;
    let (action, name, closed) = match subject {
        Subject::Everybody => ("revoke_all", "everybody", false),
        Subject::Organization(name) => ("revoke_organization", &**name, false),
        // A disabled user stays closed.
        Subject::User(name) => ("revoke_user", &**name, is_closed(connection, name)?),
    };
    set_mark(connection, subject, number, act.now, closed)?;
    act.event(number, action, name, None).write(connection)?;
    Ok(number)
}

/// What became of the wish to revoke a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOutcome {
    /// It verifies nothing from this number on; an earlier one if it was revoked before.
    Revoked(u64),
    /// The store has never seen a key of that name.
    Unknown,
}

/// Revokes a key by its name, for good.
pub fn revoke_key(connection: &Connection, kid: &str, act: Act<'_>) -> Result<KeyOutcome, StoreError> {
    let found: Option<(Option<u64>, u64)> = connection
        .prepare("SELECT revoked_at, number FROM keys WHERE kid = ?1")?
        .query_row([kid], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        None => Ok(KeyOutcome::Unknown),
        Some((Some(_), number)) => Ok(KeyOutcome::Revoked(number)),
        Some((None, _)) => {
            let number = next_number(connection)?;
            connection.execute(
                "UPDATE keys SET revoked_at = ?2, number = ?3 WHERE kid = ?1",
                (kid, act.now.0, number),
            )?;
            act.event(number, "revoke_key", kid, None).write(connection)?;
            Ok(KeyOutcome::Revoked(number))
        }
    }
}

/// Asks every gateway to say when it has applied all up to now; [`followers`] tells.
pub fn want_reports(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("UPDATE sequence SET wanted = number", [])?;
    Ok(())
}

/// How far each gateway has come that was seen at `since` or later.
pub fn followers(connection: &Connection, since: UnixTime) -> Result<Vec<u64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT applied FROM gateways WHERE seen_at >= ?1")?;
    let rows = statement.query_map([since.0], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes how far a gateway has come.
pub fn report(connection: &Connection, gateway: &str, applied: u64, now: UnixTime) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO gateways (id, applied, seen_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET applied = excluded.applied, seen_at = excluded.seen_at",
        )?
        .execute((gateway, applied, now.0))?;
    Ok(())
}

/// Notes that a gateway is gone.
pub fn sign_off(connection: &Connection, gateway: &str) -> Result<(), StoreError> {
    connection.execute("DELETE FROM gateways WHERE id = ?1", [gateway])?;
    Ok(())
}

/// A revocation in force, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// `token`, `user`, `organization`, `everybody` or `key`.
    pub kind: String,
    /// A TokenId, a name or a `kid`.
    pub subject: String,
    /// The transaction that set it.
    pub number: u64,
    /// For tokens: when it may be forgotten. For the others: the second before which tokens end.
    pub second: UnixTime,
    /// Nothing passes at all: a user that is disabled or removed, a key.
    pub closed: bool,
}

/// Everything in force, in the order in which it came to be.
pub fn list(connection: &Connection) -> Result<Vec<InForce>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT kind, name, number, second, closed FROM marks
         UNION ALL SELECT 'token', lower(hex(token_id)), number, keep, 0 FROM revoked_tokens
         UNION ALL SELECT 'key', kid, number, revoked_at, 1 FROM keys WHERE revoked_at IS NOT NULL
         ORDER BY number",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(InForce {
            kind: row.get(0)?,
            subject: row.get(1)?,
            number: row.get(2)?,
            second: UnixTime(row.get(3)?),
            closed: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes at most [`PURGE`] rows that no token can ask about any more; says how many it were. `memory` is
/// how long a mark matters, in seconds.
pub fn purge(connection: &Connection, now: UnixTime, memory: u64) -> Result<usize, StoreError> {
    // A day longer than the tokens live: a clock may have been ahead.
    let day = 24 * 3600;
    let tokens = connection.execute(
        "DELETE FROM revoked_tokens WHERE token_id IN (
           SELECT token_id FROM revoked_tokens WHERE keep < ?1 - iif(dated, ?2, 0) ORDER BY keep LIMIT ?3)",
        (now.0, day, PURGE),
    )?;
    let marks = connection.execute(
        "DELETE FROM marks WHERE (kind, name) IN (
           SELECT kind, name FROM marks WHERE kind != 'everybody' AND second < ?1
             AND NOT (closed AND EXISTS (SELECT 1 FROM users WHERE users.name = marks.name AND disabled))
           LIMIT ?2)",
        (now.minus(memory).0, PURGE),
    )?;
    Ok(tokens + marks)
}

/// A token as it stands in the table: `token_id, keep, dated`.
pub(super) fn revoked_token_of(row: &Row<'_>) -> rusqlite::Result<(TokenId, Keep)> {
    let keep = UnixTime(row.get(1)?);
    let keep = if row.get(2)? { Keep::Expires(keep) } else { Keep::Until(keep) };
    Ok((TokenId(row.get(0)?), keep))
}

fn is_closed(connection: &Connection, user: &str) -> Result<bool, StoreError> {
    let closed = connection
        .prepare_cached("SELECT closed FROM marks WHERE kind = 'user' AND name = ?1")?
        .query_row([user], |row| row.get(0))
        .optional()?;
    Ok(closed.unwrap_or(false))
}

fn count(connection: &Connection, user: &str) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT count(*) FROM revoked_tokens WHERE user = ?1")?;
    Ok(statement.query_row([user], |row| row.get(0))?)
}

/// One user must not fill the set: its single revocations become one mark.
fn replace_by_mark(connection: &Connection, user: &str, act: Act<'_>) -> Result<u64, StoreError> {
    let number = revoke_all(connection, &Subject::User(user.into()), act)?;
    connection.execute("DELETE FROM revoked_tokens WHERE user = ?1", [user])?;
    Ok(number)
}

/// Live single revocations that one user may have.
const MAX_SINGLE: u64 = 10_000;

/// Rows that go in one step.
pub const PURGE: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::revocation::Sizes;
    use crate::store::Store;
    use crate::store::sqlite::{current_number, load};

    const NOW: UnixTime = UnixTime(1_700_000_000);

    fn act() -> Act<'static> {
        Act { now: NOW, actor: "test", origin: "test" }
    }

    fn id(number: u64) -> TokenId {
        TokenId::of(&number.to_be_bytes())
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("s.db"), NOW).unwrap();
        (folder, store)
    }

    #[test]
    fn a_revocation_is_read_back_and_twice_is_once() {
        let (_folder, store) = store();
        let connection = store.connect().unwrap();
        let keep = Keep::Expires(NOW.plus(100));
        let number = revoke_token(&connection, id(1), keep, Some("anna"), act()).unwrap();
        assert_eq!(revoke_token(&connection, id(1), keep, Some("anna"), act()), Ok(number));
        revoke_token(&connection, id(2), Keep::Until(NOW.plus(100)), None, act()).unwrap();
        revoke_all(&connection, &Subject::Organization("org".into()), act()).unwrap();
        revoke_all(&connection, &Subject::Everybody, act()).unwrap();
        let standing = load(&mut store.connect().unwrap()).unwrap();
        assert_eq!(standing.sizes(), Sizes { tokens: 2, users: 0, organizations: 1, keys: 0 });
        let kinds: Vec<String> = list(&connection).unwrap().into_iter().map(|row| row.kind).collect();
        assert_eq!(kinds, ["token", "token", "organization", "everybody"]);
        assert_eq!(standing.number(), current_number(&connection).unwrap());
    }

    #[test]
    fn a_key_is_revoked_once_and_for_good() {
        use crate::auth::keys::{Algorithm, Key, KeyRing};
        use crate::auth::secret::Secret;
        let (_folder, store) = store();
        let connection = store.connect().unwrap();
        let secret = Secret::new((0..48).collect());
        let ring = KeyRing::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).unwrap()]).unwrap();
        assert_eq!(revoke_key(&connection, "k", act()), Ok(KeyOutcome::Unknown));
        crate::store::keys::record(&connection, &ring, act()).unwrap();
        let first = revoke_key(&connection, "k", act()).unwrap();
        assert_eq!(revoke_key(&connection, "k", act()).unwrap(), first);
        let standing = load(&mut store.connect().unwrap()).unwrap();
        assert!(standing.signer(&ring).is_none());
        assert_eq!(list(&connection).unwrap().last().unwrap().subject, "k");
    }

    #[test]
    fn one_user_cannot_fill_the_set() {
        let (_folder, store) = store();
        let keep = Keep::Expires(NOW.plus(100));
        store
            .transact(|connection| {
                for number in 0..=MAX_SINGLE {
                    revoke_token(connection, id(number), keep, Some("anna"), act())?;
                }
                revoke_token(connection, id(u64::MAX), keep, Some("bert"), act())
            })
            .unwrap();
        let standing = load(&mut store.connect().unwrap()).unwrap();
        assert_eq!(standing.sizes(), Sizes { tokens: 1, users: 1, organizations: 0, keys: 0 });
    }

    #[test]
    fn what_has_expired_leaves_the_store_a_few_rows_at_a_time() {
        let (_folder, store) = store();
        const DAY: u64 = 24 * 3600;
        store
            .transact(|connection| {
                for number in 0..1500 {
                    revoke_token(connection, id(number), Keep::Expires(NOW), None, act())?;
                }
                revoke_token(connection, id(9999), Keep::Expires(NOW.plus(2 * DAY)), None, act())?;
                revoke_token(connection, id(9998), Keep::Until(NOW.plus(DAY)), None, act())?;
                revoke_all(connection, &Subject::Organization("org".into()), act())
            })
            .unwrap();
        let connection = store.connect().unwrap();
        let steps = |now: UnixTime| -> Vec<usize> {
            (0..3).map(|_| purge(&connection, now, 2 * DAY).unwrap()).collect()
        };
        assert_eq!(steps(NOW.plus(DAY)), [0, 0, 0]);
        assert_eq!(steps(NOW.plus(DAY + 1)), [1000, 501, 0]);
        assert_eq!(steps(NOW.plus(2 * DAY + 1)), [1, 0, 0]);
        assert_eq!(list(&connection).unwrap().len(), 2);
    }

    #[test]
    fn followers_say_how_far_they_have_come() {
        let (_folder, store) = store();
        let connection = store.connect().unwrap();
        report(&connection, "one", 5, NOW).unwrap();
        report(&connection, "one", 7, NOW.plus(1)).unwrap();
        report(&connection, "long gone", 1, NOW.minus(60)).unwrap();
        assert_eq!(followers(&connection, NOW.minus(12)), Ok(vec![7]));
        sign_off(&connection, "one").unwrap();
        assert_eq!(followers(&connection, NOW.minus(12)), Ok(vec![]));
    }
}
