//! `ds-gateway token list` beside a running gateway: what became of each token, and revocations from it.

use crate::audit::{rows, token_id};
use crate::client::request;
use crate::command::{Folder, eventually};
use crate::commands::show;
use crate::contract::ENDPOINT;
use crate::gateway::{EMAIL, ORGANIZATION, USER};
use crate::jwt::{self, utc};
use crate::options::{Options, User};
use crate::platform::Platform;
use serde_json::Value;

fn tokens(folder: &Folder, arguments: &[&str]) -> Vec<Value> {
    let text = folder.cli(&[&["token", "list", "--json"], arguments].concat(), "").ok();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_token_is_found_in_the_list_and_revoked_by_its_id() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).user(User::new("another", "password", EMAIL, ORGANIZATION)).start();
    let folder = &gateway.folder;
    let (first, second) = (gateway.mint(), gateway.mint());
    let others = gateway.login("another", "password").expect("a token");
    let by_hand = folder.cli(&["token", "mint", USER], "").ok().trim().to_owned();
    let found = tokens(folder, &["--user", USER]);
    let ids: Vec<&str> = found.iter().map(|token| token["token_id"].as_str().expect("an id")).collect();
    assert_eq!(ids, [&by_hand, &second, &first].map(|token| token_id(token)), "the newest first");
    for (token, line) in [(&by_hand, &found[0]), (&first, &found[2])] {
        let claims = jwt::read(token).1;
        assert_eq!(line["expires_at"], utc(claims["exp"].as_u64().expect("a time")));
        assert_eq!((&line["state"], &line["revoked_by"]), (&"live".into(), &Value::Null));
    }
    assert_eq!((&found[2]["minted_by"], &found[0]["origin"]), (&USER.into(), &"command line".into()));
    assert!(found[2]["origin"].as_str().is_some_and(|origin| origin.starts_with("127.0.0.1:")), "{found:?}");
    let shown = show(folder, USER);
    assert_eq!(shown["live_tokens"], 3);
    assert!(shown["last_login"].is_string(), "{shown}");

    // By the id that the list shows, under its user.
    folder.cli(&["revoke", "token", ids[2]], "").ok();
    assert_eq!((gateway.status(&first), gateway.status(&second), gateway.status(&others)), (401, 200, 200));
    let row = rows(folder, &["--user", USER]).pop().expect("a row");
    assert_eq!((&row["action"], &row["subject"]), (&"revoke_token".into(), &USER.into()));
    assert_eq!(row["token_id"], ids[2]);
    let listed = folder.cli(&["revoke", "list", "--user", USER, "--kind", "token"], "").ok();
    assert!(listed.contains(ids[2]) && listed.contains(&format!("of {USER}")), "{listed}");
    let state = |id: &str| {
        let found = tokens(folder, &["--user", USER]);
        let line = found.into_iter().find(|line| line["token_id"] == id).expect("a line");
        (line["state"].clone(), line["revoked_by"].clone())
    };
    assert_eq!(state(ids[2]), ("revoked".into(), "token".into()));
    // A client that logs out revokes its own.
    let log_out = gateway.exchange(request("DELETE", ENDPOINT, &[("user-token", &second)]));
    assert_eq!(log_out.status, 204);
    eventually("a log out in the store", || (state(ids[1]).0 == "revoked").then_some(()));
    assert_eq!(show(folder, USER)["live_tokens"], 1);

    let text = folder.cli(&["token", "list", "--user", USER], "").ok();
    assert_eq!(text.lines().count(), 3, "{text}");
    for (line, words) in text.lines().zip([["live", "command line"], ["revoked (token)", "127.0.0.1"]]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    assert!(!text.contains("eyJ"), "no token is shown: {text}");
    assert_eq!(tokens(folder, &["--user", USER, "--limit", "2"]).len(), 2);
    folder.cli(&["user", "remove", USER], "").ok();
    assert_eq!(tokens(folder, &["--user", USER]).len(), 3, "of a user that is gone");
    assert_eq!(state(ids[0]), ("revoked".into(), "user".into()));
    let nobody = folder.cli(&["token", "list", "--user", "nobody"], "");
    assert_eq!((nobody.code, nobody.stdout.as_str()), (Some(65), ""), "{nobody:?}");
    assert_eq!(folder.cli(&["token", "list"], "").code, Some(64), "whose?");
}
