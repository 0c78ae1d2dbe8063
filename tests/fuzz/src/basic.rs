//! Credentials and the query of the token endpoint, beside decoders written here.
//!
//! The input: a byte for the kind, then fields of `Authorization`, one a line, or a query.

use ds_gateway::auth::endpoint::{InspectAuth, Refusal, TokenRequest, read};
use unicode_normalization::UnicodeNormalization as _;

pub fn run(input: &[u8]) {
    let Some((&kind, text)) = input.split_first() else { return };
    match kind & 3 {
        // As they stand.
        0 => fields(&text.split(|byte| *byte == b'\n').collect::<Vec<_>>()),
        // What is behind the base64.
        1 | 2 => fields(&[format!("Basic {}", encode(text)).as_bytes()]),
        _ => query(text),
    }
}

fn fields(fields: &[&[u8]]) {
    let expected = match fields {
        [field] => pair(field),
        _ => None,
    };
    match (read("POST", None, fields, InspectAuth::Basic), &expected) {
        (Ok(TokenRequest::Mint { credentials }), Some((user, password))) => {
            assert_eq!(credentials.user.as_str(), user);
            // What was sent, and the same in the normalization forms C and D where that differs and is not too long.
            let mut forms = vec![password.clone()];
            for form in [password.nfc().collect::<String>(), password.nfd().collect()] {
                if !forms.contains(&form) && form.len() <= LONGEST {
                    forms.push(form);
                }
            }
            let tried: Vec<&[u8]> =
                credentials.all_passwords().map(|password| password.expose_secret()).collect();
            assert_eq!(tried, forms.iter().map(String::as_bytes).collect::<Vec<_>>());
        }
        (Err(Refusal::Credentials), None) => {}
        (other, _) => panic!("{other:?} where {expected:?} was expected"),
    }
    for auth in [InspectAuth::Basic, InspectAuth::Token] {
        let is_read = read("GET", Some(b"token=x"), fields, auth).is_ok();
        assert_eq!(is_read, expected.is_some(), "an inspection takes other credentials than a mint");
    }
    assert_eq!(read("PUT", None, fields, InspectAuth::Token), Err(Refusal::Method));
}

/// User and password (RFC 7617): one field, strict base64, UTF-8 or else Latin-1, no controls, neither half empty, a name that can
/// be one, a password that is not too long.
fn pair(field: &[u8]) -> Option<(String, String)> {
    let scheme = field.get(..6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let blanks = field[6..].iter().take_while(|byte| **byte == b' ').count();
    let latin1 =
        |error: std::string::FromUtf8Error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    let text = String::from_utf8(decode(&field[6 + blanks..])?).unwrap_or_else(latin1);
    let (user, password) = text.split_once(':')?;
    let user: String = user.nfc().collect();
    let is_name = (1..=128).contains(&user.chars().count()) && user.trim() == user;
    let is_password = (1..=LONGEST).contains(&password.len());
    let is_pair = is_name && is_password && !text.chars().any(char::is_control);
    is_pair.then(|| (user, password.to_owned()))
}

/// The longest password, in bytes.
const LONGEST: usize = 1024;

/// The value of the one parameter that is the token.
fn query(query: &[u8]) {
    let mut values = Vec::new();
    for part in query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        let at = part.iter().position(|byte| *byte == b'=');
        let (name, value) = at.map_or((part, &b""[..]), |at| (&part[..at], &part[at + 1..]));
        if ["token", "user-token"].contains(&&*form(name)) {
            values.push(form(value));
        }
    }
    let expected = match &values[..] {
        [one] if !one.is_empty() => Some(one.as_str()),
        _ => None,
    };
    let request = read("GET", Some(query), &[], InspectAuth::Token);
    match request {
        Ok(TokenRequest::Inspect { credentials: None, token }) => assert_eq!(Some(&*token), expected),
        Err(Refusal::TokenParameter) => assert_eq!(None, expected),
        other => panic!("{other:?}"),
    }
}

/// `application/x-www-form-urlencoded`, decoded.
fn form(text: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut at = 0;
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    while let Some(byte) = text.get(at) {
        let (value, length) = match (byte, digit(at + 1), digit(at + 2)) {
            (b'+', ..) => (b' ', 1),
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).expect("two digits"), 3),
            (other, ..) => (*other, 1),
        };
        bytes.push(value);
        at += length;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place) & 63) as usize;
            text.push(if place > chunk.len() { '=' } else { char::from(ALPHABET[index]) });
        }
    }
    text
}

/// RFC 4648 §4, with its padding and without stray bits.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if text.len() % 4 != 0 || padding > 2 {
        return None;
    }
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in &text[..text.len() - padding] {
        let value = ALPHABET.iter().position(|letter| letter == byte)?;
        bits = bits << 6 | u32::try_from(value).expect("six bits");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
        bits &= (1 << count) - 1;
    }
    (bits == 0).then_some(bytes)
}
