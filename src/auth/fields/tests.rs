use super::*;
use proptest::prelude::*;

fn managed() -> ManagedFields {
    ManagedFields::new(["X-DS-User", "X-DS-Email", "X-DS-Organization", "X-Dropped"])
}

#[test]
fn each_name_has_its_kind() {
    for (name, expected) in [
        ("user-token", Field::Token),
        ("user_token", Field::TokenAlias),
        ("user.token", Field::TokenAlias),
        ("user-tokens", Field::Free),
        ("user-agent", Field::Free),
        ("usertoken", Field::Free),
        ("authorization", Field::Managed),
        ("x-ds-user", Field::Managed),
        ("x_ds_user", Field::Managed),
        ("x.ds-user", Field::Managed),
        ("x-ds-users", Field::Free),
        ("x-ds-at-least", Field::AtLeast),
        ("X-DS-At-Least", Field::AtLeast),
        ("x_ds_at_least", Field::Managed),
        ("X.DS.At-Least", Field::Managed),
        ("x~ds~at~least", Field::Managed),
        ("x-ds-at-leas", Field::Free),
        ("x-ds-sequence", Field::Managed),
        ("X_DS_Sequence", Field::Managed),
        ("x-ds-sequences", Field::Free),
        ("x-forwarded-for", Field::Managed),
        ("x_forwarded_anything", Field::Managed),
        ("x-forwarded", Field::Managed),
        ("x-forwardedfor", Field::Free),
        ("x~ds~user", Field::Managed),
        ("x!ds*user", Field::Managed),
        ("user~token", Field::TokenAlias),
        ("user'token", Field::TokenAlias),
        ("proxy", Field::Managed),
        ("remote_user", Field::Managed),
        ("traceparent", Field::Managed),
        ("tracestate", Field::Managed),
        ("client-ip", Field::Managed),
        ("true|client^ip", Field::Managed),
        ("x-original-uri", Field::Managed),
        ("content-length", Field::Free),
        ("content_length", Field::FramingAlias),
        ("transfer.encoding", Field::FramingAlias),
        ("transfer-encoding", Field::Free),
        ("keep~alive", Field::FramingAlias),
        ("keep-alive", Field::Free),
        ("http2_settings", Field::FramingAlias),
        ("x-http-method", Field::MethodOverride),
        ("x-http-method-override", Field::MethodOverride),
        ("x_http_method_override", Field::MethodOverride),
        ("x~method~override", Field::MethodOverride),
        ("x-http-methods-of-a-very-long-name-that-is-longer-than-sixty-three-bytes", Field::MethodOverride),
        ("x-dropped", Field::Managed),
        ("x_dropped", Field::Managed),
        ("content-type", Field::Free),
        ("forwarded", Field::Managed),
        ("x-request-id", Field::Managed),
        ("x.real.ip", Field::Managed),
        ("host", Field::Free),
        ("", Field::Free),
    ] {
        assert_eq!(managed().classify(name.as_bytes()), expected, "{name}");
        let upper = name.to_ascii_uppercase();
        assert_eq!(managed().classify(upper.as_bytes()), expected, "{upper}");
    }
}

#[test]
fn connection_must_not_name_them() {
    for (value, expected) in [
        ("keep-alive", false),
        ("close, TE", false),
        ("close, X-DS-User", true),
        ("user-token", true),
        ("User_Token", true),
        ("X-Forwarded-Proto ", true),
        ("Host", true),
        ("", false),
    ] {
        assert_eq!(managed().is_nominated(value.as_bytes()), expected, "{value}");
    }
}

proptest! {
    /// The shortcut changes no answer.
    #[test]
    fn the_shortcut_is_only_a_shortcut(
        name in "[a-z._-]{0,24}|x[._-]ds[._-]user|user[._-]token|x[._-]forwarded[._-][a-z]{0,60}|content[._-]length"
    ) {
        let mut slow = managed();
        slow.shortcut = Shortcut([u64::MAX; 256]);
        prop_assert_eq!(managed().classify(name.as_bytes()), slow.classify(name.as_bytes()));
    }
}
