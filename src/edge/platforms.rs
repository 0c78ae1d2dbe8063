//! Which platform a request goes to: the one with the longest prefix of its path, or the default.

use std::sync::Arc;

use super::upstream::Upstream;
use crate::auth::policy::{PathPrefix, split_target};

/// One platform for most requests, and others for those below a path.
#[derive(Clone)]
pub struct Platforms {
    default: Arc<Upstream>,
    prefixed: Vec<(PathPrefix, Arc<Upstream>)>,
}

impl Platforms {
    /// `prefixed` has the longest prefix first.
    pub const fn new(default: Arc<Upstream>, prefixed: Vec<(PathPrefix, Arc<Upstream>)>) -> Self {
        Self { default, prefixed }
    }

    /// The number of the one that a request for this target goes to. What is not canonical goes to the default, as if there were no other:
    /// nobody can say below which path a server would see it.
    pub fn of(&self, target: &[u8]) -> usize {
        if self.prefixed.is_empty() {
            return 0;
        }
        let (path, _) = split_target(target);
        self.prefixed.iter().position(|(prefix, _)| prefix.matches(path)).map_or(0, |at| at + 1)
    }

    /// One by its number.
    pub fn get(&self, number: usize) -> &Upstream {
        let prefixed = number.checked_sub(1).and_then(|at| self.prefixed.get(at));
        prefixed.map_or(&self.default, |(_, upstream)| upstream)
    }

    /// The default one, for requests of the gateway's own.
    pub fn default(&self) -> Arc<Upstream> {
        Arc::clone(&self.default)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Upstream> {
        std::iter::once(&*self.default).chain(self.prefixed.iter().map(|(_, upstream)| &**upstream))
    }
}
