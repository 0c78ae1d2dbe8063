//! The request line on its way in.

use crate::auth::reply::Malformed;

/// The request line as it comes in, before the engine mends it: it takes a blank too many, or a control character, for a part of
/// the target.
#[derive(Default)]
pub(super) struct RequestLine {
    blanks: usize,
    controls: usize,
    is_complete: bool,
}

impl RequestLine {
    /// One that begins with what is read next; one that the engine has the beginning of already counts as complete.
    pub(super) fn begin(is_complete: bool) -> Self {
        Self { is_complete, ..Self::default() }
    }

    /// Notes more of the header, from the first byte of the line on. RFC 9112 §3: its three parts are separated by one blank each,
    /// and the only control character before the line feed is the carriage return.
    pub(super) fn read(&mut self, new: &[u8]) -> Result<(), Malformed> {
        if !self.is_complete {
            let end = new.iter().position(|&byte| byte == b'\n');
            let line = new.get(..end.unwrap_or(new.len())).unwrap_or_default();
            self.blanks += line.iter().filter(|&&byte| byte == b' ').count();
            self.controls += line.iter().filter(|byte| byte.is_ascii_control()).count();
            self.is_complete = end.is_some();
        }
        if self.blanks > 2 || self.controls > 1 { Err(Malformed::RequestLine) } else { Ok(()) }
    }
}

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
}
