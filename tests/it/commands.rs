//! `ds-gateway user`: what each command does to the store, and the code it ends with.

use crate::command::{Folder, binary, finish, started_by};
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use serde_json::Value;

fn folder() -> Folder {
    Options::servers(&["http://127.0.0.1:1"]).nobody().folder()
}

pub fn show(folder: &Folder, name: &str) -> Value {
    serde_json::from_str(&folder.cli(&["user", "show", name, "--json"], "").ok()).expect("JSON")
}

pub fn list(folder: &Folder) -> Vec<Value> {
    serde_json::from_str(&folder.cli(&["user", "list", "--json"], "").ok()).expect("a JSON array")
}

#[test]
fn a_user_is_added_shown_changed_and_removed() {
    let folder = folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder.add(&User::new("another", "pw", "a@example.com", "Other"));
    let names: Vec<_> = list(&folder).iter().map(|user| user["name"].clone()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&USER.into()) && names.contains(&"another".into()));

    let fresh = show(&folder, USER);
    let members: Vec<&String> = fresh.as_object().expect("an object").keys().collect();
    let expected = [
        "created_at",
        "credential_version",
        "disabled",
        "email",
        "last_login",
        "live_tokens",
        "name",
        "organization",
        "source",
        "updated_at",
    ];
    assert_eq!(members, expected);
    assert_eq!(
        (&fresh["name"], &fresh["email"], &fresh["organization"]),
        (&USER.into(), &EMAIL.into(), &ORGANIZATION.into())
    );
    assert_eq!(fresh["disabled"], false);

    folder.cli(&["user", "set", USER, "--email", "new@example.com"], "").ok();
    assert_eq!(
        (&show(&folder, USER)["email"], &show(&folder, USER)["organization"]),
        (&"new@example.com".into(), &ORGANIZATION.into())
    );
    folder.cli(&["user", "set", USER, "--organization", "New Org."], "").ok();
    assert_eq!(
        (&show(&folder, USER)["email"], &show(&folder, USER)["organization"]),
        (&"new@example.com".into(), &"New Org.".into())
    );

    let version = |folder: &Folder| show(folder, USER)["credential_version"].as_u64().expect("a number");
    let before = version(&folder);
    folder.cli(&["user", "passwd", USER, "--password-stdin"], "another password\n").ok();
    assert!(version(&folder) > before, "a new password is a new credential");

    folder.cli(&["user", "disable", USER], "").ok();
    assert_eq!(show(&folder, USER)["disabled"], true);
    folder.cli(&["user", "enable", USER], "").ok();
    assert_eq!(show(&folder, USER)["disabled"], false);
    folder.cli(&["user", "remove", USER], "").ok();
    assert_eq!(list(&folder).len(), 1);
    assert_eq!(folder.cli(&["user", "show", USER], "").code, Some(65));
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));

    // The forms for people name the user too, and none shows a hash.
    for arguments in [
        &["user", "list"][..],
        &["user", "show", USER],
        &["user", "list", "--json"],
        &["user", "show", USER, "--json"],
    ] {
        let text = folder.cli(arguments, "").ok();
        assert!(text.contains(USER) && !text.contains("argon2"), "{text}");
    }
}

#[test]
fn every_command_has_its_exit_code() {
    let folder = folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let of = ["--email", EMAIL, "--organization", ORGANIZATION];
    for (code, arguments, input) in [
        (65, &["user", "show", "nobody"][..], ""),
        (65, &["user", "set", "nobody", "--email", "x@example.com"], ""),
        (65, &["user", "passwd", "nobody", "--password-stdin"], "pw"),
        (65, &["user", "disable", "nobody"], ""),
        (65, &["user", "enable", "nobody"], ""),
        (65, &["user", "remove", "nobody"], ""),
        (65, &["user", "unlock", "nobody"], ""),
        (65, &["user", "unlock", "myuser"], ""),
        (64, &["user", "unlock"], ""),
        (0, &["user", "unlock", USER], ""),
        (65, &["user", "show", "myuser"], ""),
        (64, &["user"], ""),
        (64, &["user", "add"], ""),
        (64, &["user", "add", "x"], ""),
        (64, &["user", "frobnicate"], ""),
        (64, &["frobnicate"], ""),
        (64, &["user", "list", "--xml"], ""),
        (64, &["user", "set", USER], ""),
        (0, &["user", "list"], ""),
    ] {
        let done = folder.cli(arguments, input);
        assert_eq!(done.code, Some(code), "{arguments:?}: {done:?}");
        assert!(code == 0 || !done.stderr.is_empty(), "{arguments:?} says what is wrong");
    }
    for (password, weak) in [
        ("", ""),
        ("\n", ""),
        (&"p".repeat(1_025), ""),
        ("1234567", "--allow-weak"),
        ("äääääää\n", "--allow-weak"),
    ] {
        for command in [&[&["user", "add", "x"], &of[..]].concat()[..], &["user", "passwd", USER]] {
            let done = folder.cli(&[command, &["--password-stdin"]].concat(), password);
            assert_eq!(done.code, Some(64), "{} bytes: {done:?}", password.len());
            assert_eq!(done.stderr.contains("--allow-weak"), !weak.is_empty(), "{done:?}");
        }
    }
    let weak = ["--password-stdin", "--allow-weak"];
    folder.cli(&[&["user", "passwd", USER], &weak[..]].concat(), "1234567").ok();
    folder.cli(&["user", "passwd", USER, "--password-stdin"], "12345678").ok();
    for email in
        ["anna", "anna@", "@example.com", "an na@example.com", "Anna <anna@example.com>", "a@b@c.example"]
    {
        let add = ["user", "add", "x", "--email", email, "--organization", ORGANIZATION, "--password-stdin"];
        for command in [&add[..], &["user", "set", USER, "--email", email]] {
            let done = folder.cli(command, "password");
            assert!(done.code == Some(64) && done.stderr.contains("e-mail address"), "{email}: {done:?}");
        }
    }
    let twice = folder.cli(&[&["user", "add", USER], &of[..], &["--password-stdin"]].concat(), "pw");
    assert!(twice.code.is_some_and(|code| code != 0), "{twice:?}");
    assert_eq!(list(&folder).len(), 1);

    let mut elsewhere = binary();
    elsewhere.args(["user", "list", "--config", "/nonexistent.toml"]);
    assert_eq!(finish(elsewhere, "").code, Some(64));
    let mut by_environment = binary();
    by_environment.args(["user", "show", USER]).env("DS_GATEWAY_CONFIG", folder.config());
    assert!(finish(by_environment, "").ok().contains(EMAIL));
    let mut without = binary();
    without.args(["user", "list"]);
    assert_eq!(finish(without, "").code, Some(64), "no configuration is named");
}

#[test]
fn names_follow_the_rule() {
    let folder = folder();
    let of = |name: &str, organization: &str| {
        let mut command = folder.command(&[
            "user",
            "add",
            "--email",
            EMAIL,
            "--organization",
            organization,
            "--password-stdin",
        ]);
        command.args(["--", name]);
        finish(command, "password")
    };
    let (most, too_many) = ("é".repeat(128), "é".repeat(129));
    for name in ["a", "with space inside", "é", "日本", "O'Brien \"x\"", "-x", "100%", &most] {
        assert_eq!(of(name, ORGANIZATION).code, Some(0), "{name:?}");
    }
    let before = list(&folder).len();
    let bad = [
        "",
        " ",
        " a1",
        "a1 ",
        "a\u{7}1",
        "a\n1",
        "a\u{85}1",
        "a\u{7f}1",
        "e\u{301}1",
        "\u{212b}1",
        "\u{3000}a1",
        &too_many,
    ];
    for name in bad {
        assert_eq!(of(name, ORGANIZATION).code, Some(64), "the user {name:?}");
        assert_eq!(of("somebody", name).code, Some(64), "the organization {name:?}");
    }
    assert_eq!(of("a:1", ORGANIZATION).code, Some(64), "a colon would be read as the end of the name");
    assert_eq!(of("free", "a:1").code, Some(0), "an organization may have one");
    for confusable in ["A", "WITH space inside", "É", "o'brien \"X\"", "-X"] {
        let done = of(confusable, "Another Org.");
        assert!(
            done.code.is_some_and(|code| code != 0),
            "{confusable:?} differs from a user only in case: {done:?}"
        );
    }
    // One letter of another script, and all of them.
    for (name, looks_like) in
        [("\u{430}", "a"), ("w\u{456}th space inside", "with space inside"), ("\u{410}", "a")]
    {
        let done = of(name, ORGANIZATION);
        assert_eq!(done.code, Some(64), "{name:?}: {done:?}");
        assert!(done.stderr.contains(&format!("could be taken for the user {looks_like:?}")), "{done:?}");
    }
    assert_eq!(list(&folder).len(), before + 1);
}

#[test]
fn a_list_of_users_is_narrowed_and_read_by_page() {
    let folder = folder();
    for (name, email, organization) in [
        ("anna", "anna@example.com", "One"),
        ("bert", "bert@example.org", "One"),
        ("cleo", "cleo@example.com", "Two"),
        ("dora", "dora@example.com", "Two"),
    ] {
        folder.add(&User::new(name, PASSWORD, email, organization));
    }
    folder.cli(&["user", "disable", "dora"], "").ok();
    let names = |arguments: &[&str]| -> Vec<String> {
        let text = folder.cli(&[&["user", "list", "--json"], arguments].concat(), "").ok();
        let rows: Vec<Value> = serde_json::from_str(&text).expect("a JSON array");
        // The table has the same rows.
        let table = folder.cli(&[&["user", "list"], arguments].concat(), "").ok();
        assert_eq!(table.lines().count(), rows.len() + 1, "{table}");
        assert!(table.starts_with("NAME ") && table.contains("LAST LOGIN  LIVE TOKENS"), "{table}");
        rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    for (arguments, expected) in [
        (&[][..], &["anna", "bert", "cleo", "dora"][..]),
        (&["--organization", "One"], &["anna", "bert"]),
        (&["--organization", "None"], &[]),
        (&["--disabled"], &["dora"]),
        (&["--enabled", "--organization", "Two"], &["cleo"]),
        (&["--search", "example.ORG"], &["bert"]),
        (&["--limit", "2"], &["anna", "bert"]),
        (&["--limit", "2", "--after", "bert"], &["cleo", "dora"]),
        (&["--limit", "0"], &[]),
        (&["--after", "dora"], &[]),
    ] {
        assert_eq!(names(arguments), expected, "{arguments:?}");
    }
    for wrong in [&["--enabled", "--disabled"][..], &["--limit", "-1"], &["--limit", "x"], &["anna"]] {
        assert_eq!(folder.cli(&[&["user", "list"], wrong].concat(), "").code, Some(64), "{wrong:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_and_one_that_nobody_reads_is_not() {
    let folder = folder();
    for arguments in [&["user", "list"][..], &["user", "list", "--json"], &["key", "list"]] {
        let command = folder.command(arguments);
        let full = finish(started_by(&["bash", "-c", "exec \"$@\" > /dev/full", "bash"], &command), "");
        assert_eq!(full.code, Some(1), "{arguments:?} {full:?}");
        assert!(full.stderr.contains("standard output"), "{arguments:?} {full:?}");
        let script = "set -o pipefail; \"$@\" | true";
        let unread = finish(started_by(&["bash", "-c", script, "bash"], &command), "");
        assert_eq!((unread.code, unread.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
