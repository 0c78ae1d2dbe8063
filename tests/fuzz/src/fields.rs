//! Which fields belong to the gateway: no name that a server behind it could read as one of them is free.
//!
//! The input: a byte that chooses the configured names, and a name; or the value of `Connection`.

use std::sync::LazyLock;

use ds_gateway::auth::fields::{Field, ManagedFields};

pub fn run(input: &[u8]) {
    let Some((&info_label, text)) = input.split_first() else { return };
    let (configured, managed) = &MANAGED[usize::from(info_label & 1)];
    let name = text.to_ascii_lowercase();
    assert_eq!(managed.classify(&name), expected(&name, configured), "{:?}", String::from_utf8_lossy(&name));
    let is_ours = |option: &[u8]| {
        let option = option.trim_ascii().to_ascii_lowercase();
        option == b"host" || expected(&option, configured) != Field::Free
    };
    assert_eq!(managed.is_nominated(text), text.split(|byte| *byte == b',').any(is_ours));
}

type Choice = (&'static [&'static str], ManagedFields);

static MANAGED: LazyLock<[Choice; 2]> = LazyLock::new(|| {
    let ours: &[&str] = &["X-DS-User", "X-DS-Email", "X-DS-Organization"];
    let others: &[&str] =
        &["u", "Remote-Mail", "x-a-very-long-name-of-a-field-that-only-the-platform-itself-may-ever-set"];
    [ours, others].map(|names| (names, ManagedFields::new(names.iter().copied())))
});

/// The rule, from docs/security.md: a name is the gateway's if it is with every byte that is no letter or digit read as `-`.
pub fn expected(name: &[u8], configured: &[&str]) -> Field {
    let read: String =
        name.iter().map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '-' }).collect();
    let is_configured = || configured.iter().any(|name| name.eq_ignore_ascii_case(&read));
    match read.as_str() {
        "user-token" if name == b"user-token" => Field::Token,
        "user-token" => Field::TokenAlias,
        "x-ds-at-least" if name == b"x-ds-at-least" => Field::AtLeast,
        "x-method-override" => Field::MethodOverride,
        _ if read.starts_with("x-http-method") => Field::MethodOverride,
        _ if read.starts_with("x-forwarded-") || FIXED.contains(&&*read) || is_configured() => Field::Managed,
        _ if FRAMING.contains(&&*read) && name != read.as_bytes() => Field::FramingAlias,
        _ => Field::Free,
    }
}

const FIXED: [&str; 16] = [
    "authorization",
    "client-ip",
    "forwarded",
    "proxy",
    "remote-user",
    "traceparent",
    "tracestate",
    "true-client-ip",
    "x-ds-at-least",
    "x-ds-sequence",
    "x-forwarded",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

const FRAMING: [&str; 7] = [
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
];
