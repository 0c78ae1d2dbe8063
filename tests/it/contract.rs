//! The published API on the wire: every row of the contract that the gateway answers itself.

use crate::client::{Answer, basic, request, request_with};
use crate::command::finish;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, Options, PASSWORD, USER, User};
use crate::jwt;
use crate::platform::Platform;
use serde_json::Value;
use std::process::Command;

pub const ENDPOINT: &str = "/ds-api/user-token";
pub const CHALLENGE: &str = "Basic realm=\"ds-api\", charset=\"UTF-8\"";

/// Runs a line as a user would paste it.
fn paste(line: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-c", line]);
    finish(command, "").ok()
}

fn inspect(gateway: &Gateway, query: &str, fields: &[(&str, &str)]) -> Answer {
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
fn describes(json: &Value, token: &str) {
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

        let older = paste(&format!("curl -u myUser:myPassword -k -X POST '{host}/ds-api/user-token/Main%20Org.'"));
        assert!(older.contains("user-token"), "{older}");

        let line = "curl -sk -o /dev/null -w '%{http_code}'";
        assert_eq!(paste(&format!("{line} -u myUser:myPassword -X POST {host}/ds-api/user-token")), "201");
        assert_eq!(paste(&format!("{line} -u myUser:wrong -X POST {host}/ds-api/user-token")), "401");
        assert_eq!(paste(&format!("{line} -H 'user-token: {token}' {host}/ds-api/agents?x=1")), "200");
        assert_eq!(paste(&format!("{line} {host}/ds-api/agents")), "401");
    }
    let schemes: Vec<_> = platform.requests().iter().map(|seen| seen.values("x-forwarded-proto").concat()).collect();
    assert_eq!(schemes, ["https", "http"]);
}

#[test]
fn the_self_signed_certificate_has_sensible_names_and_validity() {
    let gateway = Options::new(&Platform::echo()).https().start();
    let address = gateway.https();
    let text = paste(&format!(
        "openssl s_client -connect {address} -servername localhost </dev/null 2>/dev/null | openssl x509 -noout -text -checkend 2592000"
    ));
    assert!(text.contains("Certificate will not expire"), "{text}");
    assert!(text.contains("DNS:localhost") && text.contains("IP Address:127.0.0.1"), "{text}");
    let first = std::fs::read_dir(gateway.folder.state()).expect("the state folder").count();
    let folder = gateway.kill();
    let gateway = folder.run(&[]);
    let again = std::fs::read_dir(gateway.folder.state()).expect("the state folder").count();
    assert_eq!(first, again, "a second start makes no second certificate");
}

#[test]
fn minting_answers_201_with_a_token_of_the_documented_shape() {
    let gateway = Options::new(&Platform::echo()).start();
    let answer = gateway.log_in(USER, PASSWORD);
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
    assert!(iat <= jwt::now() && iat + 60 > jwt::now(), "{iat}");
}

#[test]
fn every_mint_takes_the_next_number_and_a_fresh_random_part() {
    let gateway = Options::new(&Platform::echo()).set("token", "lifetime", "\"1h\"").start();
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
fn inspecting_answers_200_for_any_user_that_holds_a_token() {
    let other = User::new("other", "otherPassword", "other@example.com", "Other Org.");
    let gateway = Options::new(&Platform::echo()).user(other).start();
    let token = gateway.mint();
    for (user, password) in [(USER, PASSWORD), ("other", "otherPassword")] {
        for query in [format!("?token={token}"), format!("?user-token={token}"), format!("?x=1&token={token}&y")] {
            let answer = inspect(&gateway, &query, &[("Authorization", &basic(user, password))]);
            assert_eq!(answer.status, 200, "{}", answer.text());
            is_guarded(&answer);
            describes(&answer.json(), &token);
        }
    }
}

#[test]
fn expired_and_forged_tokens_are_inspected_with_one_and_the_same_401() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("token", "lifetime", "\"1s\"").start();
    let expired = gateway.mint();
    let (_, claims) = jwt::read(&expired);
    crate::command::eventually("the token to expire", || (jwt::now() >= claims["exp"].as_u64()?).then_some(()));
    let (text, _) = expired.rsplit_once('.').expect("a signature");
    let forged = jwt::signed(b"not the gateway's secret, but long enough", text);
    let answers: Vec<Answer> = [expired.as_str(), &forged, "x", "a.b.c"]
        .iter()
        .map(|token| inspect(&gateway, &format!("?token={token}"), &[("Authorization", &basic(USER, PASSWORD))]))
        .collect();
    for answer in &answers {
        answer.is_error(401);
        is_guarded(answer);
        assert_eq!(answer.body, answers[0].body);
        assert_eq!(answer.values("www-authenticate"), answers[0].values("www-authenticate"));
    }
}

#[test]
fn an_inspection_has_exactly_one_token() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let good = basic(USER, PASSWORD);
    let rows = [
        String::new(),
        "?".to_owned(),
        "?x=1".to_owned(),
        format!("?Token={token}"),
        format!("?token={token}&token={token}"),
        format!("?token={token}&user-token={token}"),
        format!("?user-token={token}&user-token={token}"),
        format!("?token=&token={token}"),
        format!("?token={token}&token"),
    ];
    for query in rows {
        let answer = inspect(&gateway, &query, &[("Authorization", &good)]);
        answer.is_error(400);
        is_guarded(&answer);
    }
    let empty = inspect(&gateway, "?token=", &[("Authorization", &good)]);
    assert!([400, 401].contains(&empty.status), "{empty:?}");
    // The header of the protected routes is no substitute for the parameter.
    inspect(&gateway, "", &[("Authorization", &good), ("user-token", &token)]).is_error(400);
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn inspection_by_token_needs_no_basic_but_checks_one_that_is_there() {
    let gateway = Options::new(&Platform::echo()).set("token", "inspect_auth", "\"token\"").start();
    let token = gateway.mint();
    let query = format!("?token={token}");
    let answer = inspect(&gateway, &query, &[]);
    assert_eq!(answer.status, 200);
    is_guarded(&answer);
    describes(&answer.json(), &token);
    assert_eq!(inspect(&gateway, &query, &[("Authorization", &basic(USER, PASSWORD))]).status, 200);
    inspect(&gateway, &query, &[("Authorization", &basic(USER, "wrong"))]).is_error(401);
    inspect(&gateway, "?token=a.b.c", &[]).is_error(401);
    gateway.exchange(request("POST", ENDPOINT, &[])).is_error(401);
    let older = request("GET", &format!("{ENDPOINT}/Main%20Org.{query}"), &[]);
    assert_eq!(gateway.exchange(older).status, 200);
    gateway.exchange(request("GET", &format!("{ENDPOINT}/Other{query}"), &[])).is_error(401);
}

#[test]
fn inspection_by_basic_is_the_default() {
    let gateway = Options::new(&Platform::echo()).start();
    let query = format!("?token={}", gateway.mint());
    let answer = inspect(&gateway, &query, &[]);
    answer.is_error(401);
    assert_eq!(answer.value("www-authenticate"), CHALLENGE);
    let answer = inspect(&gateway, &query, &[("Authorization", &basic(USER, "wrong"))]);
    answer.is_error(401);
    assert_eq!(answer.value("www-authenticate"), CHALLENGE);
}

#[test]
fn the_older_form_wants_the_organization_of_the_user_and_of_the_token() {
    let platform = Platform::echo();
    let other = User::new("other", "otherPassword", "other@example.com", "Société 100%");
    let gateway = Options::new(&platform).user(other).start();
    let mine = basic(USER, PASSWORD);
    let mint = |segment: &str, fields: &[(&str, &str)]| {
        gateway.exchange(request("POST", &format!("{ENDPOINT}/{segment}"), fields))
    };
    assert_eq!(mint("Main%20Org.", &[("Authorization", &mine)]).status, 201);
    assert_eq!(mint("Soci%C3%A9t%C3%A9%20100%25", &[("Authorization", &basic("other", "otherPassword"))]).status, 201);

    let refused = mint("Main%20Org.", &[("Authorization", &basic(USER, "wrong"))]);
    refused.is_error(401);
    // Decoded once, and equal byte for byte: near misses get the answer of a wrong password.
    for segment in ["Main%2520Org.", "main%20org.", "Main+Org.", "Main%20Org", "Main%20Org.%20", "Other", "Main%20Org.x"] {
        let answer = mint(segment, &[("Authorization", &mine)]);
        answer.is_error(401);
        is_guarded(&answer);
        assert_eq!(answer.body, refused.body, "{segment}");
        assert_eq!(answer.values("www-authenticate"), refused.values("www-authenticate"), "{segment}");
    }
    let token = gateway.mint();
    let theirs = gateway.login("other", "otherPassword").expect("a token");
    let look = |segment: &str, token: &str| inspect(&gateway, &format!("/{segment}?token={token}"), &[("Authorization", &mine)]);
    let answer = look("Main%20Org.", &token);
    assert_eq!(answer.status, 200);
    describes(&answer.json(), &token);
    look("Other", &token).is_error(401);
    look("Main%20Org.", &theirs).is_error(401);
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn no_other_method_mints() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let good = basic(USER, PASSWORD);
    let minted = || gateway.metric("ds_gateway_token_requests_total", &["action=\"mint\""]);
    let number = || gateway.metric("ds_gateway_store_number", &[]);
    let (before, at) = (minted(), number());
    for path in [ENDPOINT, "/ds-api/user-token/Main%20Org."] {
        for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "post", "Get"] {
            let answer = gateway.exchange(request(method, path, &[("Authorization", &good)]));
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.value("allow"), "GET, POST", "{method} {path}");
            is_guarded(&answer);
            if method != "HEAD" {
                answer.is_error(405);
            }
        }
    }
    assert_eq!((minted(), number()), (before, at), "nothing was minted");
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn the_rest_of_the_subtree_is_404_in_every_spelling() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let good = basic(USER, PASSWORD);
    let spellings = [
        "/ds-api/user-token/", "/ds-api/user-token/a/b", "/ds-api/user-token/Main%20Org./", "/ds-api/user-token//",
        "/DS-API/user-token", "/ds-api/USER-TOKEN", "/ds-api/User-Token/Main%20Org.", "/ds-api/%75ser-token",
        "/ds-api/user%2Dtoken", "/ds-api/user%2dtoken/Main%20Org.", "/x/../ds-api/user-token", "//ds-api/user-token",
        "/ds-api//user-token", "/ds-api/./user-token", "/ds-api/%2e/user-token", "/ds-api/x/%2E%2e/user-token",
        "/ds-api%2fuser-token", "/ds-api/user-token%2F", "/ds-api/user-token/..%2fuser-token", "/ds-api/user-token/.",
        "/ds-api/user-token?token=x/../", "/./ds-api/user-token", "/%64s-api/user-token",
    ];
    for spelling in spellings.iter().filter(|spelling| !spelling.contains('?')) {
        for method in ["GET", "POST", "DELETE", "HEAD"] {
            for fields in [&[][..], &[("Authorization", good.as_str())], &[("user-token", token.as_str())]] {
                let answer = gateway.exchange(request(method, spelling, fields));
                assert_eq!(answer.status, 404, "{method} {spelling} {fields:?} {answer:?}");
                assert!(answer.values("www-authenticate").is_empty(), "{answer:?}");
                if method != "HEAD" {
                    answer.is_error(404);
                }
            }
        }
    }
    assert_eq!(platform.bytes(), 0, "{:?}", platform.requests());
    // Neighbours are no part of it.
    for path in ["/ds-api/user-tokens", "/ds-api/user-token-x", "/ds-api/user", "/user-token"] {
        gateway.exchange(request("GET", path, &[])).is_error(401);
        assert_eq!(gateway.exchange(request("GET", path, &[("user-token", &token)])).status, 200, "{path}");
        platform.request(path);
    }
    gateway.still_healthy();
}

#[test]
fn a_mint_ignores_its_query_and_its_body() {
    let gateway = Options::new(&Platform::echo()).start();
    let good = basic(USER, PASSWORD);
    let fields = [("Authorization", good.as_str())];
    assert_eq!(gateway.exchange(request("POST", &format!("{ENDPOINT}?token=a&token=b"), &fields)).status, 201);
    let mut client = gateway.client();
    assert_eq!(client.exchange(request_with("POST", ENDPOINT, &fields, b"{\"user\":\"other\"}")).status, 201);
    assert_eq!(client.exchange(request_with("POST", ENDPOINT, &fields, b"")).status, 201, "the connection stays");
}
