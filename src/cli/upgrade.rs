use std::path::PathBuf;

use clap::Args;

use super::context::ConfigArgs;
use super::output::{Failure, say};
use super::reload::{ask_all_gateways, print_reload, unexpected};
use crate::control::{Reply, Request};

/// `ds-gateway upgrade`
#[derive(Args, Debug)]
pub(super) struct Upgrade {
    #[command(flatten)]
    config: ConfigArgs,
    /// The state folder of the gateway, if not the one that the configuration names
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Only reload, where that does the same: the binary has not changed, and no setting that takes a restart
    #[arg(long)]
    if_needed: bool,
}

impl Upgrade {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let folder = match self.state_dir {
            Some(folder) => folder,
            None => self.config.state_dir()?,
        };
        let request = Request::Upgrade { if_needed: self.if_needed };
        ask_all_gateways(&folder, &request, |id, reply| match reply {
            Reply::Upgraded(upgraded) => say(format_args!(
                "gateway {id}: replaced by gateway {} (process {}); it ends once what it has is done",
                upgraded.id, upgraded.process
            )),
            Reply::Verdict(_) if self.if_needed => print_reload(id, reply),
            _ => Err(unexpected(id)),
        })
    }
}
