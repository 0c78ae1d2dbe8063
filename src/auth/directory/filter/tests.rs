use super::*;
use proptest::prelude::*;

/// A text as a value in the text of a filter (RFC 4515 §3): what others do where they paste a name into a filter.
fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'*' | b'(' | b')' | b'\\' | 0 | b'{' | b'}' => format!("\\{byte:02x}"),
        byte if byte.is_ascii() => char::from(byte).to_string(),
        byte => format!("\\{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn value(parts: &[Option<&str>]) -> Value {
    let part = |part: &Option<&str>| part.map_or(Part::User, |text| Part::Bytes(text.as_bytes().to_vec()));
    Value(parts.iter().map(part).collect())
}

fn user_equals(attribute: &str) -> Filter {
    Filter::Compare(Comparison::Equal, attribute.into(), value(&[None]))
}

#[test]
fn filters_are_read_as_rfc_4515_writes_them() {
    let text = "(&(objectClass=person)(|(uid={user})(mail={user}@*))(!(x=a*b*c*))(n>=1)(m<=2)(o~=3))";
    let compare = |comparison, attribute: &str, text| {
        Filter::Compare(comparison, attribute.to_owned(), value(&[Some(text)]))
    };
    let expected = Filter::And(vec![
        compare(Comparison::Equal, "objectClass", "person"),
        Filter::Or(vec![
            user_equals("uid"),
            Filter::Substrings {
                attribute: "mail".into(),
                first: Some(value(&[None, Some("@")])),
                middle: Vec::new(),
                last: None,
            },
        ]),
        Filter::Not(Box::new(Filter::Substrings {
            attribute: "x".into(),
            first: Some(value(&[Some("a")])),
            middle: vec![value(&[Some("b")]), value(&[Some("c")])],
            last: None,
        })),
        compare(Comparison::AtLeast, "n", "1"),
        compare(Comparison::AtMost, "m", "2"),
        compare(Comparison::Like, "o", "3"),
    ]);
    assert_eq!(Filter::parse(text), Ok(expected));

    let extensible = |rule: Option<&str>, attribute: Option<&str>, of_dn| Filter::Extensible {
        rule: rule.map(str::to_owned),
        attribute: attribute.map(str::to_owned),
        value: value(&[None]),
        of_dn,
    };
    let rule = "1.2.840.113556.1.4.1941";
    for (text, expected) in [
        ("(memberOf:1.2.840.113556.1.4.1941:={user})", extensible(Some(rule), Some("memberOf"), false)),
        ("(:caseExactMatch:={user})", extensible(Some("caseExactMatch"), None, false)),
        ("(ou:dn:={user})", extensible(None, Some("ou"), true)),
        ("(ou:dn:2.4.6:={user})", extensible(Some("2.4.6"), Some("ou"), true)),
        ("(ou:={user})", extensible(None, Some("ou"), false)),
    ] {
        assert_eq!(Filter::parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_not_a_filter_says_why() {
    let deep = format!("{}(uid={{user}}){}", "(!".repeat(16), ")".repeat(16));
    for (text, expected) in [
        ("", FilterError::Parentheses),
        ("uid={user}", FilterError::Parentheses),
        ("(uid={user}", FilterError::Parentheses),
        ("(uid={user}))", FilterError::Parentheses),
        ("(uid={user}) ", FilterError::Parentheses),
        ("(&(uid={user}) (a=b))", FilterError::Parentheses),
        ("(&)", FilterError::Parentheses),
        ("()", FilterError::Attribute),
        ("(uid)", FilterError::Attribute),
        ("({user}=x)", FilterError::Attribute),
        ("(=x)", FilterError::Attribute),
        ("(u d={user})", FilterError::Attribute),
        ("(:={user})", FilterError::Attribute),
        ("(uid={username})", FilterError::Value),
        ("(uid={user}(x))", FilterError::Value),
        ("(uid={user}\\2)", FilterError::Value),
        ("(uid={user}\\zz)", FilterError::Value),
        ("(uid={user}**)", FilterError::Value),
        ("(uid>={user}*)", FilterError::Value),
        ("(uid=a}{user})", FilterError::Value),
        ("(uid=anna)", FilterError::NoUser),
        ("(uid=*)", FilterError::NoUser),
        ("(!(uid={user}))", FilterError::NoUser),
        (&deep, FilterError::Depth),
    ] {
        assert_eq!(Filter::parse(text), Err(expected), "{text}");
    }
}

#[test]
fn names_of_attributes_are_told_from_other_texts() {
    for (text, expected) in [
        ("uid", true),
        ("msDS-User-Account-Control-Computed", true),
        ("2.5.4.3", true),
        ("cn;lang-de", true),
        ("", false),
        ("1.", false),
        ("-a", false),
        ("a b", false),
        ("cn;", false),
        ("ü", false),
    ] {
        assert_eq!(is_attribute(text), expected, "{text:?}");
    }
}

proptest! {
    /// The name as a value, and the name escaped in the text, are the same filter.
    #[test]
    fn a_name_is_the_value_that_it_would_be_if_it_were_escaped(
        user in "\\PC{1,40}|[ -~]{1,40}|[\\x00*()\\\\{}|&!=a]{1,20}"
    ) {
        let template = Filter::parse("(uid={user})");
        let Ok(Filter::Compare(Comparison::Equal, _, value)) = &template else { panic!("{template:?}") };
        prop_assert_eq!(value.of(&user), user.as_bytes());
        let pasted = Filter::parse(&format!("(&(uid={})(x={{user}}))", escape(&user)));
        let Ok(Filter::And(all)) = &pasted else { panic!("{pasted:?}") };
        let Some(Filter::Compare(Comparison::Equal, _, pasted)) = all.first() else { panic!("{all:?}") };
        prop_assert_eq!(all.len(), 2);
        prop_assert_eq!(pasted.of(""), user.as_bytes());
    }

    #[test]
    fn no_text_makes_the_parser_fail_otherwise_than_with_a_reason(text in "[(&|!)=*\\\\{}a-z:<>~]{0,60}|\\PC{0,40}") {
        let _ = Filter::parse(&text);
        let _ = is_attribute(&text);
    }
}
