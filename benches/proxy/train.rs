//! The load that `make build-tuned` has the compiler watch: what the gateway is asked in practice, the most frequent most.

use std::path::Path;

use anyhow::Result;

use crate::case::Case;
use crate::client::Outcome::{Forwarded, Refused};
use crate::client::{Request, Requests, Transport};
use crate::gateway::{self, Gateway, Logs};
use crate::platform::Platform;

/// `program` is an instrumented build; it writes its profile when it ends.
pub async fn train(folder: &Path, program: &str) -> Result<()> {
    let platform = Platform::start().await?;
    let gateway = Gateway::prepare(folder.join("gateway"), platform.address()).await?;
    for (name, logs) in [("access log off", Logs::Events), ("access log on", Logs::Requests)] {
        let (server, _) = gateway.start_other(program, logs).await?;
        let token = Some(gateway.token.as_str());
        let forged = gateway::forged(&gateway.token)?;
        let many: Requests = gateway.tokens(1_000)?.iter().map(|token| Request::get(Some(token))).collect();
        let post = |bytes| -> Requests { [Request::post(token, bytes)].into() };
        for (case, requests) in [
            (Case::new("one token", &server, token, Forwarded).scraped(), 50_000),
            (Case::of("many tokens", &server, many, Forwarded), 50_000),
            (Case::new("a forged token", &server, Some(&forged), Refused), 10_000),
            (Case::new("no token", &server, None, Refused), 10_000),
            (Case::new("TLS", &server, token, Forwarded).over(Transport::Https), 20_000),
            (Case::new("new connections", &server, token, Forwarded).over(Transport::HttpsAnew), 1_000),
            (Case::of("small bodies", &server, post(1 << 10), Forwarded), 20_000),
            (Case::of("large bodies", &server, post(64 << 10), Forwarded), 1_000),
        ] {
            case.sample(&platform, requests, 1).await?;
            eprintln!("{name}: {}, {requests} requests", case.name);
        }
        for _ in 0..20 {
            gateway::mint(server.http).await?;
        }
        server.process.stop()?;
    }
    Ok(())
}
