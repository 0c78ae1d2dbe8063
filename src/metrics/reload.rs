//! Which configuration is in force, and how the last attempt to replace it went.

use prometheus::proto::MetricFamily;

use super::families::gauge;

/// Which configuration is in force, since when, and whether the last attempt to replace it succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadState {
    /// A digest of it.
    pub hash: String,
    /// Of the start, or of the last reload that succeeded, in seconds since the epoch.
    pub loaded_at: u64,
    /// Did the last reload fail?
    pub has_failed: bool,
    /// How many settings of the file wait for a restart.
    pub at_restart: usize,
}

impl ReloadState {
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        vec![
            gauge(
                "ds_gateway_config_last_reload_successful",
                "1 if the last reload of the configuration succeeded, or there was none; 0 if it failed and the one before it is in force.",
                f64::from(u8::from(!self.has_failed)),
                &[],
            ),
            gauge(
                "ds_gateway_config_last_reload_success_timestamp_seconds",
                "When the configuration was loaded that is in force, in seconds since the epoch.",
                self.loaded_at as f64,
                &[],
            ),
            gauge(
                "ds_gateway_config_settings_awaiting_restart",
                "Settings that differ from those in force and take a restart, as of the last reload.",
                self.at_restart as f64,
                &[],
            ),
        ]
    }
}
