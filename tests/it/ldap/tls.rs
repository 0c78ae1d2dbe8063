//! A server is believed only with a certificate that can be checked, and told nothing before.

use super::fake::{EXTENDED, Fake, Reply, result};
use super::people::PASSWORD;
use super::slapd::{Setup, Slapd};
use super::users::{Keys, accepted};
use ds_gateway::service::login::source::{Answer, Unavailable};

const UNREACHABLE: Answer = Answer::Unavailable(Unavailable::Unreachable);

/// Over TLS from the first byte, and over StartTLS.
fn both(slapd: &Slapd) -> [Keys; 2] {
    let ca = slapd.file("ca.pem");
    [
        Keys::search(&[&slapd.ldaps()]).set("ca_file", &ca),
        Keys::search(&[&slapd.ldap()]).set("starttls", "true").set("ca_file", &ca),
    ]
}

#[test]
fn a_server_is_believed_only_with_a_certificate_that_can_be_checked() {
    let slapd = Slapd::start();
    for keys in both(&slapd) {
        accepted(keys.users(slapd.folder()).login("anna", PASSWORD));
        let named = |name: &str| keys.clone().set("server_name", format!("{name:?}"));
        accepted(named("directory.test").users(slapd.folder()).login("anna", PASSWORD));
        accepted(named("127.0.0.1").users(slapd.folder()).login("anna", PASSWORD));
    }
    assert_eq!(slapd.binds("uid=anna,"), 6);
    for keys in both(&slapd) {
        for (what, keys) in [
            ("another CA", keys.clone().set("ca_file", slapd.file("other.pem"))),
            ("no CA but the system's", keys.clone().unset("ca_file")),
            ("another name", keys.clone().set("server_name", "\"elsewhere.test\"")),
            ("another address", keys.clone().set("server_name", "\"127.0.0.9\"")),
        ] {
            let users = keys.users(slapd.folder());
            assert_eq!(users.login("anna", PASSWORD), UNREACHABLE, "{what}");
        }
        let careless = keys.set("ca_file", slapd.file("other.pem")).set("verify", "false");
        accepted(careless.users(slapd.folder()).login("anna", PASSWORD));
    }
    // Once for each that does not verify.
    assert_eq!(slapd.binds("uid=anna,"), 8);
    assert_eq!(slapd.binds("cn=gateway,"), 8);
}

#[test]
fn a_certificate_for_another_name_or_that_has_expired_is_refused() {
    for certificate in ["elsewhere", "expired"] {
        let slapd = Slapd::with(Setup { certificate, ..Setup::default() });
        for keys in both(&slapd) {
            assert_eq!(keys.users(slapd.folder()).login("anna", PASSWORD), UNREACHABLE, "{certificate}");
        }
        assert!(!slapd.log().contains(" BIND "), "{}", slapd.log());
        for keys in both(&slapd) {
            accepted(keys.set("verify", "false").users(slapd.folder()).login("anna", PASSWORD));
        }
    }
}

#[test]
fn a_server_can_ask_for_the_gateways_certificate() {
    let slapd = Slapd::with(Setup { lines: "TLSVerifyClient demand", ..Setup::default() });
    for keys in both(&slapd) {
        assert_eq!(keys.users(slapd.folder()).login("anna", PASSWORD), UNREACHABLE);
        let keys = keys
            .set("client_certificate", slapd.file("client.pem"))
            .set("client_key", slapd.file("client.key"));
        accepted(keys.users(slapd.folder()).login("anna", PASSWORD));
    }
}

#[test]
fn a_server_that_refuses_starttls_is_told_nothing_else() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (code, more, expected) in [
        (2, &b""[..], Unavailable::Unreachable),
        (52, b"", Unavailable::Unreachable),
        (10, b"", Unavailable::Unreachable),
        // Whoever is on the way puts an answer behind it, to be read as one that TLS protects.
        (0, b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00", Unavailable::Invalid),
    ] {
        let fake = Fake::start(move |request| match request.tag {
            EXTENDED => Reply::Bytes([&result(request.id, 0x78, code, "no")[..], more].concat()),
            _ => Reply::Close,
        });
        let users = Keys::search(&[&fake.url()]).set("starttls", "true").users(dir.path());
        assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(expected), "{code}");
        let requests = fake.requests();
        assert!(requests.len() == 1 && requests[0].tag == EXTENDED, "{requests:?}");
        assert!(requests[0].contains("1.3.6.1.4.1.1466.20037"), "{requests:?}");
    }
}

#[test]
fn a_server_without_tls_where_tls_is_expected_is_told_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let fake =
        Fake::start(|_| Reply::Bytes(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00".to_vec()));
    let users = Keys::search(&[&fake.url().replace("ldap:", "ldaps:")]).users(dir.path());
    assert_eq!(users.login("anna", PASSWORD), UNREACHABLE);
    fake.never_saw("gateway");
    fake.never_saw(PASSWORD);
}
