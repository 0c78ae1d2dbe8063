use rusqlite::types::{FromSql, Value};

use super::super::feed::Feed;
use super::*;
use crate::auth::denial::Denial;
use crate::auth::identity::Identity;
use crate::auth::keys::Fingerprint;
use crate::auth::name::Name;
use crate::auth::revocation::{Cutoff, RevocationSnapshot, Subject};
use crate::auth::source::Source;
use crate::auth::token::{Origin, TokenId, TokenRules, Verified};
use crate::store::decision::CountedRows;
use crate::store::sql::{audit_shares, cutoffs, known_sources, revocations, tokens};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn creating_a_store_that_exists_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("s.db");
    for now in [1000, 2000] {
        let database = DatabaseFile::create(&path, UnixTime(now)).unwrap();
        let first =
            Cutoff { sequence: 1, time: UnixTime(1000), lived: Lived(0), blocked: false, revocation: true };
        let connection = database.connect().unwrap();
        assert_eq!(cutoffs::get(&of(&connection), &Subject::Everybody), Ok(Some(first)));
        assert_eq!(sequence::current(&of(&connection)), Ok(1));
    }
}

#[test]
fn only_a_store_is_opened() {
    let folder = folder();
    let path = folder.path().join("s.db");
    let opened = |path: &Path| DatabaseFile::open(path, Opening::Run, UnixTime(0)).map(drop);
    assert_eq!(opened(&path), Err(StoreError::Missing));
    std::fs::write(&path, "").unwrap();
    assert_eq!(opened(&path), Err(StoreError::Missing));
    std::fs::write(&path, "not a database at all, but long enough to be looked at").unwrap();
    assert!(matches!(opened(&path), Err(StoreError::Damaged(_))));
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(opened(&path), Err(StoreError::Foreign(_))));
}

/// A store of schema 1 with some of everything, as its last program left it.
fn write_schema_1(path: &Path) {
    let old = Connection::open(path).unwrap();
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    old.execute_batch(MIGRATIONS[0].script).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    old.execute_batch(
        "INSERT INTO users VALUES ('new', 'new', 'e', 'P', 'p', 0, 2, 10, 10, 2),
           ('pruned', 'pruned', 'e', 'P', 'p', 0, 3, 10, 10, 3), ('set', 'set', 'e', 'P', 'p', 0, 5, 10, 11, 5),
           ('off', 'off', 'e', 'P', 'p', 1, 3, 10, 14, 8);
         INSERT INTO marks VALUES ('everybody', '', 1, 9, 0), ('user', 'new', 2, 10, 0), ('user', 'pruned', 3, 10, 0),
           ('user', 'set', 5, 11, 0), ('user', 'gone', 6, 12, 1), ('organization', 'O', 7, 13, 0),
           ('user', 'off', 8, 14, 1);
         INSERT INTO revoked_tokens VALUES (x'000102030405060708090a0b0c0d0e0f', 6000, 1, 'new', 9),
           (x'ff0102030405060708090a0b0c0d0e0f', 600, 0, NULL, 10);
         INSERT INTO keys VALUES ('k', zeroblob(32), 9, 15, 11);
         INSERT INTO audit (number, at, actor, action, subject, token_id, origin, count) VALUES
           (2, 10, 'a', 'user_add', 'new', NULL, 'o', 1), (4, 10, 'a', 'user_add', 'set', NULL, 'o', 1),
           (5, 11, 'a', 'user_set', 'set', NULL, 'o', 1), (7, 13, 'a', 'revoke_organization', 'O', NULL, 'o', 1),
           (9, 15, 'a', 'revoke_token', 'new', '000102030405060708090a0b0c0d0e0f', 'o', 1);
         UPDATE sequence SET number = 11;",
    )
    .unwrap();
}

/// A store of schema 2, as its last program left it.
fn write_schema_2(path: &Path, content: &str) {
    let old = Connection::open(path).unwrap();
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    MIGRATIONS[..2].iter().for_each(|migration| old.execute_batch(migration.script).unwrap());
    old.pragma_update(None, "user_version", 2).unwrap();
    old.execute_batch(content).unwrap();
}

#[test]
fn revoked_tokens_of_an_older_store_are_counted_by_user() {
    let folder = folder();
    let path = folder.path().join("s.db");
    write_schema_2(
        &path,
        "INSERT INTO revoked_tokens (token_id, keep, dated, user, number, lived) VALUES
           (randomblob(16), 6000, 1, 'anna', 2, 5), (randomblob(16), 6000, 1, 'anna', 3, 5),
           (randomblob(16), 6000, 1, 'bert', 4, 5), (randomblob(16), 600, 0, NULL, 5, 5);
         UPDATE sequence SET number = 5;",
    );
    let database = DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap().file;
    let migrated = database.connect().unwrap();
    let count = |user| revocations::count(&of(&migrated), user);
    assert_eq!(["anna", "bert", "cleo"].map(count), [Ok(2), Ok(1), Ok(0)]);
    assert_eq!(rows::<u64>(&migrated, "SELECT number FROM revoked_tokens ORDER BY number"), [2, 3, 4, 5]);
    let mut snapshot = RevocationSnapshot::default();
    Feed::new(database).changes(0, 100).unwrap().apply(&mut snapshot);
    assert_eq!(snapshot.sizes().tokens, 4);
    migrated.execute("DELETE FROM revoked_tokens WHERE number > 2", []).unwrap();
    assert_eq!(["anna", "bert"].map(count), [Ok(1), Ok(0)]);
    assert_eq!(rows::<String>(&migrated, "SELECT user FROM revocation_counts"), ["anna"]);
}

#[test]
fn older_store_gets_tables_for_what_logins_ask_and_keeps_all_that_it_has() {
    let folder = folder();
    let path = folder.path().join("s.db");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    MIGRATIONS[..3].iter().for_each(|migration| old.execute_batch(migration.script).unwrap());
    old.pragma_update(None, "user_version", 3).unwrap();
    old.execute_batch(
        "INSERT INTO users VALUES ('anna', 'anna', 'e', 'P', 'p', 0, 2, 10, 10, 2);
         INSERT INTO marks VALUES ('everybody', '', 1, 9, 0, 3, 'store_created');
         INSERT INTO revoked_tokens (token_id, keep, dated, user, number, lived) VALUES (randomblob(16), 600, 1, 'anna', 3, 5);
         INSERT INTO audit (number, at, lived, actor, action, subject, origin, count) VALUES (2, 10, 4, 'a', 'mint', 'anna', 'o', 1);
         UPDATE clock SET lived = 77;
         UPDATE sequence SET number = 3;",
    )
    .unwrap();
    let dump = |connection: &Connection| {
        [
            "users",
            "marks",
            "revoked_tokens",
            "revocation_counts",
            "keys",
            "audit",
            "clock",
            "hours",
            "sequence",
        ]
        .map(|table| {
            let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
            // All that version 3 had.
            let columns = match table {
                "users" => 10,
                "audit" => 12,
                _ => statement.column_count(),
            };
            let read = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
            let rows = statement.query_map([], read).unwrap();
            rows.map(Result::unwrap).collect::<Vec<Vec<Value>>>()
        })
    };
    let before = dump(&old);
    drop(old);
    let migrated = DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap().file.connect().unwrap();
    assert_eq!(dump(&migrated), before);
    assert_eq!(schema_of(&migrated), Ok(SCHEMA));
    for table in ["known_sources", "unlocks"] {
        assert_eq!(rows::<u64>(&migrated, &format!("SELECT count(*) FROM {table}")), [0], "{table}");
    }
    let source = Source::of(std::net::Ipv4Addr::LOCALHOST.into());
    assert_eq!(known_sources::is_known(&of(&migrated), "anna", Some(source)), Ok(false));
}

#[test]
fn names_and_mints_of_an_older_store_are_looked_up_like_new_ones() {
    let folder = folder();
    let path = folder.path().join("s.db");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    MIGRATIONS[..4].iter().for_each(|migration| old.execute_batch(migration.script).unwrap());
    old.pragma_update(None, "user_version", 4).unwrap();
    let id = "000102030405060708090a0b0c0d0e0f";
    old.execute_batch(&format!(
        "INSERT INTO users VALUES ('anna', 'anna', 'e', 'P', 'p', 0, 2, 10, 10, 2, NULL),
           ('Zoë', 'zoë', 'e', 'P', 'p', 0, 3, 10, 10, 3, NULL);
         INSERT INTO audit (number, at, lived, actor, action, subject, token_id, origin, count) VALUES
           (2, 10, 4, 'root', 'user_add', 'anna', NULL, 'o', 1), (4, 20, 4, 'anna', 'mint', 'anna', '{id}', 'o', 1);
         UPDATE sequence SET number = 4;",
    ))
    .unwrap();
    drop(old);
    let migrated = DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap().file.connect().unwrap();
    let looks_like = |name: &str| skeletons::confusable(&of(&migrated), &Name::parse_user(name).unwrap());
    assert_eq!(looks_like("\u{430}nna"), Ok(Some("anna".into())));
    assert_eq!(looks_like("Zo\u{451}"), Ok(Some("Zoë".into())));
    assert_eq!(looks_like("bert"), Ok(None));
    let filter = crate::store::records::TokenFilter::default();
    let tokens = tokens::page(&of(&migrated), "anna", filter, u64::MAX, 9, UnixTime(100)).unwrap();
    let found: Vec<_> = tokens.iter().map(|token| (token.id.to_string(), token.expires_at)).collect();
    assert_eq!(found, [(id.to_owned(), None)]);
    assert_eq!(tokens::last_login(&of(&migrated), "anna"), Ok(Some(UnixTime(20))));
}

#[test]
fn users_of_an_older_store_are_kept_and_were_not_imported() {
    let folder = folder();
    let path = folder.path().join("s.db");
    write_schema_2(
        &path,
        "INSERT INTO users VALUES ('anna', 'anna', 'e', 'P', 'p', 0, 2, 10, 11, 2), ('bert', 'bert', 'e', 'P', 'p', 1, 3, 10, 12, 3);
         UPDATE sequence SET number = 3;",
    );
    let kept = "SELECT name || ' ' || folded || ' ' || email || ' ' || organization || ' ' || phc || ' ' || disabled || ' '
         || credential_version || ' ' || created_at || ' ' || updated_at || ' ' || number FROM users ORDER BY name";
    let before: Vec<String> = rows(&Connection::open(&path).unwrap(), kept);
    let database = DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap().file;
    let migrated = database.connect().unwrap();
    assert_eq!((before.len(), rows::<String>(&migrated, kept)), (2, before));
    assert_eq!(rows::<Option<Vec<u8>>>(&migrated, "SELECT imported FROM users"), [None, None]);
}

#[test]
fn trail_of_an_older_store_is_kept_and_counted_by_who_did_what() {
    let folder = folder();
    let path = folder.path().join("s.db");
    write_schema_2(
        &path,
        "INSERT INTO audit (number, at, lived, actor, action, subject, token_id, origin, count, claimed) VALUES
           (1, 10, 1, 'ds-gateway', 'key_add', 'k', NULL, 'start', 1, NULL),
           (2, 10, 1, 'root', 'user_add', 'anna', NULL, 'command line', 1, 'zoe'),
           (3, 11, 2, 'anna', 'mint', 'anna', 'a0', '192.0.2.1:5', 1, NULL),
           (4, 11, 2, 'anna', 'login_failed', 'anna', NULL, '192.0.2.0/24', 7, NULL),
           (5, 12, 3, 'anna', 'revoke_token', 'anna', 'a0', '[2001:db8::1]:5', 1, NULL),
           (6, 12, 3, 'root', 'revoke_token', 'anna', 'a1', 'command line', 1, NULL),
           (7, 13, 4, 'root', 'mint', 'root', 'a2', '', 1, NULL);
         DELETE FROM audit WHERE number = 4;
         UPDATE sequence SET number = 7;",
    );
    let kept = "SELECT id || ' ' || number || ' ' || lived || ' ' || actor || ' ' || subject || ' ' || count
         || ' ' || coalesce(token_id, '-') || ' ' || coalesce(claimed, '-') FROM audit ORDER BY id";
    let before: Vec<String> = rows(&Connection::open(&path).unwrap(), kept);
    let database = DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap().file;
    let migrated = database.connect().unwrap();
    assert_eq!(rows::<String>(&migrated, kept), before);
    assert_eq!(rows::<u64>(&migrated, "SELECT operator FROM audit ORDER BY id"), [1, 1, 0, 0, 1, 0]);
    // As pruning does, in steps.
    let counted: Vec<usize> = (0..3).map(|_| audit_shares::count(&of(&migrated), 4).unwrap()).collect();
    assert_eq!(counted, [4, 2, 0]);
    let counted = audit_shares::counted(&of(&migrated));
    assert_eq!(counted, Ok(CountedRows { clients: 3, operators: 3 }));
    let shares = "SELECT operator || ' ' || actor || ' ' || action || ' ' || size FROM audit_shares";
    let expected = [
        "0 anna mint 1",
        "0 anna revoke_token 1",
        "0 root mint 1",
        "1 ds-gateway key_add 1",
        "1 root revoke_token 1",
        "1 root user_add 1",
    ];
    assert_eq!(rows::<String>(&migrated, shares), expected);
    // Anyone who deletes rows, the counts follow.
    migrated.execute("DELETE FROM audit WHERE actor = 'anna'", []).unwrap();
    let counted = audit_shares::counted(&of(&migrated));
    assert_eq!(counted, Ok(CountedRows { clients: 1, operators: 3 }));
}

fn rows<T: FromSql>(connection: &Connection, query: &str) -> Vec<T> {
    let mut statement = connection.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn an_older_store_is_migrated_and_its_cutoffs_get_their_reasons() {
    let folder = folder();
    let path = folder.path().join("s.db");
    write_schema_1(&path);
    let database = DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap().file;
    let migrated = database.connect().unwrap();
    let mut statement = migrated.prepare("SELECT name, reason FROM marks ORDER BY number").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let rows: Vec<(String, Option<String>)> = rows.map(Result::unwrap).collect();
    let rows: Vec<_> = rows.iter().map(|(name, reason)| (name.as_str(), reason.as_deref())).collect();
    let expected = [
        ("", Some("unknown")),
        ("new", None),
        ("pruned", None),
        ("set", Some("user_set")),
        ("gone", Some("unknown")),
        ("O", Some("revoke_organization")),
        ("off", Some("unknown")),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn an_older_store_is_not_migrated_by_a_command() {
    let folder = folder();
    let path = folder.path().join("s.db");
    write_schema_1(&path);
    let opened = || DatabaseFile::open(&path, Opening::Command, UnixTime(100)).map(drop);
    // Twice, since the first leaves it alone.
    for _ in 0..2 {
        assert_eq!(opened(), Err(StoreError::Older { found: 1, needed: SCHEMA }));
    }
    let tables = rows::<String>(
        &Connection::open(&path).unwrap(),
        "SELECT name FROM sqlite_master WHERE name IN ('clock', 'hours')",
    );
    assert_eq!(tables, [""; 0]);
    DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap();
    assert_eq!(opened(), Ok(()));
}

#[test]
fn what_an_older_store_has_begins_to_age_when_it_is_migrated() {
    let folder = folder();
    let path = folder.path().join("s.db");
    write_schema_1(&path);
    let migrated = DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap().file.connect().unwrap();
    for (table, count) in [("marks", 7), ("revoked_tokens", 2), ("audit", 5)] {
        let lived: Vec<u64> = rows(&migrated, &format!("SELECT lived FROM {table}"));
        assert_eq!(lived, vec![0; count], "{table}");
    }
    assert_eq!(rows::<u64>(&migrated, "SELECT lived FROM hours"), [0]);
    assert_eq!(rows::<u64>(&migrated, "SELECT number FROM hours"), [11]);
    assert_eq!(rows::<Option<String>>(&migrated, "SELECT claimed FROM audit"), vec![None; 5]);
    let StoredTime { lived, expired_below, .. } = time::read(&of(&migrated)).unwrap();
    assert_eq!((lived, expired_below), (Lived(0), 0));
}

#[test]
fn the_floor_of_an_older_store_is_not_after_the_last_thing_that_happened() {
    for (now, has_trail, floor) in [(100, true, 15), (15, true, 15), (14, true, 14), (100, false, 100)] {
        let folder = folder();
        let path = folder.path().join("s.db");
        write_schema_1(&path);
        if !has_trail {
            Connection::open(&path).unwrap().execute("DELETE FROM audit", []).unwrap();
        }
        let database = DatabaseFile::open(&path, Opening::Run, UnixTime(now)).unwrap().file;
        let floor_of = |database: &DatabaseFile| time::read(&of(&database.connect().unwrap())).unwrap().floor;
        assert_eq!(floor_of(&database), UnixTime(floor), "{now} {has_trail}");
        // Only the migration sets it.
        let again = DatabaseFile::open(&path, Opening::Run, UnixTime(now + 1000)).unwrap().file;
        assert_eq!(floor_of(&again), UnixTime(floor));
    }
}

/// A token of the platform's.
fn foreign_token(id: TokenId, user: &str, organization: &str, issued_at: u64) -> Verified {
    let identity = Identity {
        user: Name::parse_user(user).unwrap(),
        email: "e".into(),
        organization: Name::parse(organization).unwrap(),
    };
    Verified {
        id,
        folded_email: None,
        fields: identity.fields().unwrap(),
        identity,
        origin: Origin::Foreign,
        issued_at: UnixTime(issued_at),
        expires_at: UnixTime(issued_at + 1000),
        not_before: None,
        key: Fingerprint([1; 32]),
        generation: 0,
    }
}

#[test]
fn a_migrated_store_refuses_what_it_refused() {
    let folder = folder();
    let path = folder.path().join("s.db");
    write_schema_1(&path);
    let database = DatabaseFile::open(&path, Opening::Run, UnixTime(100)).unwrap().file;
    let mut snapshot = RevocationSnapshot::default();
    Feed::new(database).changes(0, 100).unwrap().apply(&mut snapshot);
    assert_eq!(snapshot.sequence(), 11);
    let other = TokenId([7; 16]);
    let revoked = |first| TokenId([first, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    let skew = TokenRules::DEFAULT.max_skew;
    for (id, user, organization, issued_at, verdict) in [
        // The skew counts against a foreign token: it must be issued after the cutoff by a clock that is ahead.
        (other, "new", "P", 10 + skew, Err(Denial::RevokedUser)),
        (other, "new", "P", 11 + skew, Ok(())),
        (other, "set", "P", 11 + skew, Err(Denial::RevokedUser)),
        (other, "set", "P", 12 + skew, Ok(())),
        (other, "gone", "P", 5000, Err(Denial::RevokedUser)),
        (other, "off", "P", 5000, Err(Denial::RevokedUser)),
        (other, "new", "O", 13 + skew, Err(Denial::RevokedOrganization)),
        (other, "new", "O", 14 + skew, Ok(())),
        (other, "new", "P", 9, Err(Denial::RevokedEverybody)),
        (revoked(0), "new", "P", 5000, Err(Denial::RevokedToken)),
        (revoked(0xff), "set", "P", 5000, Err(Denial::RevokedToken)),
        (other, "unknown", "P", 5000, Err(Denial::UserUnknown)),
    ] {
        let token = foreign_token(id, user, organization, issued_at);
        assert_eq!(
            snapshot.check(&token, &TokenRules::DEFAULT),
            verdict,
            "{user} {organization} {issued_at}"
        );
    }
    let signed = Verified { key: Fingerprint([0; 32]), ..foreign_token(other, "new", "P", 5000) };
    assert_eq!(snapshot.check(&signed, &TokenRules::DEFAULT), Err(Denial::RevokedKey));
}

#[test]
fn a_newer_schema_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("s.db");
    let database = DatabaseFile::create(&path, UnixTime(0)).unwrap();
    database.connect().unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    let error = DatabaseFile::open(&path, Opening::Run, UnixTime(0)).unwrap_err();
    assert_eq!(error, StoreError::Newer { found: SCHEMA + 1, known: SCHEMA });
}

#[test]
fn only_who_is_told_to_checkpoints() {
    for (checkpoints, grows, stays) in [
        (Checkpoints::AtClose, true, false),
        (Checkpoints::After(4), false, false),
        (Checkpoints::Never, true, true),
    ] {
        let folder = folder();
        let path = folder.path().join("s.db");
        let log = folder.path().join("s.db-wal");
        let length = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let database = DatabaseFile::create(&path, UnixTime(0)).unwrap().with(checkpoints);
        let connection = database.connect().unwrap();
        for _ in 0..50 {
            let transaction = connection.unchecked_transaction().unwrap();
            let next = sequence::current(&of(&transaction)).unwrap() + 1;
            sequence::set(&of(&transaction), next).unwrap();
            transaction.commit().unwrap();
        }
        assert_eq!(length() > 30 * 4096, grows, "{checkpoints:?}: {} bytes", length());
        drop(connection);
        assert_eq!(length() > 0, stays, "{checkpoints:?}");
        assert_eq!(sequence::current(&of(&database.connect_to_read().unwrap())), Ok(51));
    }
}

#[test]
fn connection_that_reads_cannot_write() {
    let folder = folder();
    let database = DatabaseFile::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
    let connection = database.connect_to_read().unwrap();
    assert!(sequence::set(&of(&connection), 2).is_err());
    assert_eq!(sequence::current(&of(&connection)), Ok(1));
}

#[test]
fn a_file_that_was_replaced_is_noticed() {
    let folder = folder();
    let path = folder.path().join("s.db");
    let database = DatabaseFile::create(&path, UnixTime(0)).unwrap();
    assert_eq!(database.check_in_place(), Ok(()));
    std::fs::rename(&path, folder.path().join("away.db")).unwrap();
    assert_eq!(database.check_in_place(), Err(StoreError::Replaced));
    DatabaseFile::create(&path, UnixTime(0)).unwrap();
    assert_eq!(database.check_in_place(), Err(StoreError::Replaced));
    std::fs::rename(folder.path().join("away.db"), &path).unwrap();
    assert_eq!(database.check_in_place(), Ok(()));
}

#[test]
fn a_successor_migrates_only_what_the_process_before_can_go_on_with() {
    let migration = |is_additive| Migration { script: "", is_additive };
    let migrations = [false, true, false, true, true].map(migration);
    let allowed: Vec<u32> = (1..=5).filter(|found| are_additive(*found, &migrations)).collect();
    assert_eq!(allowed, [3, 4, 5], "5 is the newest, and needs none");
    let folder = folder();
    let path = folder.path().join("s.db");
    write_schema_1(&path);
    let opened = |opening| DatabaseFile::open(&path, opening, UnixTime(100)).map(drop);
    assert_eq!(opened(Opening::Successor), Err(StoreError::NeedsRestart { found: 1, needed: SCHEMA }));
    let schema = || schema_of(&Connection::open(&path).unwrap()).unwrap();
    assert_eq!(schema(), 1, "nothing was changed");
    assert_eq!(opened(Opening::Run), Ok(()));
    assert_eq!((opened(Opening::Successor), schema()), (Ok(()), SCHEMA));
}
