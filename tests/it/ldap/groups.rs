//! The required group, and organizations by group.

use super::fake::{Fake, SEARCH, anna, entry, result};
use super::people::PASSWORD;
use super::slapd::Slapd;
use super::users::{Keys, accepted};
use ds_gateway::service::login::source::{Answer, Presence, Refused};

fn group(name: &str) -> String {
    format!("\"cn={name},ou=groups,dc=example,dc=com\"")
}

#[test]
fn only_members_of_the_required_group_log_in() {
    let slapd = Slapd::start();
    for (key, attribute) in [("member_attribute", "\"member\""), ("member_of_attribute", "\"memberOf\"")] {
        let keys = Keys::search(&[&slapd.ldap()]).set(key, attribute);
        let users = keys.clone().set("required_group", group("staff")).users(slapd.folder());
        accepted(users.login("anna", PASSWORD));
        assert!(matches!(users.find("anna"), Some(Presence::Present(_))));
        assert_eq!(users.login("bert", PASSWORD), Answer::Refused(Refused::Account), "{key}");
        assert_eq!(users.find("bert"), Some(Presence::Gone), "{key}");
        assert_eq!(users.login("nobody", PASSWORD), Answer::Unknown, "{key}");
        // As it may be written as well.
        let written = "\"CN=Staff, OU=groups,dc=example,dc=com\"";
        let users = keys.clone().set("required_group", written).users(slapd.folder());
        accepted(users.login("anna", PASSWORD));
        for other in [group("outer"), group("empty"), group("nowhere")] {
            let users = keys.clone().set("required_group", &other).users(slapd.folder());
            assert_eq!(users.login("anna", PASSWORD), Answer::Refused(Refused::Account), "{key} {other}");
        }
    }
}

#[test]
fn nobody_tries_a_password_who_is_not_in_the_group() {
    let fake = Fake::searching(|request| match request.contains("memberOf") {
        true => result(request.id, 0x65, 0, ""),
        false => anna(request.id),
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let keys = Keys::search(&[&fake.url()]).set("member_of_attribute", "\"memberOf\"");
    let users = keys.set("required_group", group("staff")).users(dir.path());
    assert_eq!(users.login("anna", PASSWORD), Answer::Refused(Refused::Account));
    fake.never_saw(PASSWORD);
}

#[test]
fn the_first_group_gives_the_organization() {
    let slapd = Slapd::start();
    let keys = Keys::search(&[&slapd.ldap()]).unset("organization");
    let pairs = |pairs: &[(&str, &str)]| {
        let pair = |(name, organization): &(&str, &str)| {
            format!("{{ group = {}, organization = {organization:?} }}", group(name))
        };
        format!("[{}]", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
    };
    let all = pairs(&[("empty", "Empty"), ("staff", "Staff"), ("outer", "Outer")]);
    let users = keys.clone().set("organization_groups", &all).users(slapd.folder());
    assert_eq!(accepted(users.login("anna", PASSWORD)).2, "Staff");
    assert_eq!(users.login("bert", PASSWORD), Answer::Refused(Refused::Identity));
    let with_others = keys
        .set("organization_groups", &all)
        .set("organization_attribute", "\"o\"")
        .set("organization", "\"All others\"");
    let users = with_others.users(slapd.folder());
    assert_eq!(accepted(users.login("anna", PASSWORD)).2, "Staff");
    assert_eq!(accepted(users.login("bert", PASSWORD)).2, "All others");
}

/// slapd does not have the rule of Active Directory: what is sent is looked at.
#[test]
fn nested_groups_are_asked_for_by_the_rule_of_active_directory() {
    let rule = "1.2.840.113556.1.4.1941";
    let fake = Fake::searching(move |request| match (request.contains(rule), request.contains("memberOf")) {
        (true, _) => [entry(request.id, "cn=anna,dc=x", &[]), result(request.id, 0x65, 0, "")].concat(),
        (false, true) => result(request.id, 0x65, 0, ""),
        (false, false) => anna(request.id),
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let keys = Keys::search(&[&fake.url()])
        .set("preset", "\"active-directory\"")
        .set("required_group", group("outer"));
    accepted(keys.users(dir.path()).login("anna", PASSWORD));
    let searches: Vec<_> = fake.requests().into_iter().filter(|request| request.tag == SEARCH).collect();
    let [first, second] = searches.as_slice() else { panic!("{searches:?}") };
    assert!(first.contains("sAMAccountName") && first.contains("objectCategory"), "{first:?}");
    assert!(
        second.contains("memberOf") && second.contains("cn=outer,ou=groups,dc=example,dc=com"),
        "{second:?}"
    );
    assert!(second.contains(rule) && !first.contains(rule), "{searches:?}");
    // The base is the user.
    assert!(second.contains("cn=anna,dc=x"), "{second:?}");
    // Active Directory is asked not to refer to its other parts.
    assert!(searches.iter().all(|request| request.contains("1.2.840.113556.1.4.1339")), "{searches:?}");
}

#[test]
fn groups_in_groups_do_not_count_where_they_should_not() {
    let fake = Fake::searching(|request| match request.contains("memberOf") {
        true => result(request.id, 0x65, 0, ""),
        false => anna(request.id),
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let keys =
        Keys::search(&[&fake.url()]).set("preset", "\"active-directory\"").set("nested_groups", "false");
    let users = keys.set("required_group", group("outer")).users(dir.path());
    assert_eq!(users.login("anna", PASSWORD), Answer::Refused(Refused::Account));
    assert!(!fake.requests().iter().any(|request| request.contains("1.2.840.113556.1.4.1941")));
}
