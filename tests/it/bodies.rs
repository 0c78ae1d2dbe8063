//! Bodies that the gateway has no use for: small ones are read away, large ones cost the connection, and neither is
//! ever read as a request.

use crate::client::{basic, request, request_with};
use crate::gateway::{PASSWORD, USER};
use crate::limits::deployment;
use crate::wire::chunks;
use std::io::Write as _;
use std::thread;

/// What a refused request may bring along and still keep its connection.
const DRAINED: usize = 65536;

/// A request that the gateway answers itself: the status, the method, the target and the fields.
type Answered = (u16, &'static str, &'static str, Vec<(&'static str, String)>);

fn answered(token: &str) -> Vec<Answered> {
    vec![
        (401, "POST", "/refused", vec![]),
        (401, "POST", "/refused", vec![("user-token", "x".to_owned())]),
        (401, "POST", "/ds-api/user-token", vec![]),
        (201, "POST", "/ds-api/user-token", vec![("Authorization", basic(USER, PASSWORD))]),
        (404, "POST", "/ds-api/user-token/", vec![("user-token", token.to_owned())]),
        (405, "PUT", "/ds-api/user-token", vec![]),
        (
            400,
            "POST",
            "/refused",
            vec![("user-token", token.to_owned()), ("Connection", "x-ds-user".to_owned())],
        ),
        (401, "GET", "/public/with-a-body", vec![]),
    ]
}

fn borrowed<'a>(fields: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn an_answered_request_keeps_its_connection_if_its_body_is_small() {
    let (platform, gateway, token) = deployment();
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: x\r\nuser-token: {token}\r\n\r\n");
    let full = hidden.clone() + &"x".repeat(DRAINED - hidden.len());
    let mut client = gateway.client();
    for (status, method, target, fields) in answered(&token) {
        for (round, body) in ["", &hidden, &full].iter().enumerate() {
            for chunked in [false, true] {
                let fields = borrowed(&fields);
                let bytes = if chunked {
                    let head =
                        request(method, target, &[&fields[..], &[("Transfer-Encoding", "chunked")]].concat());
                    [head, chunks(body.as_bytes(), 4_000)].concat()
                } else {
                    request_with(method, target, &fields, body.as_bytes())
                };
                if body.is_empty() && target.starts_with("/public") && !chunked {
                    continue; // A body of no length is none.
                }
                let answer = client.exchange(bytes);
                assert_eq!(answer.status, status, "{method} {target} {round} {chunked}");
                assert!(!answer.says_close(), "{method} {target} {round} {chunked}");
                let second = request("GET", "/second", &[("user-token", &token)]);
                assert_eq!(client.exchange(second).status, 200, "{method} {target} {round} {chunked}");
            }
        }
    }
    platform.never_saw("hidden");
    assert!(platform.requests().iter().all(|seen| seen.target == "/second"));
    gateway.still_healthy();
}

#[test]
fn a_large_body_costs_the_connection_but_never_the_answer() {
    let (platform, gateway, token) = deployment();
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: x\r\nuser-token: {token}\r\n\r\n");
    let body = hidden.repeat(4 * 1024 * 1024 / hidden.len());
    for (status, method, target, fields) in answered(&token) {
        for chunked in [false, true] {
            let fields = borrowed(&fields);
            let bytes = if chunked {
                let head =
                    request(method, target, &[&fields[..], &[("Transfer-Encoding", "chunked")]].concat());
                [head, chunks(body.as_bytes(), 30_000)].concat()
            } else {
                request_with(method, target, &fields, body.as_bytes())
            };
            let mut client = gateway.client();
            let mut sender = client.sender();
            // The gateway may stop reading before all is sent.
            let sending = thread::spawn(move || drop(sender.write_all(&bytes)));
            let answer = client
                .answer()
                .unwrap_or_else(|fault| panic!("{fault:?} instead of {status} on {method} {target}"));
            assert_eq!(answer.status, status, "{method} {target} {chunked}");
            client.is_closed();
            sending.join().expect("a sender");
        }
    }
    platform.never_saw("hidden");
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}
