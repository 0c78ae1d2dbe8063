//! A check of everything in a store.

use super::harness::{ENGINES, Fixture, on_every_engine};
use super::logins::{mint_from, source};
use super::samples::{DAY, START};
use crate::config::StorePlace;
use crate::store::command::{Prune, UnlockUser};
use crate::store::inspection::{Finding, Inspection};
use crate::store::postgres::test_server::TestServer;

fn inspect(fixture: &Fixture) -> Inspection {
    fixture.wait(fixture.store.inspect(|_| {}))
}

fn fill(fixture: &Fixture) {
    fixture.fill();
    mint_from(fixture, "anna", source(7));
    fixture.execute(UnlockUser { name: "dora".into() });
    fixture.add("grün");
    fixture.set_time(START + 3 * 3600);
    while fixture.execute(Prune { age: 100 * DAY, bytes: u64::MAX }) > 0 {}
}

#[test]
fn store_that_nobody_else_wrote_is_sound() {
    on_every_engine(|fixture| {
        assert!(inspect(&fixture).is_sound(), "a new one");
        fill(&fixture);
        let found = fixture.unchanged(|| inspect(&fixture));
        assert!(found.is_sound(), "{found:?}");
        assert!(found.findings.len() > 12 && found.tables.contains(&("users", 4)), "{found:?}");
    });
}

#[test]
fn row_that_breaks_a_rule_is_found_and_its_value_not_shown() {
    for (sql, rule) in [
        ("INSERT INTO sequence VALUES (1, 1, 0)", ""),
        ("DELETE FROM clock", "one clock"),
        ("DELETE FROM audit_counted", "one count of the audit trail"),
        ("DELETE FROM marks WHERE kind = 'everybody'", "a cutoff on everybody"),
        ("UPDATE users SET number = 1000000", "no number above the sequence"),
        ("UPDATE marks SET lived = 1000000", "no time that the store has not lived"),
        ("UPDATE revocation_counts SET tokens = 9", "the count of each user's revoked tokens"),
        ("DELETE FROM revocation_counts", "the count of each user's revoked tokens"),
        ("UPDATE audit_shares SET size = size + 1", "the size of each share of the audit trail"),
        ("UPDATE audit_counted SET clients = clients + 1", "the size of the audit trail"),
        ("DELETE FROM skeletons WHERE name = 'anna'", "what each user's name looks like"),
        ("UPDATE revoked_tokens SET token_id = '\\x00'", "a token id has 16 bytes"),
        ("UPDATE keys SET fingerprint = '\\x00' WHERE kid = 'a'", "a key's fingerprint has 32 bytes"),
        (
            "UPDATE users SET phc = 'canary' WHERE name = 'anna'",
            "every user and its password hash can be read",
        ),
    ] {
        let fixture = Fixture::new((ENGINES[1].1)());
        fill(&fixture);
        let StorePlace::Postgres(settings) = fixture.place.named() else { panic!("not PostgreSQL") };
        let broken = TestServer::shared().try_psql(&settings.database, sql);
        if rule.is_empty() {
            // The schema itself keeps this one.
            broken.unwrap_err();
            continue;
        }
        broken.unwrap();
        let found = inspect(&fixture);
        let is_found = |finding: &Finding| finding.rule == rule && finding.fault.is_some();
        assert!(found.findings.iter().any(is_found), "{sql}: {found:?}");
        assert!(!format!("{found:?}").contains("canary"), "{found:?}");
    }
}
