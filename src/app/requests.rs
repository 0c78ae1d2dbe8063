//! What the control socket is asked, and who answers.

use std::sync::Arc;

use super::program::Program;
use super::upgrade::Upgrader;
use crate::control::{Progress, Reply, Request};

/// Has each answered by what it concerns.
pub(super) struct Requests(pub(super) Arc<Upgrader>);

impl Requests {
    /// Blocks.
    pub(super) fn serve(&self, request: Request, progress: &Progress<'_>) -> Reply {
        let Self(upgrader) = self;
        let (reloader, other) = (&upgrader.reloader, &upgrader.other);
        match request {
            Request::Reload => self.unless_over(|| Reply::Verdict(reloader.reload())),
            Request::Compare { config } => self.unless_over(|| Reply::Verdict(reloader.compare(&config))),
            Request::Upgrade { if_needed: false } => upgrader.upgrade(progress),
            Request::Upgrade { if_needed: true } => self.upgrade_or_reload(progress),
            Request::LoginCounts => Reply::LoginCounts(other.login_counts()),
            Request::TakeOver { id, store } => upgrader.take_over(id, &store),
            Request::Serving => upgrader.serving(),
            Request::CannotStart { errors } => upgrader.cannot_start(errors),
            Request::Apply => other.apply(),
            Request::Hold { record } => other.hold(&record),
            Request::Ended { id, is_idle, login_counts, leaves_changes } => {
                other.ended(is_idle.then_some(id), &login_counts, leaves_changes)
            }
        }
    }

    /// A reload does all that an upgrade would, where the binary is the same and no setting takes a restart.
    fn upgrade_or_reload(&self, progress: &Progress<'_>) -> Reply {
        let Self(upgrader) = self;
        let is_same = upgrader.program.as_ref().is_some_and(Program::is_running);
        let would = upgrader.reloader.compare_with_source();
        // What is wrong is said by the reload.
        if is_same && would.at_restart.is_empty() || !would.is_ok() {
            return self.unless_over(|| Reply::Verdict(upgrader.reloader.reload()));
        }
        upgrader.upgrade(progress)
    }

    /// A request that waited for an upgrade is for the new process.
    fn unless_over(&self, serve: impl Fn() -> Reply) -> Reply {
        let over = |id: String| Reply::Error(format!("gateway {id} has taken over meanwhile: try again"));
        let reply = self.0.successor().map_or_else(&serve, over);
        self.0.successor().map_or(reply, over)
    }
}
