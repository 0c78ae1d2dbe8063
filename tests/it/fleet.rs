//! Several gateways on one PostgreSQL.

use crate::command::eventually;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::options::{Key, Options};
use crate::platform::Platform;
use crate::postgres_server::{Stop, TestServer};
use crate::revocation::delete;
use std::time::{Duration, Instant};

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
