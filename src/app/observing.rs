//! Says, while routes are observed, that they are: once a day, and when it has ended. The start says it first.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::admin::Shown;
use crate::auth::gate::{ClockReading, Observation};
use crate::auth::time::UnixTime;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Tells the log how the observation stands. Whether a request is observed is decided without it.
pub(super) struct Observing {
    /// Which observation there is, if any.
    pub(super) shown: Arc<ArcSwap<Shown>>,
    pub(super) clock: Clock,
    /// For what would have been refused.
    pub(super) metrics: Arc<Metrics>,
}

#[async_trait]
impl BackgroundService for Observing {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let reading = self.clock.read();
        let mut said = self.now(reading);
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
    /// Until when routes are observed, if they are.
    until: Option<UnixTime>,
    /// Which end was configured.
    configured: Option<UnixTime>,
    at: Duration,
}

impl Observing {
    fn now(&self, reading: ClockReading) -> Said {
        let shown = self.shown.load();
        let observation = shown.observation.as_ref();
        Said {
            until: observation.filter(|there| there.is_on(reading)).map(Observation::until),
            configured: observation.map(Observation::until),
            at: reading.uptime,
        }
    }

    fn look(&self, said: &mut Said) {
        let now = self.now(self.clock.read());
        let is_due = now.until.is_some() && now.at.saturating_sub(said.at) >= DAY;
        if now.until == said.until && !is_due {
            return;
        }
        let would_refuse = self.metrics.would_refuse();
        match (now.until, said.until) {
            (None, _) => log::warn!(would_refuse; "the observation has ended: every route is enforced"),
            // A clock that was ahead for a while.
            (Some(until), None) if now.configured == said.configured => {
                log::warn!("the clock was set back: routes are observed again until {until} UTC")
            }
            (Some(until), _) => log::warn!(
                would_refuse;
                "routes are observed until {until} UTC: requests that would be refused are forwarded"
            ),
        }
        *said = now;
    }
}

/// How often it looks: an end is told about when it comes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it says that it goes on.
const DAY: Duration = Duration::from_secs(24 * 3600);
