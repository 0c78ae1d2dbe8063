use super::*;
use proptest::prelude::*;

fn encoded(text: &[u8]) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

fn read_basic(field: &str) -> Option<(String, String)> {
    let credentials = parse_basic(&[field.as_bytes()])?;
    let password = String::from_utf8(credentials.password.expose_secret().to_vec()).unwrap();
    Some((credentials.user.to_string(), password))
}

#[test]
fn basic_follows_rfc_7617() {
    let good = Some(("anna".to_owned(), "pass:word".to_owned()));
    for (field, expected) in [
        (encoded(b"anna:pass:word"), good.clone()),
        (encoded(b"anna:pass:word").replace("Basic ", "bAsIc   "), good),
        (encoded("zoë:pässwörd".as_bytes()), Some(("zoë".into(), "pässwörd".into()))),
        (encoded(b"anna:"), None),
        (encoded(b":password"), None),
        (encoded(b"anna"), None),
        (encoded(b"anna:a\nb"), None),
        (encoded(b"anna:a\x85b"), None),
        (encoded(b"zo\xeb:p\xe4ss"), Some(("zoë".into(), "päss".into()))),
        (encoded("zoe\u{308}:x".as_bytes()), Some(("zoë".into(), "x".into()))),
        (encoded(format!("anna:{}", "x".repeat(1024)).as_bytes()), Some(("anna".into(), "x".repeat(1024)))),
        (encoded(format!("anna:{}", "x".repeat(1025)).as_bytes()), None),
        (encoded(b"anna:password").replace("Basic ", "Bearer "), None),
        (encoded(b"anna:password").replace(' ', ""), None),
        (encoded(b"anna:pass:wor").trim_end_matches('=').to_owned(), None),
        (encoded(b"anna:pass:word") + "!", None),
        (String::new(), None),
    ] {
        assert_eq!(read_basic(&field), expected, "{field}");
    }
    let field = encoded(b"anna:password");
    assert_eq!(parse_basic(&[]), None);
    assert_eq!(parse_basic(&[field.as_bytes(), field.as_bytes()]), None);
}

#[test]
fn a_password_is_tried_in_every_form_that_the_client_may_have_meant() {
    for (sent, expected) in [
        (b"anna:plain".to_vec(), &["plain"][..]),
        ("anna:pässwörd".into(), &["pässwörd", "pa\u{308}sswo\u{308}rd"]),
        ("anna:pa\u{308}sswo\u{308}rd".into(), &["pa\u{308}sswo\u{308}rd", "pässwörd"]),
        ("anna:ä\u{61}\u{308}".into(), &["äa\u{308}", "ää", "a\u{308}a\u{308}"]),
        (b"anna:p\xe4ss".to_vec(), &["päss", "pa\u{308}ss"]),
        // Cutoffs in another order: both normal forms are the same.
        ("anna:q\u{307}\u{323}".into(), &["q\u{307}\u{323}", "q\u{323}\u{307}"]),
        ("anna:日本".into(), &["日本"]),
    ] {
        let credentials = parse_basic(&[encoded(&sent).as_bytes()]).unwrap();
        let passwords = credentials.all_passwords().map(Secret::expose_secret);
        let passwords: Vec<&str> = passwords.map(|bytes| std::str::from_utf8(bytes).unwrap()).collect();
        assert_eq!(passwords, expected, "{sent:?}");
        assert_eq!(credentials.passwords() as usize, expected.len());
    }
}

#[test]
fn only_get_and_post_are_served() {
    let field = encoded(b"anna:password");
    let fields: &[&[u8]] = &[field.as_bytes()];
    for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "post", "get", ""] {
        let request = read(method, Some(b"token=x"), fields, InspectAuth::Token);
        assert_eq!(request, Err(Refusal::Method), "{method}");
    }
    assert!(matches!(
        read("POST", Some(b"token=x"), fields, InspectAuth::Basic),
        Ok(TokenRequest::Mint { .. })
    ));
}

#[test]
fn inspection_wants_one_token_under_either_name() {
    let field = encoded(b"anna:password");
    for (query, expected) in [
        (Some("token=a.b.c"), Ok("a.b.c")),
        (Some("user-token=a.b.c"), Ok("a.b.c")),
        (Some("x=1&%74oken=a%2Eb.c&y"), Ok("a.b.c")),
        (Some("token=a&token=a"), Err(Refusal::TokenParameter)),
        (Some("token=a&user-token=b"), Err(Refusal::TokenParameter)),
        (Some("token="), Err(Refusal::TokenParameter)),
        (Some("token"), Err(Refusal::TokenParameter)),
        (Some("Token=a"), Err(Refusal::TokenParameter)),
        (Some(""), Err(Refusal::TokenParameter)),
        (None, Err(Refusal::TokenParameter)),
    ] {
        let query = query.map(str::as_bytes);
        let token = match read("GET", query, &[field.as_bytes()], InspectAuth::Basic) {
            Ok(TokenRequest::Inspect { token, .. }) => Ok(token),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal),
        };
        assert_eq!(token.as_deref().map_err(|&refusal| refusal), expected, "{query:?}");
    }
}

#[test]
fn inspection_without_basic_only_where_the_token_is_enough() {
    let inspect = |fields: &[&[u8]], auth| read("GET", Some(b"token=x"), fields, auth).map(drop);
    assert_eq!(inspect(&[], InspectAuth::Basic), Err(Refusal::Credentials));
    assert_eq!(inspect(&[], InspectAuth::Token), Ok(()));
    assert_eq!(inspect(&[b"Basic ??"], InspectAuth::Token), Err(Refusal::Credentials));
}

proptest! {
    #[test]
    fn any_field_is_read_without_a_panic(field: Vec<u8>) {
        let _ = parse_basic(&[&field]);
    }

    #[test]
    fn what_curl_sends_is_read_back(user in "[a-zA-Z0-9._@-]{1,20}", password in "[!-~]{1,40}") {
        let field = encoded(format!("{user}:{password}").as_bytes());
        prop_assert_eq!(read_basic(&field), Some((user, password)));
    }
}
