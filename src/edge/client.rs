//! Who the client is: the other end of the connection, or whom a trusted proxy names (RFC 7239, `X-Forwarded-For`).
//!
//! A field says nothing by itself: anybody can send it. It counts from a proxy that the configuration trusts, and of what it
//! lists only as far as trusted proxies wrote it: from the right up to the first address that is not one of them.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;

use super::request_head::RequestHead;
use crate::auth::client_address::ClientAddress;
use crate::config::{ForwardedFields, Networks};

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who asked.
    pub client: ClientAddress,
    /// `X-Forwarded-For` towards the platform: the client, then each proxy.
    pub forwarded_for: HeaderValue,
    /// What else the proxies said, if they are trusted.
    pub told: Option<Told>,
}

/// What trusted proxies said of a request, each if it is well-formed.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// `X-Forwarded-Proto`: did the client use TLS?
    pub is_tls: Option<bool>,
    /// `Forwarded` towards the platform, where the proxies use it.
    pub forwarded: Option<HeaderValue>,
    /// `X-Request-Id`.
    pub request_id: Option<Box<str>>,
    passes_host: bool,
    passes_port: bool,
}

/// Reads what the fields of a request say of where it comes from. `peer` is the other end of the connection.
pub fn origin<H: RequestHead>(
    peer: ClientAddress,
    head: &H,
    trusted: &Networks,
    style: ForwardedFields,
) -> Origin {
    if !trusted.contains(peer.ip) {
        return Origin { client: peer, forwarded_for: peer.field_value(), told: None };
    }
    let hops = match style {
        ForwardedFields::XForwarded => {
            listed(head, X_FORWARDED_FOR).iter().map(|text| address(text)).collect()
        }
        ForwardedFields::Rfc7239 => forwarded_for(head),
    };
    let (client, chain) = vouched(peer, hops, trusted);
    let chain: Vec<String> = chain.iter().map(ToString::to_string).collect();
    let told = Told {
        is_tls: match style {
            ForwardedFields::XForwarded => scheme(head.single(X_FORWARDED_PROTO)),
            ForwardedFields::Rfc7239 => {
                scheme(forwarded_proto(head, chain.len() - 1).as_deref().map(str::as_bytes))
            }
        },
        forwarded: (style == ForwardedFields::Rfc7239).then(|| forwarded(head, peer, chain.len())),
        passes_host: style == ForwardedFields::XForwarded
            && head.single(X_FORWARDED_HOST).is_some_and(is_place),
        passes_port: style == ForwardedFields::XForwarded
            && head.single(X_FORWARDED_PORT).is_some_and(is_place),
        request_id: head.single(X_REQUEST_ID).and_then(request_id),
    };
    Origin { client, forwarded_for: value(&chain.join(", ")), told: Some(told) }
}

/// The client, and the chain from it to the peer: from the right, up to the first that is no trusted proxy. What lies left of it
/// nobody vouches for.
fn vouched(
    peer: ClientAddress,
    hops: Vec<Option<IpAddr>>,
    trusted: &Networks,
) -> (ClientAddress, Vec<IpAddr>) {
    let (mut client, mut chain) = (peer, vec![peer.ip]);
    for hop in hops.into_iter().rev() {
        // A proxy that hides an address, or something that is none: the one that wrote it is the last that is known.
        let Some(ip) = hop else { break };
        client = ClientAddress::without_port(ip);
        chain.push(ip);
        if !trusted.contains(ip) {
            break;
        }
    }
    chain.reverse();
    (client, chain)
}

/// Every element of the lists in all fields of that name, in order.
fn listed<H: RequestHead>(head: &H, name: &str) -> Vec<String> {
    let texts = head.values(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let elements =
        texts.flat_map(|text| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>());
    elements.filter(|element| !element.is_empty()).collect()
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_matches('"');
    let bracketed = || bare.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let ip = bare.parse::<IpAddr>().ok().or_else(|| bare.parse::<SocketAddr>().ok().map(|whole| whole.ip()));
    ip.or_else(bracketed).map(|ip| ip.to_canonical())
}

/// The parameters of each element of `Forwarded` (RFC 7239 §4), names in lower case.
fn elements<H: RequestHead>(head: &H) -> Vec<Vec<(String, String)>> {
    let of_element = |element: String| {
        let pairs = element.split(';').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
        });
        pairs.collect()
    };
    listed(head, FORWARDED).into_iter().map(of_element).collect()
}

fn parameter<'e>(element: &'e [(String, String)], name: &str) -> Option<&'e str> {
    element.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

fn forwarded_for<H: RequestHead>(head: &H) -> Vec<Option<IpAddr>> {
    let elements = elements(head);
    elements.iter().map(|element| parameter(element, "for").and_then(address)).collect()
}

/// What the client used: the first of the elements that are vouched for, as many as there are hops, says so.
fn forwarded_proto<H: RequestHead>(head: &H, hops: usize) -> Option<String> {
    let elements = elements(head);
    elements
        .iter()
        .rev()
        .take(hops)
        .rev()
        .find_map(|element| parameter(element, "proto").map(str::to_ascii_lowercase))
}

/// The elements that are vouched for, and one for the peer.
fn forwarded<H: RequestHead>(head: &H, peer: ClientAddress, length: usize) -> HeaderValue {
    let all = listed(head, FORWARDED);
    let kept = all.len().saturating_sub(length - 1);
    let own = match peer.ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    let kept: Vec<String> = all.into_iter().skip(kept).chain([own]).collect();
    value(&kept.join(", "))
}

fn scheme(value: Option<&[u8]>) -> Option<bool> {
    match value? {
        text if text.eq_ignore_ascii_case(b"https") => Some(true),
        text if text.eq_ignore_ascii_case(b"http") => Some(false),
        _ => None,
    }
}

/// An id that a log and a header can carry.
fn request_id(text: &[u8]) -> Option<Box<str>> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    let is_id = (1..=128).contains(&text.len()) && text.iter().all(is_part);
    is_id.then(|| String::from_utf8_lossy(text).into())
}

/// Of texts that are visible ASCII; anything else would be dropped.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
}

/// A host or a port that a platform may be told.
fn is_place(value: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    (1..=255).contains(&value.len()) && value.iter().all(is_part)
}

impl Told {
    /// Does a field of that name go on, as it would from nobody else? What a trusted proxy says of the client does, and what is
    /// dropped because servers believe it.
    pub(super) fn passes(&self, name: &[u8]) -> bool {
        let is = |passed: &str| name.eq_ignore_ascii_case(passed.as_bytes());
        (self.passes_host && is(X_FORWARDED_HOST))
            || (self.passes_port && is(X_FORWARDED_PORT))
            || PASSED.into_iter().any(is)
    }
}

const PASSED: [&str; 8] = [
    "client-ip",
    "proxy",
    "remote-user",
    "true-client-ip",
    "x-forwarded",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
];

const FORWARDED: &str = "forwarded";
const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_HOST: &str = "x-forwarded-host";
const X_FORWARDED_PORT: &str = "x-forwarded-port";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_REQUEST_ID: &str = "x-request-id";

#[cfg(test)]
mod tests;
