//! The gateway beside bare pingora, and with many tokens revoked.

use std::path::Path;

use anyhow::Result;

use crate::bare::{self, Duties};
use crate::case::Case;
use crate::client::Outcome::{Forwarded, Refused};
use crate::gateway::{self, Gateway, Logs, REVOCATIONS};
use crate::platform::Platform;
use crate::process;
use crate::report::{AtRest, Report};
use crate::rounds;

/// Starts that are timed.
const STARTS: usize = 5;

/// The cases that others are compared with.
const BARE: &str = "bare pingora";
const VALID: &str = "valid token";

pub async fn measure(folder: &Path, rounds: usize, requests: usize) -> Result<()> {
    let platform = Platform::start().await?;
    let at = platform.address();
    let bare = bare::start(at, Duties::None).await?;
    let with_fields = bare::start(at, Duties::Fields).await?;
    let gateway = Gateway::prepare(folder.join("gateway"), at).await?;

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(gateway.start(Logs::Events).await?.1);
    }
    let (quiet, _) = gateway.start(Logs::Events).await?;
    tokio::time::sleep(process::REST).await;
    let resident_mb = quiet.process.resident_mb()?;

    let (logging, _) = gateway.start(Logs::Requests).await?;
    let others = gateway.start_others(&[]).await?;
    let mut revoked = Vec::new();
    for (name, count) in REVOCATIONS {
        let gateway = Gateway::revoked(folder, at, count).await?;
        let (server, ready) = gateway.start(Logs::Events).await?;
        eprintln!("ready after {} ms", ready.as_millis());
        revoked.push((name, gateway.token, server));
    }

    let valid = Some(gateway.token.as_str());
    let forged = gateway::forged(&gateway.token)?;
    let mut cases = vec![
        Case::new(BARE, &bare, valid, Forwarded),
        Case::new("bare pingora, with fields and time-outs", &with_fields, valid, Forwarded),
        Case::new(VALID, &quiet, valid, Forwarded).at_most(1.05, BARE),
        Case::new("valid token, access log on", &logging, valid, Forwarded),
        Case::new("valid token, scraped every 100 ms", &quiet, valid, Forwarded)
            .scraped()
            .at_most(1.01, VALID),
        Case::new("no token", &quiet, None, Refused).at_most(0.5, VALID),
        Case::new("forged token", &quiet, Some(&forged), Refused).at_most(0.5, VALID),
    ];
    for (name, server) in &others {
        cases.push(Case::new(name, server, valid, Forwarded));
    }
    for (name, token, server) in &revoked {
        cases.push(Case::new(name, server, Some(token), Forwarded).at_most(1.03, VALID));
    }

    let mut report = Report::new("proxy.json")?;
    report.about("command", format!("make bench ROUNDS={rounds} REQUESTS={requests}"));
    let table =
        rounds::run("beside bare pingora", &cases, &[BARE, VALID], &platform, (rounds, requests)).await?;
    report.add(table)?;
    report.at_rest(&AtRest { starts, resident_mb, resident_after_mb: quiet.process.resident_mb()? })
}
