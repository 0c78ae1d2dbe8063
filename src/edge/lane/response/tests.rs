use super::*;

const PLAIN: Context<'_> =
    Context { is_head: false, request_id: "id", closes: false, sharing: Sharing::Off, handshake: None };

fn seen(text: &str, context: Context<'_>) -> (Read, String) {
    let mut out = Vec::new();
    let read = read(text.as_bytes(), context, &mut out);
    (read, String::from_utf8(out).unwrap())
}

#[test]
fn the_end_of_a_body_is_plain_or_the_answer_is_none() {
    use Body::*;
    let head = Context { is_head: true, ..PLAIN };
    for (status, fields, context, expected) in [
        ("200 OK", "Content-Length: 5\r\n", PLAIN, Some((Sized(5), "content-length: 5"))),
        ("200 OK", "Content-Length: 0\r\n", PLAIN, Some((Empty, "content-length: 0"))),
        (
            "200 OK",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            PLAIN,
            Some((Sized(5), "content-length: 5")),
        ),
        ("200 OK", "Content-Length: 5, 5\r\n", PLAIN, Some((Sized(5), "content-length: 5"))),
        ("200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n", PLAIN, None),
        ("200 OK", "Content-Length: 5, 6\r\n", PLAIN, None),
        ("200 OK", "Content-Length: +5\r\n", PLAIN, None),
        ("200 OK", "Content-Length: -5\r\n", PLAIN, None),
        ("200 OK", "Content-Length:\r\n", PLAIN, None),
        ("200 OK", "Content-Length: 0x5\r\n", PLAIN, None),
        ("200 OK", "Content-Length: 99999999999999999999\r\n", PLAIN, None),
        ("204 No Content", "Content-Length: 5 5\r\n", PLAIN, None),
        ("200 OK", "Transfer-Encoding: Chunked \r\n", PLAIN, Some((Chunked, "transfer-encoding: chunked"))),
        (
            "200 OK",
            "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
            PLAIN,
            Some((Chunked, "transfer-encoding: chunked")),
        ),
        ("200 OK", "Transfer-Encoding: gzip, chunked\r\n", PLAIN, None),
        ("200 OK", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", PLAIN, None),
        ("200 OK", "Transfer-Encoding: identity\r\n", PLAIN, None),
        ("200 OK", "", PLAIN, Some((UntilClose, "transfer-encoding: chunked"))),
        ("200 OK", "Content-Length: 5\r\n", head, Some((Empty, "content-length: 5"))),
        ("200 OK", "Transfer-Encoding: chunked\r\n", head, Some((Empty, "transfer-encoding: chunked"))),
        ("200 OK", "", head, Some((Empty, ""))),
        ("204 No Content", "Content-Length: 5\r\n", PLAIN, Some((Empty, ""))),
        ("204 No Content", "Transfer-Encoding: chunked\r\n", PLAIN, Some((Empty, ""))),
        ("304 Not Modified", "Content-Length: 5\r\n", PLAIN, Some((Empty, "content-length: 5"))),
        ("304 Not Modified", "Transfer-Encoding: chunked\r\n", PLAIN, Some((Empty, ""))),
        ("101 Switching", "Upgrade: x\r\n", PLAIN, None),
    ] {
        let text = format!("HTTP/1.1 {status}\r\nDate: now\r\n{fields}\r\nbody");
        let (read, out) = seen(&text, context);
        let out = out.to_ascii_lowercase();
        let Some((body, framing)) = expected else {
            assert_eq!(read, Read::Invalid, "{text:?}");
            continue;
        };
        let Read::Whole(found) = read else { panic!("{text:?}: {read:?}") };
        assert_eq!((found.body, found.length), (body, text.len() - 4), "{text:?}");
        let about_the_end: Vec<&str> = out
            .lines()
            .filter(|line| line.starts_with("content-length") || line.starts_with("transfer-encoding"))
            .collect();
        assert_eq!(about_the_end.join(" "), framing, "{text:?}");
    }
}

#[test]
fn a_connection_is_kept_where_both_sides_say_so() {
    for (text, keeps) in [
        ("HTTP/1.1 204 x\r\n\r\n", true),
        ("HTTP/1.1 204 x\r\nConnection: Close\r\n\r\n", false),
        ("HTTP/1.1 204 x\r\nConnection: keep-alive, close\r\n\r\n", false),
        ("HTTP/1.0 204 x\r\n\r\n", false),
        ("HTTP/1.0 204 x\r\nConnection: keep-alive\r\n\r\n", true),
        ("HTTP/1.0 200 x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", false),
    ] {
        let (Read::Whole(head), out) = seen(text, PLAIN) else { panic!("{text:?}") };
        assert_eq!(head.keeps, keeps, "{text:?}");
        assert!(!out.to_ascii_lowercase().contains("connection"), "{out:?}");
    }
    let (_, out) = seen("HTTP/1.1 204 x\r\n\r\n", Context { closes: true, ..PLAIN });
    assert!(out.contains("\r\nConnection: close\r\n"), "{out:?}");
}

#[test]
fn what_is_for_one_connection_ends_there() {
    let (_, out) = seen(
        "HTTP/1.0 299 Very  fine\r\nX: y\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nTrailer: a\r\nTE: b\r\n\
         Proxy-Connection: c\r\nX-Request-Id: theirs\r\nDate: then\r\nFolded: a\r\n b\r\nSpaced : c\r\nContent-Length: 0\r\n\r\n",
        PLAIN,
    );
    assert_eq!(
        out,
        "HTTP/1.1 299 Very  fine\r\nX: y\r\nDate: then\r\nFolded: a b\r\nSpaced: c\r\nContent-Length: 0\r\nX-Request-Id: id\r\n\r\n"
    );
}

#[test]
fn what_a_platform_takes_back_is_said_by_the_gateway() {
    let sharing = Sharing::Refused;
    let text = "HTTP/1.1 204 x\r\nConnection: date, vary\r\nDate: then\r\nVary: Origin\r\n\r\n";
    let (_, out) = seen(text, Context { sharing, ..PLAIN });
    assert!(!out.contains("then") && out.contains("\r\nDate: "), "{out:?}");
    assert_eq!(out.matches("\r\nVary: Origin\r\n").count(), 1, "{out:?}");
}

#[test]
fn interim_answers_have_no_body_and_no_end() {
    let (read, out) = seen("HTTP/1.1 103 Early\r\nLink: a\r\nContent-Length: 3\r\n\r\nHTTP", PLAIN);
    assert_eq!(read, Read::Interim(50));
    assert_eq!(out, "HTTP/1.1 103 Early\r\nLink: a\r\nX-Request-Id: id\r\n\r\n");
}

#[test]
fn what_pages_may_read_is_said_by_the_gateway_alone() {
    let text = "HTTP/1.1 204 x\r\nDate: n\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept, origin\r\n\r\n";
    let shown = |sharing| seen(text, Context { sharing, ..PLAIN }).1;
    assert!(shown(Sharing::Off).contains("Access-Control-Allow-Origin: *"));
    assert_eq!(
        shown(Sharing::Refused),
        "HTTP/1.1 204 x\r\nDate: n\r\nVary: Accept, origin\r\nX-Request-Id: id\r\n\r\n"
    );
    assert!(shown(Sharing::Allowed("https://a")).contains("\r\nAccess-Control-Allow-Origin: https://a\r\n"));
    let (_, out) = seen("HTTP/1.1 204 x\r\n\r\n", Context { sharing: Sharing::Refused, ..PLAIN });
    assert!(out.contains("\r\nVary: Origin\r\n"));
}

#[test]
fn a_head_is_read_once_it_is_whole_and_garbage_never() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(seen(&whole[..end], PLAIN), (Read::Part, String::new()), "{end}");
    }
    for garbage in ["GET / HTTP/1.1\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "\0"] {
        assert_eq!(seen(garbage, PLAIN).0, Read::Invalid, "{garbage:?}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert!(matches!(seen(&many, PLAIN).0, Read::Whole(_)));
    let too_many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300));
    assert_eq!(seen(&too_many, PLAIN).0, Read::Invalid);
}

#[test]
fn no_platform_says_what_the_store_has_acknowledged() {
    let forged = "X-DS-Sequence: 9\r\nx-ds-sequence: 10\r\n";
    let (_, out) = seen(&format!("HTTP/1.1 204 x\r\nDate: n\r\n{forged}\r\n"), PLAIN);
    assert_eq!(out, "HTTP/1.1 204 x\r\nDate: n\r\nX-Request-Id: id\r\n\r\n");
    let (_, out) = seen(&format!("HTTP/1.1 103 x\r\n{forged}\r\n"), PLAIN);
    assert_eq!(out, "HTTP/1.1 103 x\r\nX-Request-Id: id\r\n\r\n");
}
