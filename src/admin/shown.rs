//! What the admin listener shows of the configuration.

use std::sync::Arc;

use crate::auth::gate::Observation;
use crate::metrics::{Addresses, CertificateState, ReloadState, ServerMetrics};

/// What is shown of the configuration that the gateway has now.
#[derive(Clone)]
pub struct Shown {
    /// The settings that metrics show.
    pub info_labels: Vec<(&'static str, &'static str)>,
    /// What is not enforced yet.
    pub observation: Option<Observation>,
    /// Which certificates the TLS listeners show, and how the last attempt to replace them went.
    pub certificates: CertificateState,
    /// What is counted for each server of the platform.
    pub servers: Arc<ServerMetrics>,
    /// Reads the addresses of each of them.
    pub addresses: Arc<dyn Fn() -> Vec<Addresses> + Send + Sync>,
    /// Which configuration it is, and how the last reload went.
    pub reload: ReloadState,
}
