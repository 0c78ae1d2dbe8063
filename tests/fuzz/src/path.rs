//! Which way a request goes by its path: what is public is canonical, and what goes on is the endpoint's path to no reader.
//!
//! The input: a byte for method, policy and body, three for what a reader does, and the target.

use std::sync::LazyLock;

use ds_gateway::auth::policy::{
    ENDPOINT, LenientPrefix, Policy, PublicRoute, Route, is_canonical, split_target,
};

use self::readers::Reader;

/// The models of servers that the gateway's own tests have.
#[allow(dead_code, reason = "a file of the tests")]
#[path = "../../../src/auth/policy/readers.rs"]
mod readers;

mod target {
    pub(super) use ds_gateway::auth::policy::ENDPOINT;
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "get", "TRACE", "PUT"];

pub fn run(input: &[u8]) {
    let Some((&[info_label, decodings, some, others], target)) = input.split_first_chunk() else {
        return;
    };
    let method = METHODS[usize::from(info_label & 7)];
    let [is_strict, has_body] = [8, 16].map(|bit| info_label & bit != 0);
    let policy = if is_strict { &POLICIES[1] } else { &POLICIES[0] };
    let (path, _) = split_target(target);
    assert_eq!(is_canonical(path), canonical(path), "canonical {path:?}");

    let route = policy.classify(method.as_bytes(), target, has_body);
    if path.starts_with(b"/") {
        let of_path = policy.classify(method.as_bytes(), path, has_body);
        assert_eq!(word(&route), word(&of_path), "a query changes the route");
    }
    let goes_on = match &route {
        Ok(Route::Public(_)) => {
            assert!(canonical(path) && is_public(method, path) && !has_body, "public");
            true
        }
        Ok(Route::Protected) => {
            assert!(!is_strict || canonical(path) || target == b"*", "strict");
            assert!(canonical(path) <= !(is_public(method, path) && !has_body), "a public path is protected");
            true
        }
        Ok(Route::Endpoint { organization, .. }) => {
            let rest =
                path.strip_prefix(ENDPOINT.as_bytes()).expect("the endpoint's path as it is published");
            let segment = rest.strip_prefix(b"/");
            assert_eq!(segment.is_none(), rest.is_empty());
            let decoded =
                segment.map(|segment| percent_encoding::percent_decode(segment).collect::<Vec<u8>>());
            assert_eq!(organization.as_deref().map(str::as_bytes), decoded.as_deref());
            assert!(segment.is_none_or(|segment| !segment.is_empty() && !segment.contains(&b'/')));
            false
        }
        Ok(Route::Reserved(_)) => false,
        Err(error) => {
            assert!(!error.as_str().is_empty());
            false
        }
    };
    if goes_on && path.starts_with(b"/") {
        for reader in [reader(decodings, some, others), reader(2, 0xff, 0xff), reader(2, 0xf0, 0xff)] {
            assert!(!reader.reads_endpoint(path), "the endpoint to {reader:?}");
        }
    }
}

fn word(route: &Result<Route<'_>, impl std::fmt::Debug>) -> String {
    match route {
        Ok(Route::Public(_)) => "public".into(),
        other => format!("{other:?}"),
    }
}

static POLICIES: LazyLock<[Policy; 2]> = LazyLock::new(|| [false, true].map(policy));

/// What [`is_public`] opens.
fn policy(strict_paths: bool) -> Policy {
    let route = |path, methods: &[&str]| {
        let methods: Vec<String> = methods.iter().map(|method| (*method).to_owned()).collect();
        PublicRoute::new(path, &methods).expect("a route")
    };
    Policy {
        public: vec![route("/ds-api/", &[]), route("/ds-api/download/*", &[]), route("/ping", &["OPTIONS"])],
        lenient: vec![LenientPrefix::new("/raw/*").expect("a prefix")],
        upgrades: Vec::new(),
        strict_paths,
    }
}

pub fn is_public(method: &str, path: &[u8]) -> bool {
    let reads = method == "GET" || method == "HEAD";
    match path {
        b"/ds-api/" => reads,
        b"/ping" => method == "OPTIONS",
        _ => reads && path.starts_with(b"/ds-api/download/"),
    }
}

fn reader(decodings: u8, some: u8, others: u8) -> Reader {
    let flag = |of: u8, bit: u8| of & 1 << bit != 0;
    Reader {
        decodings: usize::from(decodings % 3),
        resolves_early: flag(some, 0),
        decodes_unicode_escapes: flag(some, 1),
        believes_overlong: flag(some, 2),
        reads_authority: flag(some, 3),
        normalises: flag(some, 4),
        best_fits: flag(some, 5),
        drops_invisible: flag(some, 6),
        drops_controls: flag(some, 7),
        ends_at_nul: flag(others, 0),
        ends_at_query: flag(others, 1),
        turns_backslashes: flag(others, 2),
        folds_case: flag(others, 3),
        cuts_parameters: flag(others, 4),
        trims_segments: flag(others, 5),
        merges_slashes: flag(others, 6),
        merges_before_resolving: flag(others, 7),
    }
}

/// The rule of a path with one meaning, from its sentence.
pub fn canonical(path: &[u8]) -> bool {
    let Some(tail) = path.strip_prefix(b"/") else { return false };
    let segments: Vec<&[u8]> = tail.split(|byte| *byte == b'/').collect();
    let is_sound = |(at, segment): (usize, &&[u8])| match segment {
        [] => at + 1 == segments.len(),
        _ => canonical_segment(segment),
    };
    segments.iter().enumerate().all(is_sound)
}

fn canonical_segment(segment: &[u8]) -> bool {
    let mut decoded = Vec::new();
    let mut rest = segment;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let Some((digits, after)) = rest.split_first_chunk::<2>() else { return false };
                let value = |digit: u8| char::from(digit).to_digit(16);
                let (Some(high), Some(low)) = (value(digits[0]), value(digits[1])) else { return false };
                let byte = u8::try_from(high * 16 + low).expect("two digits");
                if byte < 0x80 && !b" \"<>[]^`{|}".contains(&byte) {
                    return false;
                }
                decoded.push(byte);
                rest = after;
            }
            b'\\' | b';' | b'?' | b'#' | ..=0x20 | 0x7f.. => return false,
            _ => decoded.push(byte),
        }
    }
    !matches!(decoded.last(), Some(b'.' | b' ')) && std::str::from_utf8(&decoded).is_ok()
}
