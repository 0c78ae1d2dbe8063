//! How many at once, and for how long.

use super::fake::{Fake, Reply, anna};
use super::people::PASSWORD;
use super::slapd::Slapd;
use super::users::{Keys, Users, accepted, credentials};
use ds_gateway::service::login::source::{Answer, Presence, Unavailable, UserSource as _};
use std::thread;
use std::time::Duration;

/// Lets the logins that have begun go on until this holds.
fn until(users: &Users, what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        users.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
    }
    panic!("waited too long for: {what}");
}

#[test]
fn more_logins_than_allowed_at_once_are_turned_away_at_once() {
    let fake = Fake::start(|_| Reply::Nothing);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let keys = Keys::search(&[&fake.url()]).set("max_logins", "2").set("operation_timeout", "\"2s\"");
    let users = keys.users(dir.path());
    let logins = [users.begin("anna", PASSWORD), users.begin("bert", PASSWORD)];
    until(&users, "both to ask", || fake.requests().len() == 2);
    assert_eq!(users.login("clara", PASSWORD), Answer::Unavailable(Unavailable::Busy));
    assert_eq!(users.find("clara"), Some(Presence::Unavailable(Unavailable::Busy)));
    for login in logins {
        assert_eq!(users.end(login), Answer::Unavailable(Unavailable::TimedOut));
    }
    assert_eq!(fake.connections(), 2);
    // There is room again.
    assert_eq!(users.login("clara", PASSWORD), Answer::Unavailable(Unavailable::TimedOut));
}

#[test]
fn logins_at_once_are_all_served_and_their_connections_kept() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).set("max_logins", "8").users(slapd.folder());
    for _ in 0..3 {
        let logins: Vec<_> = (0..8).map(|_| users.begin("anna", PASSWORD)).collect();
        for login in logins {
            accepted(users.end(login));
        }
    }
    assert_eq!(slapd.binds("uid=anna,"), 24);
    assert!((1..=8).contains(&slapd.binds("cn=gateway,")), "{}", slapd.log());
}

#[test]
fn all_of_a_login_has_one_bound() {
    // Each answer is in time, and all together are not.
    let fake = Fake::searching(|request| {
        thread::sleep(Duration::from_millis(1200));
        anna(request.id)
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let groups: String =
        (0..20).map(|number| format!("{{ group = \"cn={number}\", organization = \"A\" }},")).collect();
    let keys = Keys::search(&[&fake.url()])
        .set("organization_groups", format!("[{groups}]"))
        .set("required_group", "\"cn=x\"")
        .set("connect_timeout", "\"2s\"")
        .set("operation_timeout", "\"2s\"")
        .set("login_timeout", "\"2s\"");
    let users = keys.users(dir.path());
    assert_eq!(users.login("anna", PASSWORD), Answer::Unavailable(Unavailable::TimedOut));
    fake.never_saw(PASSWORD);
}

#[test]
fn a_login_that_nobody_waits_for_any_more_leaves_nothing_behind() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).set("max_logins", "1").users(slapd.folder());
    accepted(users.login("anna", PASSWORD));
    slapd.signal("STOP");
    let login = users.begin("anna", PASSWORD);
    users.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
    login.abort();
    assert!(users.runtime.block_on(login).is_err());
    slapd.signal("CONT");
    // Its connection, on which an answer is still to come, is not used again.
    assert_eq!(users.login("nobody", PASSWORD), Answer::Unknown);
    accepted(users.login("anna", PASSWORD));
}

/// Each worker of the gateway has a runtime of its own, and a connection stays with the one that made it.
#[test]
fn a_connection_serves_every_worker_and_does_not_outlive_the_one_that_made_it() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).users(slapd.folder());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let source = users.source.clone();
    let worker = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let answer = source.authenticate(&credentials("anna", PASSWORD)).await;
            ready.send(answer).expect("somebody who waits");
            ended.await
        })
    });
    accepted(is_ready.recv().expect("an answer"));
    accepted(users.login("anna", PASSWORD));
    assert_eq!(slapd.binds("cn=gateway,"), 1);
    drop(end);
    assert!(worker.join().expect("a worker").is_err());
    accepted(users.login("anna", PASSWORD));
    accepted(users.login("anna", PASSWORD));
    assert_eq!(slapd.binds("cn=gateway,"), 2);
}
