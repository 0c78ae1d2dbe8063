//! Keys are rotated while clients log in and ask: nobody is refused, and what is retired ends by itself.

use crate::client::{Client, basic, request};
use crate::command::{Done, Folder, Stop, eventually};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::options::{Key, Options};
use crate::platform::Platform;
use crate::revocation::are_counted;
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

fn key(folder: &Folder, arguments: &[&str]) -> Done {
    folder.cli(&[&["key"], arguments].concat(), "")
}

fn listed(folder: &Folder) -> Vec<Value> {
    let lines = key(folder, &["list", "--json"]).ok();
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The key's name, in the header of a token (RFC 7519 §5).
fn kid_of(token: &str) -> String {
    use base64::Engine as _;
    let header = token.split('.').next().expect("a header");
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

/// What clients counted.
#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    asked: AtomicUsize,
    minted: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Counts {
    fn expect(&self, what: &str, status: u16, expected: u16, counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
        if status != expected {
            self.failed.lock().expect("a lock").push(format!("{what}: {status}"));
        }
    }
}

/// Logs in at one gateway and asks the other at once, and again with the first token.
fn log_in_and_ask(here: &Gateway, there: &Gateway, first: &str, counts: &Counts) {
    let (mut login, mut other) = (Client::connect(here.http()), Client::connect(there.http()));
    while !counts.stop.load(Ordering::Relaxed) {
        login.send(request("POST", "/ds-api/user-token", &[("Authorization", &basic(USER, PASSWORD))]));
        let answer = login.answer().expect("an answer");
        counts.expect("a login", answer.status, 201, &counts.minted);
        if answer.status != 201 {
            continue;
        }
        let json = answer.json();
        for token in [json["user-token"].as_str().expect("a token"), first] {
            other.send(request("GET", "/ds-api/x", &[("user-token", token)]));
            counts.expect("a request", other.answer().expect("an answer").status, 200, &counts.asked);
        }
    }
}

#[test]
fn twenty_rotations_at_load_refuse_nobody() {
    let platform = Platform::echo();
    let options =
        Options::new(&platform).set("limits", "mint_rate", "1000").set("limits", "mint_burst", "1000");
    let gateway = options.clone().start();
    let state = format!("{:?}", gateway.folder.state());
    let other = options.nobody().set("server", "state_dir", state).start();
    let folder = &gateway.folder;
    are_counted(folder, 2);
    let (first, counts) = (gateway.mint(), Counts::default());
    thread::scope(|scope| {
        scope.spawn(|| log_in_and_ask(&gateway, &other, &first, &counts));
        scope.spawn(|| log_in_and_ask(&other, &gateway, &first, &counts));
        let _stop = Stop(&counts.stop);
        let mut signing = kid_of(&first);
        for _ in 0..20 {
            let kid = key(folder, &["generate"]).ok().trim().replace("made ", "");
            assert_eq!(key(folder, &["activate", &kid]).ok(), "activated; active on 2 of 2 gateways\n");
            assert_eq!(key(folder, &["retire", &signing]).ok(), "retired; active on 2 of 2 gateways\n");
            eventually("tokens of the new key", || {
                (kid_of(&gateway.mint()) == kid && kid_of(&other.mint()) == kid).then_some(())
            });
            signing = kid;
        }
    });
    let failed = counts.failed.into_inner().expect("a lock");
    assert!(failed.is_empty(), "{failed:?}");
    let (asked, minted) = (counts.asked.into_inner(), counts.minted.into_inner());
    println!("{minted} logins and {asked} requests through 20 rotations");
    assert!(asked > 100 && minted > 50, "{asked} {minted}");
    let states: Vec<Value> = listed(folder).into_iter().map(|key| key["state"].clone()).collect();
    let retiring = states.iter().filter(|state| **state == "retiring").count();
    assert_eq!((retiring, states.last().expect("a key").as_str()), (20, Some("signing")), "{states:?}");
    // What was said holds for those that start later, and a key whose file is gone is not missed once it is retired.
    let again = gateway.stop().run(&[]);
    assert_eq!(again.status(&first), 200);
    assert_eq!(kid_of(&again.mint()), kid_of(&other.mint()));
}

#[test]
fn configured_keys_are_rotated_as_generated_ones_are() {
    let platform = Platform::echo();
    let (one, two) = (Key::ours("one"), Key::ours("two"));
    let options = Options::new(&platform).key(one);
    let gateway = options.clone().start();
    let folder = &gateway.folder;
    let old = gateway.mint();
    let done = key(folder, &["activate", "two"]);
    assert_eq!(done.code, Some(65), "{done:?}");
    assert!(done.stderr.contains("is known after `ds-gateway reload`"), "{done:?}");
    let done = key(folder, &["retire", "one"]);
    assert!(done.code == Some(64) && done.stderr.contains("no other key was activated after it"), "{done:?}");

    gateway.reloaded(&options.clone().key(two.clone()));
    assert_eq!(kid_of(&gateway.mint()), "one");
    let done = key(folder, &["activate", "two", "--at", "2020-01-01"]);
    assert!(done.code == Some(64) && done.stderr.contains("is past"), "{done:?}");
    let done = key(folder, &["activate", "two", "--at", "2999-12-31T06:00:00Z"]);
    assert_eq!(done.clone().ok(), "activated; active on 1 of 1 gateways\n");
    assert!(done.stderr.contains("signs from 2999-12-31 06:00:00 UTC on"), "{done:?}");
    assert_eq!(kid_of(&gateway.mint()), "one");
    let keys = listed(folder);
    assert_eq!(
        (&keys[1]["state"], &keys[1]["signs_from"]),
        (&"verifying".into(), &"2999-12-31T06:00:00Z".into())
    );
    let done = key(folder, &["retire", "one"]);
    assert_eq!(done.code, Some(64), "{done:?}");

    key(folder, &["activate", "two", "--json"]).ok();
    eventually("tokens of the new key", || (kid_of(&gateway.mint()) == "two").then_some(()));
    key(folder, &["retire", "one"]).ok();
    let done = key(folder, &["activate", "one"]);
    assert!(done.code == Some(64) && done.stderr.contains("is retired"), "{done:?}");
    assert_eq!([gateway.status(&old), gateway.status(&gateway.mint())], [200; 2]);
    let text = key(folder, &["list"]).ok();
    assert!(text.lines().next().expect("a key").contains("retiring    HS256"), "{text}");
    // Retired, it may still be revoked.
    key(folder, &["retire", "one", "--now"]).ok();
    assert_eq!([gateway.status(&old), gateway.status(&gateway.mint())], [401, 200]);
}

#[test]
fn a_key_that_a_gateway_does_not_have_does_not_sign() {
    let platform = Platform::echo();
    let (one, two) = (Key::ours("one"), Key::ours("two"));
    let options = Options::new(&platform).key(one);
    let gateway = options.clone().start();
    let state = format!("{:?}", gateway.folder.state());
    let other_options = options.clone().nobody().set("server", "state_dir", state);
    let other = other_options.clone().start();
    let folder = &gateway.folder;
    are_counted(folder, 2);
    gateway.reloaded(&options.key(two.clone()));
    let done = key(folder, &["activate", "two"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(75), "activated; active on 2 of 2 gateways\n"),
        "{done:?}"
    );
    assert!(done.stderr.contains("signs once every gateway has it"), "{done:?}");
    let token = gateway.mint();
    assert_eq!((kid_of(&token), other.status(&token)), ("one".into(), 200));
    let done = key(folder, &["retire", "one"]);
    assert_eq!(done.code, Some(75), "{done:?}");
    other.reloaded(&other_options.key(two));
    key(folder, &["activate", "two"]).ok();
    eventually("tokens of the new key", || (kid_of(&gateway.mint()) == "two").then_some(()));
    key(folder, &["retire", "one"]).ok();
    assert_eq!([gateway.status(&token), other.status(&token), other.status(&gateway.mint())], [200; 3]);
}
