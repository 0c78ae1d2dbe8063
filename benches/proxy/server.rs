//! A proxy that is measured: its process, where it listens, and its access log.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::client::Transport;
use crate::process::{self, Running};

/// A proxy that serves, and where.
pub struct Server {
    pub process: Running,
    pub http: SocketAddr,
    pub https: Option<SocketAddr>,
    /// Where its metrics are.
    pub admin: Option<SocketAddr>,
    /// Of every request, if it writes one.
    pub access_log: Option<AccessLog>,
}

impl Server {
    /// Where clients come in.
    pub fn address(&self, transport: Transport) -> Result<SocketAddr> {
        match transport {
            Transport::Http => Ok(self.http),
            Transport::Https | Transport::HttpsAnew | Transport::Http2 => self.https.context("it has no TLS"),
        }
    }
}

/// A log with a line for each request, which has `mark` in it.
pub struct AccessLog {
    pub path: PathBuf,
    pub marker: &'static str,
}

impl AccessLog {
    /// Waits until it has a line for each of `requests`, then empties it: a dropped line costs nothing.
    pub async fn take(&self, requests: usize) -> Result<()> {
        process::until("the access log has every request", async || {
            lines_with(self.marker, &self.path) == requests
        })
        .await
        .with_context(|| format!("it has {}, not {requests}", lines_with(self.marker, &self.path)))?;
        self.empty()
    }

    /// Lines of what went before.
    pub fn empty(&self) -> Result<()> {
        Ok(OpenOptions::new().write(true).open(&self.path)?.set_len(0)?)
    }
}

fn lines_with(marker: &str, path: &Path) -> usize {
    let log = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&log).matches(marker).count()
}
