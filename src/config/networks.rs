//! Addresses and networks that a setting names: proxies whose word about a client counts, places that logins may come from.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

/// Some addresses and networks.
#[derive(Clone, Debug, Default)]
pub struct Networks(Vec<IpNet>);

/// An address, or a network as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let net = text.parse::<IpNet>().or_else(|_| address()).map_err(|_| ())?;
        // IPv4 written as IPv6 is IPv4, as the addresses that are looked up are.
        let mapped = match net {
            IpNet::V6(six) if six.prefix_len() >= 96 => {
                six.addr().to_ipv4_mapped().map(|four| (four, six.prefix_len() - 96))
            }
            _ => None,
        };
        match mapped {
            Some((four, length)) => IpNet::new(four.into(), length).map(Self).map_err(|_| ()),
            None => Ok(Self(net)),
        }
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(nets: I) -> Self {
        Self(nets.into_iter().map(|Network(net)| net).collect())
    }
}

impl Networks {
    /// Is this one of them? IPv4 over an IPv6 socket is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Is there none?
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is everybody among them?
    pub fn is_everybody(&self) -> bool {
        self.0.iter().any(|net| net.prefix_len() == 0)
    }
}

/// In which fields the proxies say who the client is. Only one kind counts: a proxy that writes one lets the client's own of
/// the other kind through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ForwardedFields {
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`.
    #[serde(rename = "x-forwarded")]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    #[serde(rename = "forwarded")]
    Rfc7239,
}
