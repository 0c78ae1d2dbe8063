//! What the control socket is asked, and who answers.

use std::sync::Arc;

use super::other_process::OtherProcess;
use super::program::Program;
use super::reload::Reloader;
use super::upgrade::Upgrader;
use crate::control::{Progress, Reply, Request};

/// Whoever answers.
pub(super) struct Requests {
    pub(super) reloader: Arc<Reloader>,
    pub(super) upgrader: Arc<Upgrader>,
    pub(super) other: Arc<OtherProcess>,
}

impl Requests {
    /// Blocks.
    pub(super) fn serve(&self, request: Request, progress: &Progress<'_>) -> Reply {
        match request {
            Request::Reload => self.unless_over(|| Reply::Verdict(self.reloader.reload())),
            Request::Compare { config } => {
                self.unless_over(|| Reply::Verdict(self.reloader.compare(&config)))
            }
            Request::Upgrade { if_needed: false } => self.upgrader.upgrade(progress),
            Request::Upgrade { if_needed: true } => self.upgrade_or_reload(progress),
            Request::LoginCounts => Reply::LoginCounts(self.other.login_counts()),
            Request::TakeOver { id, store } => self.upgrader.take_over(id, &store),
            Request::Serving => self.upgrader.serving(),
            Request::CannotStart { errors } => self.upgrader.cannot_start(errors),
            Request::Apply => self.other.apply(),
            Request::Hold { record } => self.other.hold(&record),
            Request::Ended { id, is_idle, login_counts, leaves_changes } => {
                self.other.ended(is_idle.then_some(id), &login_counts, leaves_changes)
            }
        }
    }

    /// A reload does all that an upgrade would, where the binary is the same and no setting takes a restart.
    fn upgrade_or_reload(&self, progress: &Progress<'_>) -> Reply {
        let is_same = self.upgrader.program.as_ref().is_some_and(Program::is_running);
        let would = self.reloader.compare_with_source();
        // What is wrong is said by the reload.
        if is_same && would.at_restart.is_empty() || !would.is_ok() {
            return self.unless_over(|| Reply::Verdict(self.reloader.reload()));
        }
        self.upgrader.upgrade(progress)
    }

    /// A request that waited for an upgrade is for the new process.
    fn unless_over(&self, serve: impl Fn() -> Reply) -> Reply {
        let over = |id: String| Reply::Error(format!("gateway {id} has taken over meanwhile: try again"));
        let reply = self.upgrader.successor().map_or_else(&serve, over);
        self.upgrader.successor().map_or(reply, over)
    }
}
