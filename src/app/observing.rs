//! Says, while routes are observed, that they are: once a day, and when it has ended. The start says it first.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::auth::gate::Observation;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Tells the log how the observation stands. Whether a request is observed is decided without it.
pub(super) struct Observing {
    pub(super) observation: Observation,
    pub(super) clock: Clock,
    /// For what would have been refused.
    pub(super) metrics: Arc<Metrics>,
}

#[async_trait]
impl BackgroundService for Observing {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut said = Said { is_on: true, at: self.clock.uptime() };
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => self.look(&mut said),
                _ = shutdown.changed() => return,
            }
        }
    }
}

/// What the log was told last, and when.
struct Said {
    is_on: bool,
    at: Duration,
}

impl Observing {
    fn look(&self, said: &mut Said) {
        let reading = self.clock.read();
        let is_on = self.observation.is_on(reading);
        let is_due = is_on && reading.uptime.saturating_sub(said.at) >= DAY;
        if is_on == said.is_on && !is_due {
            return;
        }
        let (until, would_refuse) = (self.observation.until(), self.metrics.would_refuse());
        match (is_on, said.is_on) {
            (true, true) => log::warn!(
                would_refuse;
                "routes are observed until {until} UTC: requests that would be refused are forwarded"
            ),
            (false, _) => log::warn!(would_refuse; "the observation has ended: every route is enforced"),
            // A clock that was ahead for a while.
            (true, false) => {
                log::warn!("the clock was set back: routes are observed again until {until} UTC")
            }
        }
        *said = Said { is_on, at: reading.uptime };
    }
}

/// How often it looks: an end is told about when it comes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it says that it goes on.
const DAY: Duration = Duration::from_secs(24 * 3600);
