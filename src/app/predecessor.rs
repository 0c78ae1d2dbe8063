//! An upgrade, as the new process sees it: it loads everything, learns what the store does not have, and says that it serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::other_process::OtherProcess;
use crate::control::{Link, Reply, Request};
use crate::service::user_changes::UserChanges;
use crate::state_dir::error::StartError;
use crate::store::block_on;

/// The gateway that this process is to succeed: its state folder, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succeeds {
    pub(super) state_dir: PathBuf,
    pub(super) id: String,
}

impl Succeeds {
    /// As the predecessor has put it into the environment.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let id = path.file_name()?.to_str()?.to_owned();
        Some(Self { state_dir: path.parent()?.to_owned(), id })
    }

    /// Tells the predecessor why there will be no successor. It is told by the end of this process, too.
    pub fn cannot_start(&self, errors: String) {
        let _ = Link::ask_once(&self.state_dir, &self.id, &Request::CannotStart { errors }, PATIENCE);
    }

    /// A configuration may name the folder otherwise, and not another one.
    pub(super) fn check_folder(&self, state_dir: &Path) -> Result<(), StartError> {
        if self.state_dir.canonicalize().ok() == state_dir.canonicalize().ok() {
            return Ok(());
        }
        Err(StartError::refused(format!(
            "server.state_dir is {}, and that of the gateway that runs is {}: another state folder needs a restart",
            state_dir.display(),
            self.state_dir.display()
        )))
    }

    /// Reaches it. To be called when there is something to ask: one that connects and then says nothing is not waited for.
    pub(super) fn reach(self) -> Result<Predecessor, StartError> {
        let link = Link::connect(&self.state_dir, &self.id).map_err(|error| {
            StartError::refused(format!(
                "gateway {}, which this process is to succeed, cannot be asked: {error}",
                self.id
            ))
        })?;
        Ok(Predecessor { id: self.id, link })
    }
}

/// The gateway that this process succeeds, which serves until this one does.
pub(super) struct Predecessor {
    pub(super) id: String,
    link: Link,
}

impl Predecessor {
    /// What it has counted of failed logins.
    pub(super) fn login_counts(&mut self) -> Result<Vec<u8>, StartError> {
        match self.ask(&Request::LoginCounts)? {
            Reply::LoginCounts(counts) => STANDARD.decode(counts).map_err(StartError::refused),
            other => Err(unexpected(&other)),
        }
    }

    /// From now on neither process acknowledges what the other has not applied; and this one knows what the other knows.
    pub(super) fn take_over(
        mut self,
        id: &str,
        store: String,
        other: &Arc<OtherProcess>,
        user_changes: UserChanges,
    ) -> Result<Serving, StartError> {
        let pending = match self.ask(&Request::TakeOver { id: id.to_owned(), store })? {
            Reply::Pending(pending) => pending,
            reply => return Err(unexpected(&reply)),
        };
        for record in &pending {
            if let Reply::Error(error) = other.hold(record) {
                return Err(StartError::refused(error));
            }
        }
        // What it acknowledged before it began to ask this process is in the store.
        if other.apply() != Reply::Done {
            return Err(StartError::refused("the store could not be read again in time"));
        }
        let Self { id, link } = self;
        let serving = Serving(Succeeds { state_dir: other.state_dir.clone(), id: id.clone() });
        let ended = {
            let other = Arc::clone(other);
            move || {
                if other.leaves_nothing.load(Ordering::Relaxed) {
                    log::info!("the process that was replaced has ended");
                    return;
                }
                log::warn!(
                    "the process that was replaced has ended in the middle of something: changes of users that it had begun are ended here"
                );
                let mut is_told = false;
                while let Err(error) = block_on(user_changes.end_those_of_before()) {
                    if !std::mem::replace(&mut is_told, true) {
                        log::error!("changes of users that it had begun cannot be ended; retrying: {error}");
                    }
                    thread::sleep(RETRY);
                }
            }
        };
        other.link(&id, link, ended).map_err(StartError::refused)?;
        Ok(serving)
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, StartError> {
        self.link.ask(request, PATIENCE).map_err(|error| {
            StartError::refused(format!(
                "gateway {}, which this process is to succeed, does not answer: {error}",
                self.id
            ))
        })
    }
}

fn unexpected(reply: &Reply) -> StartError {
    match reply {
        Reply::Error(error) => StartError::refused(error),
        _ => StartError::refused(
            "the gateway that this process is to succeed answers something else than it was asked",
        ),
    }
}

/// Tells the predecessor, once connections are accepted.
pub(super) struct Serving(Succeeds);

#[async_trait]
impl BackgroundService for Serving {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let Succeeds { state_dir, id } = &self.0;
        match Link::ask_once(state_dir, id, &Request::Serving, PATIENCE) {
            Ok(Reply::Done) => {}
            // It serves on, and has taken this process for one that failed.
            other => {
                log::error!("the gateway that this process was to succeed goes on by itself: {other:?}");
                log::logger().flush();
                std::process::exit(1);
            }
        }
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is tried to end what a predecessor has begun.
const RETRY: Duration = Duration::from_secs(1);
