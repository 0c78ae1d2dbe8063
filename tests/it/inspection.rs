//! `GET /ds-api/user-token`: anyone who may log in may look into a token that is good, and learns nothing of one that is not.

use crate::client::{Answer, basic, request};
use crate::command::eventually;
use crate::contract::{CHALLENGE, ENDPOINT, describes, inspect, is_guarded};
use crate::gateway::{PASSWORD, USER};
use crate::jwt;
use crate::options::{Options, User};
use crate::platform::Platform;

#[test]
fn inspecting_answers_200_for_any_user_that_holds_a_token() {
    let other = User::new("other", "otherPassword", "other@example.com", "Other Org.");
    let platform = Platform::echo();
    let gateway = Options::new(&platform).user(other).start();
    let token = gateway.mint();
    for (user, password) in [(USER, PASSWORD), ("other", "otherPassword")] {
        for query in
            [format!("?token={token}"), format!("?user-token={token}"), format!("?x=1&token={token}&y")]
        {
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
    eventually("the token to expire", || (jwt::now() >= claims["exp"].as_u64()?).then_some(()));
    let (text, _) = expired.rsplit_once('.').expect("a signature");
    let forged = jwt::signed(b"not the gateway's secret, but long enough", text);
    let answers: Vec<Answer> = [expired.as_str(), &forged, "x", "a.b.c"]
        .iter()
        .map(|token| {
            inspect(&gateway, &format!("?token={token}"), &[("Authorization", &basic(USER, PASSWORD))])
        })
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
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("token", "inspect_auth", "\"token\"").start();
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
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let query = format!("?token={}", gateway.mint());
    let answer = inspect(&gateway, &query, &[]);
    answer.is_error(401);
    assert_eq!(answer.value("www-authenticate"), CHALLENGE);
    let answer = inspect(&gateway, &query, &[("Authorization", &basic(USER, "wrong"))]);
    answer.is_error(401);
    assert_eq!(answer.value("www-authenticate"), CHALLENGE);
}
