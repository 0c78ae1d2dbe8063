//! One entry of a directory, as far as it was asked for.

use std::collections::BTreeMap;

/// An entry: its name, and the values of some attributes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    name: String,
    /// By their names in lower case, which a server may write otherwise than it was asked.
    attributes: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Entry {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), attributes: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, attribute: &str, value: &[u8]) {
        self.attributes.entry(attribute.to_ascii_lowercase()).or_default().push(value.to_vec());
    }

    /// Its distinguished name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// All values of an attribute.
    pub(super) fn values(&self, attribute: &str) -> &[Vec<u8>] {
        self.attributes.get(&attribute.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// The first value of an attribute, if there is one and it is text.
    pub(super) fn first(&self, attribute: &str) -> Option<&str> {
        std::str::from_utf8(self.values(attribute).first()?).ok()
    }

    /// The value of an attribute that must not have several.
    pub(super) fn only(&self, attribute: &str) -> Only<'_> {
        match self.values(attribute) {
            [] => Only::None,
            [value] => std::str::from_utf8(value).map_or(Only::Unusable, Only::Text),
            _ => Only::Unusable,
        }
    }
}

/// What people are called and how they can be reached is nobody's to see.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("attributes", &self.attributes.len()).finish_non_exhaustive()
    }
}

/// The value of an attribute that must not have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only<'e> {
    /// It has none.
    None,
    /// It has this one.
    Text(&'e str),
    /// It has several, or one that is not text.
    Unusable,
}
