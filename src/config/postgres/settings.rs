//! The store in PostgreSQL as plain data.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::host::PostgresHost;
use super::materials::{PostgresFiles, PostgresMaterials};
use crate::auth::time::UnixTime;

/// A PostgreSQL database, and how the gateway connects to it.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// In the order in which they are tried.
    pub hosts: Vec<PostgresHost>,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// TLS towards hosts on a network.
    pub tls: PostgresTls,
    /// What the server calls the sessions, before what each is for.
    pub application_name: String,
    /// For each address of a host: TCP, TLS, authentication and the session's settings together.
    pub connect_timeout: Duration,
    /// Command-line options for the session, as `-c geqo=off`.
    pub options: Option<String>,
    /// When a commit counts as durable.
    pub durability: Durability,
    /// Where certificates, keys and the password come from.
    pub files: PostgresFiles,
    /// What they held when the configuration was read.
    pub loaded: Arc<PostgresMaterials>,
}

impl PostgresSettings {
    /// What the files hold now, so that a new password or certificate needs no restart; what they held at first, if they cannot be
    /// used now (they are being replaced, or only root may read them). Blocks.
    pub fn materials(&self) -> Arc<PostgresMaterials> {
        self.files.read().map_or_else(|_| Arc::clone(&self.loaded), Arc::new)
    }

    /// As messages name it: where it is and as whom the gateway works there.
    pub fn shown(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        format!("postgres://{}@{}/{}", self.user, hosts.join(","), self.database)
    }

    /// Choices that are allowed and dangerous, each with its reason.
    pub(in crate::config) fn warnings(&self) -> Vec<String> {
        let is_exposed = self.hosts.iter().any(PostgresHost::is_remote);
        let weakness = match self.tls {
            PostgresTls::VerifyFull => None,
            PostgresTls::VerifyCa => Some(
                "verify-ca accepts a certificate for any name: anyone who has one by the same CA can impersonate the database",
            ),
            PostgresTls::Require => Some("require lets anyone on the network path impersonate the database"),
            PostgresTls::Prefer => Some(
                "prefer lets anyone on the network path impersonate the database, and read what is sent to it",
            ),
            PostgresTls::Disable => {
                Some("disable sends users, password hashes and keys' states over the network unencrypted")
            }
        };
        let weakness = weakness.filter(|_| is_exposed);
        weakness
            .map(|text| format!("store.url: sslmode={text}; use verify-full"))
            .into_iter()
            .chain(self.loaded.warning.clone())
            .collect()
    }

    /// What servers may not accept of the client certificate at this time, and what is dangerous about its key.
    pub(in crate::config) fn certificate_warnings(&self, now: UnixTime) -> Vec<String> {
        let Some(pair) = &self.loaded.client else { return Vec::new() };
        let open = pair.open_file.as_ref().map(|file| {
            let shown = file.display();
            format!("store.url: sslkey: {shown} is world-readable: run `chmod 600 {shown}`")
        });
        pair.warnings(now).into_iter().map(|text| format!("store.url: sslcert{text}")).chain(open).collect()
    }
}

/// `sslmode`: how a connection over a network is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresTls {
    /// TLS, and a certificate by a trusted CA for the host's name.
    VerifyFull,
    /// TLS, and a certificate by a trusted CA for any name.
    VerifyCa,
    /// TLS with any certificate.
    Require,
    /// TLS with any certificate if the server offers it.
    Prefer,
    /// No TLS.
    Disable,
}

/// `store.durability`: when a commit counts as durable.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When the server has flushed it; and the synchronous standbys as well, if the server has some.
    #[default]
    Local,
    /// When the synchronous standbys have also applied it, so that it can be read there.
    RemoteApply,
}
