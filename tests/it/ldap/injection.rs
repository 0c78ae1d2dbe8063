//! Names that mean something in a filter or in a distinguished name are only names.

use super::people::{INJECTED, ODD, PASSWORD};
use super::slapd::Slapd;
use super::users::{Keys, accepted};
use ds_gateway::auth::name::Name;
use ds_gateway::service::login::source::{Answer, Refused};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[test]
fn a_name_that_means_something_to_a_filter_is_only_a_name() {
    let slapd = Slapd::start();
    let users = Keys::search(&[&slapd.ldap()]).users(slapd.folder());
    for name in ODD {
        assert_eq!(accepted(users.login(name, PASSWORD)).0, name, "{name}");
        assert_eq!(users.login(name, "wrong"), Answer::Refused(Refused::Password), "{name}");
    }
    for name in INJECTED {
        assert_eq!(users.login(name, PASSWORD), Answer::Unknown, "{name}");
    }
}

#[test]
fn a_name_that_means_something_to_a_distinguished_name_is_only_a_name() {
    let slapd = Slapd::start();
    let users = Keys::direct(&[&slapd.ldap()]).users(slapd.folder());
    for name in ODD {
        assert_eq!(accepted(users.login(name, PASSWORD)).0, name, "{name}");
        assert_eq!(users.login(name, "wrong"), Answer::Refused(Refused::Password), "{name}");
    }
    for name in INJECTED {
        assert_eq!(users.login(name, PASSWORD), Answer::Refused(Refused::Password), "{name}");
    }
    // Another entry, if a comma were one.
    assert_eq!(users.login("twin,ou=guests", PASSWORD), Answer::Refused(Refused::Password));
}

#[test]
fn no_name_at_all_is_taken_for_another() {
    let slapd = Slapd::start();
    let search = Keys::search(&[&slapd.ldap()]).users(slapd.folder());
    let direct = Keys::direct(&[&slapd.ldap()]).users(slapd.folder());
    let names = "[*()\\\\,+=#;<>\"a-c 0-9&|!{}]{1,12}|[an*]{1,5}|\\PC{1,16}";
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    // Compared as the directory does it, upper and lower case being one.
    let folded = |name: &str| Name::parse_user(name).map(|name| name.folded());
    let known: Vec<_> = ODD.iter().chain(&["anna"]).map(|name| folded(name)).collect();
    let tried = runner.run(&names, |name| {
        if folded(&name).is_ok() && !known.contains(&folded(&name)) {
            prop_assert_eq!(search.login(&name, PASSWORD), Answer::Unknown);
            prop_assert_eq!(direct.login(&name, PASSWORD), Answer::Refused(Refused::Password));
        }
        Ok(())
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
    accepted(search.login("anna", PASSWORD));
}
