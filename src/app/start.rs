//! The steps of a start, each of which may refuse it: one list, that `run` takes and `check` tries. Every step is taken even if
//! another one fails, so that an operator reads of all failures at once.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::parts::{PartFiles, Parts};
use super::probe::probe;
use super::report::{NO_SIGNER, Purpose, Report};
use super::sockets::{Inherited, Sockets};
use crate::auth::cache::Cache;
use crate::auth::gate::Gate;
use crate::auth::keys::KeySet;
use crate::auth::token::TokenRules;
use crate::clock::{Clock, wall};
use crate::config::{Config, Limits, Materials, PlatformMaterials, SigningKeys, StoreSettings};
use crate::state_dir::error::{StartError, store_error};
use crate::state_dir::privileges::as_root;
use crate::state_dir::{Services, State, presence};
use crate::store::{Store, StoreError, block_on};
use crate::thread_slot;

/// What the steps have made.
pub(super) struct Prepared {
    pub(super) store: Store,
    pub(super) key_folder: Option<PathBuf>,
    pub(super) gate: Gate,
    pub(super) limits: Limits,
    pub(super) parts: Parts,
    pub(super) sockets: Sockets,
}

/// Tries every step of a start, and asks the platform for an answer. May change the account of this process, as a start does.
pub fn check(config: &Config, materials: Materials, services: &Services) -> Report {
    let mut report = Report::default();
    let asked: Vec<PlatformMaterials> =
        std::iter::once(&materials.platform).chain(&materials.platforms).cloned().collect();
    report.take(Purpose::Check, config, materials, services, Inherited::default());
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
        config: &Config,
        materials: Materials,
        services: &Services,
        inherited: Inherited,
    ) -> Option<Prepared> {
        self.warn(config, &materials);
        self.warnings.extend(config.store.place.warnings(wall()));
        let limits = self.limits(config);
        let Materials { keys, certificates, platform, platforms, ldap } = materials;
        let failures = self.failures.len();
        let state = self.state(purpose, config, keys, services);
        let has_folder = self.failures.len() == failures;
        let loaded = state.and_then(|state| self.gate(config, state, services));
        let files = PartFiles { certificates, platform, platforms, ldap, has_folder };
        let parts = self.parts(purpose, config, files, &services.clock, None);
        let sockets = self.sockets(purpose, config, inherited);
        let (store, key_folder, gate) = loaded?;
        let prepared =
            Prepared { store, key_folder, gate, limits: limits?, parts: parts?, sockets: sockets? };
        self.failures.is_empty().then_some(prepared)
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

    /// Every socket. Those that a check has bound are closed again.
    fn sockets(&mut self, purpose: Purpose, config: &Config, mut inherited: Inherited) -> Option<Sockets> {
        let bind = |inherited: &mut Inherited| Sockets::bind(&config.server, &config.admin, inherited);
        let mut bound = bind(&mut inherited);
        self.failures.extend(inherited.faults().into_iter().map(StartError::refused));
        let is_denied =
            |(_, error): &(SocketAddr, io::Error)| error.kind() == io::ErrorKind::PermissionDenied;
        if purpose == Purpose::Check && bound.as_ref().is_err_and(|errors| errors.iter().any(is_denied)) {
            // The unit gives the capability; whether the port is free shows all the same.
            if let Some(as_root) = as_root(|| bind(&mut Inherited::default())) {
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
    if !snapshot.can_sign(&keys) {
        return Err(StartError::refused(NO_SIGNER));
    }
    Ok(Gate::new(keys, rules, cache, settings.max_staleness, snapshot, uptime))
}

/// What a gateway can do little without.
const NO_USERS: &str =
    "there are no users yet; add one with `ds-gateway user add NAME --email … --organization … --config …`";

/// Longer than a restart takes, in seconds.
const LONG_STOP: u64 = 6 * 3600;
