//! What a request is decided and forwarded by. All of it may change while the gateway runs, and one request sees one state of it.

use std::sync::Arc;
use std::time::Duration;

use super::forward::Rewrite;
use super::platforms::Platforms;
use crate::auth::cors::Cors;
use crate::auth::gate::{Gate, Observation};
use crate::auth::policy::{PathPattern, Policy, UserChange, split_target};
use crate::config::{ForwardedFields, Limits, Networks};

/// Everything that a reload may replace at once. What the gate holds goes on through a reload: revocations, the cache and the
/// keys, which other gateways add to as well.
#[derive(Clone)]
pub struct Runtime {
    /// Keys, token rules and the revocation snapshot.
    pub gate: Arc<Gate>,
    /// Which routes are public.
    pub policy: Policy,
    /// What is not enforced yet; `None`: everything is. Looked at only where a request would be refused, or is the token endpoint's.
    pub observation: Option<Observation>,
    /// Which pages of other origins may read answers.
    pub cors: Cors,
    /// What the platform sees of a request.
    pub rewrite: Rewrite,
    /// Requests that change users of the platform, and whose tokens they end.
    pub user_changes: Vec<UserChange>,
    /// The platforms and their servers.
    pub platforms: Platforms,
    /// Sizes and times.
    pub limits: Limits,
    /// How long requests of some routes may take.
    pub request_durations: Vec<(PathPattern, Option<Duration>)>,
    /// Proxies in front whose word counts.
    pub proxies: Arc<Networks>,
    /// In which fields they say who the client is.
    pub forwarded_fields: ForwardedFields,
    /// May a client close its half of the connection and still get its answer?
    pub half_close: bool,
}

impl Runtime {
    /// How long a request for this target may take.
    pub fn request_duration(&self, target: &[u8]) -> Option<Duration> {
        if !self.limits.has_deadlines {
            return None;
        }
        let (path, _) = split_target(target);
        let own = self.request_durations.iter().find(|(pattern, _)| pattern.matches(path));
        own.map_or(self.limits.request_duration, |(_, limit)| *limit)
    }
}
