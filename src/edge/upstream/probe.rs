//! Probes of addresses that were left out: one connection after each back-off, beside the requests, so that none of them waits for a
//! server that is still dead. Once a connection succeeds, one request tries the address.

use std::io;
use std::sync::Weak;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::health::Health;
use super::names::Address;

/// Probes an address from now on, on this worker, until it can be tried or nobody knows it any more.
pub(super) fn start(health: Weak<Health>, address: Address, connect_timeout: Duration) {
    // A worker has one.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(probe(health, address, connect_timeout));
    }
}

async fn probe(health: Weak<Health>, address: Address, connect_timeout: Duration) {
    loop {
        let wait = match health.upgrade() {
            Some(health) if health.is_out() => health.back_off(fastrand::f64()),
            _ => return,
        };
        sleep(wait).await;
        if matches!(timeout(connect_timeout, connect(&address)).await, Ok(Ok(()))) {
            health.upgrade().into_iter().for_each(|health| health.offer_trial());
        }
    }
}

async fn connect(address: &Address) -> io::Result<()> {
    match address {
        Address::Network(address) => TcpStream::connect(address).await.map(drop),
        Address::Unix(path) => UnixStream::connect(path).await.map(drop),
    }
}
