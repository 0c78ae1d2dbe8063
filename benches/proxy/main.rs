//! What the gateway costs beside bare pingora: CPU time of the proxy process per request, in one run, in interleaved
//! rounds, so that a noisy neighbour meets all cases alike. `docs/benchmarks.md` says how to read the numbers.
//!
//! This process is both the clients and the platform, on one core; the proxy measured has the other to itself.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "nobody sees this binary from outside: `pub` is what a module offers the others"
)]

mod bare;
mod case;
mod gateway;
mod instructions;
mod load;
mod peers;
mod process;
mod report;
mod stats;

use anyhow::{Context, Result, ensure};

use bare::Duties;
use case::Case;
use gateway::{AccessLog, Gateway};
use load::{Outcome::*, Platform};
use report::{AtRest, Report};

/// The gateway's allocator, so that the bare server differs by nothing but the gateway itself.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Interleaved rounds by default: each measures every case once.
const ROUNDS: usize = 20;
/// Requests by default, a case and round: a burst of about half a second.
const REQUESTS: usize = 20_000;
/// Starts that are timed.
const STARTS: usize = 5;

/// How many tokens are revoked, and the cases in which they are.
const REVOCATIONS: [(&str, u64); 3] = [
    ("valid token, 100 k revocations", 100_000),
    ("valid token, 1 M revocations", 1_000_000),
    ("valid token, 10 M revocations", 10_000_000),
];

/// The cases that others are compared with.
const OURS: &str = "ds-gateway";
const BARE: &str = "bare pingora";
const VALID: &str = "valid token";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(served) = bare::serve(&arguments).or_else(|| instructions::serve(&arguments)) {
        return served;
    }
    process::pin_this_to(process::LOAD_CORE)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (rounds, requests) = (number("ROUNDS", ROUNDS)?, number("REQUESTS", REQUESTS)?);
        let is_set = |name| std::env::var_os(name).is_some();
        if is_set("PEERS") {
            beside_peers(rounds, requests).await
        } else if is_set("INSTRUCTIONS") {
            instructions::count(tempfile::tempdir()?.path()).await
        } else {
            bench(rounds, requests).await
        }
    })
}

/// The gateway beside what else people put in its place, in interleaved rounds of one run.
async fn beside_peers(rounds: usize, requests: usize) -> Result<()> {
    never_asleep();
    let folder = tempfile::tempdir()?;
    let platform = Platform::start().await?;
    let at = platform.address();
    let gateway = Gateway::prepare(folder.path().join("gateway"), at, AccessLog::Off).await?;
    let (server, _) = gateway.start().await?;
    let forged = gateway::forged(&gateway.token)?;
    let bare = bare::start(at, Duties::None).await?;
    let peers = peers::start(folder.path(), at, &gateway.token, &forged).await?;
    println!("{}\n", peers::versions()?);

    let hot = vec![gateway.token.clone()];
    let kilo = gateway.tokens(1_000)?;
    let many = gateway.tokens(100_000)?;
    let sets: [(&str, Vec<Option<&str>>, bool); 5] = [
        ("one hot token", some(&hot), true),
        ("1,000 tokens", some(&kilo), true),
        ("100,000 tokens", some(&many), true),
        ("a forged token", vec![Some(&forged)], false),
        ("no token", vec![None], false),
    ];
    for (number, (title, tokens, is_admitted)) in sets.iter().enumerate() {
        println!("**{title}**\n");
        let outcome = |refused| if *is_admitted { Forwarded } else { refused };
        let mut cases = vec![Case::with_tokens(OURS, &server, tokens, outcome(Refused))];
        for peer in &peers {
            cases.push(Case::with_tokens(peer.name, &peer.server, tokens, outcome(peers::REFUSED)));
        }
        if *is_admitted {
            cases.push(Case::with_tokens("bare pingora, no check", &bare, tokens, Forwarded));
        }
        let mut report = Report::new(&cases, &[OURS], &format!("peers-{number}.jsonl"))?;
        for case in &cases {
            // Each token once at least, so that every cache has had its chance.
            case.sample(&platform, requests.max(tokens.len())).await?;
        }
        for round in 1..=rounds {
            run_round(&cases, round, &mut report, &platform, requests).await?;
            eprintln!("{title}: round {round} of {rounds}");
        }
        report.finish()?;
    }
    Ok(())
}

fn some(tokens: &[String]) -> Vec<Option<&str>> {
    tokens.iter().map(|token| Some(token.as_str())).collect()
}

async fn run_round(
    cases: &[Case<'_>],
    round: usize,
    report: &mut Report,
    platform: &Platform,
    requests: usize,
) -> Result<()> {
    // Every other round backwards, so that drift within a round falls on all alike.
    let mut order: Vec<_> = cases.iter().enumerate().collect();
    if round.is_multiple_of(2) {
        order.reverse();
    }
    for (index, case) in order {
        report.add(round, index, case.sample(platform, requests).await?)?;
    }
    Ok(())
}

/// Never asleep, so that no proxy pays for waking its clients or its platform: how often it would depends on its speed.
fn never_asleep() {
    tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
}

async fn bench(rounds: usize, requests: usize) -> Result<()> {
    never_asleep();
    let folder = tempfile::tempdir()?;
    let platform = Platform::start().await?;
    let at = platform.address();
    let bare = bare::start(at, Duties::None).await?;
    let with_fields = bare::start(at, Duties::Fields).await?;
    let quiet = Gateway::prepare(folder.path().join("quiet"), at, AccessLog::Off).await?;
    let logging = Gateway::prepare(folder.path().join("logging"), at, AccessLog::On).await?;

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(quiet.start().await?.1);
    }
    let (quiet_server, _) = quiet.start().await?;
    let (logging_server, _) = logging.start().await?;
    tokio::time::sleep(process::REST).await;
    let resident_mb = quiet_server.process.resident_mb()?;

    let mut revoked = Vec::new();
    for (name, count) in REVOCATIONS {
        eprintln!("preparing {name}");
        let gateway = Gateway::prepare(folder.path().join(count.to_string()), at, AccessLog::Off).await?;
        gateway.revoke(count)?;
        let (server, ready) = gateway.start().await?;
        eprintln!("ready after {} ms", ready.as_millis());
        revoked.push((name, gateway.token, server));
    }

    let valid = Some(quiet.token.as_str());
    let forged = gateway::forged(&quiet.token)?;
    let mut cases = vec![
        Case::new(BARE, &bare, valid, Forwarded),
        Case::new("bare pingora, with fields and time-outs", &with_fields, valid, Forwarded),
        Case::new(VALID, &quiet_server, valid, Forwarded).at_most(1.05, BARE),
        Case::new("valid token, access log on", &logging_server, Some(&logging.token), Forwarded),
        Case::new("no token", &quiet_server, None, Refused).at_most(0.5, VALID),
        Case::new("forged token", &quiet_server, Some(&forged), Refused).at_most(0.5, VALID),
    ];
    for (name, token, server) in &revoked {
        cases.push(Case::new(name, server, Some(token), Forwarded).at_most(1.03, VALID));
    }

    for case in &cases {
        case.sample(&platform, requests).await?; // warms up
    }
    let each = requests + load::CONNECTIONS;
    logging.take_access_lines(each).await?;
    let mut report = Report::new(&cases, &[BARE, VALID], "proxy.jsonl")?;
    for round in 1..=rounds {
        run_round(&cases, round, &mut report, &platform, requests).await?;
        logging.take_access_lines(each).await?;
        eprintln!("round {round} of {rounds}");
    }
    report.finish()?;
    report.at_rest(&AtRest { starts, resident_mb, resident_after_mb: quiet_server.process.resident_mb()? })
}

/// A number from the environment.
fn number(name: &str, default: usize) -> Result<usize> {
    let Ok(value) = std::env::var(name) else {
        return Ok(default);
    };
    let number = value.parse().with_context(|| format!("{name}={value} is no number"))?;
    ensure!(number > 0, "{name} must be above zero");
    Ok(number)
}
