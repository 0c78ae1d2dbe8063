//! Observing: for a while, requests that the gate denies go on to the platform's own check, and are counted as what they are.
//!
//! It ends by itself, by both clocks: when the time has come, and when as much time has passed as there was at the start, whatever the
//! wall clock says by then. Where it is over, and on a route that is enforced, there is no pass.

use core::time::Duration;

use super::clock_reading::ClockReading;
use super::permit::ObservedPass;
use super::would_refuse::WouldRefuse;
use crate::auth::denial::Denial;
use crate::auth::endpoint::InspectAuth;
use crate::auth::policy::{ENDPOINT, EnforcedPath, OwnPath, split_target};
use crate::auth::time::UnixTime;

/// What is observed, and until when.
#[derive(Clone, Debug)]
pub struct Observation {
    until: UnixTime,
    /// The uptime at which it ends at the latest.
    ends_at: Duration,
    enforced: Vec<EnforcedPath>,
    is_endpoint_enforced: bool,
    inspect_auth: InspectAuth,
}

impl Observation {
    /// Begins at this reading, for all routes but those that are enforced. What is over by then lets nothing through.
    pub fn begin(
        until: UnixTime,
        enforced: Vec<EnforcedPath>,
        inspect_auth: InspectAuth,
        reading: ClockReading,
    ) -> Self {
        let left = until.0.saturating_sub(reading.now.0);
        Self {
            until,
            ends_at: reading.uptime.saturating_add(Duration::from_secs(left)),
            is_endpoint_enforced: enforces_endpoint(&enforced),
            enforced,
            inspect_auth,
        }
    }

    /// When it ends.
    pub const fn until(&self) -> UnixTime {
        self.until
    }

    /// Who may inspect a token once the token endpoint is enforced.
    pub const fn inspect_auth(&self) -> InspectAuth {
        self.inspect_auth
    }

    /// Is anything observed at this moment?
    pub fn is_on(&self, reading: ClockReading) -> bool {
        reading.now < self.until && reading.uptime < self.ends_at
    }

    /// Lets a request for `target` go on that the gate denied. `None`: it is refused.
    pub(super) fn pass(&self, denial: Denial, target: &[u8], reading: ClockReading) -> Option<ObservedPass> {
        let goes_on = !denial.is_for_form() && self.observes(target, reading);
        goes_on.then(|| ObservedPass::new(Some(WouldRefuse::Denied(denial))))
    }

    /// Is the route of a request for `target` observed at this moment?
    pub fn observes(&self, target: &[u8], reading: ClockReading) -> bool {
        let (path, _) = split_target(target);
        self.is_on(reading) && !self.enforced.iter().any(|enforced| enforced.may_match(path))
    }

    /// Lets a request for the token endpoint, or for its reserved path, go on. `None`: it is the gateway's to answer. `would_refuse` says
    /// what of its form the gateway would refuse; whether a password is right, only the platform finds out.
    pub fn endpoint_pass(
        &self,
        _path: &OwnPath,
        reading: ClockReading,
        would_refuse: impl FnOnce() -> Option<WouldRefuse>,
    ) -> Option<ObservedPass> {
        if self.is_endpoint_enforced || !self.is_on(reading) {
            return None;
        }
        match would_refuse() {
            Some(WouldRefuse::Denied(denial)) if denial.is_for_form() => None,
            would_refuse => Some(ObservedPass::new(would_refuse)),
        }
    }
}

/// Does one of these enforce the token endpoint? All of it, if any of it.
pub fn enforces_endpoint(enforced: &[EnforcedPath]) -> bool {
    enforced.iter().any(|path| path.may_match(ENDPOINT.as_bytes()) || path.lies_within(ENDPOINT))
}

#[cfg(test)]
mod tests;
