//! What is made of a configuration and its files by themselves, at a start and at each reload: everything that can fail before any of it is
//! in use.

use std::sync::Arc;

use super::descriptors;
use super::report::{Purpose, Report};
use super::tls::Tls;
use crate::auth::gate::{Gate, Observation};
use crate::clock::{Clock, describe};
use crate::config::{
    CertifiedKey, Config, Contents, LdapMaterials, Limits, Materials, Period, PlatformMaterials,
    ServerCertificates, ServerPool,
};
use crate::edge::forward::Rewrite;
use crate::edge::platforms::Platforms;
use crate::edge::runtime::Runtime;
use crate::edge::upstream::Upstream;
use crate::metrics::ServerMetrics;
use crate::service::login::ldap::LdapUsers;
use crate::state_dir::error::StartError;
use crate::tls::self_signed;

/// What requests are served with, beside the gate and the store.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) observation: Option<Observation>,
    pub(super) directory: Option<Arc<LdapUsers>>,
    pub(super) servers: Arc<ServerMetrics>,
    pub(super) platforms: Platforms,
    pub(super) tls: Option<Tls>,
    made: Made,
}

/// Platforms, each with what it was made of.
type Made = Vec<(Pool, Arc<Upstream>)>;

/// What a platform is made of: its settings, and what its files held.
#[derive(Clone, PartialEq, Eq)]
struct Pool(String, Contents);

/// The files that the parts are made of.
pub(super) struct PartFiles {
    pub(super) certificates: ServerCertificates,
    pub(super) platform: PlatformMaterials,
    pub(super) platforms: Vec<PlatformMaterials>,
    pub(super) ldap: LdapMaterials,
    /// Is the state folder there, for a certificate of the gateway's own?
    pub(super) has_folder: bool,
}

/// What runs already, of which what does not change is kept: its connections, and what is known of servers.
#[derive(Clone, Copy)]
pub(super) struct Kept<'r> {
    pub(super) parts: &'r Parts,
    /// The settings that differ.
    pub(super) changed: &'r [String],
}

impl Kept<'_> {
    /// Is none of these settings another one, nor one of their sections?
    pub(super) fn has(&self, names: &[&str]) -> bool {
        !self.changed.iter().any(|changed| names.iter().any(|name| changed.starts_with(name)))
    }
}

impl Parts {
    /// What requests are decided and forwarded by.
    pub(super) fn runtime(&self, config: &Config, limits: Limits, gate: &Arc<Gate>) -> Runtime {
        Runtime {
            gate: Arc::clone(gate),
            policy: config.routes.clone(),
            observation: self.observation.clone(),
            cors: config.cors.clone(),
            rewrite: Rewrite::new(&config.platform),
            user_changes: config.platform.user_changes.clone(),
            platforms: self.platforms.clone(),
            limits,
            request_durations: config.request_durations.clone(),
            proxies: Arc::new(config.server.trusted_proxies.clone()),
            forwarded_fields: config.server.forwarded_fields,
            half_close: config.server.half_close,
        }
    }
}

impl Report {
    /// What is allowed and dangerous.
    pub(super) fn warn(&mut self, config: &Config, materials: &Materials) {
        self.warnings.extend(config.warnings());
        self.warnings.extend(materials.warnings(crate::clock::wall()));
    }

    /// The limits, lowered to what this process can have.
    pub(super) fn limits(&mut self, config: &Config) -> Option<Limits> {
        let mut limits = config.limits;
        let lowered = self.result(descriptors::provide(&mut limits, config.server.threads))?;
        self.warnings.extend(lowered);
        fit_memory(&mut limits);
        Some(limits)
    }

    /// All of them; every failure is told.
    pub(super) fn parts(
        &mut self,
        purpose: Purpose,
        config: &Config,
        files: PartFiles,
        clock: &Clock,
        kept: Option<Kept<'_>>,
    ) -> Option<Parts> {
        let PartFiles { certificates, platform, platforms, ldap, has_folder } = files;
        let directory = self.directory(config, &ldap, clock, kept);
        let is_kept = kept.filter(|kept| kept.has(&["routes.mode", "token.inspect_auth"]));
        let observation = match is_kept {
            Some(kept) => kept.parts.observation.clone(),
            None => self.observation(purpose, config, clock),
        };
        let names = config.pools().flat_map(|pool| &pool.servers).map(|server| server.name.as_str());
        let servers = Arc::new(match kept {
            Some(kept) => kept.parts.servers.with(names),
            None => ServerMetrics::new(names),
        });
        let platforms = self.platforms(config, platform, platforms, &servers, kept);
        let needs_own = has_folder && Tls::needs_self_signed(config, &certificates);
        let own = needs_own.then(|| self.self_signed(purpose, config, clock)).flatten();
        let tls = self.result(Tls::new(certificates, own));
        let (platforms, made) = platforms?;
        Some(Parts { observation, directory: directory?, servers, platforms, tls: tls?, made })
    }

    /// The directory, if there is one.
    fn directory(
        &mut self,
        config: &Config,
        files: &LdapMaterials,
        clock: &Clock,
        kept: Option<Kept<'_>>,
    ) -> Option<Option<Arc<LdapUsers>>> {
        if let Some(kept) = kept.filter(|kept| kept.has(&["users.ldap"])) {
            return Some(kept.parts.directory.clone());
        }
        let made = config.ldap.clone().map(|settings| LdapUsers::new(settings, files, clock.clone()));
        let made = made.transpose().map_err(|error| {
            StartError::Refused(format!("users.ldap: OpenSSL does not take the certificates: {error}"))
        });
        Some(self.result(made)?.map(Arc::new))
    }

    /// What is observed, and until when; after the store has said what time it is at least. In doubt every route is enforced.
    fn observation(&mut self, purpose: Purpose, config: &Config, clock: &Clock) -> Option<Observation> {
        let observe = config.observe.as_ref()?;
        let reading = clock.read();
        match observe.period(reading.now) {
            Period::Current => {}
            Period::TooLong(error) => {
                self.failures.push(StartError::Configuration(vec![error]));
                return None;
            }
            Period::Over(error) if purpose == Purpose::Check => {
                self.outdated.push(error);
                return None;
            }
            // A gateway that is started again after the end does what it did before it was stopped.
            Period::Over(error) => {
                self.warnings.push(error.to_string());
                return None;
            }
        }
        // How much time is left is known to nobody then.
        if let Some(behind) = clock.error().filter(|error| *error < 0) {
            let behind = describe(behind);
            self.warnings.push(format!("routes.mode: every route is enforced, since {behind}; then restart"));
            return None;
        }
        self.warnings.extend(config.observe_warnings());
        let enforced = observe.enforced.clone();
        Some(Observation::begin(observe.until, enforced, config.inspect_auth, reading))
    }

    /// The servers of each platform. One whose settings and files are the same is the one that it was.
    fn platforms(
        &mut self,
        config: &Config,
        default: PlatformMaterials,
        others: Vec<PlatformMaterials>,
        metrics: &Arc<ServerMetrics>,
        kept: Option<Kept<'_>>,
    ) -> Option<(Platforms, Made)> {
        let mut upstream = |pool: &ServerPool, materials: PlatformMaterials| {
            let made_of = Pool(format!("{pool:?}"), Contents::of_platform(&materials));
            let known = kept.and_then(|kept| kept.parts.made.iter().find(|(known, _)| *known == made_of));
            if let Some((_, upstream)) = known {
                return Some((made_of, Arc::clone(upstream)));
            }
            let PlatformMaterials { ca, client, section } = materials;
            let mut unresolved = Vec::new();
            let made = Upstream::new(pool, ca, client, metrics, &mut unresolved);
            self.warnings.extend(unresolved.into_iter().map(|text| format!("{section}.servers: {text}")));
            Some((made_of, self.result(made.map_err(StartError::refused))?))
        };
        let default = upstream(&config.platform.pool, default);
        // All of them, so that every failure is told.
        let others: Vec<Option<_>> =
            config.platforms.iter().zip(others).map(|(route, files)| upstream(&route.pool, files)).collect();
        let (default, others) = (default?, others.into_iter().collect::<Option<Vec<_>>>()?);
        let prefixes = config.platforms.iter().map(|route| route.prefix.clone());
        let prefixed = prefixes.zip(others.iter().map(|(_, upstream)| Arc::clone(upstream))).collect();
        let platforms = Platforms::new(Arc::clone(&default.1), prefixed);
        Some((platforms, std::iter::once(default).chain(others).collect()))
    }

    /// The certificate for TLS listeners where the operator names none.
    fn self_signed(&mut self, purpose: Purpose, config: &Config, clock: &Clock) -> Option<CertifiedKey> {
        let (folder, now) = (&config.server.state_dir, clock.wall());
        let made = match purpose {
            Purpose::Run { .. } => self_signed::self_signed(folder, &config.server.https, now).map(Some),
            Purpose::Check => self_signed::check(folder, now).map(|()| None),
        };
        self.result(made.map_err(StartError::refused))?
    }
}

/// Lowers `limits.connections` to what `limits.memory` can hold, of which the configuration warns.
fn fit_memory(limits: &mut Limits) {
    let most = Limits::connections_within(limits.memory);
    if limits.connections > most {
        limits.connections = most;
    }
}
