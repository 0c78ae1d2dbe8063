//! Every byte in path and query, over both protocols: it arrives as it is, or the client is told why not.

use crate::client::request;
use crate::curl::{Protocol, curl};
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::Platform;
use std::fmt::Write as _;

/// What becomes of a byte in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It arrives as it is.
    Forwarded,
    /// 400, which says that it must be escaped.
    Escape,
    /// 400 for the form of the line.
    Refused,
    /// It begins a fragment, which is no part of a target (RFC 3986 §3.5).
    Fragment,
}

const fn in_query(byte: u8) -> Fate {
    match byte {
        0..=0x20 | 0x7F => Fate::Refused,
        // One alone is no UTF-8.
        b'"' | b'<' | b'>' | 0x80..=0xFF => Fate::Escape,
        b'#' => Fate::Fragment,
        _ => Fate::Forwarded,
    }
}

fn send(gateway: &Gateway, token: &str, target: &[u8]) -> crate::client::Answer {
    let mut bytes = b"GET ".to_vec();
    bytes.extend(target);
    bytes.extend(format!(" HTTP/1.1\r\nHost: a\r\nuser-token: {token}\r\n\r\n").bytes());
    let mut client = gateway.client();
    client.send(bytes);
    client.answer().unwrap_or_else(|fault| panic!("{target:?}: {fault:?}"))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

#[test]
fn every_byte_of_a_query_arrives_or_is_explained() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let mut wrong = String::new();
    for byte in 0..=u8::MAX {
        let target = [format!("/q{byte}?a=").as_bytes(), &[byte], b"z"].concat();
        let answer = send(&gateway, &token, &target);
        let arrived =
            platform.requests().into_iter().find(|seen| seen.target.starts_with(&format!("/q{byte}?")));
        let found = match (answer.status, arrived.map(|seen| seen.target)) {
            (200, Some(seen)) if seen == latin1(&target) => Fate::Forwarded,
            (200, Some(seen)) if seen == format!("/q{byte}?a=") => Fate::Fragment,
            (400, None) if answer.text().contains("percent-encoded") => Fate::Escape,
            (400, None) => Fate::Refused,
            other => panic!("{byte:#04x}: {other:?} {}", answer.text()),
        };
        if found != in_query(byte) {
            let _ = writeln!(wrong, "{byte:#04x}: {found:?}, not {:?}: {}", in_query(byte), answer.text());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // What was refused before it could be parsed is in the log, with its client and path, and without its query.
    let refused = gateway.log.messages("request rejected before parsing");
    let line = refused.iter().find(|line| line["path"] == "/q34").expect("a line");
    assert_eq!((line["method"].as_str(), line["status"].as_u64()), (Some("GET"), Some(400)), "{line}");
    assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{line}");
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains("percent-encoded")), "{line}");
    gateway.still_healthy();
}

#[test]
fn every_byte_of_a_path_arrives_as_it_is_or_is_explained() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    for byte in 0..=u8::MAX {
        let target = [format!("/p{byte}/a").as_bytes(), &[byte], b"z"].concat();
        let answer = send(&gateway, &token, &target);
        let begin = format!("/p{byte}/a");
        let arrived = platform.requests().into_iter().find(|seen| seen.target.starts_with(&begin));
        match (byte, arrived.map(|seen| seen.target)) {
            (0..=0x20 | 0x7F | b'%' | b'<' | b'>' | b'`', None) => answer.is_error(400),
            // Alone it is no UTF-8: the path rule.
            (0x80..=0xFF, seen) => assert!(
                (answer.status == 400 && seen.is_none()) || seen == Some(latin1(&target)),
                "{byte:#04x}: {} {seen:?}",
                answer.status
            ),
            (b'#', Some(seen)) => assert_eq!(seen, begin),
            (_, Some(seen)) => assert_eq!((answer.status, seen), (200, latin1(&target)), "{byte:#04x}"),
            (_, None) => panic!("{byte:#04x}: {} {}", answer.status, answer.text()),
        }
    }
    // Letters beyond ASCII, which browsers and Python send raw in a query.
    let target = "/letters?name=Zo\u{eb}&x=\u{65e5}\u{672c}";
    assert_eq!(send(&gateway, &token, target.as_bytes()).status, 200);
    platform.request(&latin1(target.as_bytes()));
    gateway.still_healthy();
}

/// The engine's HTTP/2 reads a target as HTTP/1 does, and can only reset a stream whose target it cannot read.
#[test]
fn http2_forwards_the_same_bytes_and_resets_the_others() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let token = format!("user-token: {}", gateway.mint());
    for byte in 0x21..0x7F_u8 {
        let target = format!("/h{byte}?a={}z", char::from(byte));
        let url = format!("https://{}/h{byte}?a=z", gateway.https());
        let arguments = ["-g", "-H", &token, "--request-target", &target];
        let fetched = curl(Protocol::Http2, &url, &arguments, "");
        match in_query(byte) {
            Fate::Forwarded => {
                fetched.is(200);
                platform.request(&target);
            }
            Fate::Fragment => drop(fetched.is(200)),
            Fate::Escape | Fate::Refused => {
                assert!(fetched.exit != Some(0) || fetched.status == 400, "{target}: {fetched:?}");
                platform.never_saw(&format!("/h{byte}?"));
            }
        }
    }
    gateway.exchange(request("GET", "/", &[])).is_error(401);
}
