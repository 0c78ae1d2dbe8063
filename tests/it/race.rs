//! No window: a request that starts after a revocation was acknowledged is refused, whatever runs beside it and
//! whatever the cache holds, in every gateway on the same state. Requests that started earlier may go either way.

use crate::audit::token_id;
use crate::client::{Client, request};
use crate::command::{binary, eventually, finish, private};
use crate::deployment::Deployment;
use crate::gateway::{Gateway, USER, metric_at};
use crate::options::{Key, Options};
use crate::revocation::{
    Forge, are_counted, delete, deployment_with, is_204, number_of, revoke, revoke_once,
};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Clients that hammer a token while it is revoked.
const HAMMERS: usize = 3;

/// Requests that each of them starts once it is over.
const AFTER: usize = 5;

/// The cache as it comes, one in which every token drives out another, and none.
const CACHES: [Option<u32>; 3] = [None, Some(4), Some(0)];

/// A gateway with two threads and this cache, what makes tokens for it, and the connections of the hammers.
struct Stage {
    deployment: Deployment,
    forge: Forge,
    clients: Vec<Client>,
}

impl Stage {
    fn open(entries: Option<u32>) -> Self {
        let deployment = deployment_with(|options| {
            let options = options.set("log", "access", "false");
            match entries {
                Some(entries) => options.set("cache", "entries", entries),
                None => options,
            }
        });
        let clients = (0..HAMMERS).map(|_| deployment.gateway.client()).collect();
        Self { forge: Forge::of(&deployment), clients, deployment }
    }

    fn gateway(&self) -> &Gateway {
        &self.deployment.gateway
    }

    /// Hammers `token`, and revokes it once it was admitted `warm` times. Once `end` has returned, and once any request
    /// was refused, none that starts is admitted.
    fn holds(&mut self, what: &str, token: &str, warm: u64, end: impl FnOnce()) {
        let bytes = request("GET", "/ds-api/hammered", &[("user-token", token)]);
        let (admitted, over, given_up) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let hammer = |client: &mut Client| {
            let (mut seen, mut refused, mut late) = (Vec::new(), 0, 0);
            while refused + late < AFTER && !given_up.load(Ordering::SeqCst) {
                let is_over = over.load(Ordering::SeqCst);
                let started = Instant::now();
                let status = client.exchange(&bytes).status;
                seen.push((started, Instant::now(), status));
                admitted.fetch_add(u64::from(status == 200), Ordering::SeqCst);
                refused += usize::from(is_over && status == 401);
                late += usize::from(is_over && status != 401);
            }
            seen
        };
        let (acknowledged, seen) = thread::scope(|scope| {
            let _guard = GiveUp(&given_up);
            let threads: Vec<_> =
                self.clients.iter_mut().map(|client| scope.spawn(|| hammer(client))).collect();
            eventually("the token to be in use", || (admitted.load(Ordering::SeqCst) >= warm).then_some(()));
            end();
            let acknowledged = Instant::now();
            over.store(true, Ordering::SeqCst);
            let seen: Vec<_> =
                threads.into_iter().flat_map(|thread| thread.join().expect("a hammer")).collect();
            (acknowledged, seen)
        });
        let wrong: Vec<u16> =
            seen.iter().map(|seen| seen.2).filter(|status| ![200, 401].contains(status)).collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?}");
        let refused = seen.iter().filter(|seen| seen.2 == 401).map(|seen| seen.1).min();
        let end = refused.map_or(acknowledged, |refused| refused.min(acknowledged));
        let late: Vec<Duration> = seen
            .iter()
            .filter(|(started, _, status)| *status == 200 && *started > end)
            .map(|(started, ..)| *started - end)
            .collect();
        assert!(late.is_empty(), "{what}: admitted that long after it was over: {late:?}");
    }
}

/// Lets the hammers go when a test fails; the scope would wait for them forever.
struct GiveUp<'f>(&'f AtomicBool);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.store(thread::panicking(), Ordering::SeqCst);
    }
}

#[test]
fn no_request_that_starts_after_a_204_is_admitted() {
    for entries in CACHES {
        let mut stage = Stage::open(entries);
        let mut deleting = stage.gateway().client();
        for serial in 0..60 {
            let token = stage.forge.token("hammered", serial);
            // A token that nobody has used yet goes into the cache while it is revoked.
            let warm = [20, 0, 1][(serial % 3) as usize];
            let what = format!("cache {entries:?}, token {serial} after {warm}");
            stage.holds(&what, &token, warm, || {
                // A disk may stand still for seconds here; what counts is what follows a 204.
                eventually("a 204", || match deleting.exchange(delete(&token)).status {
                    204 => Some(()),
                    503 => None,
                    other => panic!("{other}"),
                });
            });
        }
        let hits = stage.gateway().metric("ds_gateway_cache_lookups_total", &["\"hit\""]);
        assert_eq!(hits > 0.0, entries != Some(0), "{entries:?}: {hits} hits");
        let kept = stage.gateway().metric("ds_gateway_cache_entries", &[]);
        assert!(entries.is_none_or(|entries| kept <= f64::from(entries)), "{entries:?}: {kept} kept");
        let evicted = stage.gateway().metric("ds_gateway_cache_evictions_total", &[]);
        assert_eq!(evicted > 0.0, entries == Some(4), "{entries:?}: {evicted} evicted");
        assert_eq!(stage.gateway().metric("ds_gateway_cache_bytes", &[]) > 0.0, kept > 0.0);
        stage.gateway().still_healthy();
    }
}

#[test]
fn no_request_that_starts_after_the_command_has_returned_is_admitted() {
    for entries in CACHES {
        let mut stage = Stage::open(entries);
        are_counted(&stage.gateway().folder, 1);
        for serial in 0..6 {
            let user = format!("user{serial}");
            let token = stage.forge.token(&user, serial);
            let id = token_id(&token);
            let arguments = [["token", &id], ["user", &user]][(serial % 2) as usize];
            let what = format!("cache {entries:?}, {arguments:?}");
            let config = stage.gateway().folder.config();
            stage.holds(&what, &token, 20, || {
                let said = eventually("the gateway to know", || {
                    let mut command = binary();
                    command.arg("revoke").args(arguments).arg("--config").arg(&config);
                    let done = finish(command, "");
                    (done.code != Some(75)).then_some(done)
                });
                assert_eq!(said.stdout, "revoked; active on 1 of 1 gateways\n");
            });
        }
        stage.gateway().still_healthy();
    }
}

#[test]
fn a_disabled_user_is_refused_from_when_the_gateway_has_read_of_it() {
    for entries in CACHES {
        let mut stage = Stage::open(entries);
        let users: Vec<String> = (0..5).map(|number| format!("user{number}")).collect();
        let hash = "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i";
        let line = |name: &String| {
            format!(
                "{{\"name\":{name:?},\"email\":\"i@example.com\",\"organization\":\"O\",\"password\":{hash:?}}}\n"
            )
        };
        let file = stage.gateway().folder.dir.path().join("users.jsonl");
        private(&file, users.iter().map(line).collect::<String>().as_bytes());
        stage.gateway().folder.cli(&["user", "import", file.to_str().expect("a path")], "").ok();
        let number = number_of(&stage.gateway().mint());
        stage.forge.at(number);
        for (serial, user) in (0..).zip(&users) {
            let token = stage.forge.token(user, serial);
            eventually("the user to be known", || (stage.gateway().status(&token) == 200).then_some(()));
            let [disable, list] =
                [&["user", "disable", user][..], &["audit", "list", "--json", "--user", user]]
                    .map(|arguments| stage.gateway().folder.command(arguments));
            let admin = stage.gateway().admin_address();
            let what = format!("cache {entries:?}, {user}");
            stage.holds(&what, &token, 20, || {
                finish(disable, "").ok();
                let rows = finish(list, "").ok();
                let row: Value = serde_json::from_str(rows.lines().last().expect("a row")).expect("JSON");
                assert_eq!(row["action"], "user_disable");
                let number = row["number"].as_f64().expect("a number");
                // The gateway looks for it by itself.
                eventually("the gateway to have read it", || {
                    (metric_at(admin, "ds_gateway_store_number", &[]) >= number).then_some(())
                });
            });
        }
        stage.gateway().still_healthy();
    }
}

/// Another gateway on the same state.
fn second(deployment: &Deployment) -> Gateway {
    let state = format!("{:?}", deployment.gateway.folder.state());
    let options = Options::new(&deployment.platform).set("server", "state_dir", state).key(Key::ours("k1"));
    options.folder().run(&[])
}

#[test]
fn two_gateways_on_one_state_both_refuse_once_the_command_has_returned() {
    let deployment = Deployment::open();
    let other = second(&deployment);
    let (gateway, folder) = (&deployment.gateway, &deployment.gateway.folder);
    are_counted(folder, 2);
    let forge = Forge::of(&deployment);
    let both = |token: &str| [gateway.status(token), other.status(token)];
    for serial in 0..3 {
        let (token, user) = (forge.token(USER, serial), forge.token(&format!("user{serial}"), serial));
        assert_eq!((both(&token), both(&user)), ([200; 2], [200; 2]));
        let done = revoke(folder, &["token", &token_id(&token)]);
        assert_eq!(both(&token), [401; 2]);
        assert_eq!(done.ok(), "revoked; active on 2 of 2 gateways\n");
        let done = revoke(folder, &["user", &format!("user{serial}")]);
        assert_eq!(both(&user), [401; 2]);
        let said = "revoked; active on 2 of 2 gateways\n";
        assert_eq!((done.code, done.stdout.as_str()), (Some(65), said), "the store has no such user");
    }
    // By the other door: the one that answered refuses at once, its neighbour a moment later.
    let token = forge.token(USER, 9);
    assert_eq!(both(&token), [200; 2]);
    is_204(&other.exchange(delete(&token)));
    assert_eq!(other.status(&token), 401);
    eventually("the neighbour to know", || (gateway.status(&token) == 401).then_some(()));

    let store = rusqlite::Connection::open(folder.state().join("gateway.db")).expect("a store");
    store.busy_timeout(Duration::from_millis(100)).expect("a store");
    // Not in the middle of a write: nobody else could write until it wakes.
    eventually("it to sleep without the store's lock", || {
        other.signal("STOP");
        let is_free = store.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok();
        if !is_free {
            other.signal("CONT");
        }
        is_free.then_some(())
    });
    drop(store);
    let asleep = forge.token(USER, 10);
    assert_eq!(gateway.status(&asleep), 200);
    // Again where even the one that is awake did not answer in the time that the command waits.
    eventually("the one that is awake to be counted", || {
        let began = Instant::now();
        let done = revoke_once(folder, &["token", &token_id(&asleep)]);
        let took = began.elapsed();
        assert_eq!(done.code, Some(75), "{done:?}");
        let is_counted = done.stdout == "revoked; active on 1 of 2 gateways\n";
        assert!(!is_counted || took >= Duration::from_secs(2), "the command waits for 2 s: {took:?}");
        is_counted.then_some(())
    });
    other.signal("CONT");
    assert_eq!(gateway.status(&asleep), 401);
    eventually("the one that slept to know", || (other.status(&asleep) == 401).then_some(()));
    assert_eq!(revoke(folder, &["all"]).ok(), "revoked; active on 2 of 2 gateways\n");
    gateway.still_healthy();
    other.still_healthy();
    drop(other.stop());
    assert_eq!(revoke(folder, &["all"]).ok(), "revoked; active on 1 of 1 gateways\n");
    let (token, gateway) = (gateway.mint(), deployment.gateway);
    let folder = gateway.stop();
    let done = revoke(&folder, &["token", &token_id(&token)]);
    assert_eq!(done.ok(), "revoked; active on 0 of 0 gateways (no gateway is running)\n");
    let gateway = folder.run(&[]);
    assert_eq!(gateway.status(&token), 401);
    gateway.still_healthy();
}

#[test]
fn a_gateway_that_has_just_become_ready_is_waited_for_like_any_other() {
    let mut deployment = Deployment::open();
    let forge = Forge::of(&deployment);
    for serial in 0..5 {
        deployment.gateway = deployment.gateway.stop().run(&[]);
        let user = format!("user{serial}");
        let token = forge.token(&user, serial);
        assert_eq!(deployment.gateway.status(&token), 200);
        let said = revoke(&deployment.gateway.folder, &["user", &user]).stdout;
        assert_eq!(deployment.gateway.status(&token), 401, "{said}");
        assert_eq!(said, "revoked; active on 1 of 1 gateways\n");
    }
    deployment.gateway.still_healthy();
}
