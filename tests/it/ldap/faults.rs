//! Servers that are stopped, paused, or away: nobody is let in or taken for unknown, and the next one is asked.

use super::fake::{BIND, Fake, Reply, SEARCH, anna, result};
use super::people::PASSWORD;
use super::slapd::Slapd;
use super::users::{Keys, SERVICE_PASSWORD, Users, accepted};
use ds_gateway::service::login::source::{Answer, Presence, Unavailable};

/// Short, so that no test waits long.
fn quick(keys: Keys) -> Keys {
    let keys = keys.set("connect_timeout", "\"1s\"").set("operation_timeout", "\"1s\"");
    keys.set("login_timeout", "\"5s\"")
}

fn is_unavailable(users: &Users, expected: Unavailable) {
    assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(expected));
    assert_eq!(users.login("nobody", PASSWORD), Answer::Unavailable(expected));
    assert_eq!(users.find("anna"), Some(Presence::Unavailable(expected)));
}

#[test]
fn a_server_that_is_stopped_is_unreachable_until_it_is_back() {
    let mut slapd = Slapd::start();
    let users = quick(Keys::search(&[&slapd.ldap()])).users(slapd.folder());
    accepted(users.login("anna", PASSWORD));
    slapd.stop();
    is_unavailable(&users, Unavailable::Unreachable);
    slapd.start_again();
    accepted(users.login("anna", PASSWORD));
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_costs_no_login() {
    let mut slapd = Slapd::start();
    // The second would be asked if the first had failed.
    let second = Fake::searching(|request| result(request.id, 0x65, 0, ""));
    let users = quick(Keys::search(&[&slapd.ldap(), &second.url()])).users(slapd.folder());
    for _ in 0..3 {
        accepted(users.login("anna", PASSWORD));
        slapd.start_again();
    }
    assert_eq!(second.connections(), 0);
}

#[test]
fn a_server_that_is_paused_times_out_and_serves_again_afterwards() {
    let slapd = Slapd::start();
    let tls = Keys::search(&[&slapd.ldaps()]).set("ca_file", slapd.file("ca.pem"));
    for keys in [Keys::search(&[&slapd.ldap()]), tls, Keys::direct(&[&slapd.ldap()])] {
        let users = quick(keys).users(slapd.folder());
        accepted(users.login("anna", PASSWORD));
        slapd.signal("STOP");
        // On a connection that was kept, and on a new one.
        for _ in 0..2 {
            assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(Unavailable::TimedOut));
        }
        slapd.signal("CONT");
        accepted(users.login("anna", PASSWORD));
    }
}

#[test]
fn the_next_server_is_asked_where_one_is_stopped_or_paused() {
    let (mut first, second) = (Slapd::start(), Slapd::start());
    let keys = quick(Keys::search(&[&first.ldap(), &second.ldap()]));
    let users = keys.users(first.folder());
    accepted(users.login("anna", PASSWORD));
    assert!(!second.log().contains(" BIND "), "the second is not asked while the first answers");
    first.stop();
    accepted(users.login("anna", PASSWORD));
    assert!(second.log().contains(" BIND "));
    first.start_again();
    first.signal("STOP");
    let users = keys.users(first.folder());
    accepted(users.login("anna", PASSWORD));
    assert_eq!(users.login("nobody", PASSWORD), Answer::Unknown);
    first.signal("CONT");
}

#[test]
fn a_server_that_failed_is_left_out_for_a_while() {
    let first = Fake::start(|_| Reply::Close);
    let second = Fake::searching(|request| anna(request.id));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let keys = Keys::search(&[&first.url(), &second.url()]).set("eject_for", "\"1h\"");
    let users = keys.users(dir.path());
    for _ in 0..5 {
        accepted(users.login("anna", PASSWORD));
    }
    assert_eq!(first.connections(), 1);
}

#[test]
fn a_password_that_was_sent_is_not_sent_to_another_server() {
    let first = Fake::start(|request| match request.tag {
        BIND if request.contains(SERVICE_PASSWORD) => Reply::Bytes(result(request.id, 0x61, 0, "")),
        SEARCH => Reply::Bytes(anna(request.id)),
        _ => Reply::Close,
    });
    let second = Fake::searching(|request| anna(request.id));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let users = Keys::search(&[&first.url(), &second.url()]).users(dir.path());
    assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(Unavailable::Unreachable));
    assert!(first.requests().iter().any(|request| request.contains(PASSWORD)));
    second.never_saw(PASSWORD);
    // The next login is another one.
    accepted(users.login("anna", PASSWORD));
}

#[test]
fn a_user_never_searches_and_the_gateway_never_searches_as_a_user() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).users(slapd.folder());
    for _ in 0..3 {
        accepted(users.login("anna", PASSWORD));
        accepted(users.login("bert", PASSWORD));
    }
    // What was asked on which connection, as slapd has seen it.
    let log = slapd.log();
    let connection =
        |line: &str| line.split_whitespace().find(|word| word.starts_with("conn=")).map(str::to_owned);
    let having = |text: &str| {
        log.lines().filter(|line| line.contains(text)).filter_map(connection).collect::<Vec<_>>()
    };
    let (bound, searched) = (having(" BIND dn=\"uid="), having(" SRCH base="));
    assert!(bound.len() >= 6 && searched.len() >= 6, "{log}");
    assert!(!bound.iter().any(|connection| searched.contains(connection)), "{log}");
    // One connection of the gateway's own did for all.
    assert_eq!(searched.iter().collect::<std::collections::BTreeSet<_>>().len(), 1, "{log}");
}
