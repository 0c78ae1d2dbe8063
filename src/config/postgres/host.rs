//! Where a server of PostgreSQL listens.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where a server of PostgreSQL listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresHost {
    /// A name or an address, without brackets.
    Tcp {
        /// The name or the address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix domain socket.
    Unix {
        /// The folder of the socket.
        folder: PathBuf,
        /// The port that is part of the socket's name.
        port: u16,
    },
}

impl PostgresHost {
    /// Does a connection leave this machine?
    pub(super) fn is_remote(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => host
                .parse::<IpAddr>()
                .map_or_else(|_| !host.eq_ignore_ascii_case("localhost"), |address| !address.is_loopback()),
            Self::Unix { .. } => false,
        }
    }
}

impl fmt::Display for PostgresHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { folder, port } => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}
