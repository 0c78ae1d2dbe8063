//! Which way a request goes, decided from its method and its raw target alone. Doubt is [`Route::Protected`].
//!
//! The path is never normalised and then matched. A route is public, or the gateway's own, only where the
//! raw bytes have a single meaning (a *canonical* path). What is ambiguous in a way that servers are known to
//! differ about is refused, and what any server could take for the endpoint never goes on.

mod enforced;
mod escapes;
mod fold;
mod path;
mod prefix;
mod scan;
mod target;
mod upgrades;
mod user_changes;

use std::borrow::Cow;

pub use self::enforced::EnforcedPath;
pub use self::path::{PathPattern, is_canonical};
pub use self::prefix::PathPrefix;
pub use self::target::{ENDPOINT, TargetError};
pub use self::upgrades::{UpgradeError, UpgradeRoute};
pub use self::user_changes::{Affected, Ends, UserChange, affected};

/// Proof that the configuration makes a request public; made here alone.
#[derive(Debug)]
pub struct PublicPass(());

/// Proof that a path is the gateway's own: the token endpoint, or reserved. Made here alone.
#[derive(Debug)]
pub struct OwnPath(());

/// Where a request goes.
#[derive(Debug)]
pub enum Route<'r> {
    /// The token endpoint.
    Endpoint {
        /// Shows that it is.
        path: OwnPath,
        /// The segment of the older form, decoded once.
        organization: Option<Cow<'r, str>>,
    },
    /// In the gateway's reserved path, yet none of its paths: 404.
    Reserved(OwnPath),
    /// Forwarded without a credential.
    Public(PublicPass),
    /// Forwarded with a valid token.
    Protected,
}

/// One entry of `routes.public`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicRoute {
    pattern: PathPattern,
    methods: Vec<Box<str>>,
}

impl PublicRoute {
    /// No methods means GET and HEAD. `None` if a method is none, or the pattern (see [`PathPattern::new`]).
    pub fn new(pattern: &str, methods: &[String]) -> Option<Self> {
        let pattern = PathPattern::new(pattern)?;
        let methods: Vec<Box<str>> = if methods.is_empty() {
            vec!["GET".into(), "HEAD".into()]
        } else {
            methods.iter().map(|method| method.as_str().into()).collect()
        };
        let token = |method: &str| method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        let sound = methods.iter().all(|method| !method.is_empty() && token(method));
        sound.then_some(Self { pattern, methods })
    }

    /// Does this entry open everything?
    pub fn is_everything(&self) -> bool {
        self.pattern.is_everything()
    }

    fn matches(&self, method: &[u8], path: &[u8]) -> bool {
        self.pattern.matches(path) && self.methods.iter().any(|allowed| allowed.as_bytes() == method)
    }
}

/// One entry of `routes.lenient`: below it names are taken as they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LenientPrefix(Box<str>);

impl LenientPrefix {
    /// `/prefix/*`. `None` if it is not canonical, or if the endpoint lies below it.
    pub fn new(pattern: &str) -> Option<Self> {
        let path = pattern.strip_suffix('*').filter(|path| path.ends_with('/') && !path.contains('*'))?;
        let is_sound = is_canonical(path.as_bytes()) && !ENDPOINT.starts_with(&path.to_ascii_lowercase());
        is_sound.then(|| Self(path.into()))
    }
}

/// The configured routes.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `routes.public`.
    pub public: Vec<PublicRoute>,
    /// `routes.lenient`.
    pub lenient: Vec<LenientPrefix>,
    /// `routes.upgrades`.
    pub upgrades: Vec<UpgradeRoute>,
    /// `routes.strict_paths`: refuse what is not canonical instead of protecting it.
    pub strict_paths: bool,
}

impl Policy {
    /// Classifies a request by `method`, by `target` (path and query as received) and by whether it has a
    /// body: a request with one is never public. Allocates only for an organization with escapes.
    pub fn classify<'r>(
        &self,
        method: &[u8],
        target: &'r [u8],
        has_body: bool,
    ) -> Result<Route<'r>, TargetError> {
        let (path, _) = split_target(target);
        if path.first() != Some(&b'/') {
            return if method == b"OPTIONS" && target == b"*" {
                Ok(Route::Protected)
            } else {
                Err(TargetError::NotOriginForm)
            };
        }
        if let Some(rest) = path.strip_prefix(ENDPOINT.as_bytes()) {
            if rest.is_empty() {
                return Ok(Route::Endpoint { path: OwnPath(()), organization: None });
            }
            if let Some(organization) = rest.strip_prefix(b"/").and_then(path::decode_segment) {
                return Ok(Route::Endpoint { path: OwnPath(()), organization: Some(organization) });
            }
        }
        let is_lenient = self.lenient.iter().any(|LenientPrefix(prefix)| path.starts_with(prefix.as_bytes()));
        if scan::scan(path, is_lenient)? {
            return Ok(Route::Reserved(OwnPath(())));
        }
        if self.strict_paths && !is_canonical(path) {
            return Err(TargetError::NotCanonical);
        }
        let is_public =
            !has_body && self.public.iter().any(|route| route.matches(method, path)) && is_canonical(path);
        Ok(if is_public { Route::Public(PublicPass(())) } else { Route::Protected })
    }

    /// May a request for this target change to that protocol? Whether it goes on at all is another question.
    pub fn allows_upgrade(&self, target: &[u8], protocol: &[u8]) -> bool {
        let (path, _) = split_target(target);
        self.upgrades.iter().any(|route| route.allows(path, protocol))
    }
}

/// Path and query of a target; the query without its `?`.
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|&byte| byte == b'?') {
        Some(at) => {
            let (path, query) = target.split_at(at);
            (path, query.get(1..))
        }
        None => (target, None),
    }
}

#[cfg(test)]
mod readers;
#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;
