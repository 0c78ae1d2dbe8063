//! The address of a client as log, audit trail and platform see it.

// Of `core`: addresses as data, without the sockets of `std`.
use core::net::{IpAddr, SocketAddr};
use std::fmt;

use http::HeaderValue;

/// The address of a client, in one form everywhere: IPv4 is never written as IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// Without its port.
    pub ip: IpAddr,
    port: Option<u16>,
}

impl ClientAddress {
    /// The end of a connection.
    pub fn of_socket(address: SocketAddr) -> Self {
        Self { ip: address.ip().to_canonical(), port: Some(address.port()) }
    }

    /// What a proxy names: it says no port.
    pub const fn without_port(ip: IpAddr) -> Self {
        Self { ip, port: None }
    }

    /// Without its port, as the value of a header field.
    pub fn field_value(&self) -> HeaderValue {
        // Digits, letters, dots and colons.
        HeaderValue::from_str(&self.ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}
