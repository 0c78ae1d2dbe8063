//! The audit trail: one row for each sequence that a command takes, and what finds it again.

use super::harness::{Fixture, assert_pages, on_every_engine};
use super::samples::{
    START, actor, key_records, mint_for, new_user, organization, organization_subject, phc, revoke_id,
    token_id, user_subject,
};
use crate::auth::name::Name;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::auth::user_source::SourceName;
use crate::store::command::{
    Actor, AddUser, ChangeUser, Deregister, FailedLogins, Heartbeat, NoteFailedLogins, Prune, Purge,
    RecordKeys, Rehash, RepairClock, RequestAcknowledgements, RevokeKey, RevokeSubject, UnlockUser,
    UserChange,
};
use crate::store::records::{AuditFilter, AuditRow, FieldChange};

/// What a command is expected to say of itself: action and subject of each row.
type Told = &'static [(&'static str, &'static str)];

type Case = (fn(&Fixture), Told);

/// Every command that is accepted with a row in the trail, in an order in which each is.
fn commands() -> Vec<Case> {
    fn change(fixture: &Fixture, change: UserChange) {
        fixture.execute(ChangeUser { name: "anna".into(), change });
    }
    vec![
        (|it| _ = it.execute(AddUser { user: new_user("anna") }), &[("user_add", "anna")]),
        (|it| it.import_new(&["bert", "cleo"]), &[("user_add", "bert"), ("user_add", "cleo")]),
        (
            |it| {
                let to = Some(organization("Other"));
                change(it, UserChange::Claims { email: None, organization: to });
            },
            &[("user_set", "anna")],
        ),
        (|it| change(it, UserChange::Password(phc(1))), &[("user_passwd", "anna")]),
        (|it| change(it, UserChange::Disable), &[("user_disable", "anna")]),
        (|it| change(it, UserChange::Enable), &[("user_enable", "anna")]),
        (|it| _ = it.execute(UnlockUser { name: "bert".into() }), &[("user_unlock", "bert")]),
        (|it| _ = it.execute(mint_for(it.user("anna"))), &[("mint", "anna")]),
        (|it| _ = it.execute(revoke_id(1, START, Some("anna"))), &[("revoke_token", "anna")]),
        (|it| _ = it.execute(revoke_id(2, START, None)), &[("revoke_token", "")]),
        (|it| _ = it.revoke(user_subject("bert")), &[("revoke_user", "bert")]),
        (|it| _ = it.revoke(organization_subject("Other")), &[("revoke_organization", "Other")]),
        (|it| _ = it.revoke(Subject::Everybody), &[("revoke_all", "everybody")]),
        (
            |it| _ = it.execute(RecordKeys { keys: key_records(&[("a", 1), ("b", 2)]) }),
            &[("key_add", "a"), ("key_add", "b")],
        ),
        (
            |it| _ = it.execute(RevokeKey { kid: "a".into(), successors: key_records(&[("c", 3)]) }),
            &[("key_add", "c"), ("revoke_key", "a")],
        ),
        (|it| _ = it.execute(RepairClock), &[("repair_clock", "everybody")]),
        (|it| change(it, UserChange::Remove), &[("user_remove", "anna")]),
    ]
}

#[test]
fn accepted_command_takes_one_sequence_for_each_row_it_writes() {
    on_every_engine(|fixture| {
        for (time, (execute, told)) in (START + 1..).zip(commands()) {
            fixture.set_time(time);
            let (sequence, rows) = (fixture.sequence(), fixture.audit());
            execute(&fixture);
            let mut audit = fixture.audit();
            let new = audit.split_off(rows.len());
            assert_eq!(audit, rows, "{told:?}");
            let found: Vec<_> = new.iter().map(|row| (row.action.as_str(), row.subject.as_str())).collect();
            assert_eq!(found, told);
            assert_eq!(fixture.sequence(), sequence + told.len() as u64, "{told:?}");
            for (row, expected) in new.iter().zip(sequence + 1..) {
                let said = (row.sequence, row.at, row.actor.as_str(), row.origin.as_str(), row.count);
                assert_eq!(said, (expected, UnixTime(time), "operator", "command line", 1), "{told:?}");
                let is_of_token = ["mint", "revoke_token"].contains(&row.action.as_str());
                assert_eq!(row.token_id.is_some(), is_of_token, "{told:?}");
            }
        }
    });
}

#[test]
fn row_names_the_token_that_it_is_about() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let token = fixture.mint("anna");
        assert_eq!(fixture.audit().last().unwrap().token_id, Some(token.id.to_string()));
        fixture.execute(revoke_id(5, START, None));
        assert_eq!(fixture.audit().last().unwrap().token_id, Some(token_id(5).to_string()));
    });
}

#[test]
fn row_of_changed_claims_says_what_each_was_and_is() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let changed = |field: &str, from: &str, to: &str| FieldChange {
            field: field.into(),
            from: from.into(),
            to: to.into(),
        };
        let claims = |email: Option<&str>, to: Option<&str>| UserChange::Claims {
            email: email.map(Into::into),
            organization: to.map(organization),
        };
        for (change, expected) in [
            (claims(Some("a@b.example"), None), vec![changed("email", "anna@example.com", "a@b.example")]),
            (claims(None, Some("Other")), vec![changed("organization", "Main Org.", "Other")]),
            // What is given and was so already is not changed.
            (claims(Some("a@b.example"), Some("\"x\"")), vec![changed("organization", "Other", "\"x\"")]),
            (
                claims(Some("c@d.example"), Some("O")),
                vec![changed("email", "a@b.example", "c@d.example"), changed("organization", "\"x\"", "O")],
            ),
            (UserChange::Password(phc(1)), vec![]),
            (UserChange::Disable, vec![]),
        ] {
            fixture.change("anna", change);
            assert_eq!(fixture.audit().pop().unwrap().changes, expected);
        }
        let imported = crate::store::command::ImportedUser { user: new_user("anna"), disabled: None };
        fixture.import(vec![imported], true);
        let rows = fixture.audit();
        let row = rows.iter().rfind(|row| row.action == "user_set").unwrap();
        assert_eq!(row.changes.len(), 2, "an import changes as a command does: {row:?}");
    });
}

#[test]
fn row_names_the_actor_and_its_origin() {
    on_every_engine(|fixture| {
        let actor = Actor::client("zoë", "2001:db8::7");
        fixture.wait(fixture.store.execute(RevokeSubject { subject: Subject::Everybody }, actor));
        let row = fixture.audit().pop().unwrap();
        assert_eq!((row.actor.as_str(), row.origin.as_str(), row.claimed), ("zoë", "2001:db8::7", None));
    });
}

#[test]
fn row_names_whom_its_actor_claims_to_act_for_beside_the_actor() {
    on_every_engine(|fixture| {
        let claiming = actor().claiming(Some("zoë".into()));
        fixture.wait(fixture.store.execute(RevokeSubject { subject: Subject::Everybody }, claiming));
        let row = fixture.audit().pop().unwrap();
        assert_eq!((row.actor.as_str(), row.claimed.as_deref()), ("operator", Some("zoë")));
        // It is found by either name.
        for user in ["operator", "zoë"] {
            let found = fixture.wait(fixture.store.audit(filter(Some(user), 0), 0, 9));
            assert_eq!(found, std::slice::from_ref(&row), "{user}");
        }
    });
}

#[test]
fn upkeep_takes_no_sequence_and_writes_no_row() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let (sequence, rows) = (fixture.sequence(), fixture.audit());
        let user = Name::parse_user("anna").unwrap();
        fixture.execute(Rehash { user, credential_version: sequence, phc: phc(1) });
        fixture.execute(Heartbeat { gateway: "g".into(), applied: 1, lease: 12, keys: vec![] });
        fixture.execute(RequestAcknowledgements);
        fixture.execute(Deregister { gateway: "g".into() });
        fixture.execute(Purge { retention: 0 });
        fixture.execute(Prune { age: 1000, bytes: u64::MAX });
        assert_eq!((fixture.sequence(), fixture.audit()), (sequence, rows));
    });
}

fn failed(subject: &str, origin: &str, count: u32) -> FailedLogins {
    FailedLogins { subject: subject.into(), origin: origin.into(), source: SourceName::Store, count }
}

#[test]
fn failed_logins_are_written_under_their_own_account_and_origin_without_a_sequence() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let sequence = fixture.sequence();
        fixture.set_time(START + 30);
        let failures = vec![failed("anna", "192.0.2.0/24", 3), failed("unknown", "elsewhere", u32::MAX)];
        fixture.execute(NoteFailedLogins { failures });
        let row = |id, subject: &str, origin: &str, count| AuditRow {
            id,
            sequence,
            at: UnixTime(START + 30),
            actor: subject.into(),
            claimed: None,
            action: "login_failed".into(),
            subject: subject.into(),
            token_id: None,
            origin: origin.into(),
            count,
            changes: vec![],
        };
        let new = fixture.audit().split_off(1);
        let expected =
            [row(new[0].id, "anna", "192.0.2.0/24", 3), row(new[1].id, "unknown", "elsewhere", u32::MAX)];
        assert_eq!(new, expected);
        assert_eq!(fixture.sequence(), sequence);
        fixture.unchanged(|| fixture.execute(NoteFailedLogins { failures: vec![] }));
    });
}

/// A trail of some users' and of several times.
fn write_trail(fixture: &Fixture) {
    for (time, user) in [(10, "anna"), (20, "bert"), (30, "cleo")] {
        fixture.set_time(START + time);
        fixture.add(user);
    }
    fixture.set_time(START + 40);
    let by_anna = RevokeSubject { subject: user_subject("bert") };
    fixture.wait(fixture.store.execute(by_anna, Actor::operator("anna", "test")));
    fixture.execute(NoteFailedLogins { failures: vec![failed("anna", "elsewhere", 2); 3] });
    fixture.set_time(START + 50);
    fixture.execute(revoke_id(1, START, Some("anna")));
    fixture.change("bert", UserChange::Remove);
}

fn filter(user: Option<&str>, since: u64) -> AuditFilter {
    AuditFilter { user: user.map(Into::into), since: UnixTime(since), failed_logins: false }
}

#[test]
fn trail_is_filtered_by_user_and_time() {
    on_every_engine(|fixture| {
        write_trail(&fixture);
        for (user, since, times) in [
            (None, 0, &[10, 20, 30, 40, 40, 40, 40, 50, 50][..]),
            // The second itself counts.
            (None, START + 30, &[30, 40, 40, 40, 40, 50, 50]),
            (None, START + 31, &[40, 40, 40, 40, 50, 50]),
            (None, START + 51, &[]),
            // What was done to a user, and what it did.
            (Some("anna"), 0, &[10, 40, 40, 40, 40, 50]),
            (Some("bert"), 0, &[20, 40, 50]),
            (Some("bert"), START + 40, &[40, 50]),
            (Some(&actor().name), 0, &[10, 20, 30, 50, 50]),
            (Some("ANNA"), 0, &[]),
            (Some("%"), 0, &[]),
            (Some(""), 0, &[]),
        ] {
            let rows = assert_pages(|last: Option<&AuditRow>, limit| {
                let after = last.map_or(0, |row| row.id);
                fixture.wait(fixture.store.audit(filter(user, since), after, limit))
            });
            let found: Vec<u64> = rows.iter().map(|row| row.at.0 - START).collect();
            assert_eq!(found, times, "{user:?} {since}");
            assert!(rows.is_sorted_by(|one, next| one.id < next.id));
        }
    });
}

#[test]
fn failed_logins_are_listed_alone_and_with_every_other_filter() {
    on_every_engine(|fixture| {
        write_trail(&fixture);
        fixture.execute(NoteFailedLogins { failures: vec![failed("bert", "192.0.2.0/24", 9)] });
        // Of a user whose name is the action's.
        fixture.add("login_failed");
        for (user, since, counts) in [
            (None, 0, &[2, 2, 2, 9][..]),
            (None, START + 41, &[9]),
            (None, START + 51, &[]),
            (Some("anna"), 0, &[2, 2, 2]),
            (Some("bert"), 0, &[9]),
            (Some("anna"), START + 41, &[]),
            (Some("cleo"), 0, &[]),
            (Some("login_failed"), 0, &[]),
        ] {
            let filter = AuditFilter { failed_logins: true, ..filter(user, since) };
            let rows = assert_pages(|last: Option<&AuditRow>, limit| {
                let after = last.map_or(0, |row| row.id);
                fixture.wait(fixture.store.audit(filter.clone(), after, limit))
            });
            let found: Vec<u32> = rows.iter().map(|row| row.count).collect();
            assert_eq!(found, counts, "{user:?} {since}");
            assert!(rows.iter().all(|row| row.action == "login_failed"));
        }
    });
}

#[test]
fn row_tells_the_time_of_the_clock_though_it_went_back() {
    on_every_engine(|fixture| {
        for time in [100, 50, 70] {
            fixture.set_time(START + time);
            fixture.add(&format!("user {time}"));
        }
        let times: Vec<u64> = fixture.audit().iter().map(|row| row.at.0 - START).collect();
        assert_eq!(times, [100, 50, 70]);
    });
}
