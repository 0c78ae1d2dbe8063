//! What is done once a minute: failed logins become audit rows, and old rows go.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::clock::wall;
use crate::edge::failures::FailedLogins;
use crate::store::StoreError;
use crate::store::audit::{Event, Retention, prune};
use crate::store::sqlite::current_number;
use crate::store::writer::Writer;

#[derive(Clone)]
pub(super) struct Housekeeping {
    pub(super) failures: Arc<FailedLogins>,
    pub(super) writer: Arc<Writer>,
    pub(super) keep: Retention,
}

#[async_trait]
impl BackgroundService for Housekeeping {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                // What is left is written when the last request is over.
                _ = shutdown.changed() => return,
            };
            // What fails now is tried again in a minute; the writer has said why.
            let _ = self.write_failures().await;
            let _ = self.prune().await;
        }
    }
}

impl Housekeeping {
    pub(super) async fn write_failures(&self) -> Result<(), StoreError> {
        let failures = self.failures.take();
        if failures.is_empty() {
            return Ok(());
        }
        let write = self.writer.write(move |connection| {
            let (number, at) = (current_number(connection)?, wall());
            failures.iter().try_for_each(|sum| {
                let event = Event {
                    number,
                    at,
                    actor: &sum.subject,
                    action: "login_failed",
                    subject: &sum.subject,
                    token: None,
                    origin: &sum.origin,
                    count: sum.count,
                };
                event.write(connection)
            })
        });
        write.await
    }

    async fn prune(&self) -> Result<(), StoreError> {
        let keep = self.keep;
        while self.writer.write(move |connection| prune(connection, keep, wall())).await? > 0 {}
        Ok(())
    }
}

const PERIOD: Duration = Duration::from_secs(60);
