use super::*;
use crate::auth::denial::Denial;
use crate::auth::identity::Identity;
use crate::auth::keys::{Algorithm, Key, KeySet};
use crate::auth::name::Name;
use crate::auth::secret::Secret;
use crate::auth::time::UnixTime;
use crate::auth::token::claims::REFUSED_MEMBERS;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;

const NOW: UnixTime = UnixTime(1_700_000_000);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

const RULES: TokenRules = TokenRules::DEFAULT;

fn key(kid: &str, secret: &[u8], foreign: bool) -> Key {
    Key::new(kid, Algorithm::Hs256, &Secret::new(secret.to_vec()), foreign).unwrap()
}

fn key_set() -> KeySet {
    KeySet::new(vec![key("ours", SECRET, false), key("platform", b"fedcba9876543210fedcba9876543210", true)])
        .unwrap()
}

fn anna() -> Identity {
    Identity {
        user: Name::parse_user("anna").unwrap(),
        email: "anna@example.com".into(),
        organization: Name::parse("Main Org.").unwrap(),
    }
}

fn signed(header: &[u8], claims: &[u8], signer: &Key) -> String {
    use ::hmac::{Hmac, KeyInit, Mac};
    let secret: &[u8] = match signer.kid() {
        "ours" => SECRET,
        _ => b"fedcba9876543210fedcba9876543210",
    };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&message).finalize().into_bytes();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn our_header() -> Value {
    json!({"typ": "JWT", "alg": "HS256", "kid": "ours"})
}

fn our_claims() -> Value {
    json!({"exp": NOW.0 + 86_400, "iat": NOW.0, "database": "Main Org.", "email": "anna@example.com",
        "user": "anna", "jti": "7.AAAAAAAAAAAAAAAAAAAAAA"})
}

/// The verdict over a token made of `header` and `claims`, signed with the first key.
fn verdict(header: &Value, claims: &Value) -> Result<Verified, Denial> {
    let key_set = key_set();
    let token = signed(header.to_string().as_bytes(), claims.to_string().as_bytes(), key_set.signer());
    verify(token.as_bytes(), &key_set, &RULES)
}

fn with(mut object: Value, member: &str, value: Value) -> Value {
    object[member] = value;
    object
}

fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().unwrap().remove(member);
    object
}

#[test]
fn a_minted_token_is_verified_with_all_that_went_in() {
    let key_set = key_set();
    let minted = mint(&anna(), 42, [7; 16], NOW, &RULES, key_set.signer()).unwrap();
    let verified = verify(minted.token.as_bytes(), &key_set, &RULES).unwrap();
    assert_eq!(verified.identity, anna());
    assert_eq!(verified.id, minted.id);
    assert_eq!(verified.origin, Origin::Ours { sequence: 42 });
    assert_eq!((verified.issued_at, verified.expires_at), (NOW, NOW.plus(86_400)));
    assert_eq!(verified.key, key_set.signer().fingerprint());
}

#[test]
fn a_token_id_is_read_back_from_its_digits() {
    let id = TokenId::of(b"header.claims");
    assert_eq!(TokenId::parse(&id.to_string()), Some(id));
    assert_eq!(TokenId::parse(&id.to_string().to_uppercase()), Some(id));
    for text in
        ["", "00", "+0112233445566778899aabbccddeeff", "g0112233445566778899aabbccddeeff", &"é".repeat(16)]
    {
        assert_eq!(TokenId::parse(text), None, "{text}");
    }
}

#[test]
fn time_is_strict() {
    let key_set = key_set();
    let minted = mint(&anna(), 1, [0; 16], NOW, &RULES, key_set.signer()).unwrap();
    let verified = verify(minted.token.as_bytes(), &key_set, &RULES).unwrap();
    for (now, expected) in [
        (NOW, Ok(())),
        (NOW.minus(5), Ok(())),
        (NOW.minus(6), Err(Denial::TokenNotYetValid)),
        (NOW.plus(86_399), Ok(())),
        (NOW.plus(86_400), Err(Denial::TokenExpired)),
        (UnixTime(u64::MAX), Err(Denial::TokenExpired)),
        (UnixTime(0), Err(Denial::TokenNotYetValid)),
    ] {
        assert_eq!(verified.check_time(now, || UnixTime(0), &RULES), expected, "{now:?}");
    }
}

#[test]
fn a_token_of_ours_may_be_as_new_as_the_store() {
    let key_set = key_set();
    let minted = mint(&anna(), 1, [0; 16], NOW, &RULES, key_set.signer()).unwrap();
    let verified = verify(minted.token.as_bytes(), &key_set, &RULES).unwrap();
    let behind = NOW.minus(3600);
    assert_eq!(verified.check_time(behind, || NOW, &RULES), Ok(()));
    assert_eq!(verified.check_time(behind, || NOW.minus(1), &RULES), Err(Denial::TokenNotYetValid));
}

#[test]
fn a_token_of_ours_has_the_members_of_ours_and_no_other() {
    let header = our_header;
    let claims = our_claims;
    assert!(verdict(&header(), &claims()).is_ok());
    for member in REFUSED_MEMBERS.into_iter().chain(["x5t", "foo"]) {
        let header = with(header(), member, json!([]));
        assert_eq!(verdict(&header, &claims()).err(), Some(Denial::TokenHeader), "{member}");
    }
    for (header, denial) in [
        (without(header(), "typ"), Denial::TokenHeader),
        (with(header(), "typ", json!("at+jwt")), Denial::TokenHeader),
        (with(header(), "typ", json!(null)), Denial::TokenMalformed),
        (with(header(), "typ", json!("jwt")), Denial::TokenHeader),
        (without(header(), "alg"), Denial::TokenMalformed),
        (with(header(), "alg", json!("none")), Denial::TokenAlgorithm),
        (with(header(), "alg", json!("hs256")), Denial::TokenAlgorithm),
        (with(header(), "alg", json!("HS384")), Denial::TokenAlgorithm),
        (with(header(), "alg", json!("RS256")), Denial::TokenAlgorithm),
        (with(header(), "kid", json!("../ours")), Denial::TokenKey),
        (with(header(), "kid", json!("platform")), Denial::TokenSignature),
        (with(header(), "kid", json!(1)), Denial::TokenMalformed),
        (without(header(), "kid"), Denial::TokenSignature),
    ] {
        assert_eq!(verdict(&header, &claims()).err(), Some(denial), "{header}");
    }
    for member in ["exp", "iat", "database", "email", "user"] {
        assert_eq!(verdict(&header(), &without(claims(), member)).err(), Some(Denial::TokenClaims));
    }
    for (member, value, denial) in [
        ("exp", json!("1"), Denial::TokenClaims),
        ("exp", json!(null), Denial::TokenClaims),
        ("exp", json!(1.5), Denial::TokenClaims),
        ("exp", json!(-1), Denial::TokenClaims),
        ("exp", json!(u64::MAX), Denial::TokenLifetime),
        ("exp", json!(NOW.0 + 90_001), Denial::TokenLifetime),
        ("iat", json!(true), Denial::TokenClaims),
        ("nbf", json!(NOW.0), Denial::TokenClaims),
        ("nbf", json!(null), Denial::TokenClaims),
        ("admin", json!(true), Denial::TokenClaims),
        ("user", json!("anna\r\nX: y"), Denial::TokenClaims),
        ("user", json!("an:na"), Denial::TokenClaims),
        ("database", json!(" x"), Denial::TokenClaims),
        ("email", json!("a\u{0}b"), Denial::TokenClaims),
        ("jti", json!("7.short"), Denial::TokenForeign),
        ("jti", json!("07.AAAAAAAAAAAAAAAAAAAAAA"), Denial::TokenForeign),
        ("jti", json!("+7.AAAAAAAAAAAAAAAAAAAAAA"), Denial::TokenForeign),
        ("jti", json!(".AAAAAAAAAAAAAAAAAAAAAA"), Denial::TokenForeign),
        ("jti", json!(7), Denial::TokenClaims),
    ] {
        let claims = with(claims(), member, value.clone());
        assert_eq!(verdict(&header(), &claims).err(), Some(denial), "{member} {value}");
    }
    // After a cutoff of a clock ahead; whether it has expired is asked at each use.
    assert!(verdict(&header(), &with(claims(), "exp", json!(NOW.0))).is_ok());
}

#[test]
fn a_duplicate_member_is_refused_in_either_spelling() {
    let key_set = key_set();
    let header = our_header().to_string();
    for extra in ["\"user\":\"root\"", "\"\\u0075ser\":\"root\"", "\"exp\":1"] {
        for claims in [
            our_claims().to_string().replacen('{', &format!("{{{extra},"), 1),
            our_claims().to_string().replace('}', &format!(",{extra}}}")),
        ] {
            let token = signed(header.as_bytes(), claims.as_bytes(), key_set.signer());
            assert_eq!(
                verify(token.as_bytes(), &key_set, &RULES).err(),
                Some(Denial::TokenClaims),
                "{claims}"
            );
        }
    }
    let twice = header.replacen('{', "{\"alg\":\"HS256\",", 1);
    let token = signed(twice.as_bytes(), our_claims().to_string().as_bytes(), key_set.signer());
    assert_eq!(verify(token.as_bytes(), &key_set, &RULES).err(), Some(Denial::TokenMalformed));
}

#[test]
fn a_foreign_token_needs_a_foreign_key_and_all_five_claims() {
    let key_set = key_set();
    let platform = key_set.by_kid("platform").unwrap();
    // The published example: no `kid`, no `jti`, 86,405 seconds long.
    let header = json!({"typ": "JWT", "alg": "HS256"});
    let claims = json!({"exp": 1_580_216_224, "iat": 1_580_129_819, "database": "Main Org.",
        "email": "my@example.com", "user": "myUser"});
    let check = |header: &Value, claims: &Value, key: &Key| {
        let token = signed(header.to_string().as_bytes(), claims.to_string().as_bytes(), key);
        verify(token.as_bytes(), &key_set, &RULES)
    };
    let verified = check(&header, &claims, platform).unwrap();
    assert_eq!(verified.origin, Origin::Foreign);
    assert_eq!(verified.check_time(UnixTime(1_580_170_000), || UnixTime(u64::MAX), &RULES), Ok(()));
    assert_eq!(
        verified.check_time(UnixTime(1_580_216_224), || UnixTime(u64::MAX), &RULES),
        Err(Denial::TokenExpired)
    );

    assert_eq!(check(&header, &claims, key_set.signer()).err(), Some(Denial::TokenSignature));
    let named = with(header.clone(), "kid", json!("ours"));
    assert_eq!(check(&named, &claims, key_set.signer()).err(), Some(Denial::TokenForeign));
    for member in ["exp", "iat", "database", "email", "user"] {
        let claims = without(claims.clone(), member);
        assert_eq!(check(&header, &claims, platform).err(), Some(Denial::TokenClaims));
    }
    for member in REFUSED_MEMBERS {
        let header = with(header.clone(), member, json!("x"));
        assert_eq!(check(&header, &claims, platform).err(), Some(Denial::TokenHeader));
    }
    for exp in [1_580_129_819, 1_580_129_818] {
        let claims = with(claims.clone(), "exp", json!(exp));
        assert_eq!(check(&header, &claims, platform).err(), Some(Denial::TokenClaims));
    }
    let later = with(claims.clone(), "nbf", json!(1_580_170_000));
    let verified = check(&header, &later, platform).unwrap();
    assert_eq!(
        verified.check_time(UnixTime(1_580_169_999), || UnixTime(u64::MAX), &RULES),
        Err(Denial::TokenNotYetValid)
    );
    assert!(check(&header, &with(claims.clone(), "role", json!("x")), platform).is_ok());
    // A `jti` of our form without our header is neither ours nor foreign.
    let ours = with(claims, "jti", json!("7.AAAAAAAAAAAAAAAAAAAAAA"));
    assert_eq!(check(&header, &ours, platform).err(), Some(Denial::TokenHeader));
}

/// The verdict over claims of the platform's, written as they stand.
fn foreign_verdict(claims: &str) -> Result<Verified, Refused> {
    let key_set = key_set();
    let platform = key_set.by_kid("platform").unwrap();
    let token = signed(br#"{"typ":"JWT","alg":"HS256"}"#, claims.as_bytes(), platform);
    examine(token.as_bytes(), &key_set, &RULES)
}

fn written(times: &str) -> String {
    format!(r#"{{{times},"database":"Main Org.","email":"my@example.com","user":"myUser"}}"#)
}

#[test]
fn fractional_times_of_a_foreign_token_shorten_its_life() {
    for (exp, iat, nbf, expected) in [
        ("2000.9", "1000.9", "1500.1", (2000, 1000, 1501)),
        ("2000.0", "1000.0", "1500.0", (2000, 1000, 1500)),
        ("2000", "1000.0000000000000001", "1500.0000000000000001", (2000, 1000, 1501)),
        ("2000.99999999999999999999", "1000", "1500", (2000, 1000, 1500)),
    ] {
        let times = format!(r#""exp":{exp},"iat":{iat},"nbf":{nbf}"#);
        let verified = foreign_verdict(&written(&times)).unwrap();
        let found = (verified.expires_at.0, verified.issued_at.0, verified.not_before.unwrap().0);
        assert_eq!(found, expected, "{times}");
    }
    for (times, claim, reason) in [
        (r#""exp":1000.9,"iat":1000.1"#, Claim::Exp, ClaimError::NotAfterIat),
        (r#""exp":2000,"iat":1000,"exp":2000.5"#, Claim::Exp, ClaimError::Repeated),
        (r#""exp":2000,"iat":1000.5,"iat":1000.5"#, Claim::Iat, ClaimError::Repeated),
        (r#""exp":2000,"iat":1000,"nbf":1500.5,"\u006ebf":1"#, Claim::Nbf, ClaimError::Repeated),
        (r#""iat":1000.5"#, Claim::Exp, ClaimError::Missing),
        (r#""exp":2000.5"#, Claim::Iat, ClaimError::Missing),
    ] {
        let refused = foreign_verdict(&written(times)).unwrap_err();
        let claim = Some(ClaimFault { claim, reason });
        assert_eq!(refused, Refused { denial: Denial::TokenClaims, claim }, "{times}");
    }
    let long = foreign_verdict(&written(r#""exp":91001.5,"iat":1000.5"#)).unwrap_err();
    assert_eq!(long.denial, Denial::TokenLifetime);
}

#[test]
fn a_time_that_is_no_numeric_date_is_refused_by_name() {
    let wrong = [
        "1e3",
        "1E3",
        "1.5e3",
        "1e400",
        "-1",
        "-0",
        "-1.5",
        "1.",
        ".5",
        "01",
        "\"1.5\"",
        "\"1\"",
        "null",
        "true",
        "[1]",
        "{}",
        "18446744073709551616",
        "18446744073709551616.5",
        "1e19",
        "NaN",
    ];
    for (claim, others) in [
        (Claim::Exp, r#","iat":1000,"nbf":1500"#),
        (Claim::Iat, r#","exp":2000,"nbf":1500"#),
        (Claim::Nbf, r#","exp":2000,"iat":1000"#),
    ] {
        for value in wrong {
            let claims = written(&format!(r#""{}":{value}{others}"#, claim.as_str()));
            let refused = foreign_verdict(&claims).unwrap_err();
            let fault = ClaimFault { claim, reason: ClaimError::Type };
            assert_eq!(refused, Refused { denial: Denial::TokenClaims, claim: Some(fault) }, "{claims}");
            assert!(fault.to_string().starts_with(claim.as_str()), "{fault}");
        }
        let right = written(&format!(r#""{}":1700.25{others}"#, claim.as_str()));
        assert!(foreign_verdict(&right).is_ok(), "{right}");
    }
}

#[test]
fn times_of_our_own_tokens_are_whole() {
    let key_set = key_set();
    for (claim, value) in [("exp", "1700086400.0"), ("exp", "1700086400.5"), ("iat", "1700000000.0")] {
        let whole = our_claims()[claim].to_string();
        let claims = our_claims().to_string().replacen(
            &format!("\"{claim}\":{whole}"),
            &format!("\"{claim}\":{value}"),
            1,
        );
        assert!(claims.contains(value), "{claims}");
        let token = signed(our_header().to_string().as_bytes(), claims.as_bytes(), key_set.signer());
        let refused = examine(token.as_bytes(), &key_set, &RULES).unwrap_err();
        assert_eq!(
            refused.claim.map(|fault| (fault.claim.as_str(), fault.reason)),
            Some((claim, ClaimError::NotOurs)),
            "{claims}"
        );
    }
}

#[test]
fn the_claim_at_fault_is_named() {
    use crate::auth::name::NameError;
    for (claims, claim, reason) in [
        (our_claims(), Claim::Exp, None),
        (without(our_claims(), "email"), Claim::Email, Some(ClaimError::Missing)),
        (with(our_claims(), "user", json!(1)), Claim::User, Some(ClaimError::Type)),
        (with(our_claims(), "user", json!("an:na")), Claim::User, Some(ClaimError::Text(NameError::Colon))),
        (
            with(our_claims(), "database", json!(" x")),
            Claim::Database,
            Some(ClaimError::Text(NameError::Blank)),
        ),
        (
            with(our_claims(), "email", json!("a\u{0}b")),
            Claim::Email,
            Some(ClaimError::Text(NameError::Control)),
        ),
        (with(our_claims(), "jti", json!(7)), Claim::Jti, Some(ClaimError::Type)),
        (with(our_claims(), "nbf", json!(NOW.0)), Claim::Nbf, Some(ClaimError::NotOurs)),
        (with(our_claims(), "admin", json!(true)), Claim::Other, Some(ClaimError::NotOurs)),
    ] {
        let key_set = key_set();
        let token =
            signed(our_header().to_string().as_bytes(), claims.to_string().as_bytes(), key_set.signer());
        let found = examine(token.as_bytes(), &key_set, &RULES).err().and_then(|refused| refused.claim);
        assert_eq!(found, reason.map(|reason| ClaimFault { claim, reason }), "{claims}");
    }
    // What is no JSON object is no claim's fault.
    for claims in ["[]", "{", "null"] {
        assert_eq!(
            foreign_verdict(claims).unwrap_err(),
            Refused { denial: Denial::TokenClaims, claim: None },
            "{claims}"
        );
    }
}

#[test]
fn claims_that_nobody_reads_here_are_sound_all_the_same() {
    let times = r#""exp":2000,"iat":1000"#;
    let deep = "[".repeat(200) + &"]".repeat(200);
    for value in [deep.as_str(), "1e400", "\"\\ud800\"", "\"\u{1}\"", "01"] {
        let claims = written(&format!(r#"{times},"role":{value}"#));
        assert_eq!(
            foreign_verdict(&claims).err().map(|refused| refused.denial),
            Some(Denial::TokenClaims),
            "{claims}"
        );
    }
    assert!(foreign_verdict(&written(&format!(r#"{times},"role":[1.5,{{"a":-1e3}}],"role":1"#))).is_ok());
}

#[test]
fn a_token_has_exactly_one_spelling() {
    let key_set = key_set();
    let token = mint(&anna(), 1, [3; 16], NOW, &RULES, key_set.signer()).unwrap().token;
    let [header, claims, tag]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let last = tag.chars().last().unwrap();
    let next = char::from(last as u8 + 1);
    for spelling in [
        String::new(),
        ".".into(),
        "..".into(),
        format!("{token}="),
        format!("{token}."),
        format!(" {token}"),
        format!("{token}\n"),
        format!("Bearer {token}"),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}..{tag}"),
        format!("{header}.{claims}.{tag}.{tag}"),
        format!("{header}.{claims}.{}", tag.trim_end_matches(last)),
        format!("{header}.{claims}.{}{next}", tag.trim_end_matches(last)),
        format!("{header}=.{claims}.{tag}"),
        "é.é.é".into(),
        token.replace(['-', '_'], "+") + "+",
    ] {
        let denial = verify(spelling.as_bytes(), &key_set, &RULES).unwrap_err();
        assert!(matches!(denial, Denial::TokenMalformed | Denial::TokenSignature), "{spelling}: {denial:?}");
    }
}

#[test]
fn size_is_judged_before_anything_else() {
    let long = vec![b'.'; RULES.max_bytes + 1];
    assert_eq!(verify(&long, &key_set(), &RULES), Err(Denial::TokenOversized));
}

#[test]
fn deep_or_odd_json_is_malformed_and_harmless() {
    let key_set = key_set();
    let deep = "[".repeat(2000);
    for header in [deep.as_str(), "[]", "{", "\u{feff}{}", "null", "{}{}", "\"x\""] {
        let token = signed(header.as_bytes(), b"{}", key_set.signer());
        assert_eq!(verify(token.as_bytes(), &key_set, &RULES), Err(Denial::TokenMalformed), "{header}");
    }
}

proptest! {
    #[test]
    fn any_changed_byte_is_refused(at in any::<prop::sample::Index>(), byte: u8) {
        let key_set = key_set();
        let token = mint(&anna(), 1, [3; 16], NOW, &RULES, key_set.signer()).unwrap().token;
        let mut changed = token.clone().into_bytes();
        let at = at.index(changed.len());
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        prop_assert!(verify(&changed, &key_set, &RULES).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(verify(&bytes, &key_set(), &RULES).is_err());
    }
}
