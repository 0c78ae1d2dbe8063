//! Several gateways on one PostgreSQL.

use crate::client::{Client, request};
use crate::clocks::Clocks;
use crate::command::eventually;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::jwt;
use crate::options::{Key, Options};
use crate::platform::Platform;
use crate::postgres_server::{Stop, TestServer};
use crate::proxies::{HaProxy, free_address};
use crate::revocation::{are_counted, delete, revoke_once};
use crate::rolling_restart::restart_in_turn;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Gateways of one database, the first of which has made the store and its user.
pub fn gateways(server: &TestServer, platform: &Platform, count: usize) -> Vec<Gateway> {
    let url = format!("{:?}", server.unix_url(&server.create_database()));
    let options = Options::new(platform).set("store", "url", url).key(Key::ours("k1"));
    let mut gateways = vec![options.clone().start()];
    gateways.extend((1..count).map(|_| options.clone().nobody().start()));
    gateways
}

#[test]
fn what_one_gateway_revokes_every_other_one_refuses() {
    let (server, platform) = (TestServer::start(), Platform::echo());
    let gateways = gateways(&server, &platform, 3);
    let mut slowest = Duration::ZERO;
    for round in 0..30 {
        let [one, other] = [round % 3, (round + 1 + round / 3 % 2) % 3].map(|which| &gateways[which]);
        let token = one.mint();
        eventually("a token of another gateway to be admitted", || {
            (other.status(&token) == 200).then_some(())
        });
        assert_eq!(one.exchange(delete(&token)).status, 204);
        let began = Instant::now();
        eventually("a revocation of another gateway to be in force", || {
            (other.status(&token) == 401).then_some(())
        });
        slowest = slowest.max(began.elapsed());
        assert_eq!(one.status(&token), 401);
    }
    println!("in force everywhere within {slowest:?}");
}

/// A token is minted, revoked and refused again, though nobody has restarted anything.
fn works(gateway: &Gateway, other: &Gateway) {
    let token = eventually("a login once the database is back", || gateway.login(USER, PASSWORD));
    eventually("a token of another gateway to be admitted", || (other.status(&token) == 200).then_some(()));
    assert_eq!(gateway.exchange(delete(&token)).status, 204);
    eventually("a revocation to be in force", || (other.status(&token) == 401).then_some(()));
}

#[test]
fn without_the_database_what_is_known_is_served_and_nothing_is_minted() {
    for how in [How::Killed, How::Stopped, How::Paused] {
        let (mut server, platform) = (TestServer::start(), Platform::echo());
        let gateways = gateways(&server, &platform, 2);
        let [one, other] = [&gateways[0], &gateways[1]];
        let (kept, revoked, late) = (one.mint(), one.mint(), one.mint());
        assert_eq!(one.exchange(delete(&revoked)).status, 204);
        for token in [&kept, &late] {
            eventually("a token of another gateway", || (other.status(token) == 200).then_some(()));
        }
        eventually("a revocation to be in force", || (other.status(&revoked) == 401).then_some(()));
        match how {
            How::Killed => server.kill(),
            How::Stopped => server.stop(Stop::Fast),
            How::Paused => server.pause(),
        }
        for gateway in [one, other] {
            assert_eq!((gateway.status(&kept), gateway.status(&revoked)), (200, 401), "{how:?}");
        }
        let refused = one.log_in(USER, PASSWORD);
        assert_eq!(refused.status, 503, "{how:?}");
        assert_eq!(refused.values("retry-after").len(), 1, "{how:?}");
        // In force here at once, and not acknowledged.
        let revocation = one.exchange(delete(&late));
        assert_eq!((revocation.status, one.status(&late)), (503, 401), "{how:?}");
        match how {
            How::Killed | How::Stopped => server.start_again(),
            How::Paused => server.resume(),
        }
        works(one, other);
        works(other, one);
        eventually("what was revoked meanwhile to be in force everywhere", || {
            (other.status(&late) == 401).then_some(())
        });
        assert_eq!((other.status(&kept), other.status(&revoked)), (200, 401), "{how:?}");
    }
}

/// What becomes of the database.
#[derive(Clone, Copy, Debug)]
enum How {
    Killed,
    Stopped,
    Paused,
}

/// HAProxy's configuration in `conf`, for these gateways.
fn balancer(clients: SocketAddr, gateways: &[(SocketAddr, SocketAddr)]) -> String {
    let mut text = include_str!("../../conf/haproxy/haproxy.cfg").to_owned();
    let mut replace = |documented: &str, here: &str| {
        assert!(text.contains(documented), "{documented}: {text}");
        text = text.replace(documented, here);
    };
    // More than a test may open.
    replace("maxconn 10000", "maxconn 100");
    replace(":443 ssl crt /etc/haproxy/gateway.pem alpn h2,http/1.1", &clients.to_string());
    for (number, (http, admin)) in (1..).zip(gateways) {
        let documented = format!("gateway{number}.example:8080 port 9464");
        replace(&documented, &format!("{http} port {}", admin.port()));
    }
    text
}

#[test]
fn gateways_of_a_database_are_restarted_in_turn_behind_the_balancer_and_no_request_fails() {
    let (server, platform) = (TestServer::start(), Platform::echo());
    let url = format!("{:?}", server.unix_url(&server.create_database()));
    let places: Vec<_> = (0..3).map(|_| (free_address(), free_address())).collect();
    let options = |(http, admin): &(SocketAddr, SocketAddr)| {
        Options::new(&platform)
            .set("store", "url", &url)
            .set("server", "http", format!("[\"{http}\"]"))
            .set("server", "drain_delay", "\"3s\"")
            .set("server", "trusted_proxies", "[\"127.0.0.1\"]")
            .set("admin", "listen", format!("\"{admin}\""))
            .key(Key::ours("k1"))
    };
    let mut gateways = vec![options(&places[0]).start()];
    gateways.extend(places[1..].iter().map(|place| options(place).nobody().start()));
    let clients = free_address();
    let _haproxy = HaProxy::start(&balancer(clients, &places));
    let token = gateways[1].mint();
    let ask = request("GET", "/ds-api/servers", &[("user-token", &token)]);
    eventually("a request to get through", || {
        let mut client = Client::try_connect(clients).ok()?;
        client.try_send(&ask).ok()?;
        client.answer().ok().filter(|answer| answer.status == 200)
    });
    let gateways = restart_in_turn(gateways, clients, &ask);
    works(&gateways[0], &gateways[2]);
}

#[test]
fn a_gateway_that_is_cut_off_is_named_until_its_lease_has_ended() {
    let (server, platform) = (TestServer::start(), Platform::echo());
    let database = server.create_database();
    let options = Options::new(&platform)
        .set("store", "url", format!("{:?}", server.unix_url(&database)))
        .set("store", "heartbeat_interval", "\"1s\"")
        .set("store", "max_staleness", "\"2s\"")
        .key(Key::ours("k1"));
    let one = options.clone().start();
    are_counted(&one.folder, 1);
    // As if from another machine that is cut off: nobody holds its lock here.
    let add = "INSERT INTO gateways (id, applied, seen_at, lease) \
               VALUES ('elsewhere-1', 0, extract(epoch FROM clock_timestamp())::bigint, 6)";
    server.psql_in(&database, add);
    let done = revoke_once(&one.folder, &["user", USER]);
    assert_eq!(done.code, Some(75), "{done:?}");
    assert!(done.stdout.contains("active on 1 of 2 gateways"), "{done:?}");
    assert!(format!("{done:?}").contains("elsewhere-1"), "{done:?}");
    eventually("its lease to end", || {
        let done = revoke_once(&one.folder, &["user", USER]);
        (done.code == Some(0) && done.stdout.contains("active on 1 of 1 gateways")).then_some(())
    });
}

/// Gateways get a new key in turn, the first in the configuration: it signs once the last of them has it, and no token is refused anywhere.
#[test]
fn a_key_signs_once_every_gateway_has_it() {
    let (server, platform) = (TestServer::start(), Platform::echo());
    let url = format!("{:?}", server.unix_url(&server.create_database()));
    let options =
        Options::new(&platform).set("store", "url", url).set("store", "heartbeat_interval", "\"1s\"");
    let old = options.clone().key(Key::ours("old"));
    let new = options.nobody().key(Key::ours("new")).key(Key::ours("old"));
    let (one, two) = (old.clone().start(), old.nobody().start());
    let signed_by = |gateway: &Gateway| {
        let token = gateway.mint();
        eventually("a token to be admitted", || (one.status(&token) == 200).then_some(()));
        kid_of(&token)
    };
    assert_eq!([&one, &two].map(signed_by), ["old", "old"]);
    let three = new.clone().start();
    // It has had the time to hear of the others, which do not have it.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!([&one, &two, &three].map(signed_by), ["old", "old", "old"]);
    let warnings = three.admin("/readyz").json()["warnings"].to_string();
    assert!(warnings.contains("does not have the key new"), "{warnings}");
    two.stop();
    let four = new.start();
    one.stop();
    eventually("the new key to sign", || (kid_of(&three.mint()) == "new").then_some(()));
    eventually("the new key to sign", || (kid_of(&four.mint()) == "new").then_some(()));
    assert!(!three.admin("/readyz").text().contains("does not have the key"));
}

fn kid_of(token: &str) -> String {
    jwt::read(token).0["kid"].as_str().expect("a kid").to_owned()
}

/// Its lease ends, and others are told that what they revoked is in force: so it must not go on with what it reads, from a server that is no longer the
/// primary perhaps.
#[test]
fn a_gateway_that_reads_and_cannot_write_its_heartbeats_ceases_to_admit_anything() {
    let (server, platform) = (TestServer::start(), Platform::echo());
    let database = server.create_database();
    let options = Options::new(&platform)
        .set("store", "url", format!("{:?}", server.unix_url(&database)))
        .set("store", "heartbeat_interval", "\"1s\"")
        .set("store", "max_staleness", "\"2s\"")
        .key(Key::ours("k1"));
    let gateway = options.start();
    let token = gateway.mint();
    assert_eq!(gateway.status(&token), 200);
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$; \
                  CREATE TRIGGER refused BEFORE INSERT OR UPDATE ON gateways FOR EACH ROW EXECUTE FUNCTION refuse()";
    server.psql_in(&database, refuse);
    eventually("a token to be refused", || (gateway.status(&token) == 503).then_some(()));
    assert!(gateway.admin("/readyz").json()["reasons"].to_string().contains("max_staleness"));
    server.psql_in(&database, "DROP TRIGGER refused ON gateways");
    eventually("a token to be admitted again", || (gateway.status(&token) == 200).then_some(()));
}

#[test]
fn a_gateway_whose_clock_is_not_the_databases_is_not_ready() {
    let (server, platform) = (TestServer::start(), Platform::echo());
    let shim = TempDir::new().expect("a folder");
    let clocks = Clocks::new(shim.path(), "gateway");
    let url = format!("{:?}", server.unix_url(&server.create_database()));
    let folder = Options::new(&platform).set("store", "url", url).key(Key::ours("k1")).folder();
    let command = clocks.command(folder.command(&["run", "--init"]));
    let gateway = Gateway::start(folder, command);
    for wrong in [60, -60] {
        clocks.set(wrong, 0);
        let reasons = eventually("a gateway that is not ready", || {
            let ready = gateway.admin("/readyz");
            (ready.status == 503).then(|| ready.json()["reasons"].to_string())
        });
        assert!(reasons.contains("this machine's clock and the database's differ"), "{reasons}");
        clocks.set(0, 0);
        eventually("a gateway that is ready again", || {
            (gateway.admin("/readyz").status == 200).then_some(())
        });
    }
}
