//! The audit trail: everything that changes who may do what is a row, failed logins are sums, and no secret is in it.

use crate::client::{basic, request};
use crate::command::{Folder, eventually, finish, started_by};
use crate::contract::ENDPOINT;
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::jwt;
use crate::options::{Key, Options, User};
use crate::platform::Platform;
use crate::wire::find;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::process::Command;

/// What names a token: the first 16 bytes of SHA-256 over `header.payload`, in hexadecimal.
pub fn token_id(token: &str) -> String {
    let text = token.rsplit_once('.').expect("a signature").0;
    Sha256::digest(text)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rows as JSON, oldest first.
pub fn rows(folder: &Folder, arguments: &[&str]) -> Vec<Value> {
    let text = folder.cli(&[&["audit", "list", "--json"], arguments].concat(), "").ok();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

/// The account that runs the tests.
pub fn account() -> String {
    let mut command = Command::new("id");
    command.arg("-un");
    finish(command, "").ok().trim().to_owned()
}

fn of<'r>(rows: &'r [Value], action: &str) -> Vec<&'r Value> {
    rows.iter().filter(|row| row["action"] == action).collect()
}

#[test]
fn every_change_of_a_user_or_key_is_a_row() {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().key(Key::ours("k1")).folder();
    let folder = folder.run(&["--init"]).kill();
    let act = |arguments: &[&str], input: &str| {
        let mut command = folder.command(arguments);
        command.env("SUDO_USER", "operator").env("USER", "root");
        finish(command, input).ok();
    };
    let of_user = ["--email", EMAIL, "--organization", ORGANIZATION, "--password-stdin"];
    act(&[&["user", "add", USER], &of_user[..]].concat(), "canary-password-1");
    act(&["user", "set", USER, "--email", "second@example.com"], "");
    act(&["user", "passwd", USER, "--password-stdin"], "canary-password-2");
    act(&["user", "disable", USER], "");
    act(&["user", "enable", USER], "");
    act(&["user", "unlock", USER], "");
    act(&["user", "remove", USER], "");
    let import = folder.dir.path().join("users.jsonl");
    let hash = "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i";
    let line = |name: &str| {
        format!(
            "{{\"name\":{name:?},\"email\":\"i@example.com\",\"organization\":\"O\",\"password\":{hash:?}}}"
        )
    };
    fs::write(&import, [line("one"), line("two")].join("\n")).expect("a file");
    act(&["user", "import", import.to_str().expect("a path")], "");

    let rows = rows(&folder, &[]);
    let members = [
        "action",
        "actor",
        "changes",
        "claimed_actor",
        "count",
        "number",
        "origin",
        "subject",
        "time",
        "token_id",
    ];
    let mut last = 0;
    for row in &rows {
        assert_eq!(row.as_object().expect("an object").keys().collect::<Vec<_>>(), members, "{row}");
        let number = row["number"].as_u64().expect("a number");
        assert!(number >= last, "{row} after {last}");
        last = number;
        assert_eq!((row["count"].as_u64(), &row["token_id"]), (Some(1), &Value::Null), "{row}");
        let time = row["time"].as_str().expect("a time");
        assert!(time.len() == 19 && time.starts_with("20") && time.as_bytes()[10] == b' ', "{row}");
    }
    let said: Vec<(&str, &str, &str)> = rows
        .iter()
        .map(|row| ["action", "subject", "actor"].map(|member| row[member].as_str().expect("a text")))
        .map(|[action, subject, actor]| (action, subject, actor))
        .collect();
    let me = account();
    let expected = [
        ("key_add", "k1", "ds-gateway"),
        ("user_add", USER, &me),
        ("user_set", USER, &me),
        ("user_passwd", USER, &me),
        ("user_disable", USER, &me),
        ("user_enable", USER, &me),
        ("user_unlock", USER, &me),
        ("user_remove", USER, &me),
        ("user_add", "one", &me),
        ("user_add", "two", &me),
    ];
    assert_eq!(said, expected);
    // Whom sudo names is a claim, and the gateway itself makes none.
    let claims: Vec<&Value> = rows.iter().map(|row| &row["claimed_actor"]).collect();
    assert!(claims[0].is_null() && claims[1..].iter().all(|claim| *claim == "operator"), "{claims:?}");
    assert!(of(&rows, "user_add").iter().all(|row| row["origin"] == "command line"));
    let text = folder.cli(&["audit", "list"], "").ok();
    assert_eq!(text.lines().count(), rows.len());
    for (line, (action, subject, actor)) in text.lines().zip(expected) {
        assert!([action, subject, actor].iter().all(|word| line.contains(word)), "{line}");
    }
    // What `user set` made of what.
    let set = of(&rows, "user_set")[0];
    let change = serde_json::json!([{"field": "email", "from": EMAIL, "to": "second@example.com"}]);
    assert_eq!(set["changes"], change);
    assert!(text.contains(&format!("email {EMAIL:?} to \"second@example.com\"")), "{text}");
    let others = rows.iter().filter(|row| row["action"] != "user_set");
    assert!(others.clone().all(|row| row["changes"] == serde_json::json!([])), "{rows:?}");
    assert!(!text.contains("canary") && !text.contains(hash) && !text.contains("argon2"), "{text}");
}

#[test]
fn every_mint_is_a_row_that_names_its_token() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).user(User::new("another", "pw", EMAIL, "Other")).start();
    let mut minted = Vec::new();
    for _ in 0..3 {
        minted.push((USER, token_id(&gateway.mint())));
    }
    minted.push(("another", token_id(&gateway.login("another", "pw").expect("a token"))));
    // None of these is a mint.
    gateway.login(USER, "wrong");
    let mismatch =
        request("POST", &format!("{ENDPOINT}/Other"), &[("Authorization", &basic(USER, PASSWORD))]);
    gateway.exchange(mismatch).is_error(401);
    let good = gateway.mint();
    minted.push((USER, token_id(&good)));
    gateway.exchange(request(
        "GET",
        &format!("{ENDPOINT}?token={good}"),
        &[("Authorization", &basic(USER, PASSWORD))],
    ));
    let by_hand = gateway.folder.cli(&["token", "mint", "another"], "").ok();
    let rows = rows(&gateway.folder, &[]);
    let mints = of(&rows, "mint");
    let seen: Vec<(&str, String)> = mints
        .iter()
        .map(|row| {
            (row["subject"].as_str().expect("a name"), row["token_id"].as_str().expect("an id").to_owned())
        })
        .collect();
    assert_eq!(seen[..5], minted, "in the order of the mints");
    assert_eq!(seen[5..], [("another", token_id(by_hand.trim()))]);
    for row in &mints[..5] {
        assert_eq!(row["actor"], row["subject"], "{row}");
        assert!(row["origin"].as_str().is_some_and(|origin| origin.starts_with("127.0.0.1")), "{row}");
    }
    assert_eq!(mints[5]["origin"], "command line");
    assert_ne!(mints[5]["actor"], "another");
    // The row and the token are of one transaction.
    let (_, claims) = jwt::read(&good);
    let number = claims["jti"].as_str().and_then(|jti| jti.split('.').next()).expect("<n>");
    assert_eq!(mints[4]["number"].to_string(), number);
    let access = eventually("an access line", || {
        gateway.log.messages("access").into_iter().find(|line| line["token_id"] == token_id(&good))
    });
    assert_eq!(access["user"], USER, "the log and the trail name a token alike");
    gateway.still_healthy();
}

#[test]
fn failed_logins_are_summed_and_a_name_that_nobody_bears_is_not_kept() {
    let platform = Platform::echo();
    // However long the test takes, it is one interval.
    let options = Options::new(&platform).set("store", "upkeep_interval", "\"1h\"");
    let gateway = options.user(User::new("disabled", "pw", EMAIL, ORGANIZATION)).start();
    gateway.folder.cli(&["user", "disable", "disabled"], "").ok();
    eventually("no log in", || gateway.login("disabled", "pw").is_none().then_some(()));
    let already = 1;
    let typed = "canary-password-typed-as-a-name";
    for (name, password, times) in [
        (USER, "canary-wrong", 5),
        (typed, "x", 3),
        ("other-nobody", "canary-wrong", 2),
        ("disabled", "pw", 1),
    ] {
        for _ in 0..times {
            assert_eq!(gateway.login(name, password), None);
        }
    }
    // Without a name and a password nobody tried to log in.
    gateway.exchange(request("POST", ENDPOINT, &[])).is_error(401);
    gateway.mint();
    assert!(
        of(&rows(&gateway.folder, &[]), "login_failed").is_empty(),
        "once in an interval, and at the end"
    );
    let folder = gateway.stop();
    let rows = rows(&folder, &[]);
    let mut sums: Vec<(&str, u64)> = of(&rows, "login_failed")
        .iter()
        .map(|row| (row["subject"].as_str().expect("a name"), row["count"].as_u64().expect("a count")))
        .collect();
    sums.sort_unstable();
    let disabled = sums.iter().find(|(name, _)| *name == "disabled").expect("a sum").1;
    assert!(disabled > already, "{sums:?}");
    assert_eq!(sums, [("disabled", disabled), (USER, 5), ("unknown", 5)]);
    for row in of(&rows, "login_failed") {
        assert_eq!((&row["origin"], &row["token_id"]), (&"127.0.0.0/24".into(), &Value::Null), "{row}");
    }
    assert!(folder.cli(&["audit", "list"], "").ok().contains("5 times"));
    let mut looked_at = 0;
    for entry in
        fs::read_dir(folder.state()).expect("a folder").flatten().filter(|entry| entry.path().is_file())
    {
        let bytes = fs::read(entry.path()).expect("a file");
        assert!(find(&bytes, b"canary").is_none() && find(&bytes, b"other-nobody").is_none(), "{entry:?}");
        looked_at += 1;
    }
    assert!(looked_at > 0);
    let gateway = folder.run(&[]);
    gateway.still_healthy();
    let rows = self::rows(&gateway.stop(), &[]);
    assert_eq!(of(&rows, "login_failed").len(), 3, "what was written is not written again");
}

#[test]
fn the_list_is_narrowed_by_user_and_by_age() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).user(User::new("another", "pw", EMAIL, ORGANIZATION)).start();
    gateway.mint();
    gateway.login("another", "pw").expect("a token");
    let all = rows(&gateway.folder, &[]);
    let mine = rows(&gateway.folder, &["--user", USER]);
    assert_eq!(
        mine.iter().map(|row| row["action"].as_str()).collect::<Vec<_>>(),
        [Some("user_add"), Some("mint")]
    );
    assert!(mine.iter().all(|row| row["subject"] == USER));
    assert!(rows(&gateway.folder, &["--user", "nobody"]).is_empty());
    assert!(rows(&gateway.folder, &["--user", "%"]).is_empty(), "a name is no pattern");
    // A user that was removed is still found.
    gateway.folder.cli(&["user", "remove", "another"], "").ok();
    assert_eq!(rows(&gateway.folder, &["--user", "another"]).len(), 3);

    let store = rusqlite::Connection::open(gateway.folder.state().join("gateway.db")).expect("a store");
    store.execute("UPDATE audit SET at = at - 7200 WHERE action LIKE 'user_add'", []).expect("older rows");
    drop(store);
    let recent = rows(&gateway.folder, &["--since", "1h"]);
    assert!(of(&recent, "user_add").is_empty() && of(&recent, "mint").len() == 2, "{recent:?}");
    assert_eq!(rows(&gateway.folder, &["--since", "7d"]).len(), all.len() + 1);
    assert_eq!(rows(&gateway.folder, &["--since", "1h", "--user", USER]).len(), 1);
    for bad in [&["--since", "yesterday"][..], &["--since"], &["--since", "-1h"], &["--xml"]] {
        let done = gateway.folder.cli(&[&["audit", "list"], bad].concat(), "");
        assert_eq!(done.code, Some(64), "{bad:?}: {done:?}");
    }
    // A reader that has seen enough is no fault.
    for _ in 0..3 {
        let list = gateway.folder.command(&["audit", "list"]);
        let head = started_by(&["bash", "-c", "set -o pipefail; \"$@\" | head -n 1", "bash"], &list);
        let done = finish(head, "");
        assert!(!done.stderr.contains("panicked") && done.stdout.lines().count() == 1, "{done:?}");
    }
    gateway.still_healthy();
}

#[test]
fn failed_logins_are_listed_alone() {
    let options = Options::new(&Platform::echo()).set("store", "upkeep_interval", "\"1h\"");
    let gateway = options.user(User::new("another", "pw", EMAIL, ORGANIZATION)).start();
    for (name, times) in [(USER, 3), ("another", 2), ("nobody", 1)] {
        (0..times).for_each(|_| assert_eq!(gateway.login(name, "wrong"), None));
    }
    gateway.mint();
    // They are written at the end of the interval, or of the gateway.
    let folder = gateway.stop();
    let listed = |filter: &[&str]| {
        let mut listed: Vec<(String, u64)> = rows(&folder, &[&["--failed"], filter].concat())
            .iter()
            .map(|row| {
                assert_eq!(
                    (&row["action"], &row["origin"]),
                    (&"login_failed".into(), &"127.0.0.0/24".into())
                );
                (row["subject"].as_str().expect("a name").to_owned(), row["count"].as_u64().expect("a count"))
            })
            .collect();
        listed.sort_unstable();
        listed
    };
    let of = |name: &str, count: u64| (name.to_owned(), count);
    assert_eq!(listed(&[]), [of("another", 2), of(USER, 3), of("unknown", 1)]);
    assert_eq!(listed(&["--user", USER, "--since", "1h"]), [of(USER, 3)]);
    assert_eq!(listed(&["--user", "nobody"]), []);
    let text = folder.cli(&["audit", "list", "--failed"], "").ok();
    assert!(text.lines().count() == 3 && text.lines().all(|line| line.contains("login_failed")), "{text}");
    let help = folder.cli(&["audit", "list", "--help"], "").ok();
    assert!(help.contains("summed by account and network"), "{help}");
}
