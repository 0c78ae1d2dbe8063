//! What the TLS listeners show.

use std::sync::Arc;

use crate::auth::time::UnixTime;
use crate::config::{CertifiedKey, Config, ServerCertificates};
use crate::metrics::{CertificateState, ShownCertificate};
use crate::state_dir::error::StartError;
use crate::tls::acceptor::TlsAcceptor;
use crate::tls::self_signed;

/// The certificates, and what shows them.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) acceptor: Arc<TlsAcceptor>,
    certificates: ServerCertificates,
    self_signed: Option<CertifiedKey>,
}

impl Tls {
    /// Of the operator's certificates, with one of the gateway's own where the default is not among them; nothing without any.
    pub(super) fn new(
        certificates: ServerCertificates,
        self_signed: Option<CertifiedKey>,
    ) -> Result<Option<Self>, StartError> {
        let Some(default) = certificates.default.as_ref().or(self_signed.as_ref()) else {
            return Ok(None);
        };
        let acceptor = TlsAcceptor::new(default, &certificates).map_err(|error| {
            StartError::Refused(format!("server.certificate: OpenSSL does not serve with it: {error}"))
        })?;
        Ok(Some(Self { acceptor: Arc::new(acceptor), certificates, self_signed }))
    }

    /// Is the default to be the gateway's own?
    pub(super) fn needs_self_signed(config: &Config, certificates: &ServerCertificates) -> bool {
        certificates.default.is_none() && !config.server.https.is_empty()
    }

    /// Every certificate, with the setting that names it.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, &CertifiedKey)> {
        let own = self.self_signed.iter().map(|pair| (SELF_SIGNED.to_owned(), pair));
        own.chain(self.certificates.all())
    }

    /// Are the same certificates shown in the same way?
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let of = |tls: &Self| -> Vec<_> {
            tls.all()
                .map(|(setting, pair)| {
                    (setting, pair.chain.iter().map(|one| one.to_der().ok()).collect::<Vec<_>>())
                })
                .collect()
        };
        of(self) == of(other)
    }

    /// Is the gateway's own one to be made again?
    pub(super) fn is_renewal_due(&self, now: UnixTime) -> bool {
        self.self_signed.as_ref().is_some_and(|pair| self_signed::is_due(pair, now))
    }

    /// What clients that verify the certificates would refuse, now or within a month.
    pub(super) fn warnings(&self, now: UnixTime) -> Vec<String> {
        let of = |(setting, pair): (String, &CertifiedKey)| {
            pair.warnings(now).into_iter().map(move |text| format!("{setting}{text}"))
        };
        self.all().flat_map(of).collect()
    }

    /// A line for each of them.
    pub(super) fn describe(&self, now: UnixTime) -> Vec<String> {
        self.all().map(|(setting, pair)| pair.describe(&setting, now)).collect()
    }

    /// What metrics show of it.
    pub(super) fn state(&self, loaded_at: UnixTime) -> CertificateState {
        let shown = self.all().map(|(setting, pair)| ShownCertificate {
            setting,
            name: pair.label(),
            not_after: pair.not_after().unwrap_or_default(),
        });
        CertificateState { shown: shown.collect(), loaded_at: loaded_at.0, has_failed: false }
    }
}

/// What stands for the setting where there is none.
const SELF_SIGNED: &str = "self-signed";
