//! A hundred reloads under load, some of them refused: no request fails, and each has the answer of one configuration or the other.

use crate::client::{Client, request, request_with};
use crate::command::Stop;
use crate::gateway::{EMAIL, Gateway};
use crate::h2_client::{H2Client, statuses};
use crate::options::{Key, Options};
use crate::platform::Platform;
use crate::reload_settings::LOCAL;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What clients were answered, by what they asked.
#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<(&'static str, String), usize>>);

impl Counts {
    pub fn add(&self, asked: &'static str, answer: impl ToString) {
        *self.0.lock().expect("a lock").entry((asked, answer.to_string())).or_default() += 1;
    }

    /// All answers to it, which are to be among these, and each of these is to be there.
    #[track_caller]
    pub fn are(&self, asked: &str, expected: &[&str]) -> usize {
        let counts = self.0.lock().expect("a lock");
        let answers: Vec<_> = counts.iter().filter(|((what, _), _)| *what == asked).collect();
        let found: Vec<&str> = answers.iter().map(|((_, answer), _)| answer.as_str()).collect();
        assert_eq!(found, expected, "{asked}: {answers:?}");
        answers.iter().map(|(_, count)| **count).sum()
    }
}

/// Asks on one connection after the other, each for fifty requests.
pub fn plain(address: SocketAddr, token: &str, counts: &Counts, stop: &AtomicBool) {
    let fields = [("user-token", token)];
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::connect(address);
        for number in 0..50 {
            let asked = match number % 4 {
                0 => ("protected", request("GET", "/ds-api/x", &fields)),
                1 => ("toggled", request("GET", "/toggled", &[])),
                2 => ("upload", request_with("POST", "/ds-api/x", &fields, &[b'x'; 9000])),
                _ => ("foreign", request("GET", "/ds-api/x", &[("user-token", "no.such.token")])),
            };
            let (what, bytes) = asked;
            let sent = client.try_send(bytes);
            match sent
                .map_err(|error| error.to_string())
                .and_then(|()| client.answer().map_err(|fault| format!("{fault:?}")))
            {
                Ok(answer) => {
                    let is_right = answer.status != 200
                        || what == "toggled"
                        || answer.json().to_string().contains(EMAIL);
                    counts.add(
                        what,
                        if is_right { answer.status.to_string() } else { "200 for nobody".into() },
                    );
                    if answer.says_close() {
                        break;
                    }
                }
                Err(fault) => {
                    counts.add(what, fault);
                    break;
                }
            }
        }
    }
}

pub fn streams(address: SocketAddr, token: &str, counts: &Counts, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut client = H2Client::connect(LOCAL, address, 65_535);
        // The client's library ends a connection on which it has cut off a thousand answers.
        for _ in 0..50 {
            let answers: Vec<_> = (0..10).map(|_| client.get_as("/ds-api/x", token)).collect();
            statuses(answers).into_iter().for_each(|status| counts.add("stream", status));
        }
    }
}

#[test]
fn no_request_fails_through_a_hundred_reloads() {
    let (platform, other) = (Platform::echo(), Platform::echo());
    let keys = [Key::ours("a"), Key::ours("b")];
    let options = Options::new(&platform).https().key(keys[0].clone());
    let gateway = options.clone().start();
    let (token, stop, counts) = (gateway.mint(), AtomicBool::new(false), Counts::default());
    // What a reload changes beside the routes, in turn.
    let variants: [Options; 6] = [
        options.clone().set("platform", "servers", format!("[{:?}]", other.url())),
        options.clone().key(keys[1].clone()),
        options.clone().set("limits", "requests", "500").set("limits", "connections", "300"),
        options.clone().set("token", "max_lifetime", "\"30h\"").set("platform", "read_timeout", "\"50s\""),
        options.clone().set("users", "sources", "[\"store\", \"platform\"]").set("log", "access", "false"),
        options.clone(),
    ];
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| plain(gateway.http(), &token, &counts, &stop));
        }
        scope.spawn(|| streams(gateway.https(), &token, &counts, &stop));
        let _stop = Stop(&stop);
        reload_often(&gateway, &variants);
    });
    let asked = [
        ("protected", &["200"][..]),
        ("toggled", &["200", "401"]),
        ("upload", &["200"]),
        ("foreign", &["401"]),
        ("stream", &["200"]),
    ];
    for (what, expected) in asked {
        assert!(counts.are(what, expected) > 50, "too few {what}");
    }
    assert_eq!(gateway.metric("ds_gateway_config_last_reload_successful", &[]), 1.0);
    gateway.still_healthy();
}

fn reload_often(gateway: &Gateway, variants: &[Options]) {
    for number in 0..100 {
        if number % 10 == 3 {
            fs::write(gateway.folder.config(), "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n")
                .expect("a configuration");
            let done = gateway.folder.cli(&["reload"], "");
            assert_eq!(done.code, Some(64), "{done:?}");
            continue;
        }
        let variant = &variants[number % variants.len()];
        let variant =
            if number % 2 == 0 { variant.clone().public("[\"/toggled\"]") } else { variant.clone() };
        gateway.reloaded(&variant);
    }
    // The last one is with nothing changed.
    gateway.reloaded(&variants[variants.len() - 1]);
}
