//! Users in a running gateway: it follows every change, and their tokens do.

use crate::client::{Client, basic, request};
use crate::command::{Done, eventually, finish, held_to_modes, started_by};
use crate::commands::{list, show};
use crate::contract::ENDPOINT;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt;
use crate::options::{Options, User};
use crate::platform::Platform;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_running_gateway_follows_every_change_and_old_tokens_die_with_it() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).user(User::new("witness", "wpw", EMAIL, ORGANIZATION)).start();
    let witness = gateway.login("witness", "wpw").expect("a token");
    let cli = |arguments: &[&str], input: &str| drop(gateway.folder.cli(arguments, input).ok());
    let dies = |token: &str, what: &str| eventually(what, || (gateway.status(token) == 401).then_some(()));
    let log_in = |password: &str| eventually("a log in", || gateway.login(USER, password));
    // A token minted after the change must be good at its first use: nothing is waited for.
    let lives = |token: &str, what: &str| assert_eq!(gateway.status(token), 200, "{what}");

    let first = gateway.mint();
    lives(&first, "fresh");
    cli(&["user", "passwd", USER, "--password-stdin"], "second password");
    dies(&first, "a new password to end the tokens of the old one");
    assert_eq!(gateway.login(USER, PASSWORD), None, "the old password");
    let second = log_in("second password");
    lives(&second, "minted with the new password");

    cli(&["user", "set", USER, "--email", "second@example.com"], "");
    dies(&second, "changed claims to end the tokens with the old ones");
    let third = log_in("second password");
    lives(&third, "minted with the new claims");
    assert_eq!(jwt::read(&third).1["email"], "second@example.com");

    cli(&["user", "disable", USER], "");
    dies(&third, "a disabled user's token to die");
    eventually("no log in for a disabled user", || {
        gateway.login(USER, "second password").is_none().then_some(())
    });
    cli(&["user", "enable", USER], "");
    let fourth = log_in("second password");
    lives(&fourth, "minted after enabling");
    lives(&fourth, "and again");
    assert_eq!(gateway.status(&third), 401, "enabling revives nothing");

    cli(&["user", "remove", USER], "");
    dies(&fourth, "a removed user's token to die");
    eventually("no log in for a removed user", || {
        gateway.login(USER, "second password").is_none().then_some(())
    });
    gateway.folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let fifth = log_in(PASSWORD);
    lives(&fifth, "minted after the user was added again");
    for old in [&first, &second, &third, &fourth] {
        assert_eq!(gateway.status(old), 401, "adding again revives nothing");
    }
    lives(&witness, "somebody else's token");

    // Nothing of this is forgotten by a restart.
    let gateway = gateway.kill().run(&[]);
    for old in [&first, &second, &third, &fourth] {
        assert_eq!(gateway.status(old), 401);
    }
    assert_eq!((gateway.status(&fifth), gateway.status(&witness)), (200, 200));
    gateway.still_healthy();
}

#[test]
fn change_of_a_user_that_cannot_be_made_says_that_nothing_was_revoked() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let (token, folder) = (gateway.mint(), &gateway.folder);
    let changes: [&[&str]; 4] = [
        &["user", "disable", USER],
        &["user", "set", USER, "--email", "second@example.com"],
        &["user", "passwd", USER, "--password-stdin"],
        &["user", "remove", USER],
    ];
    let full = ["bash", "-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "bash"];
    let store = folder.state().join("gateway.db");
    let mode = |mode: u32| fs::set_permissions(&store, fs::Permissions::from_mode(mode)).expect("its mode");
    let closed = |command| {
        mode(0o000);
        let done = finish(held_to_modes(command), "second password");
        mode(0o600);
        done
    };
    for change in changes {
        let written = finish(started_by(&full, &folder.command(change)), "second password");
        let opened = closed(folder.command(change));
        for (code, done) in [(1, written), (77, opened)] {
            assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{change:?}: {done:?}");
            assert!(done.stderr.contains("ds-gateway: not revoked: "), "{change:?}: {done:?}");
        }
    }
    // What revokes nothing does not say so.
    let enabled = closed(folder.command(&["user", "enable", USER]));
    assert!(enabled.code == Some(77) && !enabled.stderr.contains("revoked"), "{enabled:?}");
    assert_eq!(gateway.status(&token), 200);
    gateway.still_healthy();
}

#[test]
fn a_user_is_unlocked_beside_a_running_gateway_and_keeps_its_tokens() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    assert_eq!(gateway.login(USER, "wrong"), None);
    let before = show(&gateway.folder, USER);
    let done = gateway.folder.cli(&["user", "unlock", USER], "");
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        (&*format!("unlocked {USER}\n"), ""),
        "{done:?}"
    );
    done.ok();
    assert_eq!(show(&gateway.folder, USER), before);
    assert_eq!(gateway.status(&token), 200);
    assert!(gateway.login(USER, PASSWORD).is_some());
    // As a login is looked up: a name that differs in case is another one.
    for name in ["nobody", &USER.to_uppercase()] {
        let done = gateway.folder.cli(&["user", "unlock", name], "");
        assert_eq!((done.code, done.stdout.as_str()), (Some(65), ""), "{done:?}");
        assert!(done.stderr.contains(&format!("user {name:?} not found")), "{done:?}");
    }
    let help = gateway.folder.cli(&["user", "unlock", "--help"], "").ok();
    assert!(help.contains("can log in again at once") && help.contains("audit list --failed"), "{help}");
    gateway.still_healthy();
}

/// Vectors of others: the Argon2 reference implementation's test, libxcrypt, and Python's hashlib.
const IMPORT: &str = r#"
{"name":"argon","email":"a@example.com","organization":"Main Org.","password":"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"}
{"name":"bcrypt","email":"b@example.com","organization":"Main Org.","password":"$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i"}
{"name":"pbkdf","email":"p@example.com","organization":"Société","password":"$pbkdf2-sha256$i=10000,l=32$c2FsdC1vZi10aGUtdGVzdA$joVajS0RvKhEl95klw6hmR+WMsJzzzuOvj23MreVLrw"}
"#;

fn import(gateway: &Gateway, text: &str) -> Done {
    let file = gateway.folder.dir.path().join("users.jsonl");
    fs::write(&file, text).expect("a file");
    gateway.folder.cli(&["user", "import", file.to_str().expect("a path")], "")
}

#[test]
fn imported_users_log_in_with_the_passwords_they_had() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    import(&gateway, IMPORT.trim_start()).ok();
    for (name, password) in
        [("argon", "password"), ("bcrypt", "bcrypt-Pässword"), ("pbkdf", "pbkdf2-Pässword")]
    {
        let token = eventually("an imported user", || gateway.login(name, password));
        assert_eq!(gateway.status(&token), 200, "{name}");
        assert_eq!(gateway.login(name, "wrong"), None, "{name}");
        // The first log in stored the hash again: that is no new password, and the next one works like it.
        assert!(gateway.login(name, password).is_some(), "{name}");
        assert_eq!(gateway.status(&token), 200, "{name}");
    }
    assert_eq!(show(&gateway.folder, "pbkdf")["organization"], "Société");
    gateway.still_healthy();
}

#[test]
fn an_import_with_a_bad_line_names_every_bad_line_and_imports_nothing() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let good: Vec<&str> = IMPORT.trim().lines().collect();
    let line = |name: &str, password: &str| {
        format!(
            "{{\"name\":{name:?},\"email\":\"x@example.com\",\"organization\":\"O\",\"password\":{password:?}}}"
        )
    };
    let bad = [
        "not JSON".to_owned(),
        line("plain", "a password in the clear"),
        line("md5", "$1$salt$qJH7.N4xYta3aEG/dfqo/0"),
        line("a:b", "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i"),
        "{\"name\":\"short\"}".to_owned(),
        line("argon", "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i"),
        line("MYUSER", "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i"),
    ];
    let text: Vec<&str> =
        std::iter::once(good[0]).chain(bad.iter().map(String::as_str)).chain([good[1], good[2]]).collect();
    let done = import(&gateway, &text.join("\n"));
    assert_eq!(done.code, Some(65), "{done:?}");
    for (number, bad) in bad.iter().enumerate() {
        let number = (number + 2).to_string();
        let named = |line: &str| line.split(|c: char| !c.is_ascii_digit()).any(|word| word == number);
        assert!(done.stderr.lines().any(named), "line {number} ({bad}) is not named:\n{}", done.stderr);
    }
    assert!(!done.stderr.contains("in the clear"), "a password is never shown: {}", done.stderr);
    assert_eq!(list(&gateway.folder).len(), 1);
    assert_eq!(gateway.login("argon", "password"), None);
    gateway.still_healthy();
}

#[test]
fn more_log_ins_than_the_pool_holds_are_503_and_cost_nobody_else_anything() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("limits", "login_workers", "1").start();
    let token = gateway.mint();
    let mut clients: Vec<Client> = (0..150).map(|_| gateway.client()).collect();
    let good = basic(USER, PASSWORD);
    for client in &mut clients {
        client.send(request("POST", ENDPOINT, &[("Authorization", &good)]));
    }
    assert_eq!(gateway.status(&token), 200, "in the middle of it");
    let (mut minted, mut refused) = (0, 0);
    for client in &mut clients {
        let answer = client.answer().expect("an answer");
        match answer.status {
            201 => minted += 1,
            _ => {
                answer.is_error(503);
                refused += 1;
            }
        }
    }
    assert!(minted > 0 && refused > 0, "{minted} minted, {refused} refused");
    assert!(
        gateway.metric("ds_gateway_token_requests_total", &["action=\"mint\"", "outcome=\"busy\""])
            >= f64::from(refused)
    );
    gateway.still_healthy();
}

#[test]
fn passwords_are_hashed_in_idle_time() {
    let gateway = Options::new(&Platform::echo()).set("limits", "login_workers", "2").start();
    // Name and policy of each thread.
    let threads = || {
        let mut threads = Vec::new();
        for thread in fs::read_dir(format!("/proc/{}/task", gateway.process())).expect("threads") {
            // One may end meanwhile.
            let Ok(stat) = fs::read_to_string(thread.expect("a thread").path().join("stat")) else {
                continue;
            };
            // Fields are counted behind the name, which may hold blanks; the policy is the 41st of all.
            let (start, rest) = stat.rsplit_once(')').expect("a name");
            let name = start.split_once('(').expect("a name").1.to_owned();
            threads.push((name, rest.split(' ').nth(39).expect("a policy") == "5"));
        }
        threads
    };
    // A thread has its name a moment before it gives way.
    let threads = eventually("two threads for idle time", || {
        let threads = threads();
        (threads.iter().filter(|(_, is_idle)| *is_idle).count() == 2).then_some(threads)
    });
    for (name, is_idle) in &threads {
        assert_eq!(*is_idle, name == "login", "{threads:?}");
    }
    assert!(threads.iter().any(|(name, _)| name == "login-fallback"), "{threads:?}");
    // The unit forbids whatever changes priorities but these, and a forbidden call would end the process.
    let unit = include_str!("../../conf/systemd/ds-gateway.service");
    let forbidden = unit.find("SystemCallFilter=~@privileged @resources\n").expect("a filter");
    let allowed = unit.find("SystemCallFilter=sched_setscheduler setpriority\n").expect("an exception");
    assert!(forbidden < allowed, "later lines win");
}
