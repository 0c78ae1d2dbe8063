//! Which way a request goes, decided from its method and its raw target alone. Doubt is [`Route::Protected`].
//!
//! The path is never normalised and then matched. A route is public, or the gateway's own, only where the
//! raw bytes have a single meaning (a *canonical* path); and what any server could take for the gateway's
//! subtree never goes on.

mod path;

use std::borrow::Cow;

pub use path::is_canonical;

/// The token endpoint's path, as published.
pub const ENDPOINT: &str = "/ds-api/user-token";

/// Proof that the configuration makes a request public; made here alone.
#[derive(Debug)]
pub struct PublicPass(());

/// Where a request goes.
#[derive(Debug)]
pub enum Route<'r> {
    /// The token endpoint.
    Endpoint {
        /// The segment of the older form, decoded once.
        organization: Option<Cow<'r, str>>,
    },
    /// In the gateway's subtree, yet none of its paths: 404.
    Subtree,
    /// Forwarded without a credential.
    Public(PublicPass),
    /// Forwarded with a valid token.
    Protected,
}

/// A target that has no single meaning: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// Not in origin-form (RFC 9112 §3.2.1), nor `OPTIONS *`.
    NotOriginForm,
    /// An encoded NUL, where many servers end the path.
    EncodedNul,
    /// Not canonical, with `routes.strict_paths` on.
    NotCanonical,
    /// So long, and so full of escapes, that to find out what it means would cost more than it is worth.
    TooInvolved,
}

impl TargetError {
    /// What is wrong with the target, as the client is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOriginForm => "the request target must be a path that begins with /",
            Self::EncodedNul => "the path must not contain %00",
            Self::NotCanonical => "the path must be in its canonical form",
            Self::TooInvolved => "the path is too long for one with escapes",
        }
    }
}

/// One entry of `routes.public`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicRoute {
    path: Box<str>,
    prefix: bool,
    methods: Vec<Box<str>>,
}

impl PublicRoute {
    /// `/exact` or `/prefix/*`; no methods means GET and HEAD. `None` if the pattern could never match, or
    /// would match what it does not say: it must be canonical.
    pub fn new(pattern: &str, methods: &[String]) -> Option<Self> {
        let (path, prefix) = match pattern.strip_suffix('*') {
            Some(path) if path.ends_with('/') => (path, true),
            Some(_) => return None,
            None => (pattern, false),
        };
        let methods: Vec<Box<str>> = if methods.is_empty() {
            vec!["GET".into(), "HEAD".into()]
        } else {
            methods.iter().map(|method| method.as_str().into()).collect()
        };
        let token = |method: &str| method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        let sound = is_canonical(path.as_bytes())
            && !path.contains('*')
            && methods.iter().all(|method| !method.is_empty() && token(method));
        sound.then(|| Self { path: path.into(), prefix, methods })
    }

    /// Does this entry open everything?
    pub fn is_everything(&self) -> bool {
        self.prefix && &*self.path == "/"
    }

    fn matches(&self, method: &str, path: &[u8]) -> bool {
        let hit =
            if self.prefix { path.starts_with(self.path.as_bytes()) } else { path == self.path.as_bytes() };
        hit && self.methods.iter().any(|allowed| **allowed == *method)
    }
}

/// The configured routes.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `routes.public`.
    pub public: Vec<PublicRoute>,
    /// `routes.strict_paths`: refuse what is not canonical instead of protecting it.
    pub strict_paths: bool,
}

impl Policy {
    /// Classifies a request by `method`, by `target` (path and query as received) and by whether it has a
    /// body: a request with one is never public.
    pub fn classify<'r>(
        &self,
        method: &str,
        target: &'r [u8],
        has_body: bool,
    ) -> Result<Route<'r>, TargetError> {
        let (path, _) = split_target(target);
        if path.first() != Some(&b'/') {
            return if method == "OPTIONS" && target == b"*" {
                Ok(Route::Protected)
            } else {
                Err(TargetError::NotOriginForm)
            };
        }
        if path.windows(3).any(|window| window == b"%00") {
            return Err(TargetError::EncodedNul);
        }
        if let Some(rest) = path.strip_prefix(ENDPOINT.as_bytes()) {
            if rest.is_empty() {
                return Ok(Route::Endpoint { organization: None });
            }
            if let Some(organization) = rest.strip_prefix(b"/").and_then(path::decode_segment) {
                return Ok(Route::Endpoint { organization: Some(organization) });
            }
        }
        if path::is_too_involved(path) {
            return Err(TargetError::TooInvolved);
        }
        if path::may_be_under(path, ENDPOINT) {
            return Ok(Route::Subtree);
        }
        if !is_canonical(path) {
            return if self.strict_paths { Err(TargetError::NotCanonical) } else { Ok(Route::Protected) };
        }
        if !has_body && self.public.iter().any(|route| route.matches(method, path)) {
            return Ok(Route::Public(PublicPass(())));
        }
        Ok(Route::Protected)
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
mod tests;
