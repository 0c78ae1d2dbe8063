//! The check of a token of ours: its spelling, its algorithm and its header. Whatever is wrong, the
//! answer is one and the same 401, nothing of the request goes on, and its connection is as good as before.

use crate::deployment::{Deployment, Rows, all_are_refused, header};
use crate::jwt::{Members, encode, sign, signed};

#[test]
fn a_token_has_one_spelling() {
    let deployment = Deployment::open();
    let good = deployment.good();
    let parts: Vec<&str> = good.split('.').collect();
    let (text, mac) = good.rsplit_once('.').expect("a signature");
    let mut rows = Rows::default();
    for (name, value) in [
        ("one part", parts[0].to_owned()),
        ("two parts", text.to_owned()),
        ("an empty signature", format!("{text}.")),
        ("four parts", format!("{good}.{mac}")),
        ("five parts", format!("{good}.{mac}.{mac}")),
        ("a dot after it", format!("{good}.")),
        ("a dot before it", format!(".{good}")),
        ("nothing but dots", "..".to_owned()),
        ("an empty header", format!(".{}.{mac}", parts[1])),
        ("a signature cut short", good[..good.len() - 1].to_owned()),
        ("a signature made longer", format!("{good}A")),
        ("Bearer before it", format!("Bearer {good}")),
        ("quotes around it", format!("\"{good}\"")),
        ("a blank inside", format!("{}. {}.{mac}", parts[0], parts[1])),
        ("a tab inside", format!("{text}\t.{mac}")),
        (
            "JSON",
            format!(
                "{{\"payload\":\"{}\",\"protected\":\"{}\",\"signature\":\"{mac}\"}}",
                parts[1], parts[0]
            ),
        ),
        ("padding after the signature", format!("{good}=")),
    ] {
        rows.token(name, value);
    }
    rows.token(
        "padding in the header, signed so",
        signed(&deployment.secret, &format!("{}=.{}", parts[0], parts[1])),
    );
    rows.token("padding in the claims, signed so", signed(&deployment.secret, &format!("{text}=")));
    rows.token("a trailing bit in the signature", format!("{text}.{}", next_letter(mac)));
    // With a member more or less the last letter of a part carries bits that mean nothing.
    let lengths =
        (1..4).map(|n| encode(deployment.claims().with("email", format!("\"{}\"", "e".repeat(n))).json()));
    let claims =
        lengths.into_iter().find(|part| part.len() % 4 != 0).expect("a length that leaves bits over");
    assert_eq!(
        deployment.gateway.status(&signed(&deployment.secret, &format!("{}.{claims}", parts[0]))),
        200
    );
    rows.token(
        "a trailing bit in the claims, signed so",
        signed(&deployment.secret, &format!("{}.{}", parts[0], next_letter(&claims))),
    );

    // The payload is chosen so that the two alphabets differ in it, and is admitted as it should be written.
    let odd = (0..3)
        .map(|n| encode(deployment.claims().with("email", format!("\"{}???@x\"", "e".repeat(n))).json()));
    let odd = odd.into_iter().find(|part| part.contains(['-', '_'])).expect("a letter of the URL alphabet");
    assert_eq!(deployment.gateway.status(&signed(&deployment.secret, &format!("{}.{odd}", parts[0]))), 200);
    let standard = odd.replace('-', "+").replace('_', "/");
    rows.token(
        "the other alphabet in the claims",
        signed(&deployment.secret, &format!("{}.{standard}", parts[0])),
    );
    let unlucky = (0..).map(|n| deployment.with("jti", format!("\"{}.{:021}A\"", deployment.number, n)));
    let unlucky = unlucky
        .into_iter()
        .find(|token| token.rsplit('.').next().is_some_and(|mac| mac.contains(['-', '_'])));
    let (text, mac) = unlucky.as_deref().and_then(|token| token.rsplit_once('.')).expect("a token");
    rows.token(
        "the other alphabet in the signature",
        format!("{text}.{}", mac.replace('-', "+").replace('_', "/")),
    );

    rows.token("more bytes than max_bytes", deployment.with("email", format!("\"{}\"", "e".repeat(8_192))));
    rows.token("as many letters as that", "a".repeat(8_193));
    for byte in [0x80, 0xE9, 0xFF] {
        rows.lines(
            format!("the byte {byte:x}"),
            [b"user-token: ", good.as_bytes(), &[byte], b"\r\n"].concat(),
        );
    }
    all_are_refused(&deployment, &rows);
}

/// The part with its last letter replaced by the one after it in the alphabet: other bits that decode to the same bytes.
fn next_letter(part: &str) -> String {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (start, last) = part.split_at(part.len() - 1);
    let at = alphabet.find(last).expect("a letter of base64url");
    assert_eq!(at % 4, 0, "the bits that mean nothing are zero");
    format!("{start}{}", &alphabet[at + 1..at + 2])
}

#[test]
fn the_algorithm_belongs_to_the_key() {
    let deployment = Deployment::open();
    let good = deployment.good();
    let (text, mac) = good.rsplit_once('.').expect("a signature");
    let claims = text.split('.').nth(1).expect("the claims").to_owned();
    let mut rows = Rows::default();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = format!("{}.{claims}", encode(Members::header(name, "k1").json()));
        rows.token(format!("{name:?} without a signature"), format!("{unsigned}."));
        rows.token(format!("{name:?} with one"), signed(&deployment.secret, &unsigned));
    }
    for name in ["hs256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA", "HS256 ", "A256GCM"] {
        rows.token(
            format!("{name} over a HS256"),
            deployment.token(&Members::header(name, "k1"), &deployment.claims()),
        );
    }
    for name in ["HS384", "HS512"] {
        let text = format!("{}.{claims}", encode(Members::header(name, "k1").json()));
        rows.token(format!("a true {name}"), format!("{text}.{}", sign(name, &deployment.secret, &text)));
    }
    for name in ["HS384", "HS512"] {
        rows.token(
            format!("{name} said to be HS256"),
            format!("{text}.{}", sign(name, &deployment.secret, text)),
        );
    }
    rows.token("no algorithm", deployment.with_header(header().without("alg").json()));
    for value in ["null", "true", "256", "[\"HS256\"]", "{}"] {
        rows.token(
            format!("the algorithm {value}"),
            deployment.with_header(header().with("alg", value).json()),
        );
    }
    rows.token(
        "none, then HS256",
        deployment.with_header(r#"{"typ":"JWT","alg":"none","alg":"HS256","kid":"k1"}"#),
    );
    rows.token(
        "HS256, then none",
        deployment.with_header(r#"{"typ":"JWT","alg":"HS256","alg":"none","kid":"k1"}"#),
    );
    rows.token(
        "HS256 twice",
        deployment.with_header(r#"{"typ":"JWT","alg":"HS256","alg":"HS256","kid":"k1"}"#),
    );
    rows.token("another secret", signed(b"another secret that is long enough too", text));
    rows.token("an empty secret", signed(b"", text));
    rows.token("the kid as the secret", signed(b"k1", text));
    rows.token(
        "the MAC of other claims",
        format!("{}.{mac}", text.replace(&claims, &encode(deployment.claims().text("x", "y").json()))),
    );
    all_are_refused(&deployment, &rows);
}

#[test]
fn a_header_has_no_member_but_the_three() {
    let deployment = Deployment::open();
    let mut rows = Rows::default();
    for (name, json) in [
        ("crit", "[]"),
        ("crit", "[\"exp\"]"),
        ("crit", "[\"b64\"]"),
        ("b64", "true"),
        ("b64", "false"),
        ("jku", "\"http://127.0.0.1:1/jwks\""),
        ("jwk", "{\"kty\":\"oct\",\"k\":\"AAAA\"}"),
        ("x5u", "\"http://127.0.0.1:1/\""),
        ("x5c", "[]"),
        ("x5t", "\"\""),
        ("zip", "\"DEF\""),
        ("enc", "\"A128GCM\""),
        ("cty", "\"JWT\""),
        ("foo", "1"),
        ("Alg", "\"none\""),
        ("exp", "4102444800"),
        ("kid", "\"k1\""),
        ("typ", "\"JWT\""),
        ("\\u0061lg", "\"HS256\""),
    ] {
        rows.token(format!("{name} {json}"), deployment.with_header(header().and(name, json).json()));
    }
    for kid in [
        "\"k2\"",
        "\"\"",
        "\"K1\"",
        "\"../k1\"",
        "\"/dev/null\"",
        "\"k1' OR '1'='1\"",
        "\"k1\\u0000\"",
        "1",
        "null",
        "[\"k1\"]",
    ] {
        rows.token(format!("the kid {kid}"), deployment.with_header(header().with("kid", kid).json()));
    }
    for kind in ["\"at+jwt\"", "\"JWE\"", "\"\"", "null", "1"] {
        rows.token(format!("the type {kind}"), deployment.with_header(header().with("typ", kind).json()));
    }
    let json = header().json();
    for (name, text) in [
        ("a byte order mark", format!("\u{feff}{json}")),
        ("an array", format!("[{json}]")),
        ("a string", "\"HS256\"".to_owned()),
        ("null", "null".to_owned()),
        ("nothing", String::new()),
        ("a tail", format!("{json}x")),
        ("a second object", format!("{json}{json}")),
        ("no end", json[..json.len() - 1].to_owned()),
        ("a trailing comma", json.replace('}', ",}")),
        ("single quotes", json.replace('"', "'")),
        ("a deep nest", header().and("x", format!("{}{}", "[".repeat(300), "]".repeat(300))).json()),
    ] {
        rows.token(name, deployment.with_header(text));
    }
    rows.token(
        "bytes that are not UTF-8",
        deployment.with_header(b"{\"typ\":\"JWT\",\"alg\":\"HS256\",\"kid\":\"k1\xff\"}"),
    );
    all_are_refused(&deployment, &rows);
}
