//! The published API on the wire: every row of the contract that the gateway answers itself.

use crate::client::{Answer, basic, request, request_with};
use crate::command::{eventually, finish};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt;
use crate::options::Options;
use crate::platform::Platform;
use serde_json::Value;
use std::process::Command;

pub const ENDPOINT: &str = "/ds-api/user-token";
pub const CHALLENGE: &str = "Basic realm=\"ds-api\", charset=\"UTF-8\"";
pub const INVALID_TOKEN: &str = "User-Token realm=\"ds-api\", error=\"invalid_token\"";

/// Runs a line as a user would paste it.
fn paste(line: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-c", line]);
    finish(command, "").ok()
}

pub fn inspect(gateway: &Gateway, query: &str, fields: &[(&str, &str)]) -> Answer {
    gateway.exchange(request("GET", &format!("{ENDPOINT}{query}"), fields))
}

/// What every answer of the endpoint carries, whatever its status.
#[track_caller]
pub fn is_guarded(answer: &Answer) {
    assert_eq!(answer.value("cache-control"), "no-store", "{answer:?}");
    assert_eq!(answer.value("x-content-type-options"), "nosniff", "{answer:?}");
    assert!(answer.values("server").is_empty(), "{answer:?}");
    answer.value("x-request-id");
}

/// The members of an inspection, held against the token itself.
#[track_caller]
pub fn describes(json: &Value, token: &str) {
    let (_, claims) = jwt::read(token);
    let members: Vec<&String> = json.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["email", "expire_time", "organization_name", "user"]);
    assert_eq!(json["user"], claims["user"]);
    assert_eq!(json["email"], claims["email"]);
    assert_eq!(json["organization_name"], claims["database"]);
    assert_eq!(json["expire_time"], jwt::utc(claims["exp"].as_u64().expect("a time")));
}

#[test]
fn the_published_commands_work_as_they_stand() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    for host in [format!("https://{}", gateway.https()), format!("http://{}", gateway.http())] {
        let minted = paste(&format!("curl -u myUser:myPassword -k -X POST {host}/ds-api/user-token"));
        let minted: Value = serde_json::from_str(&minted).expect("JSON");
        let token = minted["user-token"].as_str().expect("a token");
        assert_eq!(minted.as_object().map(serde_json::Map::len), Some(1));

        let line = format!("curl -u myUser:myPassword -k -X GET {host}/ds-api/user-token?token=$TOKEN");
        let inspected = paste(&format!("TOKEN={token}; {line}"));
        describes(&serde_json::from_str(&inspected).expect("JSON"), token);

        let older =
            paste(&format!("curl -u myUser:myPassword -k -X POST '{host}/ds-api/user-token/Main%20Org.'"));
        assert!(older.contains("user-token"), "{older}");

        let line = "curl -sk -o /dev/null -w '%{http_code}'";
        assert_eq!(paste(&format!("{line} -u myUser:myPassword -X POST {host}/ds-api/user-token")), "201");
        assert_eq!(paste(&format!("{line} -u myUser:wrong -X POST {host}/ds-api/user-token")), "401");
        assert_eq!(paste(&format!("{line} -H 'user-token: {token}' {host}/ds-api/agents?x=1")), "200");
        assert_eq!(paste(&format!("{line} {host}/ds-api/agents")), "401");
    }
    let schemes: Vec<_> =
        platform.requests().iter().map(|seen| seen.values("x-forwarded-proto").concat()).collect();
    assert_eq!(schemes, ["https", "http"]);
}

#[test]
fn the_self_signed_certificate_has_sensible_names_and_validity() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let of = |gateway: &Gateway, what: &str| {
        let dial = format!("openssl s_client -connect {} -servername localhost", gateway.https());
        paste(&format!("{dial} </dev/null 2>/dev/null | openssl x509 -noout {what}"))
    };
    let text = of(&gateway, "-text -checkend 2592000");
    assert!(text.contains("Certificate will not expire"), "{text}");
    assert!(text.contains("DNS:localhost") && text.contains("IP Address:127.0.0.1"), "{text}");
    let first = of(&gateway, "-fingerprint -sha256");
    let gateway = gateway.kill().run(&[]);
    assert_eq!(of(&gateway, "-fingerprint -sha256"), first, "made once");
}

#[test]
fn minting_answers_201_with_a_token_of_the_documented_shape() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let before = jwt::now();
    let answer = gateway.log_in(USER, PASSWORD);
    let after = jwt::now();
    assert_eq!(answer.status, 201);
    assert!(answer.value("content-type").starts_with("application/json"));
    assert!(answer.values("www-authenticate").is_empty());
    is_guarded(&answer);
    let json = answer.json();
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(1));
    let (header, claims) = jwt::read(json["user-token"].as_str().expect("a token"));

    assert_eq!(header.as_object().expect("an object").keys().collect::<Vec<_>>(), ["alg", "kid", "typ"]);
    assert_eq!((&header["typ"], &header["alg"]), (&Value::from("JWT"), &Value::from("HS256")));
    assert!(header["kid"].as_str().is_some_and(|kid| !kid.is_empty()));
    let names: Vec<&String> = claims.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["database", "email", "exp", "iat", "jti", "user"]);
    assert_eq!(claims["user"], USER);
    assert_eq!(claims["email"], EMAIL);
    assert_eq!(claims["database"], ORGANIZATION);
    let (exp, iat) = (claims["exp"].as_u64().expect("a time"), claims["iat"].as_u64().expect("a time"));
    assert_eq!(exp - iat, 86_400);
    assert!((before..=after).contains(&iat), "{iat} is not within {before}..={after}");
}

#[test]
fn every_mint_takes_the_next_number_and_a_fresh_random_part() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("token", "lifetime", "\"1h\"").start();
    let mut last = (0, String::new());
    for _ in 0..3 {
        let (_, claims) = jwt::read(&gateway.mint());
        let (number, random) = claims["jti"].as_str().expect("a jti").split_once('.').expect("<n>.<random>");
        let number: u64 = number.parse().expect("a number");
        assert!(number > last.0 && random != last.1, "{claims}");
        assert_eq!(random.len(), 22);
        assert!(random.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{random}");
        assert_eq!(claims["exp"].as_u64().expect("a time") - claims["iat"].as_u64().expect("a time"), 3_600);
        last = (number, random.to_owned());
    }
}

#[test]
fn a_mint_ignores_its_query_and_its_body() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let good = basic(USER, PASSWORD);
    let fields = [("Authorization", good.as_str())];
    assert_eq!(
        gateway.exchange(request("POST", &format!("{ENDPOINT}?token=a&token=b"), &fields)).status,
        201
    );
    let mut client = gateway.client();
    // On a machine that is never idle a password may wait too long.
    let mut mint = |body: &[u8]| {
        let ask = request_with("POST", ENDPOINT, &fields, body);
        eventually("a thread that hashes", || {
            Some(client.exchange(&ask).status).filter(|status| *status != 503)
        })
    };
    assert_eq!(mint(b"{\"user\":\"other\"}"), 201);
    assert_eq!(mint(b""), 201, "the connection stays");
}
