//! W3C Trace Context: a request belongs to the trace that a trusted proxy names, or to a new one whose id is the request's
//! (<https://www.w3.org/TR/trace-context-1/>).

use http::HeaderName;

use super::request_head::RequestHead;
use super::request_id::{RequestId, hex};

/// The trace that a request belongs to.
#[derive(Clone, Debug)]
pub struct Trace {
    /// 32 hexadecimal digits, where it is not the request's own.
    pub id: Option<Box<str>>,
    /// `traceparent` towards the platform, with a span of the gateway's.
    pub parent: [u8; LENGTH],
    /// Does `tracestate` go on as it came?
    pub keeps_state: bool,
}

impl Trace {
    /// A new one. It is not sampled: the gateway records no spans.
    pub(super) fn new(request: &RequestId) -> Self {
        Self { id: None, parent: parent(request.digits(), "00"), keeps_state: false }
    }

    /// The one that these fields name, from somebody who may say so; a new one where they are not well-formed.
    pub(super) fn continued<H: RequestHead>(head: &H, request: &RequestId) -> Self {
        let read = head.single(TRACEPARENT.as_str()).and_then(parse);
        let Some((id, flags)) = read else {
            return Self::new(request);
        };
        Self { id: Some(id.into()), parent: parent(id, flags), keeps_state: true }
    }
}

fn parent(trace: &str, flags: &str) -> [u8; LENGTH] {
    let span: [u8; 16] = hex(u128::from(fastrand::u64(1..)));
    let mut text = [b'-'; LENGTH];
    let parts = [b"00".as_slice(), trace.as_bytes(), &span, flags.as_bytes()];
    let mut places = text.as_mut_slice();
    for part in parts {
        let Some((place, rest)) = places.split_at_mut_checked(part.len()) else { break };
        place.copy_from_slice(part);
        places = rest.get_mut(1..).unwrap_or_default();
    }
    text
}

/// Trace id and flags of `00-<32>-<16>-<2>`, all in lower-case hexadecimal digits; a later version may have more behind that.
fn parse(value: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.splitn(4, '-');
    let (version, trace, span, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (flags, more) = rest.split_at_checked(2)?;
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let is_whole = if version == "00" { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(span, 16)
        && !is_zero(span)
        && is_hex(flags, 2)
        && is_whole;
    is_valid.then_some((trace, flags))
}

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::request_head::EngineHead;
    use http::HeaderMap;

    fn head(headers: &HeaderMap) -> EngineHead<'_> {
        let version = http::Version::HTTP_2;
        EngineHead { method: "GET", target: b"/", version, headers, raw: None, has_unannounced_body: false }
    }

    #[test]
    fn a_well_formed_parent_is_continued() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, expected) in [
            (good, true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false),
            ("", false),
        ] {
            let fields = HeaderMap::from_iter([(TRACEPARENT.clone(), value.parse().unwrap())]);
            let trace = Trace::continued(&head(&fields), &RequestId::new());
            assert_eq!(trace.id.as_deref() == Some(&good[3..35]), expected, "{value}");
            let parent = std::str::from_utf8(&trace.parent).unwrap();
            assert!(parse(parent.as_bytes()).is_some(), "{parent}");
            assert!(!parent.contains("00f067aa0ba902b7"), "the span is ours: {parent}");
            assert_eq!(parent.ends_with("-01"), expected, "{parent}");
        }
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append(&TRACEPARENT, good.parse().unwrap());
        }
        assert!(Trace::continued(&head(&twice), &RequestId::new()).id.is_none());
    }
}
