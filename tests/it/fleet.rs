//! Several gateways on one PostgreSQL.

use crate::command::eventually;
use crate::gateway::Gateway;
use crate::options::{Key, Options};
use crate::platform::Platform;
use crate::postgres_server::TestServer;
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
