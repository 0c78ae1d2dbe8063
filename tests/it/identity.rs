//! Who the platform is told is asking: exactly what the token says, in any script.

use crate::client::request;
use crate::command::eventually;
use crate::gateway::{EMAIL, ORGANIZATION, USER};
use crate::headers::{IDENTITY, folded, get};
use crate::jwt::{Members, now, token};
use crate::options::{Key, Options, User};
use crate::platform::Platform;
use crate::seeds::property;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

/// Percent-decoding as any library does it.
fn decode(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&digits, 16).expect("two digits after %"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn the_identity_comes_from_the_token_and_is_set_once() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let forged: Vec<(&str, &str)> = IDENTITY.iter().map(|name| (*name, "root")).collect();
    let fields =
        [&[("user-token", token.as_str()), ("X-Request-Id", "mine"), ("Cookie", "a=b")], &forged[..]]
            .concat();
    let answer = get(&gateway, "/ds-api/who", &fields);
    let seen = platform.request("/ds-api/who");
    for (name, value) in IDENTITY.iter().zip([USER, EMAIL, ORGANIZATION]) {
        assert_eq!(folded(&seen, name), [value], "{name}");
    }
    assert_eq!(folded(&seen, "user-token"), [token.as_str()], "the platform reads it today");
    assert_eq!(folded(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(folded(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(folded(&seen, "host"), ["gateway.test"]);
    assert_eq!(folded(&seen, "cookie"), ["a=b"]);
    assert_eq!(folded(&seen, "x-request-id"), [answer.value("x-request-id")]);
    assert_ne!(answer.value("x-request-id"), "mine");
    let again = get(&gateway, "/ds-api/again", &[("user-token", &token)]);
    assert_ne!(again.value("x-request-id"), answer.value("x-request-id"));
}

#[test]
fn identity_names_are_configurable_and_managed_all_the_same() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .set("platform", "user_header", "\"X-Remote-User\"")
        .set("platform", "email_header", "\"Remote-Mail\"")
        .set("platform", "organization_header", "\"X-Scope-OrgID\"")
        .start();
    let token = gateway.mint();
    let fields = [
        ("user-token", token.as_str()),
        ("x_remote_user", "canary"),
        ("REMOTE.MAIL", "canary"),
        ("X-Scope-Orgid", "canary"),
    ];
    assert_eq!(get(&gateway, "/who", &fields).status, 200);
    let seen = platform.request("/who");
    for (name, value) in [("X-Remote-User", USER), ("Remote-Mail", EMAIL), ("X-Scope-OrgID", ORGANIZATION)] {
        assert_eq!(folded(&seen, name), [value]);
    }
    get(&gateway, "/who", &[("user-token", &token), ("Connection", "remote-mail")]).is_error(400);
    platform.never_saw("canary");
}

#[test]
fn a_user_with_a_name_of_any_script_is_named_to_the_platform() {
    let platform = Platform::echo();
    let (name, organization) = ("Zoë 100% 日本", "Société \"Ω\"");
    let gateway =
        Options::new(&platform).user(User::new(name, "pw", "zoë@example.com", organization)).start();
    let token = gateway.login(name, "pw").expect("a token");
    assert_eq!(get(&gateway, "/who", &[("user-token", &token)]).status, 200);
    let seen = platform.request("/who");
    assert_eq!(seen.values("x-ds-user"), ["Zo%C3%AB 100%25 %E6%97%A5%E6%9C%AC"]);
    assert_eq!(seen.values("x-ds-email"), ["zo%C3%AB@example.com"]);
    assert_eq!(seen.values("x-ds-organization"), ["Soci%C3%A9t%C3%A9 \"%CE%A9\""]);
}

/// Characters of many scripts that NFC leaves alone beside any other of them, so that every string of them is a name.
fn inert() -> impl Strategy<Value = char> {
    prop_oneof![
        6 => prop::char::ranges(vec![' '..='9', ';'..='~'].into()),
        2 => Just('%'),
        2 => prop::char::ranges(vec!['à'..='ÿ', 'а'..='я', 'א'..='ת', 'ก'..='ฮ', 'ぁ'..='ん', '一'..='龥', '가'..='힣'].into()),
        1 => prop::char::ranges(vec!['🌀'..='🗿', '\u{10400}'..='\u{1044f}', '\u{20000}'..='\u{2a6d6}'].into()),
        1 => prop::sample::select(vec!['\u{a0}', '\u{2028}', '\u{feff}', '\u{202e}', '\u{200b}', '\u{fffd}', '\u{10fffd}']),
    ]
}

fn name() -> impl Strategy<Value = String> {
    let inner = prop::collection::vec(inert(), 1..60).prop_map(|all| all.into_iter().collect::<String>());
    let blank = |c: char| c.is_whitespace() || "\u{feff}\u{200b}\u{202e}".contains(c);
    inner.prop_filter("a name has no blank at either end", move |name| {
        !name.starts_with(blank) && !name.ends_with(blank)
    })
}

#[test]
fn the_identity_that_a_decoder_reads_back_equals_the_claim() {
    let platform = Platform::echo();
    let key = Key::foreign("shared");
    let gateway =
        Options::new(&platform).set("token", "unknown_users", "\"accept\"").key(key.clone()).start();
    let mint = |user: &str, email: &str, organization: &str| {
        let iat = now() + 4;
        let claims = Members::new().and("exp", iat + 3_600).and("iat", iat).text("user", user);
        let claims = claims.text("email", email).text("database", organization);
        token(&key.secret, Members::header("HS256", "shared").json(), claims.json())
    };
    eventually("the mark to be past", || (gateway.status(&mint("a", "b", "c")) == 200).then_some(()));
    let client = RefCell::new(gateway.client());
    let number = Cell::new(0);
    property(128, &(name(), name(), name()), |(user, email, organization)| {
        let target = format!("/who/{}", number.replace(number.get() + 1));
        let token = mint(&user, &email, &organization);
        let answer = client.borrow_mut().exchange(request("GET", &target, &[("user-token", &token)]));
        prop_assert_eq!(answer.status, 200);
        let seen = platform.request(&target);
        for (name, claim) in IDENTITY.iter().zip([&user, &email, &organization]) {
            let values = folded(&seen, name);
            prop_assert_eq!(values.len(), 1);
            prop_assert!(values[0].bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
            prop_assert_eq!(&decode(values[0]), claim);
        }
        Ok(())
    });
    gateway.still_healthy();
}
