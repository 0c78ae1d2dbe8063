use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::config::Config;

/// Servers that are asked for nothing; addresses need not be there.
fn upstream(servers: &[&str], more: &str) -> Arc<Upstream> {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = {servers:?}\n{more}"
    );
    let (config, _) = Config::parse(&text, Path::new("/nowhere"), std::iter::empty());
    let (config, _) = config.unwrap();
    let pool = config.platform.pool;
    let metrics = ServerMetrics::new(pool.servers.iter().map(|server| server.name.as_str()));
    Upstream::new(&pool, None, None, &Arc::new(metrics), &mut Vec::new()).unwrap()
}

const FOUR: [&str; 4] =
    ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "http://127.0.0.1:4"];

impl Upstream {
    /// As a request is sent: one try after another, until it is answered by a server that is not one of the dead ones.
    fn request(&self, dead: &[usize], fault: TryFault) -> Option<usize> {
        let mut tries = Tries::default();
        loop {
            let endpoints = self.endpoints.load();
            let endpoint = self.choose(&endpoints, &mut tries)?;
            let server = endpoint.server;
            if !dead.contains(&server) {
                self.answered(&mut tries, 200, None);
                return Some(server);
            }
            self.failed(&mut tries, fault);
            if self.may_retry(&tries, true) != Retry::Granted {
                return None;
            }
        }
    }

    fn in_use(&self) -> Vec<usize> {
        let endpoints = self.endpoints.load();
        endpoints
            .iter()
            .filter(|endpoint| endpoint.health.is_in_use())
            .map(|endpoint| endpoint.server)
            .collect()
    }
}

fn shares(upstream: &Upstream, dead: &[usize], requests: usize) -> BTreeMap<Option<usize>, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        *shares.entry(upstream.request(dead, TryFault::ConnectTimeout)).or_default() += 1;
    }
    shares
}

#[test]
fn a_dead_server_costs_the_first_requests_a_try_and_the_rest_share_its_load_evenly() {
    let upstream = upstream(&FOUR, "");
    let shares = shares(&upstream, &[2], 300);
    assert_eq!(shares.keys().copied().collect::<Vec<_>>(), [Some(0), Some(1), Some(3)]);
    let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
    assert!(most - least <= 3, "{shares:?}");
    assert_eq!(upstream.in_use(), [0, 1, 3]);
}

/// Before anything is left out too: the server that comes after the dead one in the list has no double load.
#[test]
fn retries_are_spread_over_all_others() {
    let upstream = upstream(&FOUR, "eject_after = 0");
    let shares = shares(&upstream, &[2], 300);
    let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
    assert!(shares.len() == 3 && most - least <= 3, "{shares:?}");
    assert_eq!(upstream.in_use(), [0, 1, 2, 3]);
}

#[test]
fn at_most_half_of_the_addresses_are_left_out() {
    for (servers, left) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        let upstream = upstream(&FOUR[..servers], "");
        for _ in 0..50 {
            assert_eq!(upstream.request(&[0, 1, 2, 3], TryFault::ConnectRefused), None);
        }
        assert_eq!(upstream.in_use().len(), left, "{servers}");
    }
}

#[test]
fn what_counts_is_configured_and_a_success_begins_again() {
    for (fault, more, left) in [
        (TryFault::ConnectRefused, "", 3),
        (TryFault::ConnectTimeout, "", 3),
        (TryFault::ConnectFailed, "", 3),
        (TryFault::Tls, "", 3),
        (TryFault::ConnectRefused, "eject_after = 0", 4),
        (TryFault::ConnectRefused, "eject_after = 30", 4),
        (TryFault::Local, "eject_on = [\"timeout\", \"5xx\"]", 4),
        (TryFault::Closed, "", 3),
        (TryFault::Malformed, "eject_on = [\"timeout\", \"5xx\"]", 4),
        (TryFault::KeptConnectionClosed, "eject_on = [\"timeout\", \"5xx\"]", 4),
        (TryFault::ReadTimeout, "", 4),
        (TryFault::ReadTimeout, "eject_on = [\"timeout\"]", 3),
        (TryFault::WriteTimeout, "eject_on = [\"timeout\"]", 3),
    ] {
        let upstream = upstream(&FOUR, more);
        for _ in 0..40 {
            upstream.request(&[1], fault);
        }
        assert_eq!(upstream.in_use().len(), left, "{fault:?} {more}");
    }
    // Two failures, a success, two failures: never three in a row.
    let upstream = upstream(&FOUR[..2], "");
    let endpoints = upstream.endpoints.load();
    let to_second = || {
        let mut tries = Tries::default();
        let mut server = upstream.choose(&endpoints, &mut tries).unwrap().server;
        if server == 0 {
            tries = Tries::default();
            server = upstream.choose(&endpoints, &mut tries).unwrap().server;
        }
        assert_eq!(server, 1);
        tries
    };
    for _ in 0..20 {
        upstream.failed(&mut to_second(), TryFault::ConnectRefused);
        upstream.failed(&mut to_second(), TryFault::ConnectRefused);
        upstream.answered(&mut to_second(), 500, None);
    }
    assert_eq!(upstream.in_use(), [0, 1]);
}

#[test]
fn answers_with_errors_count_where_configured() {
    let exchange = |upstream: &Upstream, status: u16| {
        let mut tries = Tries::default();
        let endpoints = upstream.endpoints.load();
        let endpoint = upstream.choose(&endpoints, &mut tries).unwrap();
        let status = if endpoint.server == 0 { status } else { 200 };
        upstream.answered(&mut tries, status, None);
    };
    for (more, left) in [("", 2), ("eject_on = [\"timeout\"]", 2), ("eject_on = [\"5xx\"]", 1)] {
        let upstream = upstream(&FOUR[..2], more);
        for _ in 0..20 {
            exchange(&upstream, 503);
        }
        assert_eq!(upstream.in_use().len(), left, "{more}");
    }
}

#[test]
fn one_request_tries_a_server_that_may_be_back() {
    let upstream = upstream(&FOUR, "");
    shares(&upstream, &[2], 30);
    let health = Arc::clone(&upstream.endpoints.load()[2].health);
    assert!(health.is_out());
    health.offer_trial();
    // Still dead: it goes elsewhere, and nobody else tries.
    assert!(upstream.request(&[2], TryFault::ConnectRefused).is_some_and(|server| server != 2));
    assert!(health.is_out());
    health.offer_trial();
    assert_eq!(upstream.request(&[], TryFault::ConnectRefused), Some(2));
    assert_eq!(upstream.in_use(), [0, 1, 2, 3]);
    // A request that fails for a reason of the gateway's own leaves the trial to the next.
    shares(&upstream, &[2], 30);
    health.offer_trial();
    let mut tries = Tries::default();
    let endpoints = upstream.endpoints.load();
    assert_eq!(upstream.choose(&endpoints, &mut tries).map(|endpoint| endpoint.server), Some(2));
    assert_ne!(upstream.request(&[], TryFault::ConnectRefused), Some(2));
    upstream.failed(&mut tries, TryFault::Local);
    assert_eq!(upstream.request(&[], TryFault::ConnectRefused), Some(2));
}

/// Its server may be one that says nothing: the requests that follow are not to find that out one by one.
#[test]
fn a_trial_that_its_client_gives_up_begins_the_next_back_off() {
    let upstream = upstream(&FOUR, "");
    shares(&upstream, &[2], 30);
    let endpoints = upstream.endpoints.load();
    let health = Arc::clone(&endpoints[2].health);
    health.offer_trial();
    let mut tries = Tries::default();
    assert_eq!(upstream.choose(&endpoints, &mut tries).map(|endpoint| endpoint.server), Some(2));
    upstream.abandoned(&mut tries);
    assert!(health.is_out());
    for _ in 0..20 {
        assert_ne!(upstream.request(&[], TryFault::ConnectRefused), Some(2));
    }
    // A client that leaves a server in use says nothing of it.
    for _ in 0..20 {
        let mut tries = Tries::default();
        upstream.choose(&endpoints, &mut tries).unwrap();
        upstream.abandoned(&mut tries);
    }
    assert_eq!(upstream.in_use(), [0, 1, 3]);
}

/// Connections that were kept at the same time are closed at the same time, and a request has three tries.
#[test]
fn a_try_after_a_closed_kept_connection_takes_none_that_is_kept() {
    let upstream = upstream(&FOUR[..1], "");
    let key = |tries: &mut Tries| upstream.own_peer(tries).unwrap().group_key;
    let mut tries = Tries::default();
    let kept = key(&mut tries);
    upstream.failed(&mut tries, TryFault::ConnectTimeout);
    assert_eq!(key(&mut tries), kept);
    upstream.failed(&mut tries, TryFault::KeptConnectionClosed);
    let (second, third) = (key(&mut tries), key(&mut tries));
    assert!(second != kept && third != kept && second != third);
    assert_eq!(key(&mut Tries::default()), kept);
}

#[test]
fn a_platform_that_fails_everywhere_is_not_asked_three_times_as_often() {
    let upstream = upstream(&FOUR, "eject_after = 0");
    let mut tries = 0;
    for _ in 0..10_000 {
        let mut request = Tries::default();
        loop {
            let endpoints = upstream.endpoints.load();
            upstream.choose(&endpoints, &mut request).unwrap();
            upstream.failed(&mut request, TryFault::ConnectRefused);
            if upstream.may_retry(&request, true) != Retry::Granted {
                break;
            }
        }
        tries += request.count();
    }
    // A fifth more, what a thread begins with, and what the seconds that this took have brought.
    assert!((12_000..13_000).contains(&tries), "{tries}");
}

#[test]
fn addresses_keep_what_is_known_of_them() {
    let upstream = upstream(&FOUR, "");
    shares(&upstream, &[2], 30);
    let ids = |upstream: &Upstream| {
        upstream.endpoints.load().iter().map(|endpoint| endpoint.id).collect::<Vec<_>>()
    };
    let (before, names) = (ids(&upstream), |servers: &[&str]| {
        let text = format!(
            "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"s\"\n[platform]\nservers = {servers:?}\n"
        );
        let (config, _) = Config::parse(&text, Path::new("/nowhere"), std::iter::empty());
        Names::new(&config.unwrap().0.platform.pool.servers)
    });
    upstream.take_over(&names(&FOUR)).unwrap();
    assert_eq!((ids(&upstream), upstream.in_use()), (before, vec![0, 1, 3]));
    let mut counts = [Addresses::default(); 4];
    upstream.count_addresses(&upstream.metrics, &mut counts);
    assert_eq!(counts[2], Addresses { in_use: 0, ejected: 1 });
    // Where only one is left, it is used.
    let mut alone = names(&FOUR[..3]);
    alone.keep_only(2);
    upstream.take_over(&alone).unwrap();
    assert_eq!(upstream.in_use(), [2]);
}
