//! The head of the platform's answer, as far as its meaning ends here or depends on the client's protocol.

use crate::auth::fields::SEQUENCE;
use crate::service::user_changes::Ended;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

/// Takes off what was meant for this connection only (RFC 9110 §7.6.1), and what contradicts the status: whether there is a body
/// is then plain to every client. The version becomes ours (§6.2).
///
/// # Errors
///
/// Where nobody can tell what follows the head: `101` though no other protocol was asked for, or a transfer coding that nobody
/// said could be read (RFC 9112 §7.4), chunks in chunks among them (§6.1).
pub(super) fn clean(response: &mut ResponseHeader) -> Result<()> {
    let status = response.status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "unexpected 101").into_up());
    }
    let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !is_chunked(coding)) || codings.next().is_some() {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "unexpected transfer coding").into_up());
    }
    if response.headers.contains_key(CONNECTION) {
        for name in nominated(response) {
            response.remove_header(&name);
        }
    }
    for name in &HOP_BY_HOP {
        response.remove_header(name);
    }
    // What the store has acknowledged, only the gateway knows.
    response.remove_header(SEQUENCE);
    let has_no_body = status.is_informational() || status == StatusCode::NO_CONTENT;
    if has_no_body || status == StatusCode::NOT_MODIFIED {
        response.remove_header(&TRANSFER_ENCODING);
    }
    // That of a 304 is the length that a 200 would have (RFC 9110 §8.6).
    if has_no_body {
        response.remove_header(&CONTENT_LENGTH);
    } else {
        unite_lengths(response)?;
    }
    response.set_version(Version::HTTP_11);
    Ok(())
}

/// The length that an answer says it has.
pub(super) fn length(response: &ResponseHeader) -> Option<u64> {
    response.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_chunked(coding: &HeaderValue) -> bool {
    coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// The fields that `Connection` names, but for those that frame the body: it has been read by them.
fn nominated(response: &ResponseHeader) -> Vec<HeaderName> {
    let values = response.headers.get_all(CONNECTION).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    names
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING)
        .collect()
}

/// The engine has refused lengths that differ.
fn unite_lengths(response: &mut ResponseHeader) -> Result<()> {
    let mut lengths = response.headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(());
    };
    let is_one = lengths.next().is_none() && !first.as_bytes().contains(&b',');
    if is_one {
        return Ok(());
    }
    let first = first.as_bytes().split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii().to_vec();
    response.insert_header(CONTENT_LENGTH, first.as_slice())
}

pub(super) static HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    UPGRADE,
];

/// Says what became of the tokens that a change of users ends: by which sequence they are revoked, or that they may come back if the
/// gateway dies now.
pub(super) fn tell(response: &mut ResponseHeader, ended: Ended) -> Result<()> {
    let text = "the tokens that this change ends are revoked here, and the store has not taken it yet";
    match ended {
        Ended::Unchanged => Ok(()),
        Ended::Durable(sequence) => response.insert_header(SEQUENCE, sequence),
        Ended::Pending => response.insert_header("x-ds-gateway-warning", text),
    }
}

/// Is the answer open for as long as somebody listens?
pub(super) fn is_event_stream(response: &ResponseHeader) -> bool {
    let kind = response.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let (kind, _) = kind.split_at_checked(EVENT_STREAM.len()).unwrap_or_default();
    kind.eq_ignore_ascii_case(EVENT_STREAM)
}

/// Server-sent events (HTML §9.2).
pub(super) const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Interim answers (1xx) of the platform to one request: more than a minute's progress of one a second, and an end.
pub(super) const MAX_INTERIM: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(status: u16, fields: &[(&'static str, &str)]) -> Result<Vec<String>, ()> {
        let mut response = ResponseHeader::build(status, None).unwrap();
        response.set_version(Version::HTTP_10);
        fields.iter().for_each(|(name, value)| {
            response.append_header(*name, *value).unwrap();
        });
        clean(&mut response).map_err(drop)?;
        assert_eq!(response.version, Version::HTTP_11);
        let fields = response.headers.iter();
        Ok(fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect())
    }

    #[test]
    fn what_is_for_one_connection_ends_there_and_what_contradicts_the_status_goes() {
        let (length, chunked) = (("content-length", "5"), ("transfer-encoding", "chunked"));
        for (status, fields, expected) in [
            (200, &[("x", "y"), length][..], Ok(&["x: y", "content-length: 5"][..])),
            (200, &[chunked], Ok(&["transfer-encoding: chunked"])),
            (200, &[("transfer-encoding", " Chunked ")], Ok(&["transfer-encoding:  Chunked "])),
            (200, &[("transfer-encoding", "gzip, chunked")], Err(())),
            (200, &[("transfer-encoding", "identity")], Err(())),
            (200, &[("transfer-encoding", "gzip"), chunked], Err(())),
            (200, &[chunked, chunked], Err(())),
            (200, &[length, length], Ok(&["content-length: 5"])),
            (200, &[("content-length", "5, 5")], Ok(&["content-length: 5"])),
            (
                200,
                &[
                    ("connection", "close, X-Mine"),
                    ("connection", "Keep-Alive, content-length"),
                    ("x-mine", "1"),
                    ("keep-alive", "timeout=5"),
                    ("proxy-connection", "keep-alive"),
                    ("upgrade", "h2c"),
                    ("trailer", "x-sum"),
                    ("te", "trailers"),
                    length,
                ],
                Ok(&["content-length: 5"]),
            ),
            (204, &[("x", "y"), length, chunked], Ok(&["x: y"])),
            (304, &[length, chunked], Ok(&["content-length: 5"])),
            (103, &[("link", "a"), ("x-ds-sequence", "9"), length, chunked], Ok(&["link: a"])),
            (204, &[("x-ds-sequence", "9"), ("x-ds-sequence", "10")], Ok(&[])),
            (101, &[("upgrade", "websocket")], Err(())),
        ] {
            let expected = expected.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect());
            assert_eq!(cleaned(status, fields), expected, "{status} {fields:?}");
        }
    }
}
