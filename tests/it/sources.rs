//! Users of three places at once: the store, a real directory and the platform.

use crate::client::{basic, request};
use crate::command::{eventually, private, within};
use crate::gateway::{PASSWORD as OWN_PASSWORD, USER};
use crate::ldap::people::{PASSWORD, everybody, person};
use crate::ldap::slapd::Slapd;
use crate::ldap::users::SERVICE_PASSWORD;
use crate::options::Options;
use crate::platform::Platform;
use crate::platform_users::{Directory, call, log_in, token};
use serde_json::json;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

fn options(platform: &Platform, slapd: &Slapd) -> Options {
    let password = slapd.folder().join("service-password");
    private(&password, SERVICE_PASSWORD.as_bytes());
    Options::new(platform)
        .set("users", "sources", "[\"store\", \"ldap\", \"platform\"]")
        .set("users.ldap", "preset", "\"openldap\"")
        .set("users.ldap", "servers", format!("[{:?}]", slapd.ldaps()))
        .set("users.ldap", "ca_file", slapd.file("ca.pem"))
        .set("users.ldap", "bind_dn", "\"cn=gateway,ou=services,dc=example,dc=com\"")
        .set("users.ldap", "bind_password_file", format!("{password:?}"))
        .set("users.ldap", "base", "\"ou=people,dc=example,dc=com\"")
        .set("users.ldap", "organization", "\"Main Org.\"")
        .set("users.platform", "timeout", "\"1s\"")
        .set("users.ldap", "operation_timeout", "\"1s\"")
        .set("users.ldap", "connect_timeout", "\"1s\"")
        .set("users.ldap", "login_timeout", "\"2s\"")
}

fn logins_at(platform: &Platform) -> usize {
    platform.requests().iter().filter(|seen| seen.method == "POST").count()
}

#[test]
fn each_name_is_one_sources_and_no_other_is_asked_for_it() {
    let users = Directory::default();
    // The same names at the platform with passwords of its own, and one that nobody else has.
    for name in [USER, "anna", "otto"] {
        users.set(name, "at the platform", "Main Org.");
    }
    let platform = users.platform();
    let slapd = Slapd::start();
    let gateway = options(&platform, &slapd).start();
    for (name, password, status, asked) in [
        (USER, OWN_PASSWORD, 201, 0),
        (USER, "at the platform", 401, 0),
        ("anna", PASSWORD, 201, 0),
        ("anna", "at the platform", 401, 0),
        ("otto", "at the platform", 201, 1),
        ("otto", PASSWORD, 401, 2),
        ("nobody", "whatever", 401, 3),
    ] {
        assert_eq!(log_in(&gateway, name, password).status, status, "{name} {password}");
        assert_eq!(logins_at(&platform), asked, "{name} {password}");
    }
    let list = gateway.folder.cli(&["user", "list"], "").ok();
    for (name, source) in [(USER, "store"), ("anna", "ldap"), ("otto", "platform")] {
        let line = list.lines().find(|line| line.starts_with(name)).expect("a line");
        assert!(line.contains(source), "{line}");
    }
}

#[test]
fn source_that_cannot_be_asked_keeps_out_whom_it_might_own_and_nobody_else() {
    let users = Directory::default();
    users.set("anna", "at the platform", "Main Org.");
    users.set("otto", "at the platform", "Main Org.");
    let platform = users.platform();
    let mut slapd = Slapd::start();
    let gateway = options(&platform, &slapd).start();
    let held = ["anna", "otto"].map(|name| {
        let password = if name == "anna" { PASSWORD } else { "at the platform" };
        token(&log_in(&gateway, name, password))
    });
    for how in ["stopped", "paused"] {
        if how == "paused" {
            slapd.start_again();
            slapd.signal("STOP");
        } else {
            slapd.stop();
        }
        // Not by the platform either, which has a user of that name, and another password.
        for (name, password) in [("anna", PASSWORD), ("anna", "at the platform"), ("otto", "at the platform")]
        {
            log_in(&gateway, name, password).is_away();
        }
        token(&log_in(&gateway, USER, OWN_PASSWORD));
        // Tokens go on.
        assert_eq!(held.each_ref().map(|token| call(&gateway, token, "/x").status), [200, 200], "{how}");
    }
    slapd.signal("CONT");
    slapd.start_again();
    eventually("the directory to be asked again", || {
        (log_in(&gateway, "anna", PASSWORD).status == 201).then_some(())
    });
    token(&log_in(&gateway, "otto", "at the platform"));
}

#[test]
fn user_that_is_gone_from_the_directory_loses_its_tokens_and_a_directory_that_is_away_ends_none() {
    let users = Directory::default();
    let platform = users.platform();
    let mut slapd = Slapd::start();
    let gateway = options(&platform, &slapd).set("users.ldap", "revalidate", "\"1s\"").start();
    let [anna, bert] = ["anna", "Bert"].map(|name| token(&log_in(&gateway, name, PASSWORD)));
    let own = gateway.mint();
    slapd.stop();
    // Longer than it takes to ask for everybody, several times.
    thread::sleep(Duration::from_secs(4));
    assert_eq!([&anna, &bert].map(|token| gateway.status(token)), [200, 200]);
    // All are there but one.
    let left: Vec<String> = everybody()
        .split_inclusive("\n\n")
        .filter(|entry| !person("anna", &[]).starts_with(entry.lines().next().expect("a line")))
        .map(str::to_owned)
        .collect();
    slapd.start_again_with(&left.concat());
    eventually("the tokens of the one to end", || (gateway.status(&anna) == 401).then_some(()));
    assert_eq!([&bert, &own].map(|token| gateway.status(token)), [200, 200]);
    let trail = gateway.folder.cli(&["audit", "list", "--user", "anna"], "").ok();
    assert!(trail.contains("revalidation"), "{trail}");
}

/// On the first day nobody is refused: SOURCE_USERS of them (`make test-long`: 10,000), in three places.
#[test]
fn nobody_of_three_sources_is_refused_on_the_first_day() {
    let count: usize = std::env::var("SOURCE_USERS").map_or(150, |text| text.parse().expect("a number"));
    let users = Directory::default();
    let platform = users.platform();
    let mut slapd = Slapd::start();
    let (mut entries, mut rows) = (everybody(), String::new());
    // The hash of `bcrypt-Pässword`.
    let hash = "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i";
    for number in 0..count {
        match number % 3 {
            0 => {
                let user = json!({ "name": format!("user{number}"), "email": format!("user{number}@example.com"),
                    "organization": "Main Org.", "password": hash });
                writeln!(rows, "{user}").expect("a line");
            }
            1 => entries.push_str(&person(&format!("user{number}"), &[])),
            _ => users.set(&format!("user{number}"), "at the platform", "Main Org."),
        }
    }
    slapd.start_again_with(&entries);
    let gateway = options(&platform, &slapd).start();
    gateway.folder.cli(&["user", "import", "-"], &rows).ok();
    let refused: Vec<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|first| {
                let gateway = &gateway;
                scope.spawn(move || {
                    let own = (first..count).step_by(8).filter(|number| {
                        let password = ["bcrypt-Pässword", PASSWORD, "at the platform"][number % 3];
                        // As long as it takes: thousands of hashes may wait for a core.
                        let login = basic(&format!("user{number}"), password);
                        let login = request("POST", "/ds-api/user-token", &[("Authorization", &login)]);
                        let answer = within(900, || {
                            let answer = gateway.client().exchange(&login);
                            (answer.status != 503).then_some(answer)
                        });
                        answer.is_none_or(|answer| answer.status != 201)
                    });
                    own.collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("logins")).collect()
    });
    assert!(refused.is_empty(), "{refused:?}");
}
