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
