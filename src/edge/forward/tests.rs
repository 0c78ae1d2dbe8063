use std::sync::LazyLock;

use http::Version;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::edge::decide::tests::{TOKEN, clock, observing};
use crate::edge::decide::{Decision, decide};
use crate::edge::request_head::EngineHead;
use crate::edge::request_id::RequestId;
use crate::edge::runtime::Runtime;

static OBSERVING: LazyLock<Runtime> = LazyLock::new(|| observing(&[]));

/// Names and values.
type Fields = Vec<(String, Vec<u8>)>;

/// What is written, by name in lower case.
#[derive(Default)]
struct Written(Fields);

impl FieldSink for Written {
    fn set(&mut self, name: &HeaderName, value: FieldValue<'_>) -> Result<(), InvalidHeaderValue> {
        self.0.push((name.as_str().to_ascii_lowercase(), value.as_bytes().to_vec()));
        Ok(())
    }
}

impl FieldWriter for Written {
    fn write(&mut self, name: &[u8], value: &[u8]) {
        self.0.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }

    fn extend(&mut self, value: &[u8]) {
        self.0.last_mut().unwrap().1.extend_from_slice(value);
    }
}

/// The fields that the platform sees of a GET request, as the lane and as the engine writes them; nothing if it does not go on.
fn seen(target: &str, fields: &[(String, String)]) -> Option<(Pass, [Fields; 2])> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let version = Version::HTTP_11;
    let head = EngineHead {
        method: "GET",
        target: target.as_bytes(),
        version,
        headers: &headers,
        raw: None,
        has_unannounced_body: false,
    };
    let Decision::Forward(pass, facts) = decide(&head, &OBSERVING, clock()) else { return None };
    let id = RequestId::new();
    let forwarded_for = HeaderValue::from_static("192.0.2.1");
    let context = || ForwardContext {
        pass: &pass,
        has_managed: facts.has_managed,
        request_id: id.as_str(),
        forwarded_for: &forwarded_for,
        told: None,
        trace: Trace::new(&id),
        is_tls: true,
        host: None,
    };
    let mut lane = Written::default();
    OBSERVING.rewrite.write(&head, &context(), &mut lane).unwrap();
    let mut applied = headers.clone();
    OBSERVING.rewrite.apply(&mut applied, context()).unwrap();
    let engine = applied.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let both = [lane.0, engine.collect()];
    Some((pass, both))
}

/// What a field is called by a server that reads every byte but letters and digits as a hyphen.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

const IDENTITY: [&str; 3] = ["x-ds-user", "x-ds-email", "x-ds-organization"];

/// What the gateway sets of every request.
const SET: [&str; 4] = ["x-request-id", "x-forwarded-for", "x-forwarded-proto", "traceparent"];

/// Names of the gateway's, spelt in some way, and others.
fn name() -> impl Strategy<Value = String> {
    let managed = prop::sample::select(
        [
            &IDENTITY[..],
            &SET,
            &["remote-user", "forwarded", "x-real-ip", "authorization", "user-token", "cookie", "accept"],
        ]
        .concat(),
    );
    let bytes = vec(prop::sample::select(b"---_.~!*'".to_vec()), 4);
    (managed, bytes, any::<bool>()).prop_map(|(name, bytes, is_upper)| {
        let mut hyphens = bytes.into_iter().map(char::from);
        let spelt: String =
            name.chars().map(|c| if c == '-' { hyphens.next().unwrap_or('-') } else { c }).collect();
        if is_upper { spelt.to_ascii_uppercase() } else { spelt }
    })
}

fn field() -> impl Strategy<Value = (String, String)> {
    let value = prop_oneof![
        Just("forged".to_owned()),
        Just(String::new()),
        Just("Basic YTpi".into()),
        Just(TOKEN.clone())
    ];
    (name(), value)
}

proptest! {
    /// Whatever a client sends while its route is observed: the platform is told an identity by a valid token alone, and gets the client's own
    /// credentials as they came.
    #[test]
    fn no_field_of_a_client_becomes_an_identity(
        fields in vec(field(), 0..6), target in prop::sample::select(vec!["/ds-api/x", "/ds-api/user-token", "/ds-api//user-token"])
    ) {
        let fields: Vec<(String, String)> = fields.into_iter().chain([("host".into(), "gateway".into())]).collect();
        let Some((pass, both)) = seen(target, &fields) else { return Ok(()) };
        let values = |of: &[(String, Vec<u8>)], name: &str| {
            of.iter().filter(|(have, _)| folded(have) == name).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let sent: Fields =
            fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into_bytes())).collect();
        let exactly = |name: &str| {
            sent.iter().filter(|(have, _)| have == name).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        for seen in &both {
            match &pass {
                Pass::Permit(permit) => {
                    for (name, value) in IDENTITY.iter().zip(permit.fields()) {
                        prop_assert_eq!(values(seen, name), vec![value.as_bytes().to_vec()], "{:?}", seen);
                    }
                }
                Pass::Observed(_) => {
                    for name in IDENTITY {
                        prop_assert!(values(seen, name).is_empty(), "{:?}", seen);
                    }
                    for name in ["user-token", "authorization"] {
                        prop_assert_eq!(values(seen, name), exactly(name), "{:?}", seen);
                    }
                }
                Pass::Public(_) => prop_assert!(false, "no route is public"),
            }
            for name in ["remote-user", "forwarded", "x-real-ip"] {
                prop_assert!(values(seen, name).is_empty(), "{:?}", seen);
            }
            for name in SET {
                prop_assert_eq!(values(seen, name).len(), 1, "{:?}", seen);
                prop_assert!(!values(seen, name).contains(&b"forged".to_vec()));
            }
        }
    }
}

#[test]
fn what_is_observed_keeps_its_own_credentials_and_an_admitted_request_those_that_are_configured() {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let fields = |token: &str| {
        [
            ("Host", "g"),
            ("user-token", token),
            ("Authorization", "Basic YTpi"),
            ("Cookie", "a=b"),
            ("X-DS-User", "forged"),
        ]
        .map(|(name, value)| field(name, value))
    };
    let names = |token: &str| {
        let (_, both) = seen("/ds-api/x", &fields(token)).unwrap();
        both.map(|seen| {
            let of = |name: &str| seen.iter().filter(|(have, _)| have == name).count();
            ["user-token", "authorization", "cookie", "x-ds-user"].map(of)
        })
    };
    assert_eq!(names("x"), [[1, 1, 1, 0]; 2]);
    assert_eq!(names(&TOKEN), [[1, 0, 1, 1]; 2]);
}
