//! Which certificates are shown to clients, and how the last attempt to replace them went.

use prometheus::proto::MetricFamily;

use super::families::{gauge, gauge_family, level};

/// Which certificates the TLS listeners show, since when, and whether the last attempt to replace them succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateState {
    /// Each of them; none without a TLS listener.
    pub shown: Vec<ShownCertificate>,
    /// When they were last read without an error, in seconds since the epoch.
    pub loaded_at: u64,
    /// Could the files that are there now not be used?
    pub has_failed: bool,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCertificate {
    /// The setting that names it, or `self-signed`.
    pub setting: String,
    /// The first of its names.
    pub name: String,
    /// Its expiry, in seconds since the epoch.
    pub not_after: i64,
}

impl CertificateState {
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        if self.shown.is_empty() {
            return Vec::new();
        }
        let ends = self.shown.iter().map(|one| {
            level(one.not_after as f64, &[("certificate", one.setting.as_str()), ("name", one.name.as_str())])
        });
        vec![
            gauge_family(
                "ds_gateway_certificate_not_after_timestamp_seconds",
                "Expiry of each certificate that the TLS listeners show, in seconds since the epoch.",
                ends.collect(),
            ),
            gauge(
                "ds_gateway_certificates_last_reload_successful",
                "1 if the certificates of the TLS listeners are those in their files; 0 if the files cannot be used and the certificates of before are shown.",
                f64::from(u8::from(!self.has_failed)),
                &[],
            ),
            gauge(
                "ds_gateway_certificates_last_reload_success_timestamp_seconds",
                "When the certificates of the TLS listeners were read that are shown, in seconds since the epoch.",
                self.loaded_at as f64,
                &[],
            ),
        ]
    }
}
