//! The certificates of the TLS listeners are taken over when their files change, without the rest of the configuration; the gateway's own one is
//! made again before it ends; and one that has ended, or will, is told of every day.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reload::{Reloader, hash};
use super::tls::Tls;
use crate::admin::Shown;
use crate::auth::time::UnixTime;
use crate::clock::wall;
use crate::config::ServerCertificates;
use crate::metrics::{CertificateState, ReloadState};
use crate::tls::self_signed;

impl Reloader {
    /// The files of the certificates in force, the gateway's own among them.
    pub(super) fn certificate_files(&self) -> Vec<PathBuf> {
        let running = self.running.lock();
        let mut files = running.config.files.server.paths();
        if running.config.files.server.default.is_none() && running.parts.tls.is_some() {
            let own = self_signed::paths(&running.config.server.state_dir);
            files.extend([own.certificate, own.key]);
        }
        files
    }

    /// Is the gateway's own certificate to be made again?
    pub(super) fn is_renewal_due(&self, now: UnixTime) -> bool {
        self.running.lock().parts.tls.as_ref().is_some_and(|tls| tls.is_renewal_due(now))
    }

    /// What clients would refuse of the certificates in force.
    pub(super) fn certificate_warnings(&self, now: UnixTime) -> Vec<String> {
        self.running.lock().parts.tls.iter().flat_map(|tls| tls.warnings(now)).collect()
    }

    /// Reads the certificates again and shows others from the next handshake on; nothing else is read. On any error those of before stay. Blocks.
    pub(super) fn reload_certificates(&self) -> Result<(), Vec<String>> {
        let mut running = self.running.lock();
        let now = wall();
        let certificates = ServerCertificates::read(&running.config.files.server)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let contents = running.contents.with_server(&certificates);
        let server = &running.config.server;
        let own = Tls::needs_self_signed(&running.config, &certificates)
            .then(|| self_signed::self_signed(&server.state_dir, &server.https, now))
            .transpose()
            .map_err(|error| vec![error.to_string()])?;
        let Some(tls) = Tls::new(certificates, own).map_err(|error| vec![error.to_string()])? else {
            return Ok(());
        };
        if running.parts.tls.as_ref().is_none_or(|before| !before.is_as(&tls)) {
            if let Some(acceptor) = &self.adjustable.tls {
                acceptor.replace(&tls.acceptor);
            }
            let certificates = tls.describe(now).join("; ");
            log::info!(certificates; "the certificates were reloaded");
            running.contents = contents;
            running.parts.tls = Some(tls.clone());
        }
        self.show(|shown| Shown {
            certificates: tls.state(now),
            reload: ReloadState { hash: hash(&running), ..shown.reload },
            ..shown
        });
        Ok(())
    }

    /// Says that the files cannot be used.
    fn note_certificate_failure(&self, errors: &[String]) {
        for error in errors {
            log::error!("the certificates were not reloaded and those of before are still shown: {error}");
        }
        // No reload comes between what is read and what is written of it.
        let _running = self.running.lock();
        self.show(|shown| Shown {
            certificates: CertificateState { has_failed: true, ..shown.certificates },
            ..shown
        });
    }

    fn show(&self, change: impl FnOnce(Shown) -> Shown) {
        let shown = Shown::clone(&self.adjustable.shown.load());
        self.adjustable.shown.store(Arc::new(change(shown)));
    }
}

/// What came of the attempts to take over what is there.
#[derive(Default)]
pub(super) struct Attempts {
    /// Since when none has succeeded.
    failing_since: Option<Instant>,
    /// What was said of it.
    told: Vec<String>,
}

impl Attempts {
    /// Takes over what is there; when it is to be tried again though no file changes.
    pub(super) fn try_now(&mut self, reloader: &Reloader, now: Instant) -> Option<Instant> {
        let Err(errors) = reloader.reload_certificates() else {
            *self = Self::default();
            return None;
        };
        let tell = self.is_to_be_told(&errors, now);
        if tell {
            reloader.note_certificate_failure(&errors);
        }
        Some(now + if self.told.is_empty() { SOON } else { LATER })
    }

    /// A certificate and its key are two files: one that was written before the other does not fit for a while, and that is no error yet.
    fn is_to_be_told(&mut self, errors: &[String], now: Instant) -> bool {
        let since = *self.failing_since.get_or_insert(now);
        let is_new = now.saturating_duration_since(since) >= GRACE && self.told != errors;
        if is_new {
            self.told = errors.to_vec();
        }
        is_new
    }
}

/// What was said of certificates that clients refuse, or will.
pub(super) struct Expiry {
    told: Vec<String>,
    at: Instant,
}

impl Expiry {
    /// The start, or a reload, has said these.
    pub(super) const fn told(told: Vec<String>, at: Instant) -> Self {
        Self { told, at }
    }

    /// Which of these are to be said now: each when it begins to be so, and once a day.
    pub(super) fn due(&mut self, warnings: Vec<String>, now: Instant) -> Vec<String> {
        let is_daily = now.saturating_duration_since(self.at) >= DAY;
        let is_due = |warning: &&String| is_daily || !self.told.contains(warning);
        let due = warnings.iter().filter(is_due).cloned().collect();
        if is_daily {
            self.at = now;
        }
        self.told = warnings;
        due
    }
}

/// For how long files that do not fit may be about to.
const GRACE: Duration = Duration::from_secs(5);

/// How long after a failure it is tried again, though no file has changed, while nothing was said of it.
const SOON: Duration = Duration::from_secs(1);

/// And once it was.
const LATER: Duration = Duration::from_secs(10);

const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_do_not_fit_are_told_of_once_and_only_after_a_while() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let one = ["one".to_owned()];
        let told: Vec<bool> =
            (0..8).map(|second| attempts.is_to_be_told(&one, start + Duration::from_secs(second))).collect();
        assert_eq!(told, [false, false, false, false, false, true, false, false]);
        assert!(attempts.is_to_be_told(&["another".to_owned()], start + Duration::from_secs(9)));
    }

    #[test]
    fn an_expiry_is_told_when_it_comes_and_every_day() {
        let start = Instant::now();
        let mut expiry = Expiry::told(vec!["a ends in 2 days".into()], start);
        let mut at = |hours: u64, warning: &str| {
            expiry.due(vec![warning.into()], start + Duration::from_secs(hours * 3600)).len()
        };
        assert_eq!(
            [at(1, "a ends in 2 days"), at(2, "a ends in 1 day"), at(3, "a ends in 1 day")],
            [0, 1, 0]
        );
        assert_eq!([at(4, "a has expired"), at(23, "a has expired")], [1, 0]);
        assert_eq!([at(25, "a has expired"), at(26, "a has expired"), at(49, "a has expired")], [1, 0, 1]);
    }
}
