//! Brings a request's head into the form that everything behind it knows, before anything looks at it.

use std::borrow::Cow;

use http::header::{EXPECT, HOST};
use http::{HeaderValue, Version};
use pingora::http::RequestHeader;

/// A target in absolute-form becomes one in origin-form (RFC 9112 §3.2.2); its authority is `Host` where HTTP/1.0 sent none. The
/// engine has refused an authority that is not equal to `Host`, byte for byte, and one with user information. What cannot be
/// brought into that form stays as it is, and is refused by the path rule.
///
/// HTTP/1.0 knows no `Expect`, and a server must ignore it there (RFC 9110 §10.1.1).
pub(super) fn normalize(head: &mut RequestHeader) {
    let is_old = head.version == Version::HTTP_10;
    if is_old {
        head.remove_header(&EXPECT);
    }
    if head.raw_path().starts_with(b"/") {
        return;
    }
    let method = head.method.as_str().as_bytes();
    let Some((authority, target)) = absolute_form(method, head.raw_path()) else {
        return;
    };
    let authority = HeaderValue::from_bytes(authority);
    let target = target.into_owned();
    if head.set_raw_path(&target).is_ok()
        && let (true, false, Ok(authority)) = (is_old, head.headers.contains_key(HOST), authority)
    {
        // A name that is there once, and the value of a field.
        let _ = head.insert_header(HOST, authority);
    }
}

/// Authority and origin-form of an absolute-form target. `http` and `https` mean the same: by what way a request came, its
/// connection tells, or a trusted proxy.
fn absolute_form<'t>(method: &[u8], target: &'t [u8]) -> Option<(&'t [u8], Cow<'t, [u8]>)> {
    let (scheme, rest) = target.split_at_checked(target.iter().position(|&byte| byte == b':')?)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    if authority.is_empty() {
        return None;
    }
    let target = match rest.first() {
        None if method == b"OPTIONS" => Cow::Borrowed(&b"*"[..]),
        None => Cow::Borrowed(&b"/"[..]),
        Some(b'/') => Cow::Borrowed(rest),
        Some(_) => Cow::Owned([b"/", rest].concat()),
    };
    Some((authority, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_form_becomes_origin_form() {
        for (method, target, expected) in [
            ("GET", "http://a/b?c", Some(("a", "/b?c"))),
            ("GET", "HTTPS://a:8443/", Some(("a:8443", "/"))),
            ("GET", "http://a", Some(("a", "/"))),
            ("OPTIONS", "http://a", Some(("a", "*"))),
            ("OPTIONS", "http://a/", Some(("a", "/"))),
            ("GET", "http://a?b=/c", Some(("a", "/?b=/c"))),
            ("GET", "http://[::1]:80/x", Some(("[::1]:80", "/x"))),
            // What is behind it is for the path rule.
            ("GET", "http://a//b/../c", Some(("a", "//b/../c"))),
            ("GET", "http://a/http://b/", Some(("a", "/http://b/"))),
            ("GET", "http:///b", None),
            ("GET", "http:/a/b", None),
            ("GET", "http:a", None),
            ("GET", "ftp://a/b", None),
            ("GET", "://a/b", None),
            ("GET", "a:80", None),
            ("GET", "*", None),
            ("GET", "?a=http://b/", None),
            ("GET", "", None),
        ] {
            let found = absolute_form(method.as_bytes(), target.as_bytes());
            let found = found.map(|(authority, target)| (authority.to_vec(), target.into_owned()));
            let expected = expected.map(|(authority, target)| (authority.into(), target.into()));
            assert_eq!(found, expected, "{method} {target}");
        }
    }

    #[test]
    fn authority_stands_in_for_a_host_that_only_http_1_0_may_lack() {
        let host = |version, host: Option<&str>| {
            let mut head = RequestHeader::build("GET", b"http://a/b", None).unwrap();
            head.set_version(version);
            host.into_iter().for_each(|host| head.insert_header("Host", host).unwrap());
            head.insert_header("Expect", "100-continue").unwrap();
            normalize(&mut head);
            assert_eq!(head.raw_path(), b"/b");
            let value = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            (value("host"), value("expect").is_some())
        };
        assert_eq!(host(Version::HTTP_10, None), (Some("a".into()), false));
        assert_eq!(host(Version::HTTP_10, Some("a")), (Some("a".into()), false));
        assert_eq!(host(Version::HTTP_11, None), (None, true));
        assert_eq!(host(Version::HTTP_11, Some("a")), (Some("a".into()), true));
    }
}
