use super::*;
use crate::edge::request_head::EngineHead;
use http::{HeaderMap, HeaderValue};
use std::time::Duration;

const LIMITS: Limits = Limits {
    header_bytes: 1024,
    header_fields: 10,
    body_bytes: Some(1000),
    header_timeout: Duration::from_secs(1),
    keepalive_timeout: Duration::from_secs(1),
    body_timeout: Duration::from_secs(1),
    body_min_rate: None,
    request_duration: None,
    has_deadlines: false,
    upgraded_idle_timeout: Duration::from_secs(1),
    handshake_timeout: Duration::from_secs(1),
    write_timeout: Duration::from_secs(1),
    connections: 1,
    connections_per_address: None,
    requests: 1,
    requests_per_connection: 1,
    platform_connections: 2,
    memory: 1 << 24,
    login_workers: 1,
    mint_rate: std::num::NonZeroU32::MIN,
    mint_burst: std::num::NonZeroU32::MIN,
    revocations_per_user: 1,
};

fn table(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn head(headers: &HeaderMap) -> EngineHead<'_> {
    EngineHead {
        method: "GET",
        target: b"/",
        version: Version::HTTP_11,
        headers,
        raw: Some(b"GET / HTTP/1.1\r\n\r\n"),
        has_unannounced_body: false,
    }
}

fn read(fields: &[(&str, &str)]) -> Result<(String, Body), Malformed> {
    let (headers, managed) = (table(fields), ManagedFields::new(["x-ds-user"]));
    let head = head(&headers);
    let validated = validate(&head, &managed, &LIMITS).map_err(|refused| refused.fault)?;
    Ok((format!("{:?}", validated.token), validated.body))
}

#[test]
fn each_form_is_read_or_refused() {
    let (host, upgrade) = (("host", "h"), ("connection", "upgrade"));
    for (fields, expected) in [
        (&[host][..], Ok(Body::Absent)),
        (&[], Err(Malformed::Host)),
        (&[("host", "")], Err(Malformed::Host)),
        (&[host, host], Err(Malformed::Host)),
        (&[host, ("connection", "close, X-DS-User")], Err(Malformed::Connection)),
        (&[host, ("content_length", "7")], Err(Malformed::FieldName)),
        (&[host, ("x-http-method-override", "DELETE")], Err(Malformed::MethodOverride)),
        (&[host, upgrade, ("upgrade", "websocket")], Err(Malformed::WebSocket)),
        (&[host, upgrade, ("upgrade", "h2c, WebSocket")], Err(Malformed::WebSocket)),
        (
            &[host, ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket/13")],
            Err(Malformed::WebSocket),
        ),
        (&[host, upgrade, ("upgrade", "h2c"), ("upgrade", "websocket")], Err(Malformed::WebSocket)),
        (&[host, ("upgrade", "websocket")], Ok(Body::Absent)),
        (&[host, upgrade, ("upgrade", "h2c")], Ok(Body::Absent)),
        (&[host, upgrade, ("upgrade", "TLS/1.2"), ("content-length", "7")], Ok(Body::Sized(7))),
        (&[host, upgrade, ("upgrade", "h2c, TLS/1.2")], Ok(Body::Absent)),
        (&[host, upgrade, ("upgrade", "websockets, x-websocket")], Ok(Body::Absent)),
        (&[host, upgrade, ("upgrade", "")], Ok(Body::Absent)),
        (&[host, upgrade], Ok(Body::Absent)),
        (&[host, ("expect", "100-Continue")], Ok(Body::Absent)),
        (&[host, ("expect", "y 100-continue")], Err(Malformed::Expect)),
        (&[host, ("content-length", "7")], Ok(Body::Sized(7))),
        (&[host, ("content-length", "0")], Ok(Body::Absent)),
        (&[host, ("content-length", "1001")], Err(Malformed::Body)),
        (&[host, ("content-length", "7"), ("content-length", "7")], Err(Malformed::Framing)),
        (&[host, ("content-length", "7, 7")], Err(Malformed::Framing)),
        (&[host, ("content-length", "+7")], Err(Malformed::Framing)),
        (&[host, ("content-length", "")], Err(Malformed::Framing)),
        (&[host, ("transfer-encoding", "Chunked")], Ok(Body::Unsized)),
        (&[host, ("transfer-encoding", "gzip, chunked")], Err(Malformed::Framing)),
        (
            &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            Err(Malformed::Framing),
        ),
        (&[host, ("transfer-encoding", "chunked"), ("content-length", "7")], Err(Malformed::Framing)),
    ] {
        assert_eq!(read(fields).map(|(_, body)| body), expected, "{fields:?}");
    }
}

#[test]
fn a_host_is_a_name_or_an_address() {
    for (host, expected) in [
        ("gateway", true),
        ("gateway.example:8443", true),
        ("my_service-1.example.", true),
        ("xn--bcher-kva.example", true),
        ("10.0.0.1:80", true),
        ("[::1]", true),
        ("[2001:db8::1]:8443", true),
        ("gateway:", true),
        ("", false),
        (":80", false),
        ("a b", false),
        ("a/b", false),
        ("a\\b", false),
        ("\"a\"", false),
        ("a, b", false),
        ("a;b", false),
        ("a@b", false),
        ("a?b", false),
        ("a#b", false),
        ("<a>", false),
        ("a%20b", false),
        ("\u{e9}", false),
        ("a:b", false),
        ("a:80:80", false),
        ("a:123456", false),
        ("[::1", false),
        ("[]", false),
        ("[::1]x", false),
        ("[a]", false),
    ] {
        assert_eq!(is_host(host.as_bytes()), expected, "{host}");
    }
}

#[test]
fn token_fields_are_told_apart() {
    let host = ("host", "h");
    for (fields, expected) in [
        (&[host][..], "Absent"),
        (&[host, ("user-token", "")], "One([])"),
        (&[host, ("user-token", "a")], "One([97])"),
        (&[host, ("user-token", "a"), ("user-token", "a")], "Several"),
        (&[host, ("user_token", "a"), ("user-token", "a")], "Alias"),
    ] {
        assert_eq!(read(fields).map(|(token, _)| token), Ok(expected.into()), "{fields:?}");
    }
}

#[test]
fn a_field_that_hides_the_end_of_a_request_ends_the_connection_wherever_it_stands() {
    let (host, length) = (("host", "h"), ("content-length", "7"));
    let (alias, upgrade, socket) =
        (("content_length", "5"), ("connection", "upgrade"), ("upgrade", "websocket"));
    let (method, expect) = (("x-http-method", "PUT"), ("expect", "x"));
    for (fields, fault, body) in [
        (&[host, method][..], Malformed::MethodOverride, Body::Absent),
        (&[host, method, length], Malformed::MethodOverride, Body::Sized(7)),
        (&[host, method, alias], Malformed::MethodOverride, Body::ENDLESS),
        (&[host, alias, method], Malformed::FieldName, Body::ENDLESS),
        (&[host, upgrade, socket, length], Malformed::WebSocket, Body::ENDLESS),
        (&[host, expect], Malformed::Expect, Body::Absent),
        (&[host, expect, length, length], Malformed::Expect, Body::ENDLESS),
        (&[length, alias], Malformed::FieldName, Body::ENDLESS),
    ] {
        let headers = table(fields);
        let refused = validate(&head(&headers), &ManagedFields::new([]), &LIMITS).unwrap_err();
        assert_eq!(refused, Refused { fault, body }, "{fields:?}");
    }
}
