use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const LISTED: &str = "https://dashboard.example";

fn listed() -> Cors {
    let origins = ["https://other.example:8443", LISTED].map(|origin| Origin::parse(origin).unwrap());
    Cors::new(
        Origins::Listed(origins.into()),
        &METHODS.map(str::to_owned),
        &["X-Page".into(), "Content-Type".into()],
        Duration::from_secs(600),
    )
}

fn everybody() -> Cors {
    Cors { origins: Origins::Everybody, ..listed() }
}

fn sharing<'c>(cors: &'c Cors, origins: &[&str]) -> Sharing<'c> {
    cors.sharing(origins.iter().map(|origin| origin.as_bytes()))
}

#[test]
fn an_answer_is_shared_with_listed_origins_only() {
    for (origins, expected) in [
        (&[LISTED][..], Sharing::Allowed(LISTED)),
        (&["https://other.example:8443"], Sharing::Allowed("https://other.example:8443")),
        (&[], Sharing::Refused),
        (&["null"], Sharing::Refused),
        (&["*"], Sharing::Refused),
        (&[""], Sharing::Refused),
        (&["https://other.example"], Sharing::Refused),
        (&["http://dashboard.example"], Sharing::Refused),
        (&["https://dashboard.example:443"], Sharing::Refused),
        (&["https://dashboard.example/"], Sharing::Refused),
        (&["https://dashboard.example.evil.example"], Sharing::Refused),
        (&["https://evil-dashboard.example"], Sharing::Refused),
        (&["https://DASHBOARD.example"], Sharing::Refused),
        (&["https://dashboard.example https://other.example:8443"], Sharing::Refused),
        (&[LISTED, LISTED], Sharing::Refused),
        (&[LISTED, "https://evil.example"], Sharing::Refused),
    ] {
        assert_eq!(sharing(&listed(), origins), expected, "{origins:?}");
        assert_eq!(sharing(&everybody(), origins), Sharing::Allowed("*"), "{origins:?}");
        assert_eq!(sharing(&Cors::default(), origins), Sharing::Off, "{origins:?}");
    }
}

#[test]
fn a_preflight_has_one_origin_and_one_method() {
    use Preflight::{Allowed, Refused};
    for (method, origins, methods, expected) in [
        ("OPTIONS", &[LISTED][..], &["PUT"][..], Some(Allowed)),
        ("OPTIONS", &[LISTED], &["BREW"], Some(Allowed)),
        ("OPTIONS", &["https://evil.example"], &["PUT"], Some(Refused)),
        ("OPTIONS", &["null"], &["PUT"], Some(Refused)),
        ("OPTIONS", &[LISTED], &[], None),
        ("OPTIONS", &[], &["PUT"], None),
        ("OPTIONS", &[], &[], None),
        ("OPTIONS", &[LISTED, LISTED], &["PUT"], None),
        ("OPTIONS", &[LISTED], &["PUT", "GET"], None),
        ("options", &[LISTED], &["PUT"], None),
        ("GET", &[LISTED], &["PUT"], None),
        ("POST", &[LISTED], &["PUT"], None),
    ] {
        let ask = |cors: &Cors| {
            let values = |values: &'static [&'static str]| values.iter().map(|value| value.as_bytes());
            cors.preflight(method.as_bytes(), values(origins), values(methods))
        };
        assert_eq!(ask(&listed()), expected, "{method} {origins:?} {methods:?}");
        assert_eq!(ask(&everybody()), expected.map(|_| Allowed), "{method} {origins:?} {methods:?}");
        assert_eq!(ask(&Cors::default()), None, "{method} {origins:?} {methods:?}");
    }
}

#[test]
fn a_preflight_is_answered_with_all_that_may_be_sent() {
    let fields = listed().preflight_fields().map(|(name, value)| format!("{name}: {value}"));
    assert_eq!(
        fields,
        [
            "Access-Control-Allow-Methods: DELETE, GET, HEAD, PATCH, POST, PUT",
            "Access-Control-Allow-Headers: authorization, content-type, user-token, x-ds-at-least, x-page",
            "Access-Control-Max-Age: 600",
        ]
    );
    assert!(
        everybody().is_for_everybody() && !listed().is_for_everybody() && !Cors::default().is_for_everybody()
    );
}

proptest! {
    #[test]
    fn no_origin_but_a_listed_one_is_allowed(origins in vec("[ -~]{0,40}|https://dashboard[.]example[ -~]{0,3}", 0..3)) {
        let cors = listed();
        let values: Vec<&str> = origins.iter().map(String::as_str).collect();
        let is_listed = matches!(values[..], [LISTED | "https://other.example:8443"]);
        prop_assert_eq!(matches!(sharing(&cors, &values), Sharing::Allowed(origin) if values == [origin]), is_listed);
    }
}
