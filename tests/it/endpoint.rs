//! The reserved path of the token endpoint: who may use its older form, which methods it has, and that every other
//! spelling of it ends here.

use crate::client::{basic, request};
use crate::contract::{ENDPOINT, describes, inspect, is_guarded};
use crate::gateway::{PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;

#[test]
fn the_older_form_wants_the_organization_of_the_user_and_of_the_token() {
    let platform = Platform::echo();
    let other = User::new("other", "otherPassword", "other@example.com", "Société 100%");
    let gateway = Options::new(&platform).user(other).start();
    let mine = basic(USER, PASSWORD);
    let mint = |segment: &str, fields: &[(&str, &str)]| {
        gateway.exchange(request("POST", &format!("{ENDPOINT}/{segment}"), fields))
    };
    assert_eq!(mint("Main%20Org.", &[("Authorization", &mine)]).status, 201);
    assert_eq!(
        mint("Soci%C3%A9t%C3%A9%20100%25", &[("Authorization", &basic("other", "otherPassword"))]).status,
        201
    );

    let refused = mint("Main%20Org.", &[("Authorization", &basic(USER, "wrong"))]);
    refused.is_error(401);
    // Decoded once, and equal byte for byte: near misses get the answer of a wrong password.
    for segment in
        ["Main%2520Org.", "main%20org.", "Main+Org.", "Main%20Org", "Main%20Org.%20", "Other", "Main%20Org.x"]
    {
        let answer = mint(segment, &[("Authorization", &mine)]);
        answer.is_error(401);
        is_guarded(&answer);
        assert_eq!(answer.body, refused.body, "{segment}");
        assert_eq!(answer.values("www-authenticate"), refused.values("www-authenticate"), "{segment}");
    }
    let token = gateway.mint();
    let theirs = gateway.login("other", "otherPassword").expect("a token");
    let look = |segment: &str, token: &str| {
        inspect(&gateway, &format!("/{segment}?token={token}"), &[("Authorization", &mine)])
    };
    let answer = look("Main%20Org.", &token);
    assert_eq!(answer.status, 200);
    describes(&answer.json(), &token);
    look("Other", &token).is_error(401);
    look("Main%20Org.", &theirs).is_error(401);
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn no_other_method_mints() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let good = basic(USER, PASSWORD);
    let minted = || gateway.metric("ds_gateway_token_requests_total", &["action=\"mint\"", "outcome=\"ok\""]);
    let number = || gateway.metric("ds_gateway_store_number", &[]);
    let (before, at) = (minted(), number());
    for (path, allowed) in [(ENDPOINT, "DELETE, GET, POST"), ("/ds-api/user-token/Main%20Org.", "GET, POST")]
    {
        for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "post", "Get"] {
            let answer = gateway.exchange(request(method, path, &[("Authorization", &good)]));
            if method == "DELETE" && path == ENDPOINT {
                // It revokes, and for that it wants the token itself.
                answer.is_error(401);
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.value("allow"), allowed, "{method} {path}");
            is_guarded(&answer);
            if method != "HEAD" {
                answer.is_error(405);
            }
        }
    }
    assert_eq!((minted(), number()), (before, at), "nothing was minted");
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn every_other_spelling_of_the_endpoint_is_404_or_400() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let good = basic(USER, PASSWORD);
    let spellings = [
        "/ds-api/user-token/",
        "/ds-api/user-token/a/b",
        "/ds-api/user-token/Main%20Org./",
        "/ds-api/user-token//",
        "/DS-API/user-token",
        "/ds-api/USER-TOKEN",
        "/ds-api/User-Token/Main%20Org.",
        "/ds-api/%75ser-token",
        "/ds-api/user%2Dtoken",
        "/ds-api/user%2dtoken/Main%20Org.",
        "/ds-api//user-token",
        "/ds-api%2fuser-token",
        "/ds-api/user-token%2F",
        "/%64s-api/user-token",
    ];
    // Readers differ about these, wherever they lead.
    let ambiguous = [
        "/x/../ds-api/user-token",
        "//ds-api/user-token",
        "/ds-api/./user-token",
        "/ds-api/%2e/user-token",
        "/ds-api/x/%2E%2e/user-token",
        "/ds-api/a\\b/../user-token",
        "/ds-api/a%5cb/%2e%2e/user-token",
        "/ds-api/%E2%80%A5/%2e%2e/user-token",
        "/ds-api/a%c0%afb/%2e%2e/user-token",
        "//x/ds-api/user-token",
        "/ds-api/user-token/.",
        "/./ds-api/user-token",
    ];
    let all =
        spellings.into_iter().map(|path| (path, 404)).chain(ambiguous.into_iter().map(|path| (path, 400)));
    for (spelling, expected) in all {
        for method in ["GET", "POST", "DELETE", "HEAD"] {
            for fields in [&[][..], &[("Authorization", good.as_str())], &[("user-token", token.as_str())]] {
                let answer = gateway.exchange(request(method, spelling, fields));
                assert_eq!(answer.status, expected, "{method} {spelling} {fields:?} {answer:?}");
                assert!(answer.values("www-authenticate").is_empty(), "{answer:?}");
                if method != "HEAD" {
                    answer.is_error(expected);
                }
            }
        }
    }
    assert_eq!(platform.bytes(), 0, "{:?}", platform.requests());
    // Neighbours are no part of it.
    for path in ["/ds-api/user-tokens", "/ds-api/user-token-x", "/ds-api/user", "/user-token"] {
        gateway.exchange(request("GET", path, &[])).is_error(401);
        assert_eq!(gateway.exchange(request("GET", path, &[("user-token", &token)])).status, 200, "{path}");
        platform.request(path);
    }
    gateway.still_healthy();
}
