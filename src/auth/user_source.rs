//! Where users come from: who checks their passwords.

use std::fmt;

/// A place that users come from. Each user of the store has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceName {
    /// The gateway's own store, which has a hash of the password.
    #[default]
    Store,
    /// A directory.
    Ldap,
    /// The platform, by its own token endpoint.
    Platform,
}

impl SourceName {
    /// Every place.
    pub const ALL: [Self; 3] = [Self::Store, Self::Ldap, Self::Platform];

    /// As the configuration, the store and the log name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Ldap => "ldap",
            Self::Platform => "platform",
        }
    }

    /// The place of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_one_name() {
        for source in SourceName::ALL {
            assert_eq!(SourceName::parse(source.as_str()), Some(source));
        }
        assert_eq!(["", "Store", "files"].map(SourceName::parse), [None; 3]);
    }
}
