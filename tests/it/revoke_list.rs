//! Revocations of names that nobody here knows, and the list of what is revoked.

use crate::audit::token_id;
use crate::command::Folder;
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::revocation::{are_counted, delete, is_204, revoke_once};
use rusqlite::Connection;
use serde_json::Value;

fn listed(folder: &Folder, arguments: &[&str]) -> Vec<(String, String)> {
    let text = folder.cli(&[&["revoke", "list", "--json"], arguments].concat(), "").ok();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let lines: Vec<Value> = lines.collect();
    let numbers: Vec<u64> = lines.iter().map(|line| line["number"].as_u64().expect("a number")).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] > pair[1]), "the newest first: {numbers:?}");
    let of = |line: &Value, member: &str| line[member].as_str().unwrap_or_default().to_owned();
    lines.iter().map(|line| (of(line, "kind"), of(line, "subject"))).collect()
}

#[test]
fn a_name_that_the_store_does_not_know_is_revoked_with_a_warning_and_65() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).user(User::new("gone", "pw", EMAIL, "Gone Org.")).start();
    let folder = &gateway.folder;
    are_counted(folder, 1);
    folder.cli(&["user", "remove", "gone"], "").ok();
    for (arguments, code, word) in [
        (&["user", "nobody"][..], 65, "nobody"),
        (&["user", "myuser"], 65, "myuser"),
        (&["user", "gone"], 65, "gone"),
        (&["organization", "Nobody's"], 65, "Nobody's"),
        (&["organization", "Gone Org."], 65, "Gone Org."),
        (&["organization", USER], 65, USER),
        (&["user", USER], 0, ""),
        (&["organization", ORGANIZATION], 0, ""),
        (&["all"], 0, ""),
    ] {
        let done = revoke_once(folder, arguments);
        assert_eq!(done.code, Some(code), "{arguments:?} {done:?}");
        assert_eq!(done.stdout, "revoked; active on 1 of 1 gateways\n", "{arguments:?}");
        assert!(
            done.stderr.contains(word) && done.stderr.is_empty() == (code == 0),
            "{arguments:?} {done:?}"
        );
        let subject = (arguments[0], *arguments.get(1).unwrap_or(&""));
        let kind = if subject.0 == "all" { "everybody" } else { subject.0 };
        assert_eq!(
            listed(folder, &["--limit", "1"]),
            [(kind.to_owned(), subject.1.to_owned())],
            "it is written"
        );
        let json = revoke_once(folder, &[arguments, &["--json"]].concat());
        let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
        let known = if subject.0 == "all" { Value::Null } else { (code == 0).into() };
        assert_eq!((&json["known"], &json["durable"]), (&known, &true.into()), "{json}");
    }
    gateway.still_healthy();
}

/// A slip in a TokenId must be noticed, and what the platform issued can be revoked.
#[test]
fn a_revoked_token_is_named_by_its_user_or_as_unknown() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let (folder, token, other) = (&gateway.folder, gateway.mint(), gateway.mint());
    are_counted(folder, 1);
    let unknown = "00112233445566778899aabbccddeeff";
    let not_here =
        "ds-gateway: warning: not issued here, as far as the audit trail knows; revoked anyway\n".to_owned();
    let of_user = format!("ds-gateway: a token of the user {USER:?}\n");
    for (id, known, user, said) in [
        (token_id(&token), true, Value::from(USER), &of_user),
        (unknown.to_owned(), false, Value::Null, &not_here),
    ] {
        let done = revoke_once(folder, &["token", &id]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "revoked; active on 1 of 1 gateways\n"));
        assert_eq!(&done.stderr, said);
        assert_eq!(listed(folder, &["--limit", "1"])[0].0, "token", "it is written");
        let json = revoke_once(folder, &["token", &id, "--json"]);
        let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
        assert_eq!((&json["known"], &json["user"]), (&known.into(), &user), "{json}");
    }
    let whole = folder.cli(&["revoke", "token", "--token-file", "-"], &other);
    assert_eq!((whole.code, whole.stderr), (Some(0), of_user));
    assert_eq!((gateway.status(&token), gateway.status(&other)), (401, 401));
    gateway.still_healthy();
}

#[test]
fn the_list_shows_what_was_done_newest_first_and_no_new_user() {
    let platform = Platform::echo();
    let mut options = Options::new(&platform);
    for name in ["untouched", "changed", "disabled", "again"] {
        options = options.user(User::new(name, PASSWORD, EMAIL, "Other"));
    }
    let gateway = options.start();
    let folder = &gateway.folder;
    let pair = |kind: &str, subject: &str| (kind.to_owned(), subject.to_owned());
    assert_eq!(listed(folder, &[]), [pair("everybody", "")], "what a new store begins with, and no user");
    folder.cli(&["user", "set", "changed", "--email", "new@example.com"], "").ok();
    folder.cli(&["user", "disable", "disabled"], "").ok();
    folder.cli(&["user", "remove", "again"], "").ok();
    folder.add(&User::new("again", PASSWORD, EMAIL, "Other"));
    let [by_client, by_id] = [1, 2].map(|_| gateway.mint());
    is_204(&gateway.exchange(delete(&by_client)));
    revoke_once(folder, &["token", &token_id(&by_id)]);
    revoke_once(folder, &["organization", "Other"]);
    revoke_once(folder, &["user", "Other"]);
    let all = [
        pair("user", "Other"),
        pair("organization", "Other"),
        pair("token", &token_id(&by_id)),
        pair("token", &token_id(&by_client)),
        // Removed and added again: its older tokens are still revoked.
        pair("user", "again"),
        pair("user", "disabled"),
        pair("user", "changed"),
        pair("everybody", ""),
    ];
    assert_eq!(listed(folder, &[]), all);
    let of = |kind: &str| all.iter().filter(|row| row.0 == kind).cloned().collect::<Vec<_>>();
    for kind in ["token", "user", "organization", "everybody", "key"] {
        assert_eq!(listed(folder, &["--kind", kind]), of(kind), "{kind}");
    }
    for (arguments, expected) in [
        (&["--limit", "3"][..], &all[..3]),
        (&["--limit", "0"], &[]),
        (&["--user", "Other"], &all[..2]),
        (&["--subject", "Other", "--kind", "organization"], &all[1..2]),
        // One was revoked by its TokenId alone: the mint says whose it was.
        (&["--user", USER], &all[2..4]),
        (&["--subject", &token_id(&by_id)], &all[2..3]),
        (&["--user", "untouched"], &[]),
        (&["--user", "%"], &[]),
        (&["--since", "1h", "--limit", "2"], &all[..2]),
        (&["--since", "1h"], &all),
    ] {
        assert_eq!(listed(folder, arguments), expected, "{arguments:?}");
    }
    // As if all that came before the tokens were two hours old.
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    let older =
        "UPDATE audit SET at = at - 7200 WHERE number <= (SELECT number FROM marks WHERE name = 'again')";
    assert!(store.execute(older, []).expect("older rows") > 0);
    assert_eq!(listed(folder, &["--since", "1h"]), all[..4]);
    let text = folder.cli(&["revoke", "list"], "").ok();
    for (line, (kind, subject)) in text.lines().zip(&all) {
        assert!(line.contains(kind) && line.contains(subject), "{line}");
    }
    for bad in [&["--kind", "mark"][..], &["--limit", "-1"], &["--since", "yesterday"]] {
        assert_eq!(folder.cli(&[&["revoke", "list"], bad].concat(), "").code, Some(64), "{bad:?}");
    }
    gateway.still_healthy();
}

#[test]
fn the_list_is_read_in_pages_that_leave_nothing_out() {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    // Three to one, so that the pages of the two tables end at different places.
    let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4200)
        INSERT INTO marks (kind, name, number, second, closed, reason)
        SELECT 'user', 'u' || i, 100 + i, unixepoch(), 0, iif(i % 7 = 0, NULL, 'revoke_user') FROM n WHERE i % 4 != 0";
    store.execute(insert, []).expect("cutoffs");
    let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4200)
        INSERT INTO revoked_tokens (token_id, keep, dated, number)
        SELECT randomblob(16), unixepoch() + 3600, 1, 100 + i FROM n WHERE i % 4 = 0";
    store.execute(insert, []).expect("tokens");
    store.execute("UPDATE sequence SET number = 5000", []).expect("a sequence");
    // 4200 in all; every seventh of the cutoffs is a new user's.
    let expected = 4_200 - (4_200 / 7 - 4_200 / 28) + 1;
    assert_eq!(listed(&folder, &[]).len(), expected);
    assert_eq!(listed(&folder, &["--kind", "token"]).len(), 1_050);
    assert_eq!(listed(&folder, &["--limit", "1500"]).len(), 1_500);
}
