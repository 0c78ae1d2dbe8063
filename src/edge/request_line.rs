//! The request line on its way in.

use crate::auth::reply::Malformed;

/// The request line as it comes in, before the engine mends it: it takes a blank too many, or a control character, for a part of
/// the target.
pub(super) struct RequestLine {
    blanks: usize,
    controls: usize,
    /// Bytes that the engine takes in no target.
    unsendable: usize,
    is_complete: bool,
    /// How it begins, for the log.
    kept: [u8; KEPT],
    length: usize,
}

impl Default for RequestLine {
    fn default() -> Self {
        Self::begin(false)
    }
}

impl RequestLine {
    /// One that begins with what is read next; one that the engine has the beginning of already counts as complete.
    pub(super) const fn begin(is_complete: bool) -> Self {
        Self { blanks: 0, controls: 0, unsendable: 0, is_complete, kept: [0; KEPT], length: 0 }
    }

    /// Notes more of the header, from the first byte of the line on. RFC 9112 §3: its three parts are separated by one blank each,
    /// and the only control character before the line feed is the carriage return.
    pub(super) fn read(&mut self, new: &[u8]) -> Result<(), Malformed> {
        if !self.is_complete {
            let end = new.iter().position(|&byte| byte == b'\n');
            let line = new.get(..end.unwrap_or(new.len())).unwrap_or_default();
            self.blanks += line.iter().filter(|&&byte| byte == b' ').count();
            self.controls += line.iter().filter(|byte| byte.is_ascii_control()).count();
            self.unsendable += line.iter().filter(|&&byte| matches!(byte, b'"' | b'<' | b'>' | b'`')).count();
            self.is_complete = end.is_some();
            let room = self.kept.get_mut(self.length..).unwrap_or_default();
            let count = room.len().min(line.len());
            room.iter_mut().zip(line).for_each(|(kept, byte)| *kept = *byte);
            self.length += count;
        }
        if self.blanks > 2 || self.controls > 1 { Err(Malformed::RequestLine) } else { Ok(()) }
    }

    /// Why the engine may have refused it.
    pub(super) fn fault(&self) -> Option<Malformed> {
        let kept = self.kept.get(..self.length).unwrap_or_default();
        let is_text = std::str::from_utf8(kept).is_ok() || is_cut(kept);
        if self.unsendable > 0 || !is_text {
            return Some(Malformed::TargetCharacter);
        }
        let target = kept.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let has = |scheme: &[u8]| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        };
        (has(b"http://") || has(b"https://")).then_some(Malformed::Authority)
    }

    /// Method and path, as far as they are known, without the query.
    pub(super) fn method_and_path(&self) -> (Option<String>, Option<String>) {
        let kept = self.kept.get(..self.length).unwrap_or_default();
        let mut parts = kept.split(|byte| matches!(byte, b' ' | b'?' | b'\r'));
        let mut text = || parts.next().map(|part| String::from_utf8_lossy(part).into_owned());
        let (method, path) = (text(), text());
        // One with an authority that is cut may be cut inside a password.
        let has_authority = |path: &String| !path.starts_with('/') || path.starts_with("//");
        (method, path.filter(|path| self.length < KEPT || !has_authority(path)))
    }
}

/// Is that UTF-8, but for a character that is cut at the end?
fn is_cut(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Bytes of a line that the log may show.
const KEPT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_has_two_blanks_and_no_control_however_it_comes() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a b c\r\n\r\n", Ok(())),
            ("GET /  HTTP/1.1\r\n", Err(Malformed::RequestLine)),
            ("GET  / HTTP/1.1\r\n", Err(Malformed::RequestLine)),
            ("GET / HTTP/1.1 \r\n", Err(Malformed::RequestLine)),
            ("GET /?\0 HTTP/1.1\r\n", Err(Malformed::RequestLine)),
            ("GET /?\r HTTP/1.1\r\n", Err(Malformed::RequestLine)),
            ("GET /\x7f HTTP/1.1\r\n", Err(Malformed::RequestLine)),
            ("GET / HTTP/1.1\t\r\nX: \t\x01\r\n", Err(Malformed::RequestLine)),
            ("GET / HTTP/1.1\r\nX: \t\x01\r\n", Ok(())),
        ] {
            for size in [1, 3, 100] {
                let mut line = RequestLine::default();
                let read = text.as_bytes().chunks(size).try_for_each(|new| line.read(new));
                assert_eq!(read, expected, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_known_of_a_line_is_told_without_its_query() {
        let long = "x".repeat(200);
        for (text, method, path) in [
            ("GET /a?token=b HTTP/1.1\r\n", Some("GET"), Some("/a")),
            ("GET /a HTTP/1.1\r\n", Some("GET"), Some("/a")),
            ("GE", Some("GE"), None),
            ("GET /\u{e9}", Some("GET"), Some("/\u{e9}")),
            ("", Some(""), None),
            (&long, Some(&long[..KEPT]), None),
            (&format!("GET http://user:{long}"), Some("GET"), None),
            (&format!("GET //user:{long}"), Some("GET"), None),
            (&format!("GET /{}", &long[..KEPT - 5]), Some("GET"), Some(&*format!("/{}", &long[..KEPT - 5]))),
        ] {
            for size in [1, 3, 1_000] {
                let mut line = RequestLine::default();
                let _ = text.as_bytes().chunks(size).try_for_each(|new| line.read(new));
                let (found, target) = line.method_and_path();
                assert_eq!((found.as_deref(), target.as_deref()), (method, path), "{text:?}");
            }
        }
    }

    #[test]
    fn a_character_that_the_engine_takes_in_no_target_is_named() {
        for (text, expected) in [
            ("GET /?a={b}|^\\ HTTP/1.1\r\n", None),
            ("GET /?a=\"b\" HTTP/1.1\r\n", Some(Malformed::TargetCharacter)),
            ("GET /?a<b HTTP/1.1\r\n", Some(Malformed::TargetCharacter)),
            ("GET /` HTTP/1.1\r\n", Some(Malformed::TargetCharacter)),
            ("GET /?a=\u{e9} HTTP/1.1\r\n", None),
            ("GET HTTP://u@a/ HTTP/1.1\r\n", Some(Malformed::Authority)),
            ("GET /http://a HTTP/1.1\r\n", None),
            ("GET / HTTP/1.1\r\nX: <\r\n", None),
        ] {
            let mut line = RequestLine::default();
            assert_eq!(line.read(text.as_bytes()), Ok(()));
            assert_eq!(line.fault(), expected, "{text:?}");
        }
    }
}
