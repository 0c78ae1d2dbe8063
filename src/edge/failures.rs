//! Failed logins, summed by account and address block until somebody writes them down.
//!
//! A storm of failures must not become a storm of rows: the table is bounded, and what does not fit is
//! counted together. A name that no user bears is not kept, since people type passwords there too.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use parking_lot::Mutex;

use crate::store::command::FailedLogins as Failures;

/// Failures since they were last taken.
#[derive(Debug, Default)]
pub struct FailedLogins {
    counts: Mutex<HashMap<Key, u32>>,
}

/// What failures are summed by: a user that exists, if it was one, and where they came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    user: Option<Box<str>>,
    block: Option<IpAddr>,
}

impl FailedLogins {
    /// Counts one; `user` only if it exists.
    pub fn note(&self, user: Option<&str>, client: Option<IpAddr>) {
        let mut key = Key { user: user.map(Into::into), block: client.map(block_of) };
        let mut counts = self.counts.lock();
        if counts.len() >= MAX_KEYS && !counts.contains_key(&key) {
            key = Key { user: None, block: None };
        }
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    /// All sums, which begin anew.
    pub fn take(&self) -> Vec<Failures> {
        let counts = std::mem::take(&mut *self.counts.lock());
        let failures = counts.into_iter().map(|(key, count)| Failures {
            subject: key.user.map_or_else(|| "unknown".into(), Into::into),
            origin: match key.block {
                Some(block @ IpAddr::V4(_)) => format!("{block}/24"),
                Some(block @ IpAddr::V6(_)) => format!("{block}/64"),
                None => "elsewhere".into(),
            },
            count,
        });
        failures.collect()
    }
}

/// The addresses that one attacker most likely has.
fn block_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// More sums than this between two takings are put together.
const MAX_KEYS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn failures_are_summed_by_account_and_block() {
        let failures = FailedLogins::default();
        failures.note(Some("anna"), address("192.0.2.1"));
        failures.note(Some("anna"), address("192.0.2.255"));
        failures.note(Some("anna"), address("::ffff:192.0.2.9"));
        failures.note(None, address("2001:db8::1:2:3:4"));
        let mut taken = failures.take();
        taken.sort_by_key(|sum| sum.count);
        let sum = |subject: &str, origin: &str, count| Failures {
            subject: subject.into(),
            origin: origin.into(),
            count,
        };
        assert_eq!(taken, [sum("unknown", "2001:db8::/64", 1), sum("anna", "192.0.2.0/24", 3)]);
        assert!(failures.take().is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_loses_no_count() {
        let failures = FailedLogins::default();
        for number in 0..5000u32 {
            failures.note(None, Some(Ipv4Addr::from_bits(number << 8).into()));
        }
        let taken = failures.take();
        assert_eq!(taken.len(), MAX_KEYS + 1);
        assert_eq!(taken.iter().map(|sum| sum.count).sum::<u32>(), 5000);
    }
}
