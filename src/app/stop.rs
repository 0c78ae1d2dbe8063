//! How the process ends: by which signal, and as soon as nothing is in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, GenBackgroundService, background_service};
use tokio::signal::unix::{SignalKind, signal};

use super::OnExit;
use super::housekeeping::Housekeeping;
use crate::logging::Sink;
use crate::metrics::Metrics;

/// SIGTERM stops gracefully, SIGINT at once; a second signal does not wait for anything.
pub(super) struct Signals {
    stopping: Arc<AtomicBool>,
    drain_delay: Duration,
}

impl Signals {
    pub(super) const fn new(stopping: Arc<AtomicBool>, drain_delay: Duration) -> Self {
        Self { stopping, drain_delay }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let handlers = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        let (Ok(mut terminate), Ok(mut interrupt)) = handlers else {
            log::error!("signals cannot be received; the process can only be killed");
            return std::future::pending().await;
        };
        let graceful = tokio::select! {
            _ = terminate.recv() => true,
            _ = interrupt.recv() => false,
        };
        self.stopping.store(true, Ordering::Relaxed);
        if !graceful {
            log::info!("stopping at once");
            return ShutdownSignal::FastShutdown;
        }
        log::info!("stopping when nothing is in flight; a second signal stops at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(1);
        });
        // Listeners stay open meanwhile, so that a balancer that saw `/readyz` loses nothing.
        tokio::time::sleep(self.drain_delay).await;
        ShutdownSignal::GracefulTerminate
    }
}

/// Ends the process when nothing is in flight: the engine would sleep through its whole grace period.
pub(super) struct Draining(Arc<Inner>);

struct Inner {
    metrics: Arc<Metrics>,
    sink: Sink,
    housekeeping: Housekeeping,
    on_exit: Mutex<Option<OnExit>>,
}

impl Draining {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        sink: Sink,
        housekeeping: Housekeeping,
        on_exit: Option<OnExit>,
    ) -> Self {
        Self(Arc::new(Inner { metrics, sink, housekeeping, on_exit: Mutex::new(on_exit) }))
    }

    pub(super) fn service(&self) -> GenBackgroundService<Watch> {
        background_service("draining", Watch(Arc::clone(&self.0)))
    }

    /// The last things to do.
    pub(super) fn finish(&self) {
        self.0.finish();
    }
}

impl Inner {
    fn finish(&self) {
        if let Some(on_exit) = self.on_exit.lock().take() {
            on_exit();
        }
        log::info!("stopped");
        self.sink.drain();
    }
}

pub(super) struct Watch(Arc<Inner>);

#[async_trait]
impl BackgroundService for Watch {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        // An error means that the server is gone, which is an end too.
        let _ = shutdown.changed().await;
        while self.0.metrics.in_flight() > 0 {
            tokio::time::sleep(POLL).await;
        }
        // An error was logged by the writer; there is no later.
        let _ = self.0.housekeeping.write_failures().await;
        self.0.finish();
        std::process::exit(0);
    }
}

const POLL: Duration = Duration::from_millis(20);
