//! `Authorization: Basic` on the token endpoint, after RFC 7617.

use crate::client::{basic, request};
use crate::contract::{CHALLENGE, ENDPOINT, is_guarded};
use crate::gateway::{ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[test]
fn basic_is_never_asked_for_elsewhere() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let answer =
        gateway.exchange(request("GET", "/ds-api/agents", &[("Authorization", &basic(USER, PASSWORD))]));
    answer.is_error(401);
    assert!(answer.values("www-authenticate").iter().all(|value| !value.to_lowercase().contains("basic")));
    assert_eq!(platform.bytes(), 0);
}

#[test]
fn basic_follows_rfc_7617() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .user(User::new("colon", "pass:word::x", "c@example.com", ORGANIZATION))
        .user(User::new("Zoë 日本", "pässwörd 🔑", "z@example.com", ORGANIZATION))
        .start();
    let encode = |bytes: &[u8]| STANDARD.encode(bytes);
    let good = encode(b"myUser:myPassword");
    let admitted = [
        format!("Basic {good}"),
        format!("basic {good}"),
        format!("BASIC {good}"),
        basic("colon", "pass:word::x"),
        basic("Zoë 日本", "pässwörd 🔑"),
    ];
    for value in &admitted {
        let answer = gateway.exchange(request("POST", ENDPOINT, &[("Authorization", value)]));
        assert_eq!(answer.status, 201, "{value} {}", answer.text());
    }
    let long = "p".repeat(1025);
    let refused = [
        ("nothing", String::new()),
        ("another scheme", format!("Bearer {good}")),
        ("no scheme", good.clone()),
        ("no credentials", "Basic".to_owned()),
        ("empty credentials", "Basic ".to_owned()),
        ("no colon", format!("Basic {}", encode(b"myUser"))),
        ("an empty password", basic(USER, "")),
        ("an empty user", basic("", PASSWORD)),
        ("nothing but a colon", basic("", "")),
        ("a wrong password", basic(USER, "myPasswore")),
        ("a password with a tail", basic(USER, "myPassword ")),
        ("an unknown user", basic("nobody", PASSWORD)),
        ("another case", basic("myuser", PASSWORD)),
        ("a password cut at its colon", basic("colon", "pass")),
        ("a password over the limit", basic(USER, &long)),
        ("base64 without its padding", format!("Basic {}", good.trim_end_matches('='))),
        ("base64 with a foreign letter", format!("Basic {}", good.replacen('b', "*", 1))),
        ("base64 with a blank", format!("Basic {} {}", &good[..8], &good[8..])),
        ("base64 with a tail", format!("Basic {good}, {good}")),
        ("bytes that are not UTF-8", format!("Basic {}", encode(b"myUser:myPassw\xf6rd"))),
        ("a control character", basic(USER, "my\u{0}Password")),
    ];
    let mut bodies = Vec::new();
    for (name, value) in &refused {
        let fields = [("Authorization", value.as_str())];
        let answer =
            gateway.exchange(request("POST", ENDPOINT, if value.is_empty() { &[] } else { &fields }));
        assert_eq!(answer.status, 401, "{name}");
        answer.is_error(401);
        assert_eq!(answer.value("www-authenticate"), CHALLENGE, "{name}");
        is_guarded(&answer);
        bodies.push((name, answer.text()));
    }
    assert!(bodies.iter().skip(5).all(|(_, body)| *body == bodies[5].1), "no oracle: {bodies:?}");

    // Two fields have no single meaning; whichever status says so, nothing is minted.
    for second in [format!("Basic {good}"), basic("colon", "pass:word::x"), "Bearer x".to_owned()] {
        let fields = [("Authorization", admitted[0].as_str()), ("authorization", second.as_str())];
        let answer = gateway.exchange(request("POST", ENDPOINT, &fields));
        assert!([400, 401].contains(&answer.status), "{answer:?}");
        answer.is_error(answer.status);
    }
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}
