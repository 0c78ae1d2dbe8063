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
mod tests {
    use super::*;
    use crate::edge::request_head::EngineHead;
    use http::{HeaderMap, HeaderName};
    use proptest::collection::vec;
    use proptest::prelude::{Just, prop_oneof};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    fn trusted() -> Networks {
        ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"].into_iter().map(|text| text.parse().unwrap()).collect()
    }

    fn read(peer: &str, fields: &[(&str, &str)], style: ForwardedFields) -> Origin {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let head = EngineHead {
            method: "GET",
            target: b"/",
            version: http::Version::HTTP_2,
            headers: &headers,
            raw: None,
            has_unannounced_body: false,
        };
        origin(ClientAddress::of_socket(peer.parse().unwrap()), &head, &trusted(), style)
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        for (peer, fields, client, chain) in [
            ("203.0.113.9:4", vec![], "203.0.113.9:4", "203.0.113.9"),
            ("203.0.113.9:4", vec!["198.51.100.1"], "203.0.113.9:4", "203.0.113.9"),
            ("[::ffff:203.0.113.9]:4", vec![], "203.0.113.9:4", "203.0.113.9"),
            ("10.0.0.1:4", vec![], "10.0.0.1:4", "10.0.0.1"),
            ("[::ffff:10.0.0.1]:4", vec!["198.51.100.1"], "198.51.100.1", "198.51.100.1, 10.0.0.1"),
            ("10.0.0.1:4", vec!["198.51.100.1"], "198.51.100.1", "198.51.100.1, 10.0.0.1"),
            ("10.0.0.1:4", vec!["evil, 198.51.100.1"], "198.51.100.1", "198.51.100.1, 10.0.0.1"),
            ("10.0.0.1:4", vec!["8.8.8.8, 198.51.100.1"], "198.51.100.1", "198.51.100.1, 10.0.0.1"),
            ("10.0.0.1:4", vec!["8.8.8.8", "198.51.100.1"], "198.51.100.1", "198.51.100.1, 10.0.0.1"),
            (
                "10.0.0.1:4",
                vec!["198.51.100.1, 192.0.2.7 ,10.9.9.9"],
                "198.51.100.1",
                "198.51.100.1, 192.0.2.7, 10.9.9.9, 10.0.0.1",
            ),
            ("10.0.0.1:4", vec!["10.0.0.2, 10.0.0.3"], "10.0.0.2", "10.0.0.2, 10.0.0.3, 10.0.0.1"),
            ("10.0.0.1:4", vec!["198.51.100.1:5555"], "198.51.100.1", "198.51.100.1, 10.0.0.1"),
            ("10.0.0.1:4", vec!["[2001:db9::1]:5555"], "2001:db9::1", "2001:db9::1, 10.0.0.1"),
            ("10.0.0.1:4", vec!["2001:db9::1"], "2001:db9::1", "2001:db9::1, 10.0.0.1"),
            ("10.0.0.1:4", vec!["::ffff:198.51.100.1"], "198.51.100.1", "198.51.100.1, 10.0.0.1"),
            ("10.0.0.1:4", vec!["198.51.100.1, unknown"], "10.0.0.1:4", "10.0.0.1"),
            ("10.0.0.1:4", vec![" , ,"], "10.0.0.1:4", "10.0.0.1"),
        ] {
            let fields: Vec<(&str, &str)> =
                fields.into_iter().map(|value| ("x-forwarded-for", value)).collect();
            let origin = read(peer, &fields, ForwardedFields::XForwarded);
            assert_eq!(
                (origin.client.to_string().as_str(), origin.forwarded_for.to_str().unwrap()),
                (client, chain)
            );
        }
    }

    #[test]
    fn forwarded_is_read_where_the_proxies_use_it() {
        let fields = [
            ("forwarded", "for=8.8.8.8;proto=http, For=\"198.51.100.1:99\";Proto=HTTPS;by=x"),
            ("x-forwarded-for", "1.1.1.1"),
        ];
        let origin = read("10.0.0.1:4", &fields, ForwardedFields::Rfc7239);
        assert_eq!(origin.client.to_string(), "198.51.100.1");
        let told = origin.told.unwrap();
        assert_eq!(told.is_tls, Some(true));
        assert_eq!(told.forwarded.unwrap(), "For=\"198.51.100.1:99\";Proto=HTTPS;by=x, for=10.0.0.1");
        let origin = read("10.0.0.1:4", &fields, ForwardedFields::XForwarded);
        assert_eq!(origin.client.to_string(), "1.1.1.1");
        assert!(origin.told.unwrap().forwarded.is_none());
        // What a client wrote before says nothing of how it came.
        let forged = [("forwarded", "for=6.6.6.6;proto=https"), ("forwarded", "for=1.2.3.4")];
        let origin = read("10.0.0.1:4", &forged, ForwardedFields::Rfc7239);
        assert_eq!((origin.client.to_string().as_str(), origin.told.unwrap().is_tls), ("1.2.3.4", None));
        let hidden = [("forwarded", "for=_hidden, for=unknown")];
        assert_eq!(read("10.0.0.1:4", &hidden, ForwardedFields::Rfc7239).client.to_string(), "10.0.0.1:4");
        let six = [("forwarded", "for=\"[2001:db9::1]:44\"")];
        assert_eq!(read("[2001:db8::1]:4", &six, ForwardedFields::Rfc7239).client.to_string(), "2001:db9::1");
    }

    #[test]
    fn what_is_said_once_and_well_formed_counts() {
        let fields = [("x-forwarded-proto", "https"), ("x-request-id", "a-1_2.3")];
        let told = read("10.0.0.1:4", &fields, ForwardedFields::XForwarded).told.unwrap();
        assert_eq!((told.is_tls, told.request_id.as_deref()), (Some(true), Some("a-1_2.3")));
        assert!(read("9.9.9.9:4", &fields, ForwardedFields::XForwarded).told.is_none());
        let fields = [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http"), ("x-request-id", "a b")];
        let told = read("10.0.0.1:4", &fields, ForwardedFields::XForwarded).told.unwrap();
        assert_eq!((told.is_tls, told.request_id), (None, None));
    }

    proptest! {
        /// Whatever a client writes left of what trusted proxies wrote changes nothing.
        #[test]
        fn a_client_cannot_choose_its_address(
            forged in vec(prop_oneof!["[ -~]{0,20}", Just("10.0.0.5".to_owned()), Just("8.8.8.8".to_owned())], 0..5)
        ) {
            let honest = read("10.0.0.1:4", &[("x-forwarded-for", "198.51.100.1, 10.0.0.2")], ForwardedFields::XForwarded);
            let mut fields: Vec<(&str, &str)> =
                forged.iter().map(|value| ("x-forwarded-for", value.as_str())).collect();
            fields.push(("x-forwarded-for", "198.51.100.1, 10.0.0.2"));
            let origin = read("10.0.0.1:4", &fields, ForwardedFields::XForwarded);
            prop_assert_eq!(origin.client, honest.client);
            prop_assert_eq!(origin.forwarded_for, honest.forwarded_for);
            fields.pop();
            prop_assert!(read("9.9.9.9:4", &fields, ForwardedFields::XForwarded).told.is_none());
        }
    }
}
