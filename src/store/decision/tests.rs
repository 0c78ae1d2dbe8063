use super::*;
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::user_source::SourceName;

const NOW: UnixTime = UnixTime(1_800_000_000);

#[test]
fn rows_of_clients_go_until_they_take_half_of_the_room_and_then_those_of_operators() {
    let excess = |clients, operators, room: u64| {
        let command = Prune { age: 0, bytes: room * AUDIT_ROW_BYTES + AUDIT_ROW_BYTES - 1 };
        excess_rows(command, CountedRows { clients, operators })
    };
    for (clients, operators, room, expected) in [
        (0, 0, 0, None),
        (5, 5, 10, None),
        (6, 5, 10, Some((Role::Client, 1))),
        (9, 5, 10, Some((Role::Client, 4))),
        (5, 6, 10, Some((Role::Operator, 1))),
        (0, 11, 10, Some((Role::Operator, 1))),
        (11, 0, 10, Some((Role::Client, 1))),
        // First those beyond the half, then operators'.
        (7, 20, 10, Some((Role::Client, 2))),
        (5, 20, 10, Some((Role::Operator, 15))),
        (3, 20, 11, Some((Role::Operator, 12))),
        (1, 1, 1, Some((Role::Client, 1))),
        (0, 3, 0, Some((Role::Operator, 3))),
    ] {
        assert_eq!(excess(clients, operators, room), expected, "{clients} {operators} {room}");
    }
}

#[test]
fn largest_share_is_cut_until_the_next_one_is_the_largest() {
    for (largest, next, excess, expected) in [(9, 5, 100, 5), (9, 5, 2, 2), (9, 9, 100, 1), (9, 0, 100, 10)] {
        assert_eq!(cut_of_share(largest, next, excess), expected, "{largest} {next} {excess}");
    }
}

/// No command blocks an organization or everybody; if a cutoff said so all the same, a revocation would lift it.
#[test]
fn only_the_cutoff_of_a_user_stays_blocked() {
    let stamp = Stamp { sequence: 9, now: NOW, lived: Lived(7) };
    let previous = |closed| Cutoff {
        sequence: 5,
        time: NOW.plus(100),
        lived: Lived(6),
        blocked: closed,
        revocation: true,
    };
    for (subject, previous, blocked) in [
        (Subject::User("anna".into()), None, false),
        (Subject::User("anna".into()), Some(previous(false)), false),
        (Subject::User("anna".into()), Some(previous(true)), true),
        (Subject::Organization("anna".into()), Some(previous(true)), false),
        (Subject::Everybody, Some(previous(true)), false),
    ] {
        let cutoff = revoke_subject(&subject, previous, stamp);
        assert_eq!((cutoff.sequence, cutoff.blocked), (9, blocked), "{subject:?} {previous:?}");
        assert_eq!(cutoff.time, if previous.is_some() { NOW.plus(100) } else { NOW });
    }
}

#[test]
fn a_change_that_changes_nothing_is_recognised() {
    let organization = |text: &str| Name::parse(text).unwrap();
    let user = |disabled| User {
        identity: Identity {
            user: Name::parse_user("anna").unwrap(),
            email: "a@b".into(),
            organization: organization("Main"),
        },
        source: SourceName::Store,
        disabled,
        credential_version: 1,
        created_at: UnixTime(1),
        updated_at: UnixTime(1),
    };
    let claims = |email: Option<&str>, name: Option<&str>| UserChange::Claims {
        email: email.map(Into::into),
        organization: name.map(organization),
    };
    for (change, disabled, unchanged) in [
        (UserChange::Enable, false, true),
        (UserChange::Enable, true, false),
        (UserChange::Disable, true, true),
        (UserChange::Disable, false, false),
        (claims(Some("a@b"), None), false, true),
        (claims(None, Some("Main")), false, true),
        (claims(Some("a@b"), Some("Main")), true, true),
        (claims(None, None), false, true),
        (claims(Some("A@b"), None), false, false),
        (claims(Some("a@b"), Some("main")), false, false),
        (UserChange::Password(Phc::dummy()), false, false),
        (UserChange::Remove, true, false),
    ] {
        assert_eq!(is_unchanged(&change, &user(disabled)), unchanged, "{change:?} {disabled}");
    }
}
