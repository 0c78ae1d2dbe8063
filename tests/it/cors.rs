//! Pages of other origins: browsers that ask before they send are answered by the gateway itself, every answer says who may read it,
//! and an origin lets nobody in.

use crate::client::{Client, request};
use crate::command::eventually;
use crate::connections::held;
use crate::contract::ENDPOINT;
use crate::curl::{BOTH, Fetched, Protocol, curl};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::http2::{token_field, url};
use crate::options::{Options, User};
use crate::platform::{Behaviour, Platform};

const PAGE: &str = "https://dashboard.example";
const OTHER: &str = "https://evil.example";
const EXPOSED: &str = "*, Retry-After, WWW-Authenticate, X-DS-Sequence, X-Request-Id";

/// Every field of the CORS protocol that an answer may have.
const ALLOWS: [&str; 7] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
];

fn options(platform: &Platform) -> Options {
    Options::new(platform).https().public("[\"/public/*\"]").set(
        "cors",
        "origins",
        format!("[\"http://localhost:3000\", \"{PAGE}\"]"),
    )
}

/// The fields of an answer that are about origins, but for `Vary`.
fn allows(answer: &Fetched) -> Vec<(&str, &str)> {
    let found = answer.fields.iter().filter(|(name, _)| ALLOWS.contains(&name.as_str()));
    found.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn varies_by_origin(answer: &Fetched) -> bool {
    answer.values("vary").iter().flat_map(|value| value.split(',')).any(|name| name.trim() == "Origin")
}

/// That a page of this origin can read the answer.
#[track_caller]
fn is_shared(answer: &Fetched, origin: &str) {
    let mut found = allows(answer);
    found.sort_unstable();
    let expected = [("access-control-allow-origin", origin), ("access-control-expose-headers", EXPOSED)];
    assert_eq!(found, expected, "{answer:?}");
    assert!(varies_by_origin(answer), "{answer:?}");
}

/// That no page of another origin can.
#[track_caller]
fn is_kept(answer: &Fetched) {
    assert!(allows(answer).is_empty() && varies_by_origin(answer), "{answer:?}");
}

/// Asks as a page of that origin.
#[track_caller]
fn from(origin: &str, protocol: Protocol, gateway: &Gateway, target: &str, arguments: &[&str]) -> Fetched {
    let field = format!("Origin: {origin}");
    let arguments = [&["--path-as-is", "-H", &field], arguments].concat();
    curl(protocol, &url(gateway, target), &arguments, "")
}

const PREFLIGHT: [&str; 6] = [
    "-X",
    "OPTIONS",
    "-H",
    "Access-Control-Request-Method: PUT",
    "-H",
    "Access-Control-Request-Headers: user-token",
];

#[test]
fn a_browser_that_asks_before_it_sends_is_answered_by_the_gateway_on_every_route() {
    let platform = Platform::echo();
    let gateway = options(&platform)
        .public("[{ path = \"/public/*\", methods = [\"OPTIONS\"] }]")
        .set("cors", "headers", "[\"X-Page\"]")
        .set("cors", "max_age", "\"1h\"")
        .start();
    let token = token_field(&gateway.mint());
    let account = format!("{USER}:{PASSWORD}");
    for protocol in BOTH {
        for target in [
            "/ds-api/agents?x=1",
            "/public/x",
            ENDPOINT,
            &format!("{ENDPOINT}/Main%20Org."),
            &format!("{ENDPOINT}/a/b"),
            "/x%00",
        ] {
            for more in [&[][..], &["-H", &token], &["-u", &account], &["-d", "a body"]] {
                let arguments = [&PREFLIGHT[..], more].concat();
                let answer = from(PAGE, protocol, &gateway, target, &arguments);
                answer.is(204);
                for (name, value) in [
                    ("access-control-allow-origin", PAGE),
                    ("access-control-allow-methods", "DELETE, GET, HEAD, PATCH, POST, PUT"),
                    (
                        "access-control-allow-headers",
                        "authorization, content-type, user-token, x-ds-at-least, x-page",
                    ),
                    ("access-control-max-age", "3600"),
                ] {
                    assert_eq!(answer.values(name), [value], "{protocol:?} {target} {answer:?}");
                }
                assert!(answer.values("access-control-allow-credentials").is_empty(), "{answer:?}");
                assert!(answer.body.is_empty() && answer.values("content-length").is_empty(), "{answer:?}");
                for origin in [OTHER, "null", "http://localhost:3001"] {
                    let answer = from(origin, protocol, &gateway, target, &arguments);
                    answer.is_error(403);
                    is_kept(&answer);
                }
            }
        }
    }
    assert_eq!(platform.bytes(), 0, "nothing of it goes on");
    let line = eventually("an access line", || {
        gateway.log.messages("access").into_iter().find(|line| line["method"] == "OPTIONS")
    });
    assert_eq!((&line["route"], &line["decision"]), (&"preflight".into(), &"preflight".into()), "{line}");
    assert!(gateway.metric("ds_gateway_requests_total", &["route=\"preflight\"", "2xx"]) > 0.0);
    gateway.still_healthy();
}

#[test]
fn an_options_request_without_the_fields_of_a_browser_is_one_like_any_other() {
    let platform = Platform::echo();
    let (with, without) =
        (options(&platform).start(), Options::new(&platform).https().public("[\"/public/*\"]").start());
    let tokens = [&with, &without].map(|gateway| token_field(&gateway.mint()));
    for protocol in BOTH {
        for target in ["/ds-api/agents", "/public/x", ENDPOINT, "/x%00"] {
            for fields in [
                &[][..],
                &["-H", "Origin: https://dashboard.example"],
                &["-H", "Access-Control-Request-Method: PUT"],
                &[
                    "-H",
                    "Origin: https://dashboard.example",
                    "-H",
                    "Origin: https://dashboard.example",
                    "-H",
                    "Access-Control-Request-Method: PUT",
                ],
            ] {
                for has_token in [false, true] {
                    let statuses = [&with, &without].into_iter().zip(&tokens).map(|(gateway, token)| {
                        let token = if has_token { &["-H", token.as_str()][..] } else { &[] };
                        let arguments = [&["--path-as-is", "-X", "OPTIONS"], fields, token].concat();
                        curl(protocol, &url(gateway, target), &arguments, "").status
                    });
                    let statuses: Vec<u64> = statuses.collect();
                    let expected = match target {
                        ENDPOINT => 405,
                        "/x%00" => 400,
                        _ if has_token => 200,
                        _ => 401,
                    };
                    assert_eq!(statuses, [expected; 2], "{protocol:?} {target} {fields:?} {has_token}");
                }
            }
        }
    }
    with.still_healthy();
}

#[test]
fn pages_of_listed_origins_can_read_every_answer_and_others_none() {
    let platform = Platform::echo();
    let gateway = options(&platform)
        .set("limits", "body_bytes", "1000")
        .set("limits", "revocations_per_user", "1")
        .set("platform", "read_timeout", "\"1s\"")
        .user(User::new("often", "pw", "often@example.com", "Main Org."))
        .start();
    let token = token_field(&gateway.mint());
    let revoked = gateway.login("often", "pw").expect("a token");
    let fields = [("user-token", revoked.as_str())];
    assert_eq!(gateway.exchange(request("DELETE", ENDPOINT, &fields)).status, 204);
    let revoked = token_field(&revoked);
    let long = "b".repeat(2_000);
    let account = format!("{USER}:wrong");
    let many: Vec<String> = (0..150).map(|number| format!("x-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().flat_map(|field| ["-H", field.as_str()]).collect();
    let rows: [(&str, &[&str], u64); 14] = [
        ("/ds-api/agents", &["-H", &token], 200),
        ("/ds-api/agents", &["-H", &token, "-X", "DELETE"], 200),
        ("/ds-api/agents", &["-H", &token, "-I"], 200),
        ("/public/x", &[], 200),
        ("/ds-api/agents", &[], 401),
        ("/ds-api/agents", &["-H", &revoked], 401),
        (ENDPOINT, &["-X", "POST", "-u", &account], 401),
        (ENDPOINT, &["-X", "PUT"], 405),
        ("/DS-API/user-token", &[], 404),
        ("/x%00", &["-H", &token], 400),
        ("/large", &["-H", &token, "-H", "Expect:", "-d", &long], 413),
        ("/x", &["-H", &token, "-H", "Expect: tea"], 417),
        // Too many of its tokens are revoked.
        (ENDPOINT, &["-X", "POST", "-u", "often:pw"], 429),
        ("/many", &many, 431),
    ];
    let check = |target: &str, arguments: &[&str], status: u64| {
        for protocol in BOTH {
            let answer = from(PAGE, protocol, &gateway, target, arguments);
            answer.is(status);
            is_shared(&answer, PAGE);
            for origin in
                [OTHER, "null", "https://dashboard.example.evil.example", "https://dashboard.example, *"]
            {
                let answer = from(origin, protocol, &gateway, target, arguments);
                answer.is(status);
                is_kept(&answer);
            }
            let answer = curl(protocol, &url(&gateway, target), &[&["--path-as-is"], arguments].concat(), "");
            answer.is(status);
            is_kept(&answer);
        }
    };
    for (target, arguments, status) in rows {
        check(target, arguments, status);
    }
    for (behaviour, status) in [(Behaviour::Close, 502), (Behaviour::Never, 504)] {
        platform.behave(behaviour);
        check("/failing", &["-H", &token], status);
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn pages_can_read_that_the_gateway_has_too_much_to_do() {
    let (platform, release) = held();
    let gateway = options(&platform).set("limits", "requests", "5").start();
    let busy: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = gateway.client();
            client.send(request("GET", "/public/held", &[]));
            client
        })
        .collect();
    eventually("them to be forwarded", || (platform.requests().len() == 4).then_some(()));
    for protocol in BOTH {
        let answer = from(PAGE, protocol, &gateway, "/public/x", &[]);
        answer.is(503);
        is_shared(&answer, PAGE);
        assert!(!answer.values("retry-after").is_empty(), "{answer:?}");
    }
    for _ in &busy {
        release.send(()).expect("the platform waits");
    }
    drop(busy);
}

#[test]
fn what_the_platform_says_about_origins_is_replaced_where_the_gateway_has_a_rule() {
    let platform = Platform::echo();
    let own = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://evil.example\r\naccess-control-allow-origin: *\r\n\
        Access-Control-Allow-Credentials: true\r\nAccess-Control-Allow-Methods: TRACE\r\nAccess-Control-Allow-Headers: x\r\n\
        Access-Control-Allow-Private-Network: true\r\nAccess-Control-Expose-Headers: x-none\r\nAccess-Control-Max-Age: 86400\r\n\
        Vary: Accept-Encoding\r\nX-Total-Count: 5\r\nContent-Length: 2\r\n\r\nok";
    let early = format!("HTTP/1.1 103 Early Hints\r\nAccess-Control-Allow-Origin: *\r\n\r\n{own}");
    let (with, without) =
        (options(&platform).start(), Options::new(&platform).https().public("[\"/public/*\"]").start());
    for raw in [own.to_owned(), early] {
        platform.behave(Behaviour::Raw(raw.into_bytes()));
        for protocol in BOTH {
            let answer = from(PAGE, protocol, &with, "/public/x", &[]);
            answer.is(200);
            is_shared(&answer, PAGE);
            assert_eq!(answer.values("vary"), ["Accept-Encoding", "Origin"], "{answer:?}");
            assert_eq!(answer.values("x-total-count"), ["5"]);
            let answer = from(OTHER, protocol, &with, "/public/x", &[]);
            answer.is(200);
            is_kept(&answer);
            // Without a rule the platform's own stands.
            let answer = from(OTHER, protocol, &without, "/public/x", &[]);
            assert_eq!(answer.is(200).values("access-control-allow-origin"), [OTHER, "*"]);
            assert_eq!(answer.values("access-control-allow-credentials"), ["true"]);
            assert_eq!(answer.values("vary"), ["Accept-Encoding"]);
        }
    }
    for (vary, expected) in [
        ("origin, accept", vec!["origin, accept"]),
        ("Accept", vec!["Accept", "Origin"]),
        ("X-Origin", vec!["X-Origin", "Origin"]),
    ] {
        platform
            .behave(Behaviour::Raw(format!("HTTP/1.1 204 No Content\r\nVary: {vary}\r\n\r\n").into_bytes()));
        let answer = from(PAGE, BOTH[0], &with, "/public/x", &[]);
        assert_eq!(answer.is(204).values("vary"), expected);
    }
}

#[test]
fn without_a_rule_no_answer_has_a_field_of_it() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let token = token_field(&gateway.mint());
    for protocol in BOTH {
        for (target, arguments, status) in [
            ("/ds-api/x", &["-H", &token][..], 200),
            ("/ds-api/x", &[], 401),
            ("/ds-api/x", &PREFLIGHT, 401),
            (ENDPOINT, &PREFLIGHT, 405),
        ] {
            let answer = from(PAGE, protocol, &gateway, target, arguments);
            answer.is(status);
            assert!(allows(&answer).is_empty() && answer.values("vary").is_empty(), "{answer:?}");
        }
    }
}

#[test]
fn all_pages_can_read_the_answers_of_a_gateway_for_everybody() {
    let platform = Platform::echo();
    let gateway = options(&platform).set("cors", "origins", "[\"*\"]").start();
    let token = token_field(&gateway.mint());
    for protocol in BOTH {
        for origin in [PAGE, OTHER, "null"] {
            let answer = from(origin, protocol, &gateway, "/ds-api/x", &["-H", &token]);
            is_shared(answer.is(200), "*");
            let answer = from(origin, protocol, &gateway, "/ds-api/x", &[]);
            is_shared(answer.is(401), "*");
            let answer = from(origin, protocol, &gateway, "/ds-api/x", &PREFLIGHT);
            assert_eq!(answer.is(204).values("access-control-allow-origin"), ["*"]);
            assert!(answer.values("access-control-allow-credentials").is_empty(), "{answer:?}");
        }
    }
    gateway.still_healthy();
}
