//! The sources of users, as the configuration names them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::parts::{Kept, Parts};
use crate::auth::gate::Gate;
use crate::auth::user_source::SourceName;
use crate::clock::Clock;
use crate::config::{Config, PlatformLogin};
use crate::edge::platform_api::OwnRequests;
use crate::edge::platforms::Platforms;
use crate::metrics::Metrics;
use crate::service::login::chain::{Chain, Link, Other};
use crate::service::login::passwords::Logins;
use crate::service::login::platform::PlatformUsers;
use crate::service::login::remember::Remembering;
use crate::service::token_endpoint::{EndpointSettings, mint_limiter};
use crate::store::Store;

/// What stays as it is for as long as the process runs, whatever is configured.
#[derive(Clone)]
pub(super) struct Fixed {
    pub(super) gate: Arc<Gate>,
    pub(super) store: Store,
    pub(super) logins: Arc<Logins>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

impl Fixed {
    /// The store, as messages name it.
    pub(super) fn store_path(&self, config: &Config) -> PathBuf {
        config.store.place.shown()
    }
}

/// What the token endpoint is told by the configuration. What does not change is kept: how many tokens each user had, and what the sources are doing.
pub(super) fn endpoint_settings(
    config: &Config,
    parts: &Parts,
    fixed: &Fixed,
    before: Option<(Kept<'_>, &EndpointSettings)>,
) -> io::Result<EndpointSettings> {
    let has_platform =
        |kept: &Kept<'_>| Arc::ptr_eq(&kept.parts.platforms.default(), &parts.platforms.default());
    let same_users = before.filter(|(kept, _)| kept.has(&["users."]) && has_platform(kept));
    let same_mints = before.filter(|(kept, _)| kept.has(&["limits.mint_"]));
    Ok(EndpointSettings {
        users: match same_users {
            Some((_, before)) => Arc::clone(&before.users),
            None => Arc::new(sources(config, parts, fixed)?),
        },
        mints: match same_mints {
            Some((_, before)) => Arc::clone(&before.mints),
            None => Arc::new(mint_limiter(&config.limits)),
        },
        inspect_auth: config.inspect_auth,
        max_revocations: config.limits.revocations_per_user,
    })
}

/// All sources, in their order.
fn sources(config: &Config, parts: &Parts, fixed: &Fixed) -> io::Result<Chain> {
    let Fixed { store, logins, clock, metrics, gate: _ } = fixed.clone();
    let chain = Chain::of_store(store.clone(), logins, clock, metrics);
    let users = &config.users;
    let mut links = Vec::new();
    for source in &users.sources {
        links.push(match source {
            SourceName::Store => Link::Store,
            SourceName::Platform => Link::Other(platform(&users.platform, &parts.platforms)),
            SourceName::Ldap => match (&parts.directory, &config.ldap) {
                (Some(directory), Some(ldap)) => {
                    // One of `max_logins` is left for the background questions of `revalidation.rs`.
                    let at_once = ldap.max_logins.saturating_sub(1).max(1);
                    Link::Other(Other::new(SourceName::Ldap, Arc::clone(directory) as _, at_once))
                }
                _ => return Err(io::Error::other("users.sources: \"ldap\" has no section [users.ldap]")),
            },
        });
    }
    let period = users.platform.remember_for.filter(|_| users.sources.contains(&SourceName::Platform));
    let remembering = period.map(|period| Remembering::start(store, period)).transpose()?;
    Ok(chain.with(links, remembering))
}

fn platform(settings: &PlatformLogin, platforms: &Platforms) -> Other {
    let api = Arc::new(OwnRequests::new(platforms.default(), settings.timeout));
    let source = Arc::new(PlatformUsers::new(api, settings.clone()));
    Other::new(SourceName::Platform, source, settings.connections)
}
