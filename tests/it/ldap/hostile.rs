//! A server that answers whatever it wants lets nobody in, and the gateway goes on.

use super::fake::{Fake, Reply, SEARCH, anna, entry, message, result, value};
use super::people::PASSWORD;
use super::users::{Keys, accepted};
use ds_gateway::service::login::source::{Answer, Unavailable};

const INVALID: Answer = Answer::Unavailable(Unavailable::Invalid);
const UNREACHABLE: Answer = Answer::Unavailable(Unavailable::Unreachable);

/// Sequences in sequences, in a message of nearly the greatest length.
fn nested(id: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let levels = 170_000_usize;
    for level in 0..levels {
        let length = u32::try_from((levels - level - 1) * 6).expect("a length").to_be_bytes();
        bytes.extend([&[0x30, 0x84][..], &length].concat());
    }
    message(id, &bytes)
}

#[test]
fn what_is_no_answer_to_a_bind_is_unavailable() {
    type Bytes = Box<dyn Fn(u8) -> Vec<u8> + Send + Sync>;
    let cases: Vec<(&str, Bytes, Answer)> = vec![
        ("a web server", Box::new(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), INVALID),
        ("zeros", Box::new(|_| vec![0; 64]), INVALID),
        (
            "a length of four gigabytes",
            Box::new(|_| b"\x30\x84\xff\xff\xff\xff\x02\x01\x01".to_vec()),
            INVALID,
        ),
        (
            "a length of eight bytes",
            Box::new(|_| b"\x30\x88\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec()),
            INVALID,
        ),
        ("a length that is not said", Box::new(|_| b"\x30\x80\x02\x01\x01".to_vec()), INVALID),
        ("nothing in a message", Box::new(|_| b"\x30\x00".to_vec()), INVALID),
        ("a number alone", Box::new(|_| b"\x30\x03\x02\x01\x01".to_vec()), INVALID),
        ("sequences in sequences", Box::new(nested), INVALID),
        ("another request's answer", Box::new(|id| result(id + 1, 0x61, 0, "")), INVALID),
        ("the answer to a search", Box::new(|id| result(id, 0x65, 0, "")), INVALID),
        ("a request", Box::new(|id| message(id, &value(0x60, b""))), INVALID),
        ("a result without a code", Box::new(|id| message(id, &value(0x61, b""))), INVALID),
        ("a notice that it ends", Box::new(|_| result(0, 0x78, 52, "shutting down")), UNREACHABLE),
    ];
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (what, bytes, expected) in cases {
        let fake = Fake::start(move |request| Reply::Bytes(bytes(request.id)));
        let users = Keys::search(&[&fake.url()]).users(dir.path());
        assert_eq!(users.login("anna", PASSWORD), expected, "{what}");
        fake.never_saw(PASSWORD);
    }
    let fake = Fake::start(|_| Reply::Close);
    let users = Keys::search(&[&fake.url()]).users(dir.path());
    assert_eq!(users.login("anna", PASSWORD), UNREACHABLE);
}

#[test]
fn what_is_no_answer_to_a_search_is_unavailable() {
    type Bytes = Box<dyn Fn(u8) -> Vec<u8> + Send + Sync>;
    let reference = |id| message(id, &value(0x73, &value(4, b"ldap://elsewhere")));
    let cases: Vec<(&str, Bytes, Answer)> = vec![
        ("sequences in sequences", Box::new(nested), INVALID),
        ("the answer to a bind", Box::new(|id| result(id, 0x61, 0, "")), INVALID),
        ("another request's answer", Box::new(|id| anna(id + 1)), INVALID),
        ("a referral", Box::new(|id| result(id, 0x65, 10, "")), INVALID),
        ("references alone", Box::new(move |id| [reference(id), result(id, 0x65, 0, "")].concat()), INVALID),
        ("references without end", Box::new(move |id| reference(id).repeat(2000)), INVALID),
        ("entries without end", Box::new(|id| entry(id, "cn=a", &[]).repeat(2000)), INVALID),
        (
            "an entry without a name",
            Box::new(|id| [entry(id, "", &[]), result(id, 0x65, 0, "")].concat()),
            INVALID,
        ),
        ("no right to search", Box::new(|id| result(id, 0x65, 50, "")), INVALID),
        ("no entry at the base", Box::new(|id| result(id, 0x65, 32, "")), INVALID),
        ("too many for the server", Box::new(|id| result(id, 0x65, 11, "")), INVALID),
        (
            "one entry and too many",
            Box::new(|id| [entry(id, "cn=a", &[]), result(id, 0x65, 4, "")].concat()),
            INVALID,
        ),
        ("busy", Box::new(|id| result(id, 0x65, 51, "")), INVALID),
        ("no time", Box::new(|id| result(id, 0x65, 3, "")), Answer::Unavailable(Unavailable::TimedOut)),
        ("the end of the connection", Box::new(|_| result(0, 0x78, 52, "")), UNREACHABLE),
    ];
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (what, bytes, expected) in cases {
        let fake = Fake::searching(move |request| bytes(request.id));
        let users = Keys::search(&[&fake.url()]).users(dir.path());
        assert_eq!(users.login("anna", PASSWORD), expected, "{what}");
        fake.never_saw(PASSWORD);
    }
}

#[test]
fn an_answer_in_pieces_is_read_as_one() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ldap://127.0.0.1:{}", listener.local_addr().expect("a port").port());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                stream.set_nodelay(true).expect("an option");
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|count| count > 0) {
                    let (id, tag) = (request[12], request[13]);
                    let answer = if tag == SEARCH { anna(id) } else { result(id, 0x61, 0, "") };
                    if answer.iter().any(|byte| stream.write_all(&[*byte]).is_err()) {
                        return;
                    }
                }
            });
        }
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let users = Keys::search(&[&url]).users(dir.path());
    assert_eq!(accepted(users.login("anna", PASSWORD)).0, "anna");
}
