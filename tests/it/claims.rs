//! The claims of a token of ours: all of them, once, of the right type, with times that hold now.

use crate::client::request;
use crate::command::eventually;
use crate::deployment::{Deployment, Rows, all_are_refused, header};
use crate::gateway::{ORGANIZATION, USER};
use crate::jwt::now;

#[test]
fn every_claim_is_there_once_and_nothing_else_is() {
    let deployment = Deployment::open();
    let mut rows = Rows::default();
    for name in ["exp", "iat", "database", "email", "user", "jti"] {
        rows.token(format!("no {name}"), deployment.token(&header(), &deployment.claims().without(name)));
    }
    for (name, json) in [
        ("nbf", "0".to_owned()),
        ("sub", format!("\"{USER}\"")),
        ("aud", "[]".to_owned()),
        ("iss", "\"x\"".to_owned()),
        ("admin", "true".to_owned()),
        ("User", format!("\"{USER}\"")),
        ("", "1".to_owned()),
    ] {
        rows.token(
            format!("the unknown claim {name}"),
            deployment.token(&header(), &deployment.claims().and(name, json)),
        );
    }
    let claims = deployment.claims().json();
    for (name, json) in [
        ("exp", (now() + 60).to_string()),
        ("iat", now().to_string()),
        ("user", format!("\"{USER}\"")),
        ("user", "\"root\"".to_owned()),
        ("\\u0075ser", "\"root\"".to_owned()),
        ("email", "\"root@example.com\"".to_owned()),
        ("database", format!("\"{ORGANIZATION}\"")),
        ("jti", format!("\"{}.AbCdEfGhIjKlMnOpQrStUw\"", deployment.number)),
    ] {
        rows.token(
            format!("a second {name}, after"),
            deployment.token(&header(), &deployment.claims().and(name, &json)),
        );
        let before = format!("{{\"{name}\":{json},{}", &claims[1..]);
        rows.token(format!("a second {name}, before"), deployment.with_claims(before));
    }
    for (name, text) in [
        ("a byte order mark", format!("\u{feff}{claims}")),
        ("an array", format!("[{claims}]")),
        ("null", "null".to_owned()),
        ("nothing", String::new()),
        ("an empty object", "{}".to_owned()),
        ("a tail", format!("{claims}x")),
        ("no end", claims[..claims.len() - 1].to_owned()),
        ("a comment", claims.replace('}', "/**/}")),
        ("another token inside", deployment.good()),
    ] {
        rows.token(name, deployment.with_claims(text));
    }
    all_are_refused(&deployment, &rows);
}

#[test]
fn claims_have_their_types() {
    let deployment = Deployment::open();
    let mut rows = Rows::default();
    let later = now() + 3_600;
    let numbers = [
        "null",
        "true",
        "[]",
        "{}",
        "\"\"",
        "-1",
        "1e400",
        "18446744073709551616",
        "18446744073709551615",
        "1e19",
        "0",
    ];
    for json in numbers {
        rows.token(format!("exp {json}"), deployment.with("exp", json));
        rows.token(format!("iat {json}"), deployment.with("iat", json));
    }
    for json in [
        format!("\"{later}\""),
        format!("{later}.5"),
        format!("{later}.0"),
        format!("[{later}]"),
        format!("0{later}"),
    ] {
        rows.token(format!("exp {json}"), deployment.with("exp", &json));
    }
    for json in [format!("\"{}\"", now()), format!("{}.5", now()), format!("-{}", now())] {
        rows.token(format!("iat {json}"), deployment.with("iat", &json));
    }
    for name in ["user", "email", "database", "jti"] {
        for json in ["null", "true", "1", "[]", "{}", "[\"myUser\"]"] {
            rows.token(format!("{name} {json}"), deployment.with(name, json));
        }
    }
    for jti in [
        "",
        "1",
        "x",
        "1.",
        ".AbCdEfGhIjKlMnOpQrStUw",
        "x.AbCdEfGhIjKlMnOpQrStUw",
        "-1.AbCdEfGhIjKlMnOpQrStUw",
    ] {
        rows.token(format!("the jti {jti:?}"), deployment.with("jti", format!("\"{jti}\"")));
    }
    // 22 characters of base64url after the number, no more, no less, no other.
    for random in [
        "AbCdEfGhIjKlMnOpQrStU",
        "AbCdEfGhIjKlMnOpQrStUvw",
        "AbCdEfGhIjKlMnOpQrSt+/",
        "AbCdEfGhIjKlMnOpQrStU=",
        "AbCdEfGhIj.lMnOpQrStUw",
    ] {
        rows.token(
            format!("the random part {random:?}"),
            deployment.with("jti", format!("\"{}.{random}\"", deployment.number)),
        );
    }
    rows.token(
        "a number beyond 64 bits",
        deployment.with("jti", "\"99999999999999999999999.AbCdEfGhIjKlMnOpQrStUw\""),
    );
    rows.token("a number before the store", deployment.with("jti", "\"0.AbCdEfGhIjKlMnOpQrStUw\""));
    all_are_refused(&deployment, &rows);
}

#[test]
fn no_control_character_gets_into_an_identity() {
    let deployment = Deployment::open();
    let mut rows = Rows::default();
    for name in ["user", "email", "database"] {
        for escape in
            ["\\u0000", "\\r\\n", "\\n", "\\t", "\\u001f", "\\u007f", "\\u0080", "\\u0085", "\\u009f"]
        {
            rows.token(format!("{escape} in {name}"), deployment.with(name, format!("\"a{escape}b\"")));
        }
        rows.token(format!("a raw control in {name}"), deployment.with(name, "\"a\u{1}b\""));
        rows.token(format!("a raw DEL in {name}"), deployment.with(name, "\"a\u{7f}b\""));
        for escape in ["\\ud800", "\\udc00x", "\\x41", "\\u12"] {
            rows.token(format!("{escape} in {name}"), deployment.with(name, format!("\"a{escape}\"")));
        }
        let broken = deployment.claims().with(name, "\"a?b\"").json().replace('?', "\u{1}").into_bytes();
        let broken: Vec<u8> = broken.into_iter().map(|byte| if byte == 1 { 0xC3 } else { byte }).collect();
        rows.token(format!("{name} not in UTF-8"), deployment.with_claims(broken));
    }
    rows.token("an injected field", deployment.with("user", "\"myUser\\r\\nX-DS-User: root\""));
    all_are_refused(&deployment, &rows);
    deployment.platform.never_saw("root");
}

#[test]
fn times_are_strict() {
    let deployment = Deployment::open();
    let at = now();
    let times = |iat: u64, exp: u64| {
        deployment.token(&header(), &deployment.claims().with("iat", iat).with("exp", exp))
    };
    let mut rows = Rows::default();
    rows.token("exp is now", times(at, at));
    rows.token("exp is one second ago", times(at, at - 1));
    rows.token("exp is long ago", times(at, 1_580_216_224));
    rows.token("iat beyond the skew", times(at + 120, at + 3_600));
    rows.token("iat after exp", times(at + 3_600, at + 1_800));
    rows.token("one second more than max_lifetime", times(at, at + 90_001));
    rows.token("a lifetime without end", times(at, 4_102_444_800));
    rows.token("iat before the store was made", times(at - 3_600, at + 3_600));
    rows.token("iat at the beginning", times(0, at + 3_600));
    rows.token("both far away", times(4_102_444_800, 4_102_444_801));
    all_are_refused(&deployment, &rows);

    let at = now();
    assert_eq!(deployment.gateway.status(&times(at, at + 90_000)), 200, "just max_lifetime");
    assert_eq!(deployment.gateway.status(&times(at + 3, at + 3_600)), 200, "iat within the skew");
}

#[test]
fn a_token_lives_until_the_second_of_its_exp_and_no_longer() {
    let deployment = Deployment::open();
    // A machine too slow to use a token in its two seconds gets one that lives longer.
    let used = [2, 4, 8].into_iter().any(|life| is_used_until(&deployment, now() + life));
    assert!(used, "none of the tokens was admitted even once");
    deployment.gateway.still_healthy();
}

/// Uses a token until it is refused; says if it was admitted before.
fn is_used_until(deployment: &Deployment, exp: u64) -> bool {
    let token = deployment.with("exp", exp);
    let asked = request("GET", "/ds-api/while-it-lives", &[("user-token", &token)]);
    let mut client = deployment.gateway.client();
    let mut admitted = false;
    eventually("the token to expire", || {
        let before = now();
        let status = client.exchange(&asked).status;
        let after = now();
        match status {
            200 => {
                assert!(before < exp, "admitted at {before}, exp is {exp}");
                admitted = true;
                None
            }
            401 => {
                assert!(after >= exp, "refused at {after}, exp is {exp}");
                Some(())
            }
            other => panic!("{other}"),
        }
    });
    admitted
}
