//! Who is let in, and as whom.

use super::fake::Fake;
use super::people::PASSWORD;
use super::slapd::{Setup, Slapd};
use super::users::{Keys, accepted};
use ds_gateway::service::login::source::{Answer, Presence, Refused, Unavailable};

fn who(user: &str, email: &str, organization: &str) -> (String, String, String) {
    (user.into(), email.into(), organization.into())
}

#[test]
fn a_right_password_gives_the_identity_of_the_directory() {
    let slapd = Slapd::start();
    for url in [slapd.ldap(), slapd.unix()] {
        let users = Keys::search(&[&url]).users(slapd.folder());
        for (typed, user, email) in [
            ("anna", "anna", "anna@example.com"),
            ("ANNA", "anna", "anna@example.com"),
            ("bert", "Bert", "Bert@example.com"),
            // The directory has it in another normalization form.
            ("Zo\u{eb}", "Zo\u{eb}", "Zoe@example.com"),
            ("enabled", "enabled", "enabled@example.com"),
            ("ipa.open", "ipa.open", "ipaopen@example.com"),
            // Of several addresses the first.
            ("many.mails", "many.mails", "manymails@example.com"),
        ] {
            assert_eq!(accepted(users.login(typed, PASSWORD)), who(user, email, "Main Org."), "{typed}");
            assert!(
                matches!(users.find(typed), Some(Presence::Present(found)) if found.user.as_str() == user),
                "{typed}"
            );
        }
    }
}

#[test]
fn a_wrong_password_is_told_from_an_unknown_name() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).users(slapd.folder());
    assert_eq!(users.login("anna", "wrong"), Answer::Refused(Refused::Password));
    assert_eq!(users.login("anna", &format!("{PASSWORD}x")), Answer::Refused(Refused::Password));
    assert_eq!(users.login("nobody", PASSWORD), Answer::Unknown);
    assert_eq!(users.find("nobody"), Some(Presence::Gone));
    // Somebody who is there, and not below the base.
    assert_eq!(users.login("gateway", PASSWORD), Answer::Unknown);
    accepted(users.login("anna", PASSWORD));
}

#[test]
fn a_name_that_several_entries_have_is_nobodys() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).users(slapd.folder());
    assert_eq!(users.login("twin", PASSWORD), Answer::Refused(Refused::Identity));
    assert_eq!(users.find("twin"), Some(Presence::Gone));
    let below = Keys::search(&[&slapd.ldap()]).set("base", "\"ou=guests,ou=people,dc=example,dc=com\"");
    accepted(below.users(slapd.folder()).login("twin", PASSWORD));
    // Many more than two.
    let everybody =
        Keys::search(&[&slapd.ldap()]).set("filter", "\"(|(uid={user})(objectClass=inetOrgPerson))\"");
    assert_eq!(everybody.users(slapd.folder()).login("anna", PASSWORD), Answer::Refused(Refused::Identity));
}

#[test]
fn a_name_is_the_one_that_was_typed_or_nobodys() {
    let slapd = Slapd::start();
    let keys = Keys::search(&[&slapd.ldap()]).set("filter", "\"(|(uid={user})(mail={user}))\"");
    let users = keys.users(slapd.folder());
    accepted(users.login("anna", PASSWORD));
    assert_eq!(users.login("anna@example.com", PASSWORD), Answer::Refused(Refused::Identity));
    // Two names for one account.
    assert_eq!(users.login("alias", PASSWORD), Answer::Refused(Refused::Identity));
    assert_eq!(users.login("second", PASSWORD), Answer::Refused(Refused::Identity));
    let by_mail = keys.set("user_attribute", "\"mail\"").users(slapd.folder());
    let expected = who("anna@example.com", "anna@example.com", "Main Org.");
    assert_eq!(accepted(by_mail.login("Anna@example.com", PASSWORD)), expected);
}

#[test]
fn an_entry_without_what_a_token_carries_lets_nobody_in() {
    let slapd = Slapd::start();
    let by_attribute =
        Keys::search(&[&slapd.ldap()]).unset("organization").set("organization_attribute", "\"o\"");
    let users = by_attribute.users(slapd.folder());
    assert_eq!(accepted(users.login("anna", PASSWORD)), who("anna", "anna@example.com", "Annas Org."));
    for name in ["no.mail", "no.org", "two.orgs", "bad.org"] {
        assert_eq!(users.login(name, PASSWORD), Answer::Refused(Refused::Identity), "{name}");
        assert_eq!(users.find(name), Some(Presence::Gone), "{name}");
    }
    let with_others = by_attribute.clone().set("organization", "\"Main Org.\"").users(slapd.folder());
    assert_eq!(accepted(with_others.login("no.org", PASSWORD)).2, "Main Org.");
    // Which of the two it is, nobody can say.
    assert_eq!(with_others.login("two.orgs", PASSWORD), Answer::Refused(Refused::Identity));
    let other_mail = Keys::search(&[&slapd.ldap()]).set("email_attribute", "\"o\"").users(slapd.folder());
    assert_eq!(accepted(other_mail.login("anna", PASSWORD)).1, "Annas Org.");
}

#[test]
fn an_empty_password_never_leaves_the_gateway() {
    // A slapd that takes a name without a password for an anonymous login, and says that all is well.
    let lenient = Slapd::with(Setup { lines: "allow bind_anon_cred", ..Setup::default() });
    let users = Keys::search(&[&lenient.ldap()]).users(lenient.folder());
    assert_eq!(users.login("anna", ""), Answer::Refused(Refused::Password));
    accepted(users.login("anna", PASSWORD));
    let direct = Keys::direct(&[&lenient.ldap()]).users(lenient.folder());
    assert_eq!(direct.login("anna", ""), Answer::Refused(Refused::Password));

    let fake = Fake::searching(|request| super::fake::anna(request.id));
    let users = Keys::search(&[&fake.url()]).users(lenient.folder());
    assert_eq!(users.login("anna", ""), Answer::Refused(Refused::Password));
    assert_eq!(fake.connections(), 0);
}

#[test]
fn a_directory_that_refuses_the_gateways_own_account_is_unavailable() {
    let slapd = Slapd::start();
    for (key, value) in [
        ("bind_dn", "\"cn=nobody,ou=services,dc=example,dc=com\""),
        ("bind_dn", "\"not a name\""),
        ("base", "\"ou=nowhere,dc=example,dc=com\""),
    ] {
        let users = Keys::search(&[&slapd.ldap()]).set(key, value).users(slapd.folder());
        let expected = Unavailable::Invalid;
        assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(expected), "{value}");
        assert_eq!(users.find("anna"), Some(Presence::Unavailable(expected)), "{value}");
    }
}

#[test]
fn a_referral_is_never_followed_and_never_an_unknown_name() {
    let slapd = Slapd::start();
    let keys = Keys::search(&[&slapd.ldap()]);
    let users = keys.clone().set("base", "\"ou=branch,dc=example,dc=com\"").users(slapd.folder());
    assert_eq!(accepted(users.login("local", PASSWORD)).0, "local");
    // Who is not found here may be there.
    assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(Unavailable::Invalid));
    assert_eq!(users.find("anna"), Some(Presence::Unavailable(Unavailable::Invalid)));
    accepted(users.login("local", PASSWORD));
    let all = keys.set("base", "\"ou=elsewhere,ou=branch,dc=example,dc=com\"").users(slapd.folder());
    assert_eq!(all.login("anna", PASSWORD), Answer::Unavailable(Unavailable::Invalid));
}

#[test]
fn the_account_that_refused_the_gateway_is_not_locked_by_trying_again() {
    use super::fake::{BIND, Reply, result};
    let fake = Fake::start(|request| match request.tag {
        BIND => Reply::Bytes(result(request.id, 0x61, 49, "")),
        _ => Reply::Close,
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let users = Keys::search(&[&fake.url()]).users(dir.path());
    for _ in 0..5 {
        assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(Unavailable::Invalid));
    }
    assert_eq!(fake.requests().len(), 1);
}
