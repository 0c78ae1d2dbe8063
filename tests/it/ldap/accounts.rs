//! Accounts that may not be used.

use super::fake::{BIND, Fake, Reply, SEARCH, anna, result};
use super::people::PASSWORD;
use super::slapd::Slapd;
use super::users::{Keys, SERVICE_PASSWORD, accepted};
use ds_gateway::service::login::source::{Answer, Presence, Refused, Unavailable};

#[test]
fn a_closed_account_is_refused_before_its_password_is_sent() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).users(slapd.folder());
    for name in ["disabled", "expired", "ipa.locked", "locked.for.good"] {
        assert_eq!(users.login(name, PASSWORD), Answer::Refused(Refused::Account), "{name}");
        assert_eq!(users.find(name), Some(Presence::Gone), "{name}");
    }
    assert_eq!(slapd.binds("uid="), 0);
    accepted(users.login("enabled", PASSWORD));
    assert_eq!(slapd.binds("uid=enabled,"), 1);
}

#[test]
fn an_account_that_slapd_locks_out_is_refused_and_stays_present() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).users(slapd.folder());
    accepted(users.login("victim", PASSWORD));
    for _ in 0..3 {
        assert_eq!(users.login("victim", "wrong"), Answer::Refused(Refused::Password));
    }
    assert_eq!(users.login("victim", PASSWORD), Answer::Refused(Refused::Account));
    assert!(matches!(users.find("victim"), Some(Presence::Present(_))));
}

/// The directory counts each try: there is one for each login, whatever else the client may have meant.
#[test]
fn a_password_is_tried_once() {
    let fake = Fake::start(|request| match request.tag {
        BIND if request.contains(SERVICE_PASSWORD) => Reply::Bytes(result(request.id, 0x61, 0, "")),
        BIND => Reply::Bytes(result(request.id, 0x61, 49, "")),
        _ => Reply::Bytes(anna(request.id)),
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let users = Keys::search(&[&fake.url()]).users(dir.path());
    let mut credentials = super::users::credentials("anna", "wr\u{f6}ng");
    credentials.variants.push(ds_gateway::auth::secret::Secret::new("wro\u{308}ng".into()));
    use ds_gateway::service::login::source::UserSource as _;
    let answer = users.runtime.block_on(users.source.authenticate(&credentials));
    assert_eq!(answer, Answer::Refused(Refused::Password));
    let tried = |request: &&super::fake::Request| request.tag == BIND && !request.contains(SERVICE_PASSWORD);
    let requests = fake.requests();
    let tries: Vec<_> = requests.iter().filter(tried).collect();
    assert!(tries.len() == 1 && tries[0].contains("wr\u{f6}ng"), "{tries:?}");
}

#[test]
fn the_sub_codes_of_active_directory_tell_a_password_from_an_account() {
    for (data, expected) in [
        ("52e", Refused::Password),
        ("525", Refused::Account),
        ("532", Refused::Account),
        ("533", Refused::Account),
        ("701", Refused::Account),
        ("773", Refused::Account),
        ("775", Refused::Account),
    ] {
        let fake = Fake::start(move |request| match request.tag {
            BIND if request.contains(SERVICE_PASSWORD) => Reply::Bytes(result(request.id, 0x61, 0, "")),
            BIND => {
                let text = format!(
                    "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data {data}, v4563\0"
                );
                Reply::Bytes(result(request.id, 0x61, 49, &text))
            }
            SEARCH => Reply::Bytes(anna(request.id)),
            _ => Reply::Close,
        });
        let dir = tempfile::tempdir().expect("a temporary folder");
        let users = Keys::search(&[&fake.url()]).set("preset", "\"active-directory\"").users(dir.path());
        assert_eq!(users.login("anna", PASSWORD), Answer::Refused(expected), "{data}");
    }
}

#[test]
fn an_error_of_the_directory_is_no_verdict_on_a_password() {
    for code in [1, 2, 8, 10, 14, 34, 51, 52, 80] {
        let fake = Fake::start(move |request| match request.tag {
            BIND if request.contains(SERVICE_PASSWORD) => Reply::Bytes(result(request.id, 0x61, 0, "")),
            BIND => Reply::Bytes(result(request.id, 0x61, code, "")),
            _ => Reply::Bytes(anna(request.id)),
        });
        let dir = tempfile::tempdir().expect("a temporary folder");
        let users = Keys::search(&[&fake.url()]).users(dir.path());
        assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(Unavailable::Invalid), "{code}");
    }
}
