//! `ds-gateway user import`: what it takes, what it refuses, and who notices nothing of it. `IMPORT_USERS` says how many users.

use crate::client::{Client, basic, request};
use crate::command::{Done, Folder, eventually, finish, private, within};
use crate::commands::{list, show};
use crate::contract::ENDPOINT;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::revocation::{Forge, delete, deployment_with};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HASH: &str = "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i";

/// The password of [`HASH`].
const OF_HASH: &str = "bcrypt-Pässword";

fn folder() -> Folder {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder
}

/// A file that the command may read.
fn file(folder: &Folder, text: &str) -> PathBuf {
    let path = folder.dir.path().join("users");
    private(&path, text.as_bytes());
    path
}

fn import(folder: &Folder, text: &str, options: &[&str]) -> Done {
    let file = file(folder, text);
    folder.cli(&[&["user", "import", file.to_str().expect("a path")], options].concat(), "")
}

fn line(name: &str, password: &str) -> String {
    json!({"name": name, "email": "x@example.com", "organization": "Main Org.", "password": password})
        .to_string()
}

fn lines(users: &[(&str, &str)]) -> String {
    users.iter().map(|(name, password)| line(name, password) + "\n").collect()
}

/// The hash that the store has of a user.
fn stored(folder: &Folder, name: &str) -> String {
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    store.query_row("SELECT phc FROM users WHERE name = ?1", [name], |row| row.get(0)).expect("a user")
}

/// One of each family, of the password `Grüße 42`, as other programs wrote it: see the tests of `auth::password`, which have all of them.
const FAMILIES: [(&str, &str); 7] = [
    ("django-bcrypt", "bcrypt_sha256$$2b$04$vMIH7NwWh/TKImW8eSLsV.J8J/4p6wO1Tyc2qBe8UKMmtnISqwgIC"),
    ("django", "pbkdf2_sha256$1000$seasalt$HHyUVRZjmUq0C/E2msJVNYZUiDJM6YKrci++mSZjLEg="),
    ("passlib", "$scrypt$ln=10,r=8,p=1$Z6y1lrIWonRu7d3bG0PIeQ$HNFHgxOJ8vz7exgKcomskwBTX8Yyxol3EYsHwGNVnig"),
    (
        "werkzeug",
        "pbkdf2:sha256:1000$fOB3aKJagKRUl9KR$69fdf63364982f0b503277d404553b0dfe690117b4a8b6878a1d1eb12f632de8",
    ),
    ("ldap", "{SSHA}694G7WswjqepqsRcBcQ1+u6VEY+713rh"),
    (
        "crypt",
        "$6$seasaltseasalt$Y3Qmot4doBKEhENEUztUs7gztpuY1W.shryLSqQYiQx0DT2gniuRoQqlHRxiXsIW0YlxTDCI0Z6WoaFooRjzc.",
    ),
    ("htpasswd", "$apr1$DxxWZIhg$XWGzZILlxUjO6Sb2LFlZC0"),
];

#[test]
fn hash_of_every_family_logs_in_and_is_replaced_by_todays() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    import(&gateway.folder, &lines(&FAMILIES), &[]).ok();
    for (name, hash) in FAMILIES {
        assert_eq!(stored(&gateway.folder, name), hash);
        assert_eq!(gateway.login(name, "Grüße 43"), None, "{name}");
        assert_eq!(stored(&gateway.folder, name), hash, "a wrong password replaces nothing");
        let token = eventually("an imported user", || gateway.login(name, "Grüße 42"));
        assert_eq!(gateway.status(&token), 200, "{name}");
        eventually("the hash to be replaced", || {
            stored(&gateway.folder, name).starts_with("$argon2id$").then_some(())
        });
        assert!(gateway.login(name, "Grüße 42").is_some(), "{name}");
        assert_eq!(gateway.login(name, "Grüße 43"), None, "{name}");
    }
    // What a login replaced is still what was imported.
    let again = import(&gateway.folder, &lines(&FAMILIES), &[]).ok();
    assert_eq!(again, "imported 7 users, added: 0, updated: 0, unchanged: 7\n");
    gateway.still_healthy();
}

/// bcrypt reads 72 bytes of the password, of which the last is half of an ü here.
#[test]
fn login_that_an_old_hash_cannot_tell_from_the_right_one_replaces_nothing() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    // libxcrypt, of 71 times `a` and `ü-tail`.
    let hash = "$2y$04$seasaltseasaltseasaltuMneUPWtXDVzWibuycud.Sf.aV36Rtfm";
    import(&gateway.folder, &lines(&[("long", hash)]), &[]).ok();
    let password = |end: &str| "a".repeat(71) + end;
    let log_in = |end: &str| eventually("a login", || gateway.login("long", &password(end)));
    // The wrong one comes first.
    log_in("ö, a wrong tail");
    log_in("ü-tail");
    log_in("ü-tail");
    assert_eq!(gateway.login("long", &password("x")), None);
    // Commits are in order: whatever would have replaced it has been written before this.
    gateway.folder.cli(&["user", "set", USER, "--email", "new@example.com"], "").ok();
    assert_eq!(stored(&gateway.folder, "long"), hash);
    log_in("ü-tail");
    gateway.still_healthy();
}

#[test]
fn one_user_is_one_user() {
    let folder = folder();
    let text = format!("name,email,organization,password\nanna,anna@example.com,Main,{HASH}\n");
    let would = import(&folder, &text, &["--dry-run"]).ok();
    assert_eq!(would, "nothing was changed; of 1 user, would be added: 1, updated: 0, unchanged: 0\n");
    assert_eq!(import(&folder, &text, &[]).ok(), "imported 1 user, added: 1, updated: 0, unchanged: 0\n");
}

#[test]
fn csv_of_a_spreadsheet_is_imported() {
    let folder = folder();
    let text = format!(
        "\u{feff}Name;Disabled;Organization;Email;Password\r\nanna;;\"Main; Org.\";anna@example.com;{HASH}\r\n\r\nbert;yes;Other;b@example.com;{HASH}\r\n"
    );
    let done = import(&folder, &text, &[]).ok();
    assert_eq!(done, "imported 2 users, added: 2, updated: 0, unchanged: 0\n");
    let (anna, bert) = (show(&folder, "anna"), show(&folder, "bert"));
    assert_eq!((&anna["organization"], &anna["disabled"]), (&json!("Main; Org."), &json!(false)));
    assert_eq!((&bert["email"], &bert["disabled"]), (&json!("b@example.com"), &json!(true)));
}

#[test]
fn dry_run_says_what_would_be_done_and_changes_nothing() {
    let folder = folder();
    import(&folder, &lines(&[("anna", HASH), ("bert", HASH)]), &[]).ok();
    let text = lines(&[("anna", HASH), ("bert", FAMILIES[0].1), ("cleo", HASH)]);
    let (before, trail) = (list(&folder), folder.cli(&["audit", "list", "--json"], "").ok());
    let done = import(&folder, &text, &["--dry-run", "--update"]).ok();
    assert_eq!(done, "nothing was changed; of 3 users, would be added: 1, updated: 1, unchanged: 1\n");
    let done: Value =
        serde_json::from_str(&import(&folder, &text, &["--dry-run", "--update", "--json"]).ok())
            .expect("JSON");
    let expected = json!({"users": 3, "added": 1, "updated": 1, "unchanged": 1, "dry_run": true});
    assert_eq!(done, expected);
    let refused = import(&folder, &text, &["--dry-run"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(65), ""), "{refused:?}");
    assert_eq!((list(&folder), folder.cli(&["audit", "list", "--json"], "").ok()), (before, trail));

    let done: Value =
        serde_json::from_str(&import(&folder, &text, &["--update", "--json"]).ok()).expect("JSON");
    assert_eq!(done, json!({"users": 3, "added": 1, "updated": 1, "unchanged": 1, "dry_run": false}));
}

#[test]
fn dry_run_creates_no_store() {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    let is_there = folder.state().join("gateway.db").exists();
    let done = import(&folder, &lines(&[("anna", HASH)]), &["--dry-run"]).ok();
    assert_eq!(done, "nothing was changed; of 1 user, would be added: 1, updated: 0, unchanged: 0\n");
    assert_eq!(folder.state().join("gateway.db").exists(), is_there);
}

#[test]
fn user_with_other_data_is_an_error_that_says_what_differs_and_is_changed_with_update() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let folder = &gateway.folder;
    import(folder, &lines(&[("anna", HASH), ("bert", HASH)]), &[]).ok();
    let (anna, bert) =
        ["anna", "bert"].map(|name| eventually("a login", || gateway.login(name, OF_HASH))).into();
    let changed = lines(&[("cleo", HASH), ("bert", HASH), ("anna", FAMILIES[1].1)]).replacen(
        "x@example.com\",\"name\":\"anna",
        "new@example.com\",\"name\":\"anna",
        1,
    );
    let refused = import(folder, &changed, &[]);
    assert_eq!(refused.code, Some(65), "{refused:?}");
    let expected = ":3: there is a user \"anna\" already, with another e-mail address, another password hash: use --update";
    assert!(refused.stderr.contains(expected), "{refused:?}");
    assert_eq!(list(folder).len(), 3, "nothing was imported");
    assert_eq!((gateway.status(&anna), gateway.status(&bert)), (200, 200));

    let done = import(folder, &changed, &["--update"]).ok();
    assert_eq!(done, "imported 3 users, added: 1, updated: 1, unchanged: 1\n");
    eventually("the changed user's token to end", || (gateway.status(&anna) == 401).then_some(()));
    assert_eq!(gateway.status(&bert), 200, "the other's lives");
    assert_eq!(gateway.login("anna", OF_HASH), None);
    assert!(gateway.login("anna", "Grüße 42").is_some());
    gateway.still_healthy();
}

#[test]
fn hash_that_would_take_too_long_is_refused_by_name() {
    let folder = folder();
    let slow = HASH.replace("$10$", "$15$");
    let refused = import(&folder, &lines(&[("anna", HASH), ("bert", &slow), ("cleo", &slow)]), &[]);
    assert_eq!(refused.code, Some(65), "{refused:?}");
    for number in [2, 3] {
        let expected = format!(":{number}: the password is bcrypt with cost 15: a login would take ");
        assert!(refused.stderr.contains(&expected), "{refused:?}");
    }
    assert!(!refused.stderr.contains(":1: "), "{refused:?}");
    assert_eq!(list(&folder).len(), 1);
}

#[test]
fn errors_are_shown_up_to_a_hundred_and_the_others_are_counted() {
    let folder = folder();
    let text: String = (0..150).map(|number| line(&format!("user{number}"), "s3cret") + "\n").collect();
    let refused = import(&folder, &text, &[]);
    assert_eq!(refused.code, Some(65));
    assert_eq!(refused.stderr.lines().count(), 102, "{}", refused.stderr);
    assert!(
        refused.stderr.ends_with("and 50 more\n") && !refused.stderr.contains("s3cret"),
        "{}",
        refused.stderr
    );
}

#[test]
fn import_that_was_killed_goes_on_where_it_was() {
    let folder = folder();
    let count = 20_000;
    let text: String = (0..count).map(|number| line(&format!("user{number}"), HASH) + "\n").collect();
    let path = file(&folder, &text);
    let path = path.to_str().expect("a path");
    let users = || {
        let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
        store.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, usize>(0)).unwrap_or(0)
    };
    let mut child =
        folder.command(&["user", "import", path]).stdout(Stdio::null()).spawn().expect("a command");
    eventually("the import to write", || (users() > 1_000).then_some(()));
    child.kill().expect("a child");
    child.wait().expect("its end");
    let before = users() - 1;
    let mut command = folder.command(&["user", "import", path, "--json"]);
    let child = command.stdout(Stdio::piped()).spawn().expect("a command");
    let done = child.wait_with_output().expect("an end");
    assert!(done.status.success());
    let done: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&done["unchanged"], &done["added"]), (&json!(before), &json!(count - before)));
    assert_eq!(users(), count + 1);
}

#[test]
fn help_has_an_example_of_each_form_that_is_accepted() {
    let help = finish(
        {
            let mut command = crate::command::binary();
            command.args(["user", "import", "--help"]);
            command
        },
        "",
    )
    .ok();
    let folder = folder();
    let example: Value =
        help.lines().find_map(|line| serde_json::from_str(line.trim()).ok()).expect("an example of JSON");
    let text = example.to_string().replace(example["password"].as_str().expect("a hash"), HASH);
    import(&folder, &text, &[]).ok();
    let at = help
        .lines()
        .position(|line| line.trim() == "name,email,organization,password,disabled")
        .expect("a header");
    let csv: String = help.lines().skip(at).take(3).map(|line| line.trim().to_owned() + "\n").collect();
    let csv = csv.replace("$2b$12$…", HASH).replace("pbkdf2_sha256$600000$…", FAMILIES[1].1);
    let done = import(&folder, &csv, &[]).ok();
    assert_eq!(done, "imported 2 users, added: 1, updated: 0, unchanged: 1\n");
}

/// Users to import; a few thousand take a second.
fn user_count() -> u64 {
    std::env::var("IMPORT_USERS").map_or(5_000, |text| text.parse().expect("a number"))
}

/// Sends a request again and again at a steady pace until it is told to end; how long each took, from the least.
fn at_a_pace(
    gateway: &Gateway,
    is_over: impl Fn() -> bool,
    status: u16,
    mut request: impl FnMut() -> Vec<u8>,
) -> Vec<Duration> {
    let mut client: Client = gateway.client();
    let mut waits = Vec::new();
    let mut next = Instant::now();
    while !is_over() {
        let bytes = request();
        let began = Instant::now();
        let answer = client.exchange(bytes);
        waits.push(began.elapsed());
        assert_eq!(answer.status, status, "{}", answer.text());
        next = Instant::now().max(next + Duration::from_millis(100));
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    waits.sort_unstable();
    waits
}

/// Mints and logs out, each at a pace: both wait for a commit, and a mint for a password besides.
fn mint_and_log_out(
    gateway: &Gateway,
    forge: &Forge,
    is_over: impl Fn() -> bool + Sync,
) -> [Vec<Duration>; 2] {
    static SERIAL: AtomicU64 = AtomicU64::new(1_000);
    let authorization = basic(USER, PASSWORD);
    thread::scope(|scope| {
        let mints = scope.spawn(|| {
            at_a_pace(gateway, &is_over, 201, || {
                request("POST", ENDPOINT, &[("Authorization", &authorization)])
            })
        });
        let log_outs = at_a_pace(gateway, &is_over, 204, || {
            delete(&forge.token(USER, SERIAL.fetch_add(1, Ordering::Relaxed)))
        });
        [mints.join().expect("a client that was answered"), log_outs]
    })
}

/// Reports how long clients waited, and asserts no time.
#[test]
fn mints_and_log_outs_go_on_while_many_users_are_imported() {
    let count = user_count();
    let deployment = deployment_with(|options| {
        options.set("limits", "mint_rate", "1000").set("limits", "mint_burst", "1000")
    });
    let (gateway, forge) = (&deployment.gateway, &Forge::of(&deployment));
    let path = gateway.folder.dir.path().join("users.jsonl");
    let mut file = BufWriter::new(fs::File::create(&path).expect("a file"));
    for number in 0..count {
        // In no order, as names come out of a directory.
        let name = format!("{:08x}.{number}", number.wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
        writeln!(file, "{}", line(&name, HASH)).expect("a line");
    }
    // A file that somebody imports is on the disk already, and not written while others wait for theirs.
    file.into_inner().expect("a file").sync_all().expect("a file");
    let quiet_until = Instant::now() + Duration::from_secs(if count > 100_000 { 30 } else { 1 });
    let quiet = mint_and_log_out(gateway, forge, || Instant::now() > quiet_until);
    let is_done = &AtomicBool::new(false);
    let (busy, took) = thread::scope(|scope| {
        let clients =
            scope.spawn(move || mint_and_log_out(gateway, forge, || is_done.load(Ordering::Relaxed)));
        let began = Instant::now();
        let mut child = gateway
            .folder
            .command(&["user", "import", path.to_str().expect("a path")])
            .stdout(Stdio::null())
            .spawn()
            .expect("a command");
        let status = within(60 + count / 1_000, || child.try_wait().expect("a child"));
        let took = began.elapsed();
        is_done.store(true, Ordering::Relaxed);
        assert!(status.expect("an end").success());
        (clients.join().expect("clients that were answered"), took)
    });
    eventually("the gateway to know them", || {
        (gateway.metric("ds_gateway_users", &[]) as u64 == count + 1).then_some(())
    });
    let of = |waits: &Vec<Duration>| {
        let at = |part: f64| waits.get((waits.len() as f64 * part) as usize).copied().unwrap_or_default();
        let longest = waits.last().copied().unwrap_or_default();
        format!("{}: p50 {:.1?}, p99 {:.1?}, longest {longest:.1?}", waits.len(), at(0.5), at(0.99))
    };
    // Past the harness, which would keep it to itself.
    let mut out = std::io::stderr();
    drop(writeln!(out, "import: {count} users in {took:.1?}"));
    for (when, [mints, log_outs]) in [("before", &quiet), ("meanwhile", &busy)] {
        drop(writeln!(out, "import: {when}, mints {}; log outs {}", of(mints), of(log_outs)));
    }
    gateway.still_healthy();
}
