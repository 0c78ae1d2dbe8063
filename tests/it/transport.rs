//! How a token comes: in one field of its name, once, and in no other place.

use crate::client::request;
use crate::deployment::{Deployment, Rows, all_are_refused};

#[test]
fn there_is_exactly_one_token_in_exactly_one_field() {
    let deployment = Deployment::open();
    let (good, other) = (deployment.good(), deployment.gateway.mint());
    let mut rows = Rows::default();
    rows.lines("no token", "");
    rows.lines("the same token twice", format!("user-token: {good}\r\nuser-token: {good}\r\n"));
    rows.lines("two tokens", format!("user-token: {good}\r\nUser-Token: {other}\r\n"));
    rows.lines("a good and a bad one", format!("user-token: {good}\r\nuser-token: x\r\n"));
    rows.lines("a bad and a good one", format!("user-token: x\r\nuser-token: {good}\r\n"));
    rows.lines("a good and an empty one", format!("user-token: {good}\r\nuser-token:\r\n"));
    rows.token("two, joined with a comma", format!("{good}, {other}"));
    rows.token("the same, joined with a comma", format!("{good},{good}"));
    rows.token("a comma after it", format!("{good},"));
    rows.token("an empty field", "");
    rows.token("blanks", "   ");
    rows.lines("an alias with _", format!("user_token: {good}\r\n"));
    rows.lines("an alias with .", format!("User.Token: {good}\r\n"));
    rows.lines("an alias beside the token", format!("user-token: {good}\r\nUSER_TOKEN: x\r\n"));
    rows.lines("in Authorization", format!("Authorization: Bearer {good}\r\n"));
    rows.lines("in a cookie", format!("Cookie: user-token={good}; token={good}\r\n"));
    rows.lines("in other fields", format!("x-user-token: {good}\r\ntoken: {good}\r\n"));
    all_are_refused(&deployment, &rows);

    let query = request("GET", &format!("/ds-api/canary?token={good}&user-token={good}"), &[]);
    deployment.gateway.exchange(query).is_error(401);
    deployment.platform.never_saw("canary");
    for name in ["user-token", "User-Token", "USER-TOKEN"] {
        let answer = deployment.gateway.exchange(request(
            "GET",
            "/ds-api/any-case",
            &[(name, &format!(" \t{good}  "))],
        ));
        assert_eq!(answer.status, 200, "{name}, blanks around the value");
    }
}
