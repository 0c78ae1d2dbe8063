use super::*;
use crate::edge::request_head::EngineHead;
use crate::edge::trace::{TRACEPARENT, TRACESTATE};
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
        let fields: Vec<(&str, &str)> = fields.into_iter().map(|value| ("x-forwarded-for", value)).collect();
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

/// Whatever passes from a trusted proxy is overwritten or deleted by the proxies whose configuration we ship.
#[test]
fn the_samples_leave_no_field_of_a_client_that_counts_from_a_proxy() {
    let nginx = include_str!("../../../conf/container/nginx.conf");
    let operations = include_str!("../../../docs/operations.md");
    let haproxy = operations.split("```haproxy\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let others = [
        FORWARDED,
        X_FORWARDED_FOR,
        X_FORWARDED_HOST,
        X_FORWARDED_PORT,
        X_FORWARDED_PROTO,
        X_REQUEST_ID,
        TRACEPARENT.as_str(),
        TRACESTATE.as_str(),
    ];
    for name in PASSED.into_iter().chain(others) {
        let has = |sample: &str, begins: &[&str]| {
            sample.lines().any(|line| {
                let line = line.trim_start().to_ascii_lowercase();
                begins.iter().any(|begin| {
                    line.strip_prefix(begin).and_then(|rest| rest.split([' ', ';']).next()) == Some(name)
                })
            })
        };
        assert!(has(nginx, &["proxy_set_header "]), "nginx.conf lets {name} of a client through");
        let haproxy = has(haproxy, &["http-request set-header ", "http-request del-header "]);
        assert!(haproxy, "HAProxy in operations.md lets {name} of a client through");
    }
}
