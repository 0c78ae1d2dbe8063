use super::*;
use proptest::prelude::*;

fn policy() -> Policy {
    let public = ["/ds-api/", "/ds-api/download/*"];
    Policy {
        public: public.iter().map(|path| PublicRoute::new(path, &[]).unwrap()).collect(),
        strict_paths: false,
    }
}

/// The route as a word, for tables.
fn route(method: &str, target: &str) -> String {
    match policy().classify(method, target.as_bytes(), false) {
        Ok(Route::Endpoint { organization: None }) => "endpoint".into(),
        Ok(Route::Endpoint { organization: Some(name) }) => format!("endpoint of {name}"),
        Ok(Route::Subtree) => "subtree".into(),
        Ok(Route::Public(_)) => "public".into(),
        Ok(Route::Protected) => "protected".into(),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn each_target_has_its_route() {
    for (method, target, expected) in [
        ("POST", "/ds-api/user-token", "endpoint"),
        ("GET", "/ds-api/user-token?token=a.b.c", "endpoint"),
        ("GET", "/ds-api/user-token/Main%20Org.", "endpoint of Main Org."),
        ("GET", "/ds-api/user-token/a%2Fb", "endpoint of a/b"),
        ("GET", "/ds-api/user-token/", "subtree"),
        ("GET", "/ds-api/user-token/a/b", "subtree"),
        ("GET", "/ds-api/user-token/.", "subtree"),
        ("GET", "/ds-api/user-token/%2e%2E", "subtree"),
        ("GET", "/ds-api/user-token/%zz", "subtree"),
        ("GET", "/ds-api/user-token/%ff", "subtree"),
        ("GET", "/DS-API/User-Token", "subtree"),
        ("GET", "/ds-api/user-tokens", "protected"),
        ("GET", "/ds-api/user-token-x", "protected"),
        ("GET", "/ds-api/", "public"),
        ("HEAD", "/ds-api/", "public"),
        ("GET", "/ds-api/?x=/secret", "public"),
        ("POST", "/ds-api/", "protected"),
        ("get", "/ds-api/", "protected"),
        ("GET", "/ds-api", "protected"),
        ("GET", "/DS-api/", "protected"),
        ("GET", "/ds-api/download/agent.rpm", "public"),
        ("GET", "/ds-api/download/a/b", "public"),
        ("GET", "/ds-api/download/Zo%C3%AB%20x", "public"),
        ("GET", "/ds-api/downloads", "protected"),
        ("GET", "/secret?x=/ds-api/download/a", "protected"),
        ("OPTIONS", "*", "protected"),
        ("GET", "*", "NotOriginForm"),
        ("GET", "", "NotOriginForm"),
        ("GET", "ds-api/", "NotOriginForm"),
        ("GET", "http://host/ds-api/", "NotOriginForm"),
        ("GET", "/ds-api/download/a%00b", "EncodedNul"),
    ] {
        assert_eq!(route(method, target), expected, "{method} {target}");
    }
}

#[test]
fn a_body_makes_a_public_path_protected() {
    let route = policy().classify("GET", b"/ds-api/", true);
    assert!(matches!(route, Ok(Route::Protected)));
}

#[test]
fn what_any_server_could_take_for_the_subtree_stays_here() {
    for target in [
        "//ds-api/user-token",
        "/ds-api//user-token",
        "/ds-api/./user-token",
        "/ds-api/x/../user-token",
        "/x/../ds-api/user-token",
        "/../ds-api/user-token",
        "/ds-api/x//../../user-token",
        "/ds-api/x//../user-token",
        "/ds-api/%75ser-token",
        "/ds-api/%2575ser-token",
        "/ds-api%2fuser-token",
        "/ds-api%252fuser-token",
        "/ds-api%5cuser-token",
        "/ds-api\\user-token",
        "/ds-api/user-token;x=1",
        "/ds-api;x=1/user-token",
        "/ds-api/x/..;/user-token",
        "/ds-api/%2e/user-token",
        "/ds-api/x/%2E%2e/user-token",
        "/ds-api/user-token%23",
        "/ds-api/user-token%3fx",
        "/ds-api/user-token%20",
        "/ds-api/user-token.",
        "/ds-api/user-token.json",
        "/ds-api./user-token",
        "/ds-api/user-token/..",
        "/ds-api/user-token/../x",
        "/ds-api/x%c0%af../user-token",
        "/ds-api/%c0%ae%c0%ae/ds-api/user-token",
        "/ds-api/u%C5%BFer-token",
        "/ds-api/user-to%E2%84%AAen",
        "/ds-api/%EF%BD%95ser-token",
        "/%2525252525252525",
        "/ds-api./;x/user-token",
        "/ds-api/%u0075ser-token",
        "/ds-api/%25u0075ser-token",
    ] {
        let found = route("GET", target);
        assert!(found == "subtree" || found.starts_with("endpoint of "), "{target}: {found}");
    }
}

#[test]
fn only_a_canonical_path_is_public() {
    for mutation in [
        "//ds-api/download/a",
        "/ds-api//download/a",
        "/ds-api/./download/a",
        "/ds-api/download/../x",
        "/ds-api/download/%2e%2e/x",
        "/ds-api/download/%2E%2e/x",
        "/ds-api/download/%252e%252e/x",
        "/ds-api/download/a%2fb",
        "/ds-api/download/a%5cb",
        "/ds-api/download/a\\b",
        "/ds-api/download/a;x=1",
        "/ds-api/download/..;/x",
        "/ds-api/download/a%23",
        "/ds-api/download/a%3fb",
        "/ds-api/download/a#b",
        "/ds-api/download/a.",
        "/ds-api/download/a%20",
        "/ds-api/download/%61",
        "/ds-api/download/%",
        "/ds-api/download/%4",
        "/ds-api/download/%c0%af",
        "/ds-api/download/\u{e9}",
        "/ds-api/download/a b",
        "/ds-api/download/a\tb",
        "/ds-api/%64ownload/a",
        "/ds-api/Download/a",
        "/ds-api/download",
        "/ds-api%2f",
        "/ds-api/%2e",
    ] {
        assert_eq!(route("GET", mutation), "protected", "{mutation}");
    }
}

#[test]
fn a_long_path_must_be_a_simple_one() {
    let long = format!("/{}", "a".repeat(8000));
    assert_eq!(route("GET", &long), "protected");
    assert_eq!(route("GET", &format!("{long}%20b")), "TooInvolved");
}

#[test]
fn strict_paths_refuse_what_is_not_canonical() {
    let policy = Policy { strict_paths: true, ..policy() };
    let verdict = policy.classify("GET", b"/a//b", false).err();
    assert_eq!(verdict, Some(TargetError::NotCanonical));
    assert!(policy.classify("GET", b"/a/b", false).is_ok());
}

#[test]
fn a_public_pattern_must_mean_one_thing() {
    for pattern in ["", "x", "/a*", "/a/*/b", "/a//b", "/a/../b", "/a;b", "/%61", "*", "/a/**"] {
        assert!(PublicRoute::new(pattern, &[]).is_none(), "{pattern}");
    }
    assert!(PublicRoute::new("/*", &[]).is_some_and(|route| route.is_everything()));
    assert!(PublicRoute::new("/a", &["get".into()]).is_none());
    assert!(PublicRoute::new("/a", &["OPTIONS".into()]).is_some());
}

/// A second, slower reading of the rule, written from its sentence.
fn canonical_by_the_book(path: &str) -> bool {
    let Some(tail) = path.strip_prefix('/') else { return false };
    let segments: Vec<&str> = tail.split('/').collect();
    let last = segments.len() - 1;
    segments.iter().enumerate().all(|(at, segment)| {
        if segment.is_empty() {
            return at == last;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(segment).collect();
        let Ok(decoded) = String::from_utf8(decoded) else { return false };
        // Re-encoding exactly what must be escaped gives the segment back, in either case of the digits.
        let mut again = String::new();
        for byte in decoded.bytes() {
            if byte >= 0x80 || b" \"<>[]^`{|}".contains(&byte) {
                again.push_str(&format!("%{byte:02X}"));
            } else {
                again.push(char::from(byte));
            }
        }
        let raw_specials = segment.contains(['"', '<', '>', '[', ']', '^', '`', '{', '|', '}']);
        (raw_specials || again.eq_ignore_ascii_case(segment))
            && !decoded.ends_with(['.', ' '])
            && !decoded.contains(['\\', ';', '?', '#', '%', '/'])
            && segment.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
    })
}

proptest! {
    #[test]
    fn canonical_means_what_the_book_says(path in "/?(([a-cA-C.%;\\\\ ~]|%2[0-9eEfF]|%[46]1|%c3%a9|%[cC]0|/){0,12})") {
        prop_assert_eq!(is_canonical(path.as_bytes()), canonical_by_the_book(&path), "{}", path);
    }

    /// What is public stays inside the public set however a server decodes and resolves it.
    #[test]
    fn a_public_path_resolves_inside_the_public_set(
        tail in "([a-b./;%\\\\]|%2e|%2F|%5c|%25|\\.\\.|/){0,10}",
    ) {
        let target = format!("/ds-api/download/{tail}");
        if route("GET", &target) == "public" {
            let decoded = percent_encoding::percent_decode_str(&target).decode_utf8().unwrap();
            prop_assert!(decoded.starts_with("/ds-api/download/"));
            prop_assert!(!decoded.split('/').any(|segment| segment == ".." || segment == "."));
            prop_assert!(!decoded.contains(['\\', ';', '%']));
        }
    }

    #[test]
    fn any_target_is_classified_without_a_panic(method in "[A-Za-z]{0,7}", target: Vec<u8>) {
        let _ = policy().classify(&method, &target, false);
    }
}
