//! The sources of users, as the configuration names them.

use std::io;
use std::sync::Arc;

use crate::auth::user_source::SourceName;
use crate::clock::Clock;
use crate::config::{PlatformLogin, Users};
use crate::edge::platform_api::OwnRequests;
use crate::edge::platforms::Platforms;
use crate::metrics::Metrics;
use crate::service::login::chain::{Chain, Link, Other};
use crate::service::login::passwords::Logins;
use crate::service::login::platform::PlatformUsers;
use crate::service::login::remember::Remembering;
use crate::service::login::source::UserSource;
use crate::store::Store;

/// Where users are beside the store.
pub(super) struct Places {
    pub(super) platforms: Platforms,
    /// The directory, and about how many logins it is asked at once.
    pub(super) directory: Option<(Arc<dyn UserSource>, usize)>,
}

/// All of them, in their order.
pub(super) fn sources(
    users: &Users,
    store: &Store,
    logins: &Arc<Logins>,
    places: &Places,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> io::Result<Chain> {
    let chain = Chain::of_store(store.clone(), Arc::clone(logins), clock, metrics);
    let mut links = Vec::new();
    for source in &users.sources {
        links.push(match source {
            SourceName::Store => Link::Store,
            SourceName::Platform => Link::Other(platform(&users.platform, &places.platforms)),
            SourceName::Ldap => match &places.directory {
                Some((source, at_once)) => {
                    Link::Other(Other::new(SourceName::Ldap, Arc::clone(source), *at_once))
                }
                None => return Err(io::Error::other("users.sources: \"ldap\" has no section [users.ldap]")),
            },
        });
    }
    let period = users.platform.remember_for.filter(|_| users.sources.contains(&SourceName::Platform));
    let remembering = period.map(|period| Remembering::start(store.clone(), period)).transpose()?;
    Ok(chain.with(links, remembering))
}

fn platform(settings: &PlatformLogin, platforms: &Platforms) -> Other {
    let api = Arc::new(OwnRequests::new(platforms.default(), settings.timeout));
    let source = Arc::new(PlatformUsers::new(api, settings.clone()));
    Other::new(SourceName::Platform, source, settings.connections)
}
