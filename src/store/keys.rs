//! Which secret each `kid` stands for. A gateway whose key file says something else refuses to start.

use rusqlite::{Connection, OptionalExtension};

use super::sqlite::{StoreError, next_number};
use super::users::Act;
use crate::auth::keys::KeyRing;

/// A `kid` whose secret is not the one that the store recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyConflict {
    /// The `kid` in question.
    Differs(String),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for KeyConflict {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for KeyConflict {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Compares the ring with what is recorded: is all of it?
pub fn is_recorded(connection: &Connection, ring: &KeyRing) -> Result<bool, KeyConflict> {
    let mut all = true;
    for key in ring.iter() {
        match recorded(connection, key.kid())? {
            Some(fingerprint) if fingerprint == key.fingerprint().0 => {}
            Some(_) => return Err(KeyConflict::Differs(key.kid().to_owned())),
            None => all = false,
        }
    }
    Ok(all)
}

/// Records what of the ring is not recorded yet.
pub fn record(connection: &Connection, ring: &KeyRing, act: Act<'_>) -> Result<(), StoreError> {
    for key in ring.iter() {
        if recorded(connection, key.kid())?.is_some() {
            continue;
        }
        let number = next_number(connection)?;
        connection.execute(
            "INSERT INTO keys (kid, fingerprint, recorded_at, number) VALUES (?1, ?2, ?3, ?4)",
            (key.kid(), key.fingerprint().0, act.now.0, number),
        )?;
        act.event(number, "key_add", key.kid(), None).write(connection)?;
    }
    Ok(())
}

fn recorded(connection: &Connection, kid: &str) -> Result<Option<[u8; 32]>, StoreError> {
    let mut statement = connection.prepare("SELECT fingerprint FROM keys WHERE kid = ?1")?;
    Ok(statement.query_row([kid], |row| row.get(0)).optional()?)
}

/// Has the store learnt of a key after transaction `after`?
pub fn any_new(connection: &Connection, after: u64) -> Result<bool, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE number > ?1 AND revoked_at IS NULL)")?;
    Ok(statement.query_row([after], |row| row.get(0))?)
}

/// Is the key of that name revoked?
pub fn is_revoked(connection: &Connection, kid: &str) -> Result<bool, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE kid = ?1 AND revoked_at IS NOT NULL)")?;
    Ok(statement.query_row([kid], |row| row.get(0))?)
}

/// Has the store ever seen a key?
pub fn any_recorded(connection: &Connection) -> Result<bool, StoreError> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::{Algorithm, Key};
    use crate::auth::secret::Secret;
    use crate::auth::time::UnixTime;
    use crate::store::Store;

    #[test]
    fn a_kid_keeps_its_secret_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
        let connection = store.connect().unwrap();
        let ring = |kid: &str, secret: &[u8]| {
            let secret = Secret::new(secret.to_vec());
            KeyRing::new(vec![Key::new(kid, Algorithm::Hs256, &secret, false).unwrap()]).unwrap()
        };
        let act = |now| Act { now: UnixTime(now), actor: "test", origin: "test" };
        let one = ring("k", b"0123456789abcdef0123456789abcdef");
        let other = ring("k", b"fedcba9876543210fedcba9876543210");
        assert_eq!(any_recorded(&connection), Ok(false));
        assert_eq!(is_recorded(&connection, &one), Ok(false));
        assert_eq!(record(&connection, &one, act(0)), Ok(()));
        assert_eq!(record(&connection, &one, act(1)), Ok(()));
        assert_eq!(is_recorded(&connection, &one), Ok(true));
        assert_eq!(any_recorded(&connection), Ok(true));
        let conflict = is_recorded(&connection, &other);
        assert_eq!(conflict, Err(KeyConflict::Differs("k".into())));
    }
}
