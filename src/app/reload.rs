//! A new configuration for a gateway that runs: read and checked whole, compared with the one in force, then put in its place.
//!
//! Everything that can fail is done before anything is replaced; from then on nothing can. Requests that have begun end with what they began
//! with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::listeners::{Runtimes, admin_limits};
use super::parts::{Kept, PartFiles, Parts};
use super::report::{NO_SIGNER, Purpose, Report};
use super::users::{Fixed, endpoint_settings};
use crate::admin::Shown;
use crate::auth::keys::{Key, KeySet};
use crate::clock::wall;
use crate::config::{Changes, Config, Contents, Limits, Loaded, Materials, SigningKeys, compare};
use crate::control::Verdict;
use crate::edge::listener::ConnectionBounds;
use crate::edge::quota::Quotas;
use crate::logging::Sink;
use crate::metrics::{Addresses, ReloadState};
use crate::service::login::source::UserSource;
use crate::service::token_endpoint::EndpointSettings;
use crate::state_dir::error::StartError;
use crate::state_dir::{check_keys, record_keys};
use crate::store::command::Prune;
use crate::tls::acceptor::TlsAcceptor;

/// Where the configuration is read from, at the start and again.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    /// The file, as a complete path.
    pub path: PathBuf,
    /// Reads a file as the start did; every error with its hint.
    pub load: fn(&Path) -> Result<Loaded, Vec<String>>,
}

/// What each part of the gateway takes a new configuration by.
pub(super) struct Adjustable {
    /// Of each worker.
    pub(super) runtimes: Runtimes,
    /// Of the listeners for clients, and of the admin listener.
    pub(super) bounds: [ConnectionBounds; 2],
    pub(super) quotas: Quotas,
    pub(super) tls: Option<Arc<TlsAcceptor>>,
    pub(super) endpoint: Arc<ArcSwap<EndpointSettings>>,
    pub(super) shown: Arc<ArcSwap<Shown>>,
    pub(super) prune: Arc<ArcSwap<Prune>>,
    pub(super) revalidation: watch::Sender<Directory>,
    pub(super) sink: Sink,
}

/// A directory whose users are asked for again, and how often.
pub(super) type Directory = Option<(Arc<dyn UserSource>, Duration)>;

/// What is in force.
pub(super) struct Running {
    pub(super) config: Config,
    pub(super) contents: Contents,
    pub(super) parts: Parts,
}

/// Puts new configurations in force, one at a time.
pub(super) struct Reloader {
    source: ConfigSource,
    fixed: Fixed,
    pub(super) adjustable: Adjustable,
    pub(super) running: Mutex<Running>,
    /// A reload that a signal asked for has not begun to read: one more signal asks for nothing more.
    is_due: AtomicBool,
}

/// A configuration that was checked, and what it needs.
struct Next {
    changes: Changes,
    running: Running,
    limits: Limits,
    endpoint: EndpointSettings,
    /// Other keys than those in force.
    keys: Option<KeySet>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Reloader {
    pub(super) const fn new(
        source: ConfigSource,
        fixed: Fixed,
        adjustable: Adjustable,
        running: Running,
    ) -> Self {
        let is_due = AtomicBool::new(false);
        Self { source, fixed, adjustable, running: Mutex::new(running), is_due }
    }

    /// Reloads on a thread of its own. The verdict is logged.
    pub(super) fn reload_soon(self: &Arc<Self>) {
        if self.is_due.swap(true, Ordering::Relaxed) {
            return;
        }
        let reloader = Arc::clone(self);
        let started = thread::Builder::new().name("reload".into()).spawn(move || drop(reloader.reload()));
        if let Err(error) = started {
            self.is_due.store(false, Ordering::Relaxed);
            log::error!("the configuration was not reloaded: no thread can be started for it: {error}");
        }
    }

    /// Reads the configuration again and puts it in force; on any error the one before stays. Blocks.
    pub(super) fn reload(&self) -> Verdict {
        let mut running = self.running.lock();
        self.is_due.store(false, Ordering::Relaxed);
        let next = self.prepare(&self.source.path, RELOAD, &running).and_then(|next| {
            let path = self.fixed.store_path(&next.running.config);
            let recorded = next.keys.as_ref().map(|keys| record_keys(&self.fixed.store, keys, &path));
            recorded.transpose().map_err(|error| vec![error.to_string()])?;
            Ok(next)
        });
        match next {
            Ok(next) => {
                let verdict = self.verdict(&next);
                *running = self.apply(next);
                tell(&verdict);
                verdict
            }
            Err(errors) => {
                self.note_failure();
                for error in &errors {
                    log::error!(
                        "the configuration was not reloaded and the previous one stays in force: {error}"
                    );
                }
                Verdict { hash: hash(&running), ..Verdict::refused(errors) }
            }
        }
    }

    /// Reads that file as a reload would, and says what one would do with it. Blocks.
    pub(super) fn compare(&self, path: &Path) -> Verdict {
        let running = self.running.lock();
        match self.prepare(path, Purpose::Check, &running) {
            Ok(next) => self.verdict(&next),
            Err(errors) => Verdict { hash: hash(&running), ..Verdict::refused(errors) },
        }
    }

    /// The same with the file that a reload reads.
    pub(super) fn compare_with_source(&self) -> Verdict {
        self.compare(&self.source.path)
    }

    /// The files that the configuration in force was read from, but for certificates that are reloaded alone.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = self.running.lock().config.files.paths();
        std::iter::once(self.source.path.clone()).chain(files).collect()
    }

    /// Is it to be reloaded when one of them changes?
    pub(super) fn is_watching(&self) -> bool {
        self.running.lock().config.server.watch
    }

    fn verdict(&self, next: &Next) -> Verdict {
        Verdict {
            errors: Vec::new(),
            applied: next.changes.at_once.clone(),
            at_restart: next.changes.at_restart.clone(),
            notes: next.notes.clone(),
            warnings: next.warnings.clone(),
            hash: hash(&next.running),
        }
    }

    /// Takes every step that may fail.
    fn prepare(&self, path: &Path, purpose: Purpose, running: &Running) -> Result<Next, Vec<String>> {
        let (wanted, materials) = (self.source.load)(path)?;
        let contents = Contents::of(&materials);
        let (changes, config) = compare((&running.config, &running.contents), (&wanted, &contents));
        let mut report = Report::default();
        report.warn(&config, &materials);
        let limits = report.limits(&config);
        let Materials { keys, certificates, platform, platforms, ldap } = materials;
        let (keys, notes) = self.keys(keys, &config, &mut report);
        let files = PartFiles { certificates, platform, platforms, ldap, has_folder: true };
        let kept = Kept { parts: &running.parts, changed: &changes.at_once };
        let parts = report.parts(purpose, &config, files, &self.fixed.clock, Some(kept));
        let endpoint = parts.as_ref().and_then(|parts| {
            let before = self.adjustable.endpoint.load_full();
            let made = endpoint_settings(&config, parts, &self.fixed, Some((kept, &before)));
            report.result(made.map_err(StartError::refused))
        });
        let (Some(limits), Some(parts), Some(endpoint), true) =
            (limits, parts, endpoint, report.failures.is_empty())
        else {
            return Err(report
                .failures
                .iter()
                .map(|error| error.to_string().trim_end().to_owned())
                .collect());
        };
        let outdated = report.outdated.iter().map(ToString::to_string);
        let warnings = report.warnings.into_iter().chain(outdated).collect();
        let running = Running { config, contents, parts };
        Ok(Next { changes, running, limits, endpoint, keys, notes, warnings })
    }

    /// The configured keys, if they are others, and what that means for tokens.
    fn keys(&self, keys: SigningKeys, config: &Config, report: &mut Report) -> (Option<KeySet>, Vec<String>) {
        let gate = &self.fixed.gate;
        let before = gate.keys();
        let keys = match keys {
            SigningKeys::Configured(keys) if config.files.keys.is_some() => keys,
            SigningKeys::Configured(_) | SigningKeys::Generated => return (None, Vec::new()),
        };
        if keys.has_keys_of(&before) {
            return (None, Vec::new());
        }
        if !gate.snapshot().can_sign(&keys) {
            report.failures.push(StartError::refused(NO_SIGNER));
        }
        report.result(check_keys(&self.fixed.store, &keys, &self.fixed.store_path(config)));
        let is_in =
            |all: &KeySet, key: &Key| all.iter().any(|other| other.fingerprint() == key.fingerprint());
        let gone = before.iter().filter(|key| !is_in(&keys, key)).map(|key| {
            format!(
                "token.keys: the key {:?} is removed: tokens that it signed are refused from now on, as after a restart",
                key.kid()
            )
        });
        let new = keys
            .iter()
            .filter(|key| !is_in(&before, key))
            .map(|key| format!("token.keys: the key {:?} verifies from now on", key.kid()));
        let (snapshot, now) = (gate.snapshot(), self.fixed.clock.now());
        let signs_now = gate.signs_with(now);
        let signer = snapshot.signer(&keys, now).filter(|key| signs_now.as_deref() != Some(key.kid()));
        let signs = signer.map(|key| format!("token.keys: the key {:?} signs from now on", key.kid()));
        let signs = signs.or_else(|| {
            let next = snapshot.next_signer(&keys, now)?;
            let waits = signs_now.as_deref() != Some(next.kid());
            waits.then(|| format!("token.keys: the key {:?} signs once every gateway has it", next.kid()))
        });
        let notes = gone.chain(new).chain(signs).collect();
        (Some(keys), notes)
    }

    /// Puts it in force. Nothing here can fail.
    fn apply(&self, next: Next) -> Running {
        let Next { changes, running, limits, endpoint, keys, .. } = next;
        let Running { config, contents: _, parts } = &running;
        let Adjustable { runtimes, bounds: [traffic, admin], quotas, tls, .. } = &self.adjustable;
        let gate = &self.fixed.gate;
        // First, so that no request that is decided by the new routes is believed by the old rules. What is unchanged keeps its cache.
        if keys.is_some() || gate.rules() != config.token {
            gate.replace_rules(config.token, keys);
        }
        let runtime = parts.runtime(config, limits, gate);
        quotas.set(&limits);
        traffic.set(limits, Arc::clone(&runtime.proxies));
        admin.set(admin_limits(limits), Arc::default());
        for worker in runtimes {
            worker.store(Arc::new(runtime.clone()));
        }
        if let (Some(tls), Some(new)) = (tls, &parts.tls) {
            tls.replace(&new.acceptor);
        }
        self.fixed.logins.set_trusted(config.trusted_logins.clone());
        self.adjustable.endpoint.store(Arc::new(endpoint));
        self.adjustable.prune.store(Arc::new(prune(config)));
        // Whoever waits for another directory is told of it; nobody is where the process ends.
        self.adjustable.revalidation.send_if_modified(|directory| {
            let is_other = changes.at_once.iter().any(|name| name.starts_with("users."));
            if is_other {
                *directory = revalidation(config, parts);
            }
            is_other
        });
        self.adjustable.sink.configure(&config.log);
        let state = ReloadState {
            hash: hash(&running),
            loaded_at: wall().0,
            has_failed: false,
            at_restart: changes.at_restart.len(),
        };
        self.adjustable.shown.store(Arc::new(shown(config, parts, state)));
        running
    }

    fn note_failure(&self) {
        let shown = Shown::clone(&self.adjustable.shown.load());
        let reload = ReloadState { has_failed: true, ..shown.reload };
        self.adjustable.shown.store(Arc::new(Shown { reload, ..shown }));
    }
}

/// Tells the log what a reload did.
fn tell(verdict: &Verdict) {
    let (applied, at_restart) = (verdict.applied.join(", "), verdict.at_restart.join(", "));
    if applied.is_empty() && at_restart.is_empty() {
        log::info!(hash = verdict.hash; "the configuration was read again and nothing has changed");
        return;
    }
    log::info!(applied, at_restart, hash = verdict.hash; "the configuration was reloaded");
    verdict.notes.iter().chain(&verdict.warnings).for_each(|text| log::warn!("{text}"));
}

/// A digest of what is in force.
pub(super) fn hash(running: &Running) -> String {
    running.contents.hash_with(&running.config).to_string()
}

/// What of the audit trail is deleted.
pub(super) const fn prune(config: &Config) -> Prune {
    Prune { age: config.audit.keep.as_secs(), bytes: config.audit.max_bytes }
}

/// Whose users are asked for again.
pub(super) fn revalidation(config: &Config, parts: &Parts) -> Directory {
    let interval = config.ldap.as_ref()?.revalidate?;
    parts.directory.clone().map(|directory| (directory as Arc<dyn UserSource>, interval))
}

/// What the admin listener shows of it.
pub(super) fn shown(config: &Config, parts: &Parts, reload: ReloadState) -> Shown {
    let (platforms, servers) = (parts.platforms.clone(), Arc::clone(&parts.servers));
    Shown {
        info_labels: config.info_labels(),
        observation: parts.observation.clone(),
        certificates: parts.tls.as_ref().map(|tls| tls.state(wall())).unwrap_or_default(),
        servers: Arc::clone(&servers),
        addresses: Arc::new(move || {
            let mut counts = vec![Addresses::default(); servers.len()];
            platforms.all().for_each(|upstream| upstream.count_addresses(&servers, &mut counts));
            counts
        }),
        reload,
    }
}

/// As a start that finds its store and its keys.
const RELOAD: Purpose =
    Purpose::Run { opening: crate::store::Opening::Run, creation: crate::state_dir::Creation::IfNew };
