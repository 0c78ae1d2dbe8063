//! The gateway beside what else people put in its place.

use std::path::Path;

use anyhow::Result;

use crate::bare;
use crate::burst::Shape;
use crate::case::{Bar, BarKind, Case};
use crate::chart;
use crate::client::Outcome::{Forwarded, Refused, RefusedSomehow};
use crate::client::{Request, Requests, Transport};
use crate::gateway::{self, Certificate, Gateway, Logs, REVOCATIONS};
use crate::peers::{self, Peer, Setting};
use crate::platform::Platform;
use crate::report::Report;
use crate::rounds;
use crate::server::Server;

/// The case that others are compared with.
const OURS: &str = "ds-gateway";
const OURS_ON_ONE_THREAD: &str = "ds-gateway, 1 thread";
const BARE: &str = "bare pingora, no check";

/// Worker threads of every proxy, all on the same core.
const THREADS: [usize; 3] = [1, 2, 4];

/// What clients bring, and what a request may cost us.
struct Load {
    title: String,
    transport: Transport,
    shape: Shape,
    requests: Requests,
    is_admitted: bool,
    /// Of the requests of a round, one in so many: where each takes that much longer.
    one_in: usize,
    bars: Vec<Bar>,
}

impl Load {
    /// GETs as fast as the proxy takes them, which may cost so many times what HAProxy takes.
    fn new(title: impl Into<String>, requests: &Requests, at_most: f64) -> Self {
        let bar = |kind, at_most, against| Bar { kind, at_most, against };
        Self {
            title: title.into(),
            transport: Transport::Http,
            shape: Shape::SATURATED,
            requests: requests.clone(),
            is_admitted: true,
            one_in: 1,
            bars: vec![
                bar(BarKind::Promise, at_most, peers::HAPROXY),
                bar(BarKind::Aim, 1.0, peers::HAPROXY_FORWARDS),
                bar(BarKind::Promise, 0.7, peers::NGINX),
                bar(BarKind::Promise, 0.5, peers::ENVOY),
            ],
        }
    }

    fn refused(title: &str, token: Option<&str>, at_most: f64) -> Self {
        let mut load = Self::new(title, &[Request::get(token)].into(), at_most);
        load.bars.retain(|bar| bar.against != peers::HAPROXY_FORWARDS);
        Self { is_admitted: false, ..load }
    }

    /// With bodies, or with handshakes: what is promised about small requests does not hold.
    fn large(title: &str, requests: &Requests, at_most: f64) -> Self {
        let mut load = Self::new(title, requests, at_most);
        load.bars.retain(|bar| bar.against.starts_with("HAProxy"));
        load
    }

    /// So many requests a second on so many connections.
    fn paced(requests: &Requests, connections: usize, per_second: usize, at_most: f64) -> Self {
        let thousands = format!("{},{:03}", per_second / 1_000, per_second % 1_000);
        let title = format!("paced, {connections} connections, {thousands} requests/s");
        Self {
            shape: Shape::paced(connections, per_second as f64),
            // Half a second.
            one_in: 40_000 / per_second,
            ..Self::new(title, requests, at_most)
        }
    }

    fn over(mut self, transport: Transport, name: &str) -> Self {
        self.transport = transport;
        self.title = format!("{}{name}", self.title);
        self
    }

    /// The same over HTTP/2, where the promise is an aim.
    fn over_http2(mut self) -> Self {
        for bar in self.bars.iter_mut().filter(|bar| bar.against == peers::HAPROXY) {
            bar.kind = BarKind::Aim;
        }
        self.over(Transport::Http2, ", HTTP/2")
    }

    fn one_in(mut self, one_in: usize) -> Self {
        self.one_in = one_in;
        self
    }

    fn case<'a>(&self, name: &'static str, server: &'a Server, is_ours: bool) -> Case<'a> {
        let outcome = match (self.is_admitted, is_ours) {
            (true, _) => Forwarded,
            (false, true) => Refused,
            (false, false) => RefusedSomehow,
        };
        Case::of(name, server, self.requests.clone(), outcome).over(self.transport).from(self.shape)
    }
}

/// All that a run has.
struct Bench<'a> {
    folder: &'a Path,
    rounds: usize,
    requests: usize,
    platform: Platform,
    gateway: &'a Gateway,
    certificate: Certificate,
    forged: String,
    expired: String,
    report: Report,
    /// A part of the run, for anyone who tunes.
    only: String,
}

pub async fn measure(folder: &Path, rounds: usize, requests: usize) -> Result<()> {
    let mut report = Report::new("peers.json")?;
    report.about("command", format!("make bench-peers ROUNDS={rounds} REQUESTS={requests}"));
    report.about("peers", peers::versions()?);
    report.about("TLS", peers::tls_libraries()?);

    let platform = Platform::start().await?;
    let gateway = Gateway::prepare(folder.join("gateway"), platform.address()).await?;
    let mut bench = Bench {
        folder,
        rounds,
        requests,
        certificate: gateway.certificate(),
        forged: gateway::forged(&gateway.token)?,
        expired: gateway.expired()?,
        gateway: &gateway,
        platform,
        report,
        only: std::env::var("ONLY").unwrap_or_default(),
    };
    for threads in THREADS {
        bench.measure(threads).await?;
    }
    bench.measure_revocations().await?;

    let path = bench.report.beside("peers.svg");
    chart::draw(&bench.report.tables, OURS, &path)?;
    eprintln!("chart: {}", path.display());
    Ok(())
}

impl Bench<'_> {
    /// All loads that are sent to proxies with so many threads.
    async fn measure(&mut self, threads: usize) -> Result<()> {
        let loads = match threads {
            1 => self.loads()?,
            _ => self.loads_of_several(threads),
        };
        let loads: Vec<_> = loads.into_iter().filter(|load| self.is_asked(&load.title)).collect();
        if loads.is_empty() {
            return Ok(());
        }
        let number = threads.to_string();
        let settings = [("DS_GATEWAY__SERVER__THREADS", number.as_str())];
        let mut ours = vec![(OURS, self.gateway.start_with(&settings).await?)];
        ours.extend(self.gateway.start_others(&settings).await?);
        let peers = self.start_peers(threads, Logs::Events).await?;
        let (mut on_one_thread, mut bare) = (None, None);
        if threads == 1 {
            bare = Some(bare::start_tls(self.platform.address(), &self.certificate).await?);
        } else {
            on_one_thread = Some(self.gateway.start(Logs::Events).await?.0);
        }
        for load in loads {
            let mut cases = Vec::new();
            for (name, server) in &ours {
                let case =
                    load.bars.iter().fold(load.case(name, server, true), |case, bar| case.with_bar(*bar));
                let is_ours = *name == OURS && threads > 1;
                cases.push(if is_ours { case.at_most(1.05, OURS_ON_ONE_THREAD) } else { case });
            }
            cases.extend(on_one_thread.iter().map(|server| load.case(OURS_ON_ONE_THREAD, server, true)));
            let peers = peers.iter().filter(|peer| peer.checks || load.is_admitted);
            cases.extend(peers.map(|peer| load.case(peer.name, &peer.server, false)));
            let bare = bare.iter().filter(|_| load.is_admitted);
            cases.extend(bare.map(|server| load.case(BARE, server, false)));
            let effort = (self.rounds, (self.requests / load.one_in).max(1));
            let table = rounds::run(&load.title, &cases, &[OURS], &self.platform, effort).await?;
            self.report.add(table)?;
        }
        Ok(())
    }

    fn loads(&self) -> Result<Vec<Load>> {
        let token = Some(self.gateway.token.as_str());
        let one: Requests = [Request::get(token)].into();
        let tokens = |count| -> Result<Requests> {
            Ok(self.gateway.tokens(count)?.iter().map(|token| Request::get(Some(token))).collect())
        };
        let body = |bytes| -> Requests { [Request::post(token, bytes)].into() };
        let streams = Shape { streams: 10, ..Shape::SATURATED };
        Ok(vec![
            Load::new("one hot token", &one, 0.9),
            Load::new("1,000 tokens", &tokens(1_000)?, 0.9),
            Load::new("100,000 tokens", &tokens(100_000)?, 0.9),
            Load::refused("a forged token", Some(&self.forged), 0.9),
            Load::refused("no token", None, 0.9),
            Load::paced(&one, 16, 2_400, 0.7),
            Load::paced(&one, 64, 6_400, 0.7),
            Load::new("HTTPS, connections kept", &one, 0.9).over(Transport::Https, ""),
            Load::paced(&one, 16, 2_400, 0.9).over(Transport::Https, ", HTTPS"),
            Load::large("HTTPS, each request on a new connection", &one, 1.0)
                .over(Transport::HttpsAnew, "")
                .one_in(10),
            Load { shape: streams, ..Load::new("64 connections of 10 streams", &one, 1.0).over_http2() },
            Load::paced(&one, 16, 2_400, 1.0).over_http2(),
            Load::large("a body of 1 KB, there and back", &body(1 << 10), 0.95),
            Load::large("a body of 64 KB, there and back", &body(64 << 10), 1.0).one_in(5),
            Load::large("a body of 1 MB, there and back", &body(1 << 20), 1.0).one_in(40),
        ])
    }

    fn loads_of_several(&self, threads: usize) -> Vec<Load> {
        let one: Requests = [Request::get(Some(&self.gateway.token))].into();
        let mut loads = vec![
            Load::new("one hot token", &one, 0.9),
            Load::paced(&one, 16, 2_400, 0.75),
            Load::paced(&one, 64, 6_400, 0.75),
        ];
        for load in &mut loads {
            load.title = format!("{}, {threads} threads", load.title);
        }
        loads
    }

    /// Stores with revocations, and the access log.
    async fn measure_revocations(&mut self) -> Result<()> {
        let title = "one hot token, others revoked";
        let parts = [(title.to_owned(), Logs::Events), (format!("{title}, access log on"), Logs::Requests)];
        let parts: Vec<_> = parts.into_iter().filter(|(title, _)| self.is_asked(title)).collect();
        if parts.is_empty() {
            return Ok(());
        }
        let mut stores = Vec::new();
        for (name, count) in REVOCATIONS {
            stores.push((name, Gateway::revoked(self.folder, self.platform.address(), count).await?));
        }
        let token = self.gateway.token.as_str();
        for (title, logs) in parts {
            let load = Load::new(title, &[Request::get(Some(token))].into(), 0.9);
            let peers = match logs {
                Logs::Requests => self.start_peers(1, logs).await?,
                Logs::Events => Vec::new(),
            };
            let mut servers = vec![(OURS, token, self.gateway.start(logs).await?.0)];
            for (name, gateway) in &stores {
                let (server, ready) = gateway.start(logs).await?;
                eprintln!("{name}: ready after {} ms", ready.as_millis());
                servers.push((name, &gateway.token, server));
            }
            let cases = servers.iter().map(|(name, token, server)| {
                let case = Case::new(name, server, Some(token), Forwarded);
                match *name {
                    OURS if peers.is_empty() => case,
                    OURS => load.bars.iter().fold(case, |case, bar| case.with_bar(*bar)),
                    _ => case.at_most(1.03, OURS),
                }
            });
            let mut cases: Vec<_> = cases.collect();
            cases.extend(peers.iter().map(|peer| load.case(peer.name, &peer.server, false)));
            let effort = (self.rounds, self.requests);
            self.report.add(rounds::run(&load.title, &cases, &[OURS], &self.platform, effort).await?)?;
        }
        Ok(())
    }

    async fn start_peers(&self, threads: usize, logs: Logs) -> Result<Vec<Peer>> {
        let setting = Setting {
            platform: self.platform.address(),
            certificate: &self.certificate,
            token: &self.gateway.token,
            forged: &self.forged,
            expired: &self.expired,
            threads,
        };
        let kind = if logs == Logs::Requests { "logging" } else { "quiet" };
        peers::start(&self.folder.join(format!("peers-{kind}-{threads}")), &setting, logs).await
    }

    fn is_asked(&self, title: &str) -> bool {
        title.contains(&self.only)
    }
}
