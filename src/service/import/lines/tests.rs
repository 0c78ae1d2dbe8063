use super::*;

const HASH: &str = "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i";

/// Of each line with a user, its number and what it says of the user, or its error.
fn read(input: impl AsRef<[u8]>) -> Vec<(usize, Result<String, String>)> {
    let mut lines = Lines::new(input.as_ref());
    let mut found = Vec::new();
    while let Some((number, parsed)) = lines.next().unwrap() {
        found.push((
            number,
            parsed.map(|ImportedUser { user: NewUser { identity, phc }, disabled }| {
                assert_eq!(phc.as_str(), HASH);
                format!("{}|{}|{}|{disabled:?}", identity.user, identity.email, identity.organization)
            }),
        ));
    }
    found
}

fn json(name: &str) -> String {
    format!("{{\"name\":\"{name}\",\"email\":\"a@b\",\"organization\":\"O, Ö\",\"password\":\"{HASH}\"}}")
}

#[test]
fn json_and_csv_are_read_with_any_line_ends_a_byte_order_mark_and_blank_lines() {
    let one = |number, name: &str| (number, Ok(format!("{name}|a@b|O, Ö|None")));
    for end in ["\n", "\r\n"] {
        for mark in ["", "\u{feff}"] {
            let text = format!("{mark}{}{end}{end} {end}{}{end}", json("anna"), json("bert"));
            assert_eq!(read(&text), [one(1, "anna"), one(4, "bert")], "{text:?}");
            let text = format!(
                "{mark}{end}name,email,organization,password{end}anna,a@b,\"O, Ö\",{HASH}{end}{end}\"bert\",a@b,\"O, Ö\",{HASH}"
            );
            assert_eq!(read(&text), [one(3, "anna"), one(5, "bert")], "{text:?}");
        }
    }
}

#[test]
fn columns_are_in_any_order_and_between_any_of_three_delimiters() {
    for delimiter in [",", ";", "\t"] {
        let header = ["Disabled", "password", " NAME ", "organization", "email"].join(delimiter);
        let line = |disabled: &str, quoted: &str| [disabled, HASH, quoted, "O", "a@b"].join(delimiter);
        let text = [header, line("", "\"say \"\"hi\"\"\""), line("TRUE", "b"), line("0", "c")].join("\n");
        let expected = [
            (2, Ok("say \"hi\"|a@b|O|None".to_owned())),
            (3, Ok("b|a@b|O|Some(true)".to_owned())),
            (4, Ok("c|a@b|O|Some(false)".to_owned())),
        ];
        assert_eq!(read(&text), expected, "{text}");
    }
}

#[test]
fn disabled_of_json_is_a_boolean_or_nothing() {
    for (value, expected) in [("true", "Some(true)"), ("false", "Some(false)"), ("null", "None")] {
        let text = json("anna").replace('}', &format!(",\"disabled\":{value}}}"));
        assert_eq!(read(&text), [(1, Ok(format!("anna|a@b|O, Ö|{expected}")))]);
    }
    for value in ["\"true\"", "1"] {
        let text = json("anna").replace('}', &format!(",\"disabled\":{value}}}"));
        assert_eq!(read(&text), [(1, Err("disabled must be true or false".to_owned()))]);
    }
}

#[test]
fn each_error_says_what_is_wrong_and_never_shows_a_password() {
    let csv = |line: &str| format!("name,email,organization,password\n{line}");
    let with_password = |value: &str| json("anna").replace(&format!("\"{HASH}\""), value);
    for (text, number, expected) in [
        ("{\"name\":\"anna\"".to_owned(), 1, "not valid: EOF while parsing an object (column 14)"),
        ("{}".into(), 1, "the name is missing"),
        (json("anna").replace('}', ",\"x\":1}"), 1, "unknown field `x`"),
        (json("anna").replace('}', ",\"name\":\"b\"}"), 1, "duplicate field `name`"),
        (json("a:b"), 1, "the name must not contain a colon"),
        (with_password("12345678"), 1, "the password must be text"),
        (with_password("[\"s3cret\"]"), 1, "the password must be text"),
        (with_password("{\"s3cret\":\"s3cret\"}"), 1, "the password must be text"),
        (with_password("true"), 1, "the password must be text"),
        (with_password("null"), 1, "the password is missing"),
        (with_password("\"s3cret\""), 1, "the password is plain text"),
        (format!("{}\n\"s3cret\"", json("anna")), 2, "not a JSON object"),
        ("s3cret".into(), 1, "neither a JSON object nor a header of CSV"),
        ("[{}]".into(), 1, "a JSON array"),
        (format!("name,email,password\nanna,a@b,{HASH}"), 1, "the column \"organization\" is missing"),
        ("name,email,organization,password,name".into(), 1, "the column \"name\" is there twice"),
        ("name,email,organization,password,shoe".into(), 1, "unknown column"),
        (csv("anna,a@b,s3cret"), 2, "3 fields, but the header has 4"),
        (csv("anna"), 2, "1 field, but the header has 4"),
        (csv("anna,a@b,\"O,s3cret"), 2, "a quoted field does not end on this line"),
        (csv(&format!("anna,,O,{HASH}")), 2, "the e-mail address is missing"),
        (csv("anna,a@b,O,s3cret"), 2, "the password is plain text"),
        (
            csv(&format!("anna,a@b,O,{HASH}\n{}", "x".repeat(70_000))),
            3,
            "the line is longer than 65536 bytes",
        ),
    ] {
        let found = read(&text);
        let (at, error) = found.iter().find(|(_, parsed)| parsed.is_err()).unwrap();
        let error = error.as_ref().unwrap_err();
        assert!(*at == number && error.contains(expected), "{text}: {at}: {error}");
        assert!(!error.contains("s3cret") && !error.contains("12345678"), "{error}");
    }
    for (bytes, expected) in [
        (
            &b"\xff\xfen\0a\0m\0e\0\n\0"[..],
            "the file is UTF-16, as its byte order mark (BOM) says: save it as UTF-8",
        ),
        (b"{\"name\":\"\xff\"}", "the line is not UTF-8"),
    ] {
        assert_eq!(read(bytes).first(), Some(&(1, Err(expected.to_owned()))));
    }
}

#[test]
fn line_that_is_too_long_costs_only_itself() {
    let text = format!("{}\n{}\n{}", json("anna"), "x".repeat(200_000), json("bert"));
    let numbers: Vec<(usize, bool)> = read(&text).iter().map(|(at, parsed)| (*at, parsed.is_ok())).collect();
    assert_eq!(numbers, [(1, true), (2, false), (3, true)]);
}
