//! Binds as the user, where every user is at one place.

use super::people::PASSWORD;
use super::slapd::Slapd;
use super::users::{Keys, accepted};
use ds_gateway::service::login::source::{Answer, Refused};

#[test]
fn a_user_binds_and_reads_the_own_entry() {
    let slapd = Slapd::start();
    let users = Keys::direct(&[&slapd.ldap()]).users(slapd.folder());
    let expected = ("anna".into(), "anna@example.com".into(), "Main Org.".into());
    assert_eq!(accepted(users.login("Anna", PASSWORD)), expected);
    assert_eq!(accepted(users.login("bert", PASSWORD)).0, "Bert");
    // Which of the two it is, slapd does not say.
    assert_eq!(users.login("anna", "wrong"), Answer::Refused(Refused::Password));
    assert_eq!(users.login("nobody", PASSWORD), Answer::Refused(Refused::Password));
    assert_eq!(users.find("anna"), None);
}

#[test]
fn the_rules_of_accounts_hold_for_those_who_bind_too() {
    let slapd = Slapd::start();
    let users = Keys::direct(&[&slapd.ldap()]).users(slapd.folder());
    for name in ["disabled", "expired", "ipa.locked"] {
        assert_eq!(users.login(name, PASSWORD), Answer::Refused(Refused::Account), "{name}");
    }
    for name in ["no.mail", "alias"] {
        assert_eq!(users.login(name, PASSWORD), Answer::Refused(Refused::Identity), "{name}");
    }
    let staff = Keys::direct(&[&slapd.ldap()])
        .set("required_group", "\"cn=staff,ou=groups,dc=example,dc=com\"")
        .set("member_of_attribute", "\"memberOf\"");
    let users = staff.users(slapd.folder());
    accepted(users.login("anna", PASSWORD));
    assert_eq!(users.login("bert", PASSWORD), Answer::Refused(Refused::Account));
}
