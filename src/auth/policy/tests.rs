use super::readers::Reader;
use super::spellings::spelling;
use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn policy() -> Policy {
    let public = ["/ds-api/", "/ds-api/download/*"];
    Policy {
        public: public.iter().map(|path| PublicRoute::new(path, &[]).unwrap()).collect(),
        lenient: vec![LenientPrefix::new("/raw/*").unwrap()],
        upgrades: Vec::new(),
        strict_paths: false,
    }
}

/// The route as a word, for tables.
fn route(method: &str, target: &str) -> String {
    match policy().classify(method.as_bytes(), target.as_bytes(), false) {
        Ok(Route::Endpoint { organization: None, .. }) => "endpoint".into(),
        Ok(Route::Endpoint { organization: Some(name), .. }) => format!("endpoint of {name}"),
        Ok(Route::Reserved(_)) => "reserved".into(),
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
        ("GET", "/ds-api/user-token/", "reserved"),
        ("GET", "/ds-api/user-token/a/b", "reserved"),
        ("GET", "/ds-api/user-token/.", "DotSegment"),
        ("GET", "/ds-api/user-token/%2e%2E", "DotSegment"),
        ("GET", "/ds-api/user-token/%zz", "BadEscape"),
        ("GET", "/ds-api/user-token/%ff", "NotUtf8"),
        ("GET", "/DS-API/User-Token", "reserved"),
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
        ("GET", "/ds-api/download/a%00b", "Control"),
    ] {
        assert_eq!(route(method, target), expected, "{method} {target}");
    }
}

#[test]
fn a_body_makes_a_public_path_protected() {
    let route = policy().classify(b"GET", b"/ds-api/", true);
    assert!(matches!(route, Ok(Route::Protected)));
}

#[test]
fn what_is_ambiguous_is_refused_with_its_reason() {
    for (target, expected) in [
        ("//x/ds-api/user-token", "SeveralSeparators"),
        ("/\\x", "SeveralSeparators"),
        ("/%2fx", "SeveralSeparators"),
        ("/%255cx", "SeveralSeparators"),
        ("/\u{2215}x", "SeveralSeparators"),
        ("/%E2%81%84x", "SeveralSeparators"),
        ("/\u{200b}/x", "SeveralSeparators"),
        ("/%", "BadEscape"),
        ("/a%4", "BadEscape"),
        ("/a%4g", "BadEscape"),
        ("/a%u002f", "UnicodeEscape"),
        ("/a%25u002f", "UnicodeEscape"),
        ("/a%2525u002F", "UnicodeEscape"),
        ("/a%252541", "ThirdLayer"),
        ("/a%25%32%35%34%31", "ThirdLayer"),
        ("/a%00", "Control"),
        ("/a%2500", "Control"),
        ("/a%1f", "Control"),
        ("/a%7F", "Control"),
        ("/a%C2%85", "Control"),
        ("/a\u{9f}", "Control"),
        ("/a%ff", "NotUtf8"),
        ("/a%25ff", "NotUtf8"),
        ("/a%c0%af", "NotUtf8"),
        ("/a%C3%25A9", "NotUtf8"),
        ("/a%ED%A0%80", "NotUtf8"),
        ("/a%C2%AD", "SoftHyphen"),
        ("/a\u{ad}b", "SoftHyphen"),
        ("/.", "DotSegment"),
        ("/..", "DotSegment"),
        ("/a/./b", "DotSegment"),
        ("/a/../b", "DotSegment"),
        ("/a/...", "DotSegment"),
        ("/a/%2e%2E/b", "DotSegment"),
        ("/a/%252e/b", "DotSegment"),
        ("/a/.%20./b", "DotSegment"),
        ("/a/ ../b", "DotSegment"),
        ("/a/..;x=1/b", "DotSegment"),
        ("/a/..%3fb", "DotSegment"),
        ("/a/..%23b", "DotSegment"),
        ("/a\\..\\b", "DotSegment"),
        ("/a%5c..%2fb", "DotSegment"),
        ("/a/%E2%80%A5/b", "DotSegment"),
        ("/a/\u{ff0e}./b", "DotSegment"),
        ("/a/.\u{200b}./b", "DotSegment"),
        ("/a\u{ff0f}..\u{ff3c}b", "DotSegment"),
        ("/\u{2025}", "DotSegment"),
        ("/raw/%00", "Control"),
        ("/raw/%c0%ae%c0%ae/x", "DotSegment"),
        ("/raw/%c0%6e%c0%6e/x", "DotSegment"),
        ("/raw/..%09/x", "DotSegment"),
        ("/raw/%0a..%A0/x", "DotSegment"),
        ("/a/..+/b", "DotSegment"),
        ("/raw/../x", "DotSegment"),
        ("/raw/%u002e", "UnicodeEscape"),
        ("/raw/%zz", "BadEscape"),
    ] {
        assert_eq!(route("GET", target), expected, "{target}");
    }
}

#[test]
fn what_folds_to_the_endpoint_stays_here() {
    for target in [
        "/ds-api//user-token",
        "/ds-api/%20/user-token",
        "/ds-api/%75ser-token",
        "/ds-api/%2575ser-token",
        "/ds-api%2fuser-token",
        "/ds-api%252fuser-token",
        "/ds-api%5cuser-token",
        "/ds-api\\user-token",
        "/ds-api/user-token;x=1",
        "/ds-api;x=1/user-token",
        "/;x/ds-api/user-token",
        "/ds-api./;x/user-token",
        "/ds-api/user-token%23",
        "/ds-api/user-token%3fx",
        "/ds-api/user-token%20",
        "/ds-api/user-token%25",
        "/ds-api/user-token.",
        "/ds-api/user-token.json",
        "/ds-api/user-token:x",
        "/ds-api./user-token",
        "/ds-api%20/user-token",
        "/ds-api/u%C5%BFer-token",
        "/ds-api/user-to%E2%84%AAen",
        "/ds-ap%C4%B1/user-token",
        "/ds-api/%EF%BD%95ser-token",
        "/ds\u{2011}api/user\u{2212}token",
        "/ds-api\u{2044}user-token",
        "/ds-api/user\u{200b}-token",
        "/ds-api/user-token\u{feff}",
        "/\u{24d3}s-api/user-token",
        "/ds-api;%2Fx/user-token",
        "/;%2Fx/ds-api/user-token",
        "/ds-api;%255Cx/user-token",
        "/(S(x))/ds-api/user-token",
        "/ds-api/(S(x))/user-token",
        "/ds-api::$INDEX_ALLOCATION/user-token",
        "/ds-ap%C4%B0/user-token",
        "/ds-api/%C5%ADser-token",
        "/%CE%B4s-api/user-token",
        "/ds-api+/user-token",
    ] {
        assert_eq!(route("GET", target), "reserved", "{target}");
    }
}

#[test]
fn all_else_goes_on() {
    for target in [
        "/a//b",
        "/a%2Fb",
        "/CORP%5Canna",
        "/Loading%E2%80%A6",
        "/Zo\u{eb}",
        "/100%25",
        "/100%25%20sure",
        "/a%2541",
        "/.well-known/x",
        "/a/.hidden",
        "/a..b/c.",
        "/a/b;v=1.0",
        "/%20",
        "/1%C2%BD",
        "/ds-api/user",
        "/ds-api/user-tokens",
        "/ds-api/user-token%E4%B8%AD",
        "/c++/x",
        "/a/(b)/c:d",
        "/ds-api/user- token",
        "/ds.-api/user-token",
        "/ds-apix/user-token",
        "/x/ds-api/user-token",
        "/ds-api/x/user-token",
        "/raw/%01%ff%C3",
        "/raw/%252541",
    ] {
        assert_eq!(route("GET", target), "protected", "{target}");
    }
}

#[test]
fn a_lenient_prefix_holds_no_endpoint() {
    for pattern in ["/*", "/ds-api/*", "/DS-API/*", "/a", "/a*", "/a//*", "*", "/a/*/*", "/../*"] {
        assert_eq!(LenientPrefix::new(pattern), None, "{pattern}");
    }
    assert!(LenientPrefix::new("/ds-api/files/*").is_some());
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
        assert_ne!(route("GET", mutation), "public", "{mutation}");
    }
}

#[test]
fn strict_paths_refuse_what_is_not_canonical() {
    let policy = Policy { strict_paths: true, ..policy() };
    let verdict = policy.classify(b"GET", b"/a//b", false).err();
    assert_eq!(verdict, Some(TargetError::NotCanonical));
    assert!(policy.classify(b"GET", b"/a/b", false).is_ok());
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

/// A server that reads paths in one of the ways that are known.
pub(super) fn reader() -> impl Strategy<Value = Reader> {
    (0..3_usize, any::<[bool; 16]>()).prop_map(|(decodings, flags)| {
        let [
            resolves_early,
            decodes_unicode_escapes,
            believes_overlong,
            reads_authority,
            normalises,
            best_fits,
            rest @ ..,
        ] = flags;
        let [
            drops_invisible,
            drops_controls,
            ends_at_nul,
            ends_at_query,
            turns_backslashes,
            folds_case,
            rest @ ..,
        ] = rest;
        let [cuts_parameters, trims_segments, merges_slashes, merges_before_resolving] = rest;
        Reader {
            decodings,
            resolves_early,
            decodes_unicode_escapes,
            believes_overlong,
            reads_authority,
            normalises,
            best_fits,
            drops_invisible,
            drops_controls,
            ends_at_nul,
            ends_at_query,
            turns_backslashes,
            folds_case,
            cuts_parameters,
            trims_segments,
            merges_slashes,
            merges_before_resolving,
        }
    })
}

/// The oracle would notice a rule that only looks at the path as it stands.
#[test]
fn readers_find_what_a_naive_rule_forwards() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut found = 0;
    for _ in 0..2000 {
        let (reader, path) = (reader(), spelling()).new_tree(&mut runner).unwrap().current();
        let is_plain = path.starts_with(ENDPOINT);
        found += usize::from(!is_plain && reader.reads_endpoint(path.as_bytes()));
    }
    assert!(found > 20, "{found}");
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

    /// However a server reads paths: what it takes for the endpoint never reaches it.
    #[test]
    fn no_reader_is_sent_the_endpoint(reader in reader(), path in spelling()) {
        let found = route("GET", &path);
        let goes_on = found == "protected" || found == "public";
        prop_assert!(!goes_on || !reader.reads_endpoint(path.as_bytes()), "{} {}", found, path);
    }

    #[test]
    fn any_target_is_classified_without_a_panic(method in "[A-Za-z]{0,7}", target: Vec<u8>) {
        let _ = policy().classify(method.as_bytes(), &target, false);
    }
}
