//! Where a client comes from: addresses that are taken for one client, and for one network.
//!
//! An IPv4 address is one client (or one NAT). Over IPv6 a client is given a /64 at least and chooses its addresses there
//! freely, so that the /64 is the client. IPv6 forms of IPv4 addresses (`::ffff:192.0.2.1`) are IPv4.

// Of `core`: addresses as data, without the sockets of `std`.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

/// One client: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to.
    pub const fn of(address: IpAddr) -> Self {
        Self(network(address, 32, 64))
    }
}

/// `192.0.2.1`, `2001:db8::/64`: one text for each source.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// One network, which may hold many sources: the /24 of an IPv4 address, or the /48 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network that an address belongs to.
    pub const fn of(address: IpAddr) -> Self {
        Self(network(address, 24, 48))
    }
}

/// `192.0.2.0/24`, `2001:db8::/48`: one text for each network.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(network) => write!(f, "{network}/24"),
            IpAddr::V6(network) => write!(f, "{network}/48"),
        }
    }
}

/// The first address of the network of so many bits.
const fn network(address: IpAddr, ipv4: u32, ipv6: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - ipv4)))),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - ipv6))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_source_and_block_has_one_text() {
        for (address, source, block) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.0/24"),
            ("255.255.255.255", "255.255.255.255", "255.255.255.0/24"),
            ("0.0.0.0", "0.0.0.0", "0.0.0.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::/64", "2001:db8::/48"),
            ("2001:db8:0:0:ffff:ffff:ffff:ffff", "2001:db8::/64", "2001:db8::/48"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
            ("::1", "::/64", "::/48"),
            // Embeds an IPv4 address, and is not a form of one.
            ("::192.0.2.1", "::/64", "::/48"),
            ("64:ff9b::192.0.2.1", "64:ff9b::/64", "64:ff9b::/48"),
        ] {
            let parsed = address.parse().unwrap();
            assert_eq!(Source::of(parsed).to_string(), source, "{address}");
            assert_eq!(Network::of(parsed).to_string(), block, "{address}");
        }
    }

    /// Pairs that share many leading bits now and then, which two random addresses never do.
    fn pairs() -> impl Strategy<Value = (u128, u128)> {
        (any::<u128>(), any::<u128>(), 0u32..=128)
            .prop_map(|(one, noise, shared)| (one, one ^ noise.checked_shr(shared).unwrap_or_default()))
    }

    proptest! {
        #[test]
        fn ipv4_source_is_the_address_and_its_block_the_first_three_bytes((one, other) in pairs()) {
            let [one, other] = [one, other].map(|bits| Ipv4Addr::from_bits((bits >> 96) as u32));
            let (first, second) = (Source::of(one.into()), Source::of(other.into()));
            prop_assert_eq!(first == second, one == other);
            prop_assert_eq!(first.to_string(), one.to_string());
            prop_assert_eq!(
                Network::of(one.into()) == Network::of(other.into()),
                one.octets()[..3] == other.octets()[..3]
            );
        }

        #[test]
        fn ipv4_address_in_ipv6_form_is_the_same_source_and_block(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let mapped = IpAddr::V6(address.to_ipv6_mapped());
            prop_assert_eq!(Source::of(mapped), Source::of(address.into()));
            prop_assert_eq!(Network::of(mapped), Network::of(address.into()));
        }

        #[test]
        fn ipv6_source_is_the_first_eight_bytes_and_its_block_the_first_six((one, other) in pairs()) {
            let [one, other] = [one, other].map(Ipv6Addr::from_bits);
            prop_assume!([one, other].iter().all(|address| address.to_ipv4_mapped().is_none()));
            let shared = |bytes| one.octets()[..bytes] == other.octets()[..bytes];
            let (first, second) = (Source::of(one.into()), Source::of(other.into()));
            prop_assert_eq!(first == second, shared(8));
            prop_assert_eq!(Network::of(one.into()) == Network::of(other.into()), shared(6));
        }

        /// The store keeps the text of a source: it must tell apart what the type does, and no more.
        #[test]
        fn text_and_order_tell_apart_what_equality_does((one, other) in pairs(), is_ipv4: bool) {
            let of = |bits: u128| match is_ipv4 {
                true => IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)),
                false => IpAddr::V6(Ipv6Addr::from_bits(bits)),
            };
            let (first, second) = (Source::of(of(one)), Source::of(of(other)));
            prop_assert_eq!(first == second, first.to_string() == second.to_string());
            prop_assert_eq!(first == second, first.cmp(&second).is_eq());
            let (first, second) = (Network::of(of(one)), Network::of(of(other)));
            prop_assert_eq!(first == second, first.to_string() == second.to_string());
            prop_assert_eq!(first == second, first.cmp(&second).is_eq());
        }
    }
}
