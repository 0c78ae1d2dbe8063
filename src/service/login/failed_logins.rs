//! Failed logins, summed by account and address block until somebody writes them down.
//!
//! A storm of failures must not become a storm of rows: the table is bounded, and what does not fit is
//! counted together. A name that no user bears is not kept, since people type passwords there too.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use parking_lot::Mutex;

use crate::auth::user_source::SourceName;
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
    source: SourceName,
}

impl FailedLogins {
    /// Counts one that `source` has refused; `user` only if it exists.
    pub fn note(&self, user: Option<&str>, client: Option<IpAddr>, source: SourceName) {
        let key = Key { user: user.map(Into::into), block: client.map(block_of), source };
        add(&mut self.counts.lock(), key, 1);
    }

    /// All sums, which start again at zero.
    pub fn take(&self) -> Taken {
        Taken(std::mem::take(&mut *self.counts.lock()))
    }

    /// Adds sums again that could not be written.
    pub fn put_back(&self, taken: Taken) {
        let mut counts = self.counts.lock();
        taken.0.into_iter().for_each(|(key, count)| add(&mut counts, key, count));
    }
}

/// Sums that are about to be written.
#[derive(Debug)]
pub struct Taken(HashMap<Key, u32>);

impl Taken {
    /// Is there nothing to write?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As they are written.
    pub fn rows(&self) -> Vec<Failures> {
        let failures = self.0.iter().map(|(key, count)| Failures {
            subject: key.user.as_deref().unwrap_or("unknown").to_owned(),
            origin: match key.block {
                Some(block @ IpAddr::V4(_)) => format!("{block}/24"),
                Some(block @ IpAddr::V6(_)) => format!("{block}/64"),
                None => "elsewhere".into(),
            },
            source: key.source,
            count: *count,
        });
        failures.collect()
    }
}

fn add(counts: &mut HashMap<Key, u32>, mut key: Key, more: u32) {
    if counts.len() >= MAX_KEYS && !counts.contains_key(&key) {
        key = Key { user: None, block: None, source: SourceName::Store };
    }
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(more);
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
    use super::SourceName::{Ldap, Platform, Store};
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn failures_are_summed_by_account_and_block() {
        let failures = FailedLogins::default();
        failures.note(Some("anna"), address("192.0.2.1"), Store);
        failures.note(Some("anna"), address("192.0.2.255"), Store);
        failures.note(Some("anna"), address("::ffff:192.0.2.9"), Store);
        failures.note(Some("anna"), address("192.0.2.9"), Ldap);
        failures.note(Some("anna"), address("192.0.2.9"), Ldap);
        failures.note(None, address("2001:db8::1:2:3:4"), Platform);
        let mut taken = failures.take().rows();
        taken.sort_by_key(|sum| sum.count);
        let sum = |subject: &str, origin: &str, source, count| Failures {
            subject: subject.into(),
            origin: origin.into(),
            source,
            count,
        };
        let expected = [
            sum("unknown", "2001:db8::/64", Platform, 1),
            sum("anna", "192.0.2.0/24", Ldap, 2),
            sum("anna", "192.0.2.0/24", Store, 3),
        ];
        assert_eq!(taken, expected);
        assert!(failures.take().is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_loses_no_count() {
        let failures = FailedLogins::default();
        for number in 0..5000u32 {
            failures.note(None, Some(Ipv4Addr::from_bits(number << 8).into()), Store);
        }
        let taken = failures.take().rows();
        assert_eq!(taken.len(), MAX_KEYS + 1);
        assert_eq!(taken.iter().map(|sum| sum.count).sum::<u32>(), 5000);
    }

    #[test]
    fn what_is_put_back_is_added_to_what_came_meanwhile_and_the_table_stays_bounded() {
        let failures = FailedLogins::default();
        let storm = |block: u32| {
            for number in 0..1000 {
                failures.note(Some("anna"), Some(Ipv4Addr::from_bits((block + number) << 8).into()), Store);
            }
        };
        for round in 1..=5 {
            storm(round * 300);
            let taken = failures.take();
            storm(round * 300);
            failures.put_back(taken);
        }
        let taken = failures.take().rows();
        assert!(taken.len() <= MAX_KEYS + 1, "{}", taken.len());
        assert_eq!(taken.iter().map(|sum| sum.count).sum::<u32>(), 10_000);
    }
}
