//! The gateway beside what else people put in its place.

use std::path::Path;

use anyhow::Result;

use crate::bare;
use crate::case::Case;
use crate::chart;
use crate::client::Outcome::{Forwarded, Refused, RefusedSomehow};
use crate::client::{Request, Requests, Transport};
use crate::gateway::{self, Gateway, Logs, REVOCATIONS};
use crate::peers::{self, Peer, Setting};
use crate::platform::Platform;
use crate::report::Report;
use crate::rounds;
use crate::server::Server;

/// The case that others are compared with.
const OURS: &str = "ds-gateway";
const BARE: &str = "bare pingora, no check";

/// What a request of ours may cost against theirs, whatever it is.
const BARS: [(f64, &str); 3] = [(1.2, peers::HAPROXY), (0.8, peers::NGINX), (0.5, peers::ENVOY)];

fn with_bars(case: Case<'_>) -> Case<'_> {
    BARS.into_iter().fold(case, |case, (at_most, against)| case.at_most(at_most, against))
}

/// What clients bring.
struct Load<'a> {
    title: &'a str,
    transport: Transport,
    requests: Requests,
    is_admitted: bool,
    /// Of the requests of a round, one in so many: where each takes that much longer.
    one_in: usize,
}

pub async fn measure(folder: &Path, rounds: usize, requests: usize) -> Result<()> {
    rounds::never_asleep();
    let mut report = Report::new("peers.json")?;
    report.about("command", format!("make bench-peers ROUNDS={rounds} REQUESTS={requests}"));
    report.about("peers", peers::versions()?);
    report.about("TLS", peers::tls_libraries()?);

    let platform = Platform::start().await?;
    let at = platform.address();
    let gateway = Gateway::prepare(folder.join("gateway"), at).await?;
    let (server, _) = gateway.start(Logs::Events).await?;
    let mut ours = vec![(OURS, server)];
    ours.extend(gateway.start_others().await?);
    let certificate = gateway.certificate();
    let bare = bare::start_tls(at, &certificate).await?;
    let (token, forged) = (gateway.token.as_str(), gateway::forged(&gateway.token)?);
    let expired = gateway.expired()?;
    let setting =
        Setting { platform: at, certificate: &certificate, token, forged: &forged, expired: &expired };
    let quiet_peers = peers::start(&folder.join("peers"), &setting, Logs::Events).await?;

    let one: Requests = [Request::get(Some(token))].into();
    let kilo: Requests = gateway.tokens(1_000)?.iter().map(|token| Request::get(Some(token))).collect();
    let many: Requests = gateway.tokens(100_000)?.iter().map(|token| Request::get(Some(token))).collect();
    let body = |bytes| -> Requests { [Request::post(Some(token), bytes)].into() };
    let load = |title, requests: &Requests| Load {
        title,
        transport: Transport::Http,
        requests: requests.clone(),
        is_admitted: true,
        one_in: 1,
    };
    let refused = |title, token| Load { is_admitted: false, ..load(title, &[Request::get(token)].into()) };
    // A part of the run, for anyone who tunes.
    let only = std::env::var("ONLY").unwrap_or_default();
    for load in [
        load("one hot token", &one),
        load("1,000 tokens", &kilo),
        load("100,000 tokens", &many),
        refused("a forged token", Some(forged.as_str())),
        refused("no token", None),
        Load { transport: Transport::Https, ..load("HTTPS, connections kept", &one) },
        Load {
            transport: Transport::HttpsAnew,
            one_in: 10,
            ..load("HTTPS, each request on a new connection", &one)
        },
        load("a body of 1 KB, there and back", &body(1 << 10)),
        Load { one_in: 5, ..load("a body of 64 KB, there and back", &body(64 << 10)) },
        Load { one_in: 40, ..load("a body of 1 MB, there and back", &body(1 << 20)) },
    ] {
        if !load.title.contains(&only) {
            continue;
        }
        let cases = cases(&load, &ours, &quiet_peers, &bare);
        let effort = (rounds, (requests / load.one_in).max(1));
        report.add(rounds::run(load.title, &cases, &[OURS], &platform, effort).await?)?;
    }
    drop((quiet_peers, ours, bare));

    let logging_peers = peers::start(&folder.join("logging-peers"), &setting, Logs::Requests).await?;
    let mut stores = vec![(OURS, gateway)];
    for (name, count) in REVOCATIONS {
        stores.push((name, Gateway::revoked(folder, at, count).await?));
    }
    for (title, logs, peers) in [
        ("one hot token, others revoked", Logs::Events, &[][..]),
        ("one hot token, others revoked, access log on", Logs::Requests, &logging_peers),
    ] {
        if !title.contains(&only) {
            continue;
        }
        let mut servers = Vec::new();
        for (name, gateway) in &stores {
            let (server, ready) = gateway.start(logs).await?;
            eprintln!("{name}: ready after {} ms", ready.as_millis());
            servers.push((name, &gateway.token, server));
        }
        let cases = servers.iter().map(|(name, token, server)| {
            let case = Case::new(name, server, Some(token), Forwarded);
            match **name {
                OURS if peers.is_empty() => case,
                OURS => with_bars(case),
                _ => case.at_most(1.03, OURS),
            }
        });
        let mut cases: Vec<_> = cases.collect();
        cases.extend(peers.iter().map(|peer| Case::of(peer.name, &peer.server, one.clone(), Forwarded)));
        report.add(rounds::run(title, &cases, &[OURS], &platform, (rounds, requests)).await?)?;
    }

    let path = report.beside("peers.svg");
    chart::draw(&report.tables, OURS, &path)?;
    eprintln!("chart: {}", path.display());
    Ok(())
}

fn cases<'a>(
    load: &Load<'_>,
    ours: &'a [(&'static str, Server)],
    peers: &'a [Peer],
    bare: &'a Server,
) -> Vec<Case<'a>> {
    let case = |name, server, refused| {
        let outcome = if load.is_admitted { Forwarded } else { refused };
        Case::of(name, server, load.requests.clone(), outcome).over(load.transport)
    };
    let mut cases: Vec<_> =
        ours.iter().map(|(name, server)| with_bars(case(name, server, Refused))).collect();
    cases.extend(peers.iter().map(|peer| case(peer.name, &peer.server, RefusedSomehow)));
    if load.is_admitted {
        cases.push(case(BARE, bare, Refused));
    }
    cases
}
