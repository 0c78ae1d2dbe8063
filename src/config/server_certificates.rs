//! The certificates of the TLS listeners, and which of them belongs to which name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::certificates::{CertifiedKey, PairPaths};
use super::origin::numbered;
use super::source::ConfigError;
use crate::auth::time::UnixTime;

/// Where they are.
#[derive(Clone, Debug, Default)]
pub struct ServerPairs {
    /// `server.certificate` and `server.private_key`.
    pub default: Option<PairPaths>,
    /// `server.certificates`
    pub others: Vec<PairPaths>,
}

impl ServerPairs {
    /// Every file.
    pub fn paths(&self) -> Vec<PathBuf> {
        let pairs = self.default.iter().chain(&self.others);
        pairs.flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]).collect()
    }
}

/// What was in those files, checked: no two have a name in common and keys of one type.
#[derive(Clone, Debug, Default)]
pub struct ServerCertificates {
    /// For clients that ask for a name that no certificate has, or for none. None: the gateway makes one.
    pub default: Option<CertifiedKey>,
    /// Each has at least one name.
    pub others: Vec<CertifiedKey>,
}

impl ServerCertificates {
    /// Reads and checks every pair, and finds every error at once.
    ///
    /// # Errors
    ///
    /// Each says which file is wrong and what to do about it.
    pub fn read(pairs: &ServerPairs) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut read = |pair: &PairPaths, settings: [&str; 2]| {
            pair.read(settings).map_err(|error| errors.push(error)).ok()
        };
        let default = pairs.default.as_ref().and_then(|pair| read(pair, SERVER));
        let others: Vec<_> = pairs.others.iter().map(|pair| read(pair, [OTHERS; 2])).collect();
        let of_others = pairs.others.iter().zip(&others);
        for (paths, _) in of_others.clone().filter(|(_, pair)| pair.as_ref().is_some_and(has_no_name)) {
            errors.push(ConfigError::new(
                OTHERS,
                format!(
                    "{} has no DNS name among its subject alternative names, so no client can ask for it: \
                     have it issued with its names, or make it server.certificate, which needs none",
                    paths.certificate.display()
                ),
            ));
        }
        let all = pairs.default.iter().zip([&default]).chain(of_others);
        errors.extend(conflicts(all.filter_map(|(paths, pair)| Some((paths, pair.as_ref()?)))));
        if errors.is_empty() {
            Ok(Self { default, others: others.into_iter().flatten().collect() })
        } else {
            Err(errors)
        }
    }

    /// Those beside the default, each with the setting that names it.
    pub fn others(&self) -> impl Iterator<Item = (String, &CertifiedKey)> {
        self.others.iter().enumerate().map(|(at, pair)| (numbered(OTHERS, at), pair))
    }

    /// All of them, each with the setting that names it.
    pub fn all(&self) -> impl Iterator<Item = (String, &CertifiedKey)> {
        self.default.iter().map(|pair| (SERVER[0].to_owned(), pair)).chain(self.others())
    }

    /// A line for each of them: its names, its type of key, and how long it lasts.
    pub fn describe(&self, now: UnixTime) -> Vec<String> {
        self.all().map(|(setting, pair)| pair.describe(&setting, now)).collect()
    }

    /// The certificates of each name, one for each type of key; their places in [`Self::all`]. A name that begins with `*.` is for all
    /// that have one label more and no certificates of their own.
    pub fn by_name(&self) -> BTreeMap<String, Vec<usize>> {
        let mut names = BTreeMap::<String, Vec<usize>>::new();
        for (at, (_, pair)) in self.all().enumerate() {
            for name in pair.names() {
                let places = names.entry(name).or_default();
                // A certificate may have a name twice.
                if !places.contains(&at) {
                    places.push(at);
                }
            }
        }
        names
    }
}

/// The wildcard that stands for a name: one label is replaced (RFC 9525 §6.3).
pub fn wildcard_of(name: &str) -> Option<String> {
    let (first, rest) = name.split_once('.')?;
    (!first.is_empty() && !rest.is_empty()).then(|| format!("*.{rest}"))
}

fn has_no_name(pair: &CertifiedKey) -> bool {
    pair.names().is_empty()
}

/// An error for each pair of certificates of which a client could not tell which it will be shown.
fn conflicts<'p>(all: impl Iterator<Item = (&'p PairPaths, &'p CertifiedKey)>) -> Vec<ConfigError> {
    let mut known = BTreeMap::<(String, &str), &PairPaths>::new();
    let mut errors = Vec::new();
    for (paths, pair) in all {
        let (kind, shown) = (pair.key_type(), paths.certificate.display());
        let names: BTreeSet<String> = pair.names().into_iter().collect();
        let first = names.iter().find_map(|name| Some((name, known.get(&(name.clone(), kind))?)));
        if let Some((name, other)) = first {
            errors.push(ConfigError::new(
                OTHERS,
                format!(
                    "{shown} and {} are both for {name:?} with a key of the same type ({kind}): keep one of them, \
                     or two with different types of key",
                    other.certificate.display()
                ),
            ));
        }
        known.extend(names.into_iter().map(|name| ((name, kind), paths)));
    }
    errors
}

/// The settings of the default pair.
pub(super) const SERVER: [&str; 2] = ["server.certificate", "server.private_key"];

/// The setting of the others.
pub(super) const OTHERS: &str = "server.certificates";

#[cfg(test)]
mod tests;
