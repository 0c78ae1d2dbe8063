//! The property that everything rests on: without a valid token the platform sees nothing but what is public.

use crate::client::basic;
use crate::gateway::{PASSWORD, USER};
use crate::jwt;
use crate::paths::{canonical, path_of};
use crate::routes::{deployment, is_clean, public};
use crate::seeds::property;
use proptest::prelude::*;
use std::cell::Cell;

const WORDS: [&str; 27] = [
    "ds-api",
    "download",
    "agent.tar.gz",
    "user-token",
    "ping",
    "secret",
    "DS-API",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "..;",
    "x",
    "",
    "%75ser-token",
    "%00",
    "%2f",
    "%5c",
    "\\",
    "%c0%af",
    "a;b=1",
    "~",
    "%7e",
    "%20",
    "%C3%A9",
    "é",
    "*",
];
const STARTS: [&str; 8] =
    ["/", "/ds-api/", "/ds-api/download/", "//", "", "\\", "http://gateway.test/", "gateway.test:80/"];
const ENDS: [&str; 12] =
    ["", "/", ".", ";", "?", "?x=/ds-api/", "?token=x", "#", "#/../x", "%23", "%3f", "/.."];
const OPEN: [&str; 4] = ["/ds-api/", "/ds-api/ping", "/ds-api/download/a", "/ds-api/download/b/c.zip"];

fn targets() -> impl Strategy<Value = Vec<u8>> {
    let select = |all: &'static [&'static str]| prop::sample::select(all);
    let end = || prop_oneof![Just(""), select(&ENDS)];
    let joined = (select(&STARTS), prop::collection::vec(select(&WORDS), 0..5), end())
        .prop_map(|(start, words, end)| format!("{start}{}{end}", words.join("/")).into_bytes());
    let open = (select(&OPEN), end()).prop_map(|(path, end)| format!("{path}{end}").into_bytes());
    let raw =
        prop::collection::vec(0x21..=0xffu8, 0..20).prop_map(|tail| [b"/ds-api/", tail.as_slice()].concat());
    prop_oneof![4 => joined, 3 => open, 1 => raw]
}

#[test]
fn without_a_token_the_platform_sees_only_what_is_canonical_and_public() {
    let (platform, gateway) = deployment();
    let token = gateway.mint();
    let forged =
        jwt::signed(b"a secret that is not the gateway's", token.rsplit_once('.').expect("a signature").0);
    let pool = [
        format!("user-token: {forged}"),
        "user-token: x".to_owned(),
        "user-token:".to_owned(),
        format!("user_token: {token}"),
        format!("User.Token: {token}"),
        format!("user-token: {token}, {token}"),
        format!("Cookie: user-token={token}"),
        format!("Authorization: Bearer {token}"),
        format!("Authorization: {}", basic(USER, PASSWORD)),
        "X-Forwarded-Uri: /ds-api/".to_owned(),
        "X-Original-URL: /ds-api/".to_owned(),
        "X-Rewrite-Url: /ds-api/download/x".to_owned(),
        "X-HTTP-Method-Override: GET".to_owned(),
        "X-Forwarded-Method: OPTIONS".to_owned(),
        "X-DS-User: root".to_owned(),
        "X_DS_User: root".to_owned(),
        "X-Forwarded-For: 127.0.0.1".to_owned(),
        "User-Agent: kube-probe/1.0".to_owned(),
        "Connection: user-token".to_owned(),
        "Connection: close".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Accept: */*".to_owned(),
    ];
    let methods = [
        "GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "PROPFIND",
        "CONNECT",
    ];
    let bodies = [
        "\r\n",
        "\r\n",
        "\r\n",
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ];
    let requests = (
        prop::sample::select(methods.to_vec()),
        targets(),
        prop::collection::vec(prop::sample::select(pool.to_vec()), 0..4),
        prop::sample::select(bodies.to_vec()),
    );
    let opened = Cell::new(0);
    property(1024, &requests, |(method, target, fields, body)| {
        let mut bytes = format!("{method} ").into_bytes();
        bytes.extend(&target);
        bytes.extend(b" HTTP/1.1\r\nHost: gateway.test\r\n");
        fields.iter().for_each(|field| bytes.extend(format!("{field}\r\n").bytes()));
        bytes.extend(body.bytes());
        let path = path_of(&target);
        let may = canonical(path) && public(method, path) && !body.contains("abc");
        let before = (platform.bytes(), platform.requests().len());
        let answer = gateway.exchange(bytes);
        if !may {
            prop_assert_eq!(platform.bytes(), before.0, "{:?}", platform.requests().last());
            prop_assert!((400..500).contains(&answer.status), "{}", answer.status);
        }
        prop_assert_eq!(platform.requests().len() - before.1, usize::from(answer.status == 200));
        opened.set(opened.get() + usize::from(answer.status == 200));
        Ok(())
    });
    assert!(opened.get() > 10, "the property was put to the test: {} requests went through", opened.get());
    platform.requests().iter().for_each(is_clean);
    gateway.still_healthy();
}
