//! How the process ends: by which signal, or because another one serves, and as soon as nothing is in flight.
//!
//! The engine's own ends are not used: it sleeps through its whole grace period even when idle, and a fast
//! one can leave its accept loops spinning in runtimes that are half gone. The process is ended from here.

use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, GenBackgroundService, background_service};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

use super::housekeeping::Housekeeping;
use super::upgrade::Upgrader;
use crate::config::Stop;
use crate::control::Server;
use crate::edge::connection::ACCEPT_GRACE;
use crate::edge::ending::Ending;
use crate::logging::Sink;
use crate::metrics::Metrics;

/// The last thing that a caller wants done.
pub type OnExit = Box<dyn FnOnce() + Send>;

/// The end of the process, known to all that can bring it about.
#[derive(Clone)]
pub(super) struct End(Arc<Inner>);

struct Inner {
    settings: Stop,
    ending: Arc<Ending>,
    metrics: Arc<Metrics>,
    sink: Sink,
    housekeeping: Housekeeping,
    on_exit: Mutex<Option<OnExit>>,
    upgrader: Option<Arc<Upgrader>>,
}

impl End {
    /// `ending` is what the rest of the process looks at.
    pub(super) fn new(
        settings: Stop,
        ending: Arc<Ending>,
        metrics: Arc<Metrics>,
        sink: Sink,
        housekeeping: Housekeeping,
        on_exit: Option<OnExit>,
        upgrader: Option<Arc<Upgrader>>,
    ) -> Self {
        let on_exit = Mutex::new(on_exit);
        Self(Arc::new(Inner { settings, ending, metrics, sink, housekeeping, on_exit, upgrader }))
    }

    /// SIGTERM stops gracefully, SIGINT and the loss of the terminal at once; a second signal does not wait for anything.
    /// Without a terminal SIGHUP has the configuration read again; SIGUSR2 upgrades.
    pub(super) fn signals(&self, queue: SignalQueue) -> Signals {
        Signals { end: self.clone(), queue: Mutex::new(Some(queue)) }
    }

    /// Ends the process when nothing is in flight.
    pub(super) fn service(&self) -> GenBackgroundService<Draining> {
        background_service("draining", Draining(self.clone()))
    }

    /// The last things to do.
    pub(super) fn finish(&self) {
        self.0
            .upgrader
            .iter()
            .for_each(|upgrader| upgrader.control.get().into_iter().for_each(Server::remove));
        if let Some(on_exit) = self.0.on_exit.lock().take() {
            on_exit();
        }
        log::info!("stopped");
        self.0.sink.drain();
    }

    /// No successor takes over from here on.
    fn stop(&self) {
        self.0.ending.stop();
        self.0.upgrader.iter().for_each(|upgrader| upgrader.stop());
    }

    /// Waits until what there is to do is done, for as long as that may take; says how many requests are left then.
    async fn drain(&self) -> u64 {
        let Inner { settings, ending, metrics, .. } = &*self.0;
        let begun = Instant::now();
        let mut from = begun;
        // On a busy machine the listeners may be later than this.
        while ending.is_accepting() && begun.elapsed() < settings.grace {
            sleep(POLL).await;
        }
        // What was accepted last may have its request on the way.
        sleep(ACCEPT_GRACE + POLL).await;
        while ending.is_handed_over() {
            if begun.elapsed() >= settings.upgrade_grace {
                log::warn!(
                    "requests or connections are left after server.upgrade_grace: this process stops as by SIGTERM"
                );
                ending.stop();
            }
            // A client that keeps its connection may be about to use it.
            if metrics.connections() == 0 && metrics.in_flight() == 0 {
                return 0;
            }
            sleep(POLL).await;
            from = Instant::now();
        }
        let deadline = from + settings.grace;
        while metrics.in_flight() > 0 && Instant::now() < deadline {
            sleep(POLL).await;
        }
        metrics.in_flight()
    }

    /// If there is one that hears it.
    fn says_so_to_its_successor(&self) -> bool {
        let Inner { upgrader, metrics, housekeeping, .. } = &*self.0;
        let Some(upgrader) = upgrader else { return false };
        let Some(successor) = upgrader.successor() else { return false };
        let is_idle = metrics.connections() == 0 && metrics.in_flight() == 0;
        upgrader.other.say_that_it_ends(
            (&upgrader.id, &successor),
            is_idle,
            housekeeping.user_changes.is_one_open(),
        )
    }

    /// For an end that cannot wait: other gateways and the command line are told, if the store takes it at once.
    async fn exit_at_once(&self, code: i32) -> ! {
        let _ = timeout(AT_ONCE, self.0.housekeeping.deregister()).await;
        self.exit(code)
    }

    fn exit(&self, code: i32) -> ! {
        self.finish();
        std::process::exit(code)
    }
}

/// What the process was asked by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Terminate,
    Interrupt,
    HangUp,
    Upgrade,
}

/// The signals that came, from the beginning on. Until somebody listens for them their default would end the process at once.
pub(super) struct SignalQueue(UnboundedReceiver<Asked>);

impl SignalQueue {
    /// Listens from now on, on a thread of its own: a start has no runtime yet that would.
    pub(super) fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let streams = {
            let _entered = runtime.enter();
            [
                (signal(SignalKind::terminate())?, Asked::Terminate),
                (signal(SignalKind::interrupt())?, Asked::Interrupt),
                (signal(SignalKind::hangup())?, Asked::HangUp),
                (signal(SignalKind::user_defined2())?, Asked::Upgrade),
            ]
        };
        let (sender, receiver) = unbounded_channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                let forward = streams.map(|(stream, asked)| forward(stream, asked, sender.clone()));
                let [terminate, interrupt, hang_up, upgrade] = forward;
                tokio::join!(terminate, interrupt, hang_up, upgrade);
            });
        })?;
        Ok(Self(receiver))
    }
}

async fn forward(mut stream: Signal, asked: Asked, sender: UnboundedSender<Asked>) {
    while stream.recv().await.is_some() && sender.send(asked).is_ok() {}
}

pub(super) struct Signals {
    end: End,
    queue: Mutex<Option<SignalQueue>>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let end = &self.end;
        // Asked now: one that is gone is none.
        let has_terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
        let Some(SignalQueue(mut queue)) = self.queue.lock().take() else {
            return std::future::pending().await;
        };
        let handed_over = async {
            match &end.0.upgrader {
                Some(upgrader) => upgrader.handed_over.notified().await,
                None => std::future::pending().await,
            }
        };
        let mut handed_over = pin!(handed_over);
        loop {
            let asked = tokio::select! {
                asked = queue.recv() => asked,
                () = &mut handed_over => {
                    end.0.ending.hand_over();
                    break;
                }
            };
            match asked {
                Some(Asked::Terminate) => {
                    end.stop();
                    log::info!("stopping once no request is in flight; a second signal stops at once");
                    break;
                }
                Some(Asked::Interrupt) => end.exit_at_once(0).await,
                Some(Asked::HangUp) if has_terminal => end.exit_at_once(0).await,
                Some(Asked::HangUp) => self.reload(),
                Some(Asked::Upgrade) => self.upgrade(),
                None => return std::future::pending().await,
            }
        }
        let second = end.clone();
        tokio::spawn(async move {
            while let Some(asked) = queue.recv().await {
                match asked {
                    Asked::HangUp | Asked::Upgrade => {}
                    Asked::Terminate if second.0.ending.is_handed_over() => second.stop(),
                    Asked::Terminate | Asked::Interrupt => second.exit_at_once(1).await,
                }
            }
        });
        if !end.0.ending.is_handed_over() {
            // Listeners stay open meanwhile, so that a balancer that saw `/readyz` loses nothing.
            sleep(end.0.settings.drain_delay).await;
        }
        ShutdownSignal::GracefulTerminate
    }
}

impl Signals {
    fn reload(&self) {
        match &self.end.0.upgrader {
            Some(upgrader) => upgrader.reloader.reload_soon(),
            None => log::warn!("SIGHUP does not reload this gateway: its configuration is in no file"),
        }
    }

    fn upgrade(&self) {
        match &self.end.0.upgrader {
            Some(upgrader) => upgrader.upgrade_soon(),
            None => log::warn!("SIGUSR2 does not upgrade this gateway: its configuration is in no file"),
        }
    }
}

pub(super) struct Draining(End);

#[async_trait]
impl BackgroundService for Draining {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Self(end) = self;
        // An error means that the server is gone, which is an end too.
        let _ = shutdown.changed().await;
        let in_time = Instant::now() + end.0.settings.grace;
        let cut = end.drain().await;
        if cut > 0 {
            log::warn!("{cut} requests did not finish within server.grace and are cut off");
        }
        // A disk may hang, and whoever waits for the end does not wait for that.
        let (late, limit) = (end.clone(), in_time.saturating_duration_since(Instant::now()) + LONGEST_END);
        let started = thread::Builder::new().name("end".into()).spawn(move || {
            thread::sleep(limit);
            late.exit(0)
        });
        if let Err(error) = started {
            log::warn!("the end of this process is not bounded: no thread can be started for it: {error}");
        }
        end.0.housekeeping.retry().await;
        // An error was logged by the writer; there is no later.
        let _ = end.0.housekeeping.write_failures().await;
        if !end.says_so_to_its_successor() {
            end.0.housekeeping.save_login_counts();
        }
        end.0.housekeeping.deregister().await;
        end.exit(0)
    }
}

const POLL: Duration = Duration::from_millis(20);

/// How long an end at once may wait for the store.
const AT_ONCE: Duration = Duration::from_millis(300);

/// How long the last things may take, beyond the time that requests have.
const LONGEST_END: Duration = Duration::from_secs(5);
