use clap::Args;

use super::context::{ConfigArgs, InitArgs};
use super::output::Failure;
use crate::app::{self, Hooks};
use crate::logging::Sink;

/// `ds-gateway run`
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    init: InitArgs,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let sink = Sink::install(config.log);
        let outcome = app::run(config, self.init.creation(), &sink, Hooks::default());
        sink.drain();
        // Whatever it was: it cannot start.
        outcome.map_err(Failure::cannot_start)
    }
}
