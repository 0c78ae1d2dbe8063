//! Ten people who start work at the same moment.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;
use tokio::task::JoinSet;

use super::honest::Account;
use super::login::LoginClient;
use super::promises::Promises;
use crate::client::login;
use crate::gateway::{Gateway, PASSWORD};

pub async fn measure(folder: &Path, platform: SocketAddr, promises: &mut Promises) -> Result<()> {
    let gateway = Gateway::prepare(folder.join("gateway"), platform).await?;
    let users = gateway.import_users(TOGETHER)?;
    let own = |(user, number): (&String, u8)| Account {
        user: user.clone(),
        address: Ipv4Addr::new(127, 40, number, 1),
    };
    let own: Vec<_> = users.iter().zip(0..).map(own).collect();
    let statuses = together(&gateway, &own).await?;
    let bar = format!("{TOGETHER} × 201");
    promises.hold("ten right logins at once, at a fresh gateway", cell(&statuses), &bar, are_good(&statuses));

    let address = Ipv4Addr::new(127, 41, 0, 1);
    let shared: Vec<_> = users.into_iter().map(|user| Account { user, address }).collect();
    let statuses = together(&gateway, &shared).await?;
    promises.warn("the same, all from one address", cell(&statuses), &bar, are_good(&statuses));
    Ok(())
}

/// All at a gateway that has just started; nobody tries again.
async fn together(gateway: &Gateway, accounts: &[Account]) -> Result<BTreeMap<u16, usize>> {
    let server = gateway.start_with(&[]).await?;
    let mut logins = JoinSet::new();
    for Account { user, address } in accounts {
        let (mut client, request) = (LoginClient::new(server.http, *address), login(user, PASSWORD));
        logins.spawn(async move { client.ask(&request).await });
    }
    let mut statuses = BTreeMap::new();
    for answer in logins.join_all().await {
        *statuses.entry(answer?.status).or_default() += 1;
    }
    Ok(statuses)
}

fn are_good(statuses: &BTreeMap<u16, usize>) -> bool {
    statuses.keys().all(|status| *status == 201)
}

fn cell(statuses: &BTreeMap<u16, usize>) -> String {
    let cells: Vec<_> = statuses.iter().map(|(status, count)| format!("{count} × {status}")).collect();
    cells.join(", ")
}

const TOGETHER: usize = 10;
