use super::super::scan::scan;
use super::super::spellings::spelling;
use super::super::split_target;
use super::*;
use proptest::prelude::*;

fn rule(path: &str, ends: Ends) -> UserChange {
    UserChange::new(vec!["PUT".into(), "DELETE".into()], path, ends).unwrap()
}

fn of(rules: &[UserChange], method: &str, target: &str) -> Vec<Affected> {
    let path = target.split('?').next().unwrap_or_default();
    affected(rules, method.as_bytes(), path.as_bytes()).into_iter().collect()
}

fn email(address: &str) -> Affected {
    Affected::Email(address.into())
}

#[test]
fn rule_is_about_its_methods_and_its_path_in_every_spelling() {
    let rules = [rule("/ds-api/users/{email}", Ends::Email)];
    for target in [
        "/ds-api/users/anna@example.com",
        "/ds-api/users/Anna@Example.com",
        "/DS-API/Users/anna@example.com/",
        "//ds-api///users//anna@example.com",
        "/ds-api/users/anna%40example.com?x=1",
        "/ds-api/users/anna%2540example.com",
        "/ds-api/%75sers/anna@example.com",
        "/ds-api%2Fusers%2Fanna@example.com",
        "/ds-api/./users/x/../anna@example.com",
        "/ds-api/users;v=1/anna@example.com",
        "/ds-api\\users\\anna@example.com",
        "/ds-api/users/anna@example.com;v=1",
        "/ds-api/users/anna@example.com;jsessionid=1/",
        "/ds-api/users/anna@example.com.json",
        "/ds-api/users/anna@example.com%20",
        "/ds-api/users/anna@example.com%3fx",
        "/ds-api/users/anna@example.com.",
        "/ds-api/;x/users/anna@example.com",
        "/ds-api/users./anna@example.com",
        "/ds-api/users%20/anna@example.com",
        "/ds-api/us\u{200b}ers/anna@example.com",
        "/ds-api/use\u{ff52}s/anna@example.com",
        "/(S(x))/ds-api/users/anna@example.com",
        "/ds-api\u{ff0f}users/anna@example.com",
    ] {
        for method in ["PUT", "DELETE", "put"] {
            assert!(of(&rules, method, target).contains(&email("anna@example.com")), "{method} {target}");
        }
        assert_eq!(of(&rules, "GET", target), [], "{target}");
    }
    for target in
        ["/ds-api/users", "/ds-api/users/", "/ds-api/users/a/b", "/ds-api/user/a", "/x/ds-api/users/a"]
    {
        assert_eq!(of(&rules, "PUT", target), [], "{target}");
    }
}

#[test]
fn what_a_rule_ends_is_what_it_says() {
    for (path, ends, target, expected) in [
        ("/u/{user}", Ends::User, "/u/Anna%20B", Affected::User("Anna B".into())),
        ("/u/{user}/roles/*", Ends::User, "/u/anna/roles/7/x", Affected::User("anna".into())),
        ("/me/password", Ends::Own, "/me/password", Affected::Own),
        ("/me/password", Ends::Own, "/me/password.json", Affected::Own),
        ("/me/password", Ends::Own, "/me/password%23", Affected::Own),
        ("/orgs/*/users", Ends::Organization, "/orgs/7/users", Affected::Organization),
        ("/import/*", Ends::Everybody, "/import/users", Affected::Everybody),
    ] {
        assert_eq!(of(&[rule(path, ends)], "PUT", target), [expected], "{path} {target}");
    }
    // Several rules may be about one request.
    let rules = [rule("/u/{email}", Ends::Email), rule("/u/*", Ends::Own)];
    assert_eq!(of(&rules, "PUT", "/u/a@b"), [email("a@b"), Affected::Own]);
}

#[test]
fn path_that_cannot_be_one_is_refused() {
    for (path, ends) in [
        ("", Ends::Own),
        ("users", Ends::Own),
        ("/", Ends::Own),
        ("/a//b", Ends::Own),
        ("/a/../b", Ends::Own),
        ("/a/{name}", Ends::Own),
        ("/a%20", Ends::Own),
        ("/a?b", Ends::Own),
        ("/a*", Ends::Own),
        ("/users", Ends::Email),
        ("/users/{user}", Ends::Email),
        ("/users/{email}", Ends::User),
        ("/{email}/{email}", Ends::Email),
    ] {
        assert!(UserChange::new(Vec::new(), path, ends).is_err(), "{path} {ends:?}");
    }
}

proptest! {
    /// The short way for paths that need no other reading finds the same.
    #[test]
    fn plain_path_is_read_as_every_other(path in "(/|a|B|u|@|users|\\.|b){1,12}") {
        let rules = [rule("/users/{email}", Ends::Email), rule("/a/*", Ends::Own), rule("/*/b/{user}", Ends::User)];
        let readings = readings(path.as_bytes());
        let mut expected = BTreeSet::new();
        for (rule, reading) in rules.iter().flat_map(|rule| readings.iter().map(move |reading| (rule, reading))) {
            rule.add_affected(reading.iter().map(String::as_str), &mut expected);
        }
        prop_assert_eq!(of(&rules, "PUT", &path), expected.into_iter().collect::<Vec<_>>());
    }

    /// However an address is encoded, it is the one that is affected.
    #[test]
    fn address_is_found_however_it_is_encoded(address in "[a-zA-Z0-9.+@%/ ;é-]{1,20}", encoded: u64) {
        prop_assume!(!address.split('/').any(|part| part.starts_with('.') || part.trim().is_empty()));
        let mut target = String::from("/ds-api/users/");
        for (at, byte) in address.bytes().enumerate() {
            let must = !byte.is_ascii_alphanumeric();
            if must || encoded >> (at % 64) & 1 == 1 {
                target.push_str(&format!("%{byte:02X}"));
            } else {
                target.push(char::from(byte));
            }
        }
        let affected = of(&[rule("/ds-api/users/{email}", Ends::Email)], "PUT", &target);
        prop_assert!(affected.contains(&email(&fold_email(address.trim()))), "{target}: {affected:?}");
    }

    /// What some server could take for the endpoint of the gateway's own, it could take for an endpoint of the platform's.
    #[test]
    fn rule_is_about_every_spelling_that_a_server_may_take_for_its_path(path in spelling()) {
        let rules = [UserChange::new(Vec::new(), "/ds-api/user-token/*", Ends::Everybody).unwrap()];
        if scan(split_target(path.as_bytes()).0, false) == Ok(true) {
            prop_assert_eq!(of(&rules, "PUT", &path), [Affected::Everybody], "{}", path);
        }
    }
}
