//! A client that logs in, from an address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use crate::client::{Client, login_with};

/// A proxy that the gateway is told to trust: it may say who the client is.
pub const TRUSTED_PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// The setting that tells it so.
pub const TRUST: (&str, &str) = ("DS_GATEWAY__SERVER__TRUSTED_PROXIES", "127.0.0.9/32");

pub struct LoginClient(Client);

pub struct LoginAnswer {
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    pub took: Duration,
}

impl LoginClient {
    pub fn new(gateway: SocketAddr, source: Ipv4Addr) -> Self {
        Self(Client::from_source(gateway, source))
    }

    pub async fn ask(&mut self, request: &[u8]) -> Result<LoginAnswer> {
        let answer = self.0.exchange(request).await?;
        let head = std::str::from_utf8(answer.head)?;
        let retry_after = field(head, "retry-after").map(str::parse).transpose()?;
        let is_last = field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let answer = LoginAnswer { status: answer.status, retry_after, took: answer.took };
        if is_last {
            self.0.close();
        }
        Ok(answer)
    }

    /// The next one opens a connection: this one waits for an answer that nobody will read.
    pub fn close(&mut self) {
        self.0.close();
    }
}

impl LoginAnswer {
    /// Whether the client may come again, and no password was checked.
    pub fn must_wait(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}

/// As the trusted proxy passes it on.
pub fn forwarded_login(user: &str, password: &str, client: Ipv4Addr) -> Vec<u8> {
    login_with(user, password, &format!("x-forwarded-for: {client}\r\n"))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
