//! Instructions instead of seconds, which are noisy on a shared machine: counted by callgrind, compared with those kept
//! in `benches/instructions.json`. They hold no time in the kernel, and a copy counts by its bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use ds_gateway::auth::cache::{Cache, CacheLimits};
use ds_gateway::auth::gate::{ClockReading, Gate, TokenField};
use ds_gateway::auth::identity::Identity;
use ds_gateway::auth::keys::{Algorithm, Key, KeySet};
use ds_gateway::auth::name::Name;
use ds_gateway::auth::policy::Policy;
use ds_gateway::auth::revocation::RevocationSnapshot;
use ds_gateway::auth::secret::Secret;
use ds_gateway::auth::time::UnixTime;
use ds_gateway::auth::token::{TokenRules, mint};

use crate::bare;
use crate::burst::{self, Shape};
use crate::client::{Client, Outcome, Request, Requests, Transport};
use crate::gateway::{self, Gateway};
use crate::platform::Platform;
use crate::process;
use crate::server::Server;

/// Requests that are counted, after as many that are not.
const REQUESTS: usize = 2_000;
const CLIENTS: usize = 8;

/// A path without anything to decode in it; the others are as long.
const PLAIN: &str = "plain path";

/// The first argument that turns this binary into a loop of decisions or mints, to be counted.
const MODE: &str = "count";

/// Counts, prints each beside what was kept, and keeps the new ones if `UPDATE=1`.
pub async fn count(folder: &Path) -> Result<()> {
    let mut counts = BTreeMap::new();
    for case in ["admit, cache hit", "admit, no cache", "mint", PLAIN, "path with escapes", "hostile path"] {
        counts.insert(case.to_owned(), in_process(folder, case)?);
        eprintln!("{case}: counted");
    }
    let platform = Platform::start().await?;
    let at = platform.address();
    let prepared = Gateway::prepare(folder.join("gateway"), at).await?;
    let forged = gateway::forged(&prepared.token)?;
    let valid = Some(prepared.token.as_str());
    for (case, transport, token, outcome) in [
        ("request, valid token", Transport::Http, valid, Outcome::Forwarded),
        ("request, HTTPS", Transport::Https, valid, Outcome::Forwarded),
        ("request, HTTP/2", Transport::Http2, valid, Outcome::Forwarded),
        ("request, forged token", Transport::Http, Some(&forged), Outcome::Refused),
        ("request, no token", Transport::Http, None, Outcome::Refused),
    ] {
        let (server, _) = prepared.start_under(&valgrind(folder, case)).await?;
        counts.insert(case.to_owned(), served(&server, transport, folder, case, token, outcome).await?);
        eprintln!("{case}: counted");
    }
    let case = "request, bare pingora";
    let bare = bare::start_under(&valgrind(folder, case), at).await?;
    counts.insert(
        case.to_owned(),
        served(&bare, Transport::Http, folder, case, valid, Outcome::Forwarded).await?,
    );
    report(&counts)
}

/// Is this process a loop to be counted? Then it is run.
pub fn serve(arguments: &[String]) -> Option<Result<()>> {
    let [mode, case, steps] = arguments else { return None };
    (mode == MODE).then(|| steps.parse().context("a number of steps").and_then(|steps| repeat(case, steps)))
}

fn repeat(case: &str, steps: u64) -> Result<()> {
    let secret = Secret::new(gateway::KEY.as_bytes().to_vec());
    let key = || Key::new("bench", Algorithm::Hs256, &secret, false).map_err(anyhow::Error::msg);
    let named = |error| anyhow::anyhow!("{error:?}");
    let identity = Identity {
        user: Name::parse_user("bench").map_err(named)?,
        email: "bench@example.com".into(),
        organization: Name::parse("Main Org.").map_err(named)?,
    };
    let now = UnixTime(1_800_000_000);
    let rules = TokenRules::DEFAULT;
    let signer = key()?;
    let entries = if case == "admit, cache hit" { 1_000 } else { 0 };
    let cache = Cache::new(CacheLimits { entries, bytes: 1 << 20 }, 1, || 0, 0);
    let key_set = KeySet::new(vec![key()?]).map_err(anyhow::Error::msg)?;
    let gate = Gate::new(key_set, rules, cache, Duration::MAX, RevocationSnapshot::default(), Duration::ZERO);
    let token = mint(&identity, 1, [7; 16], now, &rules, &signer).context("a token")?.token;
    let reading = ClockReading { now, uptime: Duration::ZERO };
    let (policy, paths) = (Policy::default(), paths(case));
    let mut paths = paths.iter().cycle();
    for step in 0..steps {
        let is_right = match case {
            "mint" => mint(&identity, step, [7; 16], now, &rules, &signer).is_some(),
            PLAIN | "path with escapes" | "hostile path" => {
                let path = std::hint::black_box(paths.next().context("a path")?);
                policy.classify(b"GET", path.as_bytes(), false).is_ok()
            }
            _ => gate.admit(TokenField::One(std::hint::black_box(token.as_bytes())), reading).is_ok(),
        };
        ensure!(is_right, "{case}, step {step}");
    }
    Ok(())
}

/// Paths of 4,000 bytes: of names, of names with escapes, and of what costs most to read.
fn paths(case: &str) -> Vec<String> {
    let parts: &[&str] = match case {
        PLAIN => &["/servers/production-1", "/ds-api/reports/2026-11-25/query.json", "/a.b-c_d~e"],
        "path with escapes" => {
            &["/Main%20Org.", "/CORP%5Canna", "/Zo%C3%AB", "/100%25", "/Loading%E2%80%A6", "/%2520", "/a%2Fb"]
        }
        _ => &[
            "%EF%B7%BA",
            "%25EF%25B7%25BA",
            "%E2%80%8B",
            "/%2520",
            "\u{fdfa}",
            ";%253b",
            "%25F0%2590%258D%2588",
        ],
    };
    parts.iter().map(|part| format!("/ds-api{}", part.repeat(4_000 / part.len()))).collect()
}

/// Of one step: what a long loop takes beyond a short one.
fn in_process(folder: &Path, case: &str) -> Result<u64> {
    let total = |steps: u64| -> Result<u64> {
        let file = file(folder, case);
        let mut command = process::on_proxy_core_under(&valgrind(folder, case), std::env::current_exe()?);
        command.args([MODE, case, &steps.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(command.status()?.success(), "{case} under valgrind");
        summary(&file)
    };
    Ok((total(1_100)? - total(100)?) / 1_000)
}

async fn served(
    server: &Server,
    transport: Transport,
    folder: &Path,
    case: &str,
    token: Option<&str>,
    outcome: Outcome,
) -> Result<u64> {
    let requests: Requests = [Request::get(token)].into();
    let request = requests.first().context("a request")?;
    let shape = Shape { connections: CLIENTS, ..Shape::SATURATED };
    let mut clients = burst::warm(shape, server.address(transport)?, transport, &requests, outcome).await?;
    in_turn(&mut clients, request, outcome).await?;
    let control = |what: &str| -> Result<()> {
        let mut command = Command::new("callgrind_control");
        command.args([what, &server.process.id().to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(command.status()?.success(), "callgrind_control {what}");
        Ok(())
    };
    control("--zero")?;
    in_turn(&mut clients, request, outcome).await?;
    control("--dump")?;
    let mut dumped = file(folder, case).into_os_string();
    dumped.push(".1");
    Ok(summary(Path::new(&dumped))? / REQUESTS as u64)
}

/// One after the other, so that two runs do the same.
async fn in_turn(clients: &mut [Client], request: &Request, outcome: Outcome) -> Result<()> {
    for _ in 0..REQUESTS / CLIENTS {
        for client in &mut *clients {
            client.ask(request, outcome).await?;
        }
    }
    Ok(())
}

fn file(folder: &Path, case: &str) -> PathBuf {
    folder.join(case.replace([',', ' ', '/'], "-"))
}

fn valgrind(folder: &Path, case: &str) -> Vec<String> {
    let out = format!("--callgrind-out-file={}", file(folder, case).display());
    vec!["valgrind".into(), "--tool=callgrind".into(), out]
}

/// The total of a callgrind file.
fn summary(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    total.context("no summary")?.trim().parse().context("a number")
}

fn report(counts: &BTreeMap<String, u64>) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    let kept: BTreeMap<String, u64> = fs::read_to_string(&path)
        .ok()
        .map(|text| serde_json::from_str(&text))
        .transpose()?
        .unwrap_or_default();
    println!("| instructions in user space | now | kept | change |\n|---|---|---|---|");
    for (case, now) in counts {
        let before = kept.get(case);
        let change = before.map(|before| format!("{:+.1} %", 100.0 * (*now as f64 / *before as f64 - 1.0)));
        let before = before.map_or("none".to_owned(), u64::to_string);
        println!("| {case} | {now} | {before} | {} |", change.unwrap_or_default());
    }
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        fs::write(&path, serde_json::to_string_pretty(counts)? + "\n")?;
        println!("\nkept in {}", path.display());
    }
    Ok(())
}
