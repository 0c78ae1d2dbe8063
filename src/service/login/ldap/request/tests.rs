use super::*;
use crate::service::login::ldap::ber::Reader;
use proptest::prelude::*;

/// The encoding with the shortest lengths, as RFC 4511's examples and other programs have it; for tags that are of one kind only.
fn shortened(bytes: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while let Some((tag, content)) = reader.next() {
        let content = if tag & 0x20 != 0 { shortened(content) } else { content.to_vec() };
        assert!(content.len() < 128, "a short test");
        out.push(tag);
        out.push(u8::try_from(content.len()).unwrap());
        out.extend(content);
    }
    assert!(reader.is_empty());
    out
}

fn encoded(text: &str, user: &str) -> Vec<u8> {
    let mut writer = Writer::with_capacity(0);
    filter(&mut writer, &Filter::parse(text).unwrap(), user);
    shortened(writer.bytes())
}

#[test]
fn filters_are_sent_as_rfc_4511_encodes_them() {
    for (text, expected) in [
        ("(a={user})", &b"\xa3\x06\x04\x01a\x04\x01v"[..]),
        ("(a>={user})", b"\xa5\x06\x04\x01a\x04\x01v"),
        ("(a<={user})", b"\xa6\x06\x04\x01a\x04\x01v"),
        ("(a~={user})", b"\xa8\x06\x04\x01a\x04\x01v"),
        ("(a={user}*)", b"\xa4\x08\x04\x01a\x30\x03\x80\x01v"),
        ("(a=*{user})", b"\xa4\x08\x04\x01a\x30\x03\x82\x01v"),
        ("(a={user}*x*y)", b"\xa4\x0e\x04\x01a\x30\x09\x80\x01v\x81\x01x\x82\x01y"),
        (
            "(&(a={user})(|(b=*)(!(c=y))))",
            b"\xa0\x17\xa3\x06\x04\x01a\x04\x01v\xa1\x0d\x87\x01b\xa2\x08\xa3\x06\x04\x01c\x04\x01y",
        ),
        ("(cn:2.5.13.5:={user})", b"\xa9\x11\x81\x082.5.13.5\x82\x02cn\x83\x01v"),
        ("(ou:dn:={user})", b"\xa9\x0a\x82\x02ou\x83\x01v\x84\x01\xff"),
    ] {
        assert_eq!(encoded(text, "v"), expected, "{text}");
    }
}

#[test]
fn nested_groups_are_asked_for_by_the_rule_of_active_directory() {
    let nested = Filter::equals("memberOf", Some("1.2.840.113556.1.4.1941"), "cn=staff,dc=x");
    let mut writer = Writer::with_capacity(0);
    filter(&mut writer, &nested, "");
    let expected = b"\xa9\x32\x81\x171.2.840.113556.1.4.1941\x82\x08memberOf\x83\x0dcn=staff,dc=x";
    assert_eq!(shortened(writer.bytes()), expected);
}

#[test]
fn a_search_is_sent_as_rfc_4511_encodes_it() {
    let filter = Filter::parse("(uid={user})").unwrap();
    let search = Search {
        base: "dc=x",
        scope: Scope::Subtree,
        filter: &filter,
        user: "anna",
        attributes: &["uid", "mail"],
        domain_scope: true,
        seconds: 5,
    };
    let expected = b"\x30\x51\x02\x01\x07\x63\x2f\x04\x04dc=x\x0a\x01\x02\x0a\x01\x00\x02\x01\x02\x02\x01\x05\x01\x01\x00\
                     \xa3\x0b\x04\x03uid\x04\x04anna\x30\x0b\x04\x03uid\x04\x04mail\
                     \xa0\x1b\x30\x19\x04\x171.2.840.113556.1.4.1339";
    assert_eq!(shortened(search.encode(7).bytes()), expected);
}

#[test]
fn a_bind_without_a_name_or_a_password_cannot_be_made() {
    let (empty, full) = (Secret::new(Vec::new()), Secret::new(b"secret".to_vec()));
    for (name, password, is_made) in [
        ("cn=a", &full, true),
        ("cn=a", &empty, false),
        ("", &full, false),
        (" ", &full, false),
        ("", &empty, false),
    ] {
        assert_eq!(SimpleBind::new(name, password).is_some(), is_made, "{name:?}");
    }
    let bind = SimpleBind::new("cn=a", &full).unwrap().encode(1);
    assert_eq!(
        shortened(bind.bytes()),
        b"\x30\x16\x02\x01\x01\x60\x11\x02\x01\x03\x04\x04cn=a\x80\x06secret"
    );
}

#[test]
fn a_bind_never_outgrows_its_room() {
    for length in [1, 127, 128, 1024] {
        let (name, password) = ("n".repeat(length), Secret::new(vec![b'p'; length]));
        let bind = SimpleBind::new(&name, &password).unwrap().encode(u32::MAX);
        assert!(bind.bytes().len() <= 2 * length + 64);
    }
}

proptest! {
    /// Whatever the name is, the server gets it as one value of one comparison.
    #[test]
    fn the_name_reaches_the_server_literally(user in "\\PC{1,40}|[ -~]{1,40}|[\\x00*()\\\\{}|&!=]{1,20}") {
        let template = Filter::parse("(&(objectClass=person)(uid={user}))").unwrap();
        let mut writer = Writer::with_capacity(0);
        filter(&mut writer, &template, &user);
        let mut all = Reader::new(Reader::new(writer.bytes()).expect(AND).unwrap());
        prop_assert!(all.expect(0xa3).is_some());
        let mut assertion = Reader::new(all.expect(0xa3).unwrap());
        prop_assert_eq!(assertion.expect(OCTETS), Some(&b"uid"[..]));
        prop_assert_eq!(assertion.expect(OCTETS), Some(user.as_bytes()));
        prop_assert!(assertion.is_empty() && all.is_empty());
    }
}
