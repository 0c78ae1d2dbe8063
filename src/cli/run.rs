use clap::Args;

use super::context::{ConfigArgs, InitArgs};
use super::output::Failure;
use crate::app::{self, Hooks, StartError};
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
        outcome.map_err(|error| match error {
            StartError::Busy(_) => error.into(),
            // Whatever else it was: it cannot start.
            _ => Failure::cannot_start(error),
        })
    }
}
