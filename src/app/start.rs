//! The steps of a start, each of which may refuse it: one list, that `run` takes and `check` tries. Every step is taken even if
//! another one fails, so that an operator reads of all failures at once.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::descriptors;
use super::probe::probe;
use super::sockets::Sockets;
use crate::auth::cache::Cache;
use crate::auth::gate::{Gate, Observation};
use crate::auth::keys::KeySet;
use crate::auth::token::TokenRules;
use crate::clock::{Clock, describe, wall};
use crate::config::{
    CertifiedKey, Config, ConfigError, Limits, Materials, Period, PlatformMaterials, ServerPool, SigningKeys,
    StoreSettings,
};
use crate::edge::platforms::Platforms;
use crate::edge::upstream::Upstream;
use crate::metrics::ServerMetrics;
use crate::service::login::ldap::LdapUsers;
use crate::state_dir::error::{StartError, store_error};
use crate::state_dir::privileges::as_root;
use crate::state_dir::{Creation, Services, State, presence};
use crate::store::{Opening, Store, StoreError, block_on};
use crate::thread_slot;
use crate::tls::acceptor::TlsAcceptor;
use crate::tls::self_signed;

/// What the steps are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To serve.
    Run {
        /// How the store that is found is treated.
        opening: Opening,
        /// May a store be made?
        creation: Creation,
    },
    /// To find out what would happen: nothing is made, changed or kept.
    Check,
}

/// What the steps have made.
pub(super) struct Prepared {
    pub(super) store: Store,
    pub(super) key_folder: Option<PathBuf>,
    pub(super) gate: Gate,
    pub(super) observation: Option<Observation>,
    pub(super) platforms: Platforms,
    pub(super) servers: Arc<ServerMetrics>,
    pub(super) certificate: Option<CertifiedKey>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) sockets: Sockets,
    pub(super) directory: Option<Arc<LdapUsers>>,
}

/// What a start would meet.
#[derive(Debug, Default)]
pub struct Report {
    /// Why it would be refused.
    pub failures: Vec<StartError>,
    /// What an operator should know, and is no reason not to start.
    pub warnings: Vec<String>,
    /// What has to be so for a start to work.
    pub conditions: Vec<String>,
    /// Settings whose time is over. A start goes on without them; an operator who checks is to change them.
    pub outdated: Vec<ConfigError>,
}

/// Tries every step of a start, and asks the platform for an answer. May change the account of this process, as a start does.
pub fn check(mut config: Config, materials: Materials, services: &Services) -> Report {
    let mut report = Report::default();
    let asked: Vec<PlatformMaterials> =
        std::iter::once(&materials.platform).chain(&materials.platforms).cloned().collect();
    report.take(Purpose::Check, &mut config, materials, services);
    for (pool, materials) in config.pools().zip(asked) {
        report.warnings.extend(probe(pool, materials));
    }
    report
}

impl Report {
    /// Takes every step; nothing if one of them failed, or if there was nothing to open and nothing was to be made.
    pub(super) fn take(
        &mut self,
        purpose: Purpose,
        config: &mut Config,
        materials: Materials,
        services: &Services,
    ) -> Option<Prepared> {
        self.warnings.extend(config.warnings());
        self.warnings.extend(materials.warnings(wall()));
        self.warnings.extend(config.store.place.warnings(wall()));
        let lowered = self.result(descriptors::provide(&mut config.limits, config.server.threads));
        self.warnings.extend(lowered.flatten());
        fit_memory(&mut config.limits);
        let Materials { keys, certificate, platform, platforms, ldap } = materials;
        let directory =
            config.ldap.clone().map(|settings| LdapUsers::new(settings, &ldap, services.clock.clone()));
        let directory = self.result(directory.transpose().map_err(|error| {
            StartError::Refused(format!("users.ldap: OpenSSL does not take the certificates: {error}"))
        }));
        let failures = self.failures.len();
        let state = self.state(purpose, config, keys, services);
        let has_folder = self.failures.len() == failures;
        let loaded = state.and_then(|state| self.gate(config, state, services));
        let observation = self.observation(purpose, config, &services.clock);
        let names = config.pools().flat_map(|pool| &pool.servers);
        let servers = Arc::new(ServerMetrics::new(names.map(|server| server.name.as_str())));
        let platforms = self.platforms(config, platform, platforms, &servers);
        let certificate = match certificate {
            None if !config.server.https.is_empty() && has_folder => self.self_signed(purpose, config),
            certificate => certificate,
        };
        let tls = certificate.as_ref().map(TlsAcceptor::new).transpose().map_err(|error| {
            StartError::Refused(format!("server.certificate: OpenSSL does not serve with it: {error}"))
        });
        let tls = self.result(tls);
        let sockets = self.sockets(purpose, config);
        let (store, key_folder, gate) = loaded?;
        let prepared = Prepared {
            store,
            key_folder,
            gate,
            observation,
            platforms: platforms?,
            servers,
            certificate,
            tls: tls?,
            sockets: sockets?,
            directory: directory?.map(Arc::new),
        };
        self.failures.is_empty().then_some(prepared)
    }

    fn result<T>(&mut self, result: Result<T, StartError>) -> Option<T> {
        result.map_err(|error| self.failures.push(error)).ok()
    }

    /// The state folder, the store in it and the keys.
    fn state(
        &mut self,
        purpose: Purpose,
        config: &Config,
        keys: SigningKeys,
        services: &Services,
    ) -> Option<State> {
        let (folder, store) = (&config.server.state_dir, &config.store);
        let Purpose::Run { opening, creation } = purpose else {
            let found = self.result(State::look(folder, store, keys, services.clone()))?;
            self.warnings.extend(found.notes);
            self.conditions.extend(found.condition);
            self.warnings.extend(found.is_new.then(|| NO_USERS.to_owned()));
            if let Some(state) = &found.state {
                let shown = store.place.shown();
                let asked = block_on(state.store.warnings());
                let asked = asked.map_err(|error| store_error(shown.as_path(), error));
                let asked = self.result(asked)?;
                self.warnings.extend(asked);
            }
            return found.state;
        };
        self.result(State::open(folder, store, keys, opening, creation, services.clone()))
    }

    /// What the gate decides by.
    fn gate(
        &mut self,
        config: &Config,
        state: State,
        services: &Services,
    ) -> Option<(Store, Option<PathBuf>, Gate)> {
        let State { store, keys, key_folder } = state;
        let cache = Cache::new(config.cache, config.server.threads, thread_slot::current, fastrand::u64(..));
        let (clock, warnings) = (&services.clock, &mut self.warnings);
        let gate = load(&store, &config.store, keys, config.token, cache, clock, warnings);
        Some((store, key_folder, self.result(gate)?))
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

    /// The servers of each platform.
    fn platforms(
        &mut self,
        config: &Config,
        default: PlatformMaterials,
        others: Vec<PlatformMaterials>,
        metrics: &Arc<ServerMetrics>,
    ) -> Option<Platforms> {
        let mut upstream = |pool: &ServerPool, materials: PlatformMaterials| {
            let PlatformMaterials { ca, client, section } = materials;
            let mut unresolved = Vec::new();
            let made = Upstream::new(pool, ca, client, metrics, &mut unresolved);
            self.warnings.extend(unresolved.into_iter().map(|text| format!("{section}.servers: {text}")));
            self.result(made.map_err(StartError::refused))
        };
        let default = upstream(&config.platform.pool, default);
        // All of them, so that every failure is told.
        let routes = config.platforms.iter().zip(others);
        let prefixed: Vec<Option<_>> = routes
            .map(|(route, materials)| Some((route.prefix.clone(), upstream(&route.pool, materials)?)))
            .collect();
        Some(Platforms::new(default?, prefixed.into_iter().collect::<Option<_>>()?))
    }

    /// The certificate for TLS listeners where the operator names none.
    fn self_signed(&mut self, purpose: Purpose, config: &Config) -> Option<CertifiedKey> {
        let folder = &config.server.state_dir;
        let made = match purpose {
            Purpose::Run { .. } => self_signed::self_signed(folder, &config.server.https).map(Some),
            Purpose::Check => self_signed::check(folder).map(|()| None),
        };
        self.result(made.map_err(StartError::refused))?
    }

    /// Every socket. Those that a check has bound are closed again.
    fn sockets(&mut self, purpose: Purpose, config: &Config) -> Option<Sockets> {
        let bind = || Sockets::bind(&config.server, &config.admin);
        let mut bound = bind();
        let is_denied =
            |(_, error): &(SocketAddr, io::Error)| error.kind() == io::ErrorKind::PermissionDenied;
        if purpose == Purpose::Check && bound.as_ref().is_err_and(|errors| errors.iter().any(is_denied)) {
            // The unit gives the capability; whether the port is free shows all the same.
            if let Some(as_root) = as_root(bind) {
                let text =
                    "that user needs CAP_NET_BIND_SERVICE for ports below 1024, as the systemd unit gives it";
                self.conditions.extend(as_root.is_ok().then(|| text.to_owned()));
                bound = as_root;
            }
        }
        let errors = match bound {
            Ok(sockets) => return Some(sockets),
            Err(errors) => errors,
        };
        for (address, error) in errors {
            let is_taken = purpose == Purpose::Check && error.kind() == io::ErrorKind::AddrInUse;
            let by_us = || presence::listening_on(&config.server.state_dir, &address);
            match is_taken.then(by_us).flatten() {
                Some(gateway) => self.conditions.push(format!(
                    "the gateway that runs on this state folder now ({gateway}) is stopped first: {error}"
                )),
                None => self.failures.push(StartError::refused(error)),
            }
        }
        None
    }
}

/// Reads everything that the gate needs, before anybody can ask for it.
fn load(
    store: &Store,
    settings: &StoreSettings,
    keys: KeySet,
    rules: TokenRules,
    cache: Cache,
    clock: &Clock,
    warnings: &mut Vec<String>,
) -> Result<Gate, StartError> {
    let shown = settings.place.shown();
    let path = shown.as_path();
    let read = block_on(async {
        let time = store.time().await?;
        clock.advance(time.lived, time.floor);
        // The moment before the read: what is written after it may be missing.
        let uptime = clock.uptime();
        Ok::<_, StoreError>((uptime, store.load().await?))
    });
    let (uptime, snapshot) = read.map_err(|error| store_error(path, error))?;
    let ahead = clock.ahead_of_floor();
    if ahead > LONG_STOP {
        warnings.push(format!(
            "the wall clock is {} h ahead of the last time in the store: expected after a stop of that length, otherwise check the clock",
            ahead / 3600
        ));
    }
    if snapshot.users() == 0 {
        warnings.push(NO_USERS.to_owned());
    }
    if snapshot.signer(&keys).is_none() {
        return Err(StartError::Refused(
            "every signing key is revoked: add one to token.keys, or run `ds-gateway key generate` if the gateway manages its keys"
                .into(),
        ));
    }
    Ok(Gate::new(keys, rules, cache, settings.max_staleness, snapshot, uptime))
}

/// Lowers `limits.connections` to what `limits.memory` can hold, of which the configuration warns.
fn fit_memory(limits: &mut Limits) {
    let most = Limits::connections_within(limits.memory);
    if limits.connections > most {
        limits.connections = most;
    }
}

/// What a gateway can do little without.
const NO_USERS: &str =
    "there are no users yet; add one with `ds-gateway user add NAME --email … --organization … --config …`";

/// Longer than a restart takes, in seconds.
const LONG_STOP: u64 = 6 * 3600;
