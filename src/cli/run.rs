use clap::Args;

use super::{ConfigArgs, Failure};
use crate::app::state::Creation;
use crate::app::{self, Hooks};
use crate::logging::Sink;

/// `ds-gateway run`
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
    /// Create a store even though signing keys exist: every token ends, and there are no users
    #[arg(long)]
    init: bool,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let sink = Sink::install(config.log);
        let creation = if self.init { Creation::Init } else { Creation::IfNew };
        let outcome = app::run(config, creation, &sink, Hooks::default());
        sink.drain();
        // Whatever it was: it cannot start.
        outcome.map_err(Failure::cannot_start)
    }
}
