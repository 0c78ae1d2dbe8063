use clap::Args;

use super::context::{ConfigArgs, InitArgs, RestoredArgs, load};
use super::output::Failure;
use crate::app::{self, Hooks, Inherited, Program};
use crate::logging::Sink;
use crate::state_dir::error::StartError;

/// `ds-gateway run`
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    init: InitArgs,
    #[command(flatten)]
    restored: RestoredArgs,
    /// Let the kernel write a core file after a crash, and a debugger attach: both show keys, tokens and passwords
    #[arg(long)]
    pub(super) allow_core: bool,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Failure> {
        // Before there are threads.
        let inherited = Inherited::from_environment();
        let succeeds = inherited.succeeds().cloned();
        let outcome = self.run(inherited);
        if let (Err(failure), Some(succeeds)) = (&outcome, succeeds) {
            succeeds.cannot_start(failure.text.clone());
        }
        outcome
    }

    fn run(self, inherited: Inherited) -> Result<(), Failure> {
        let source = self.config.source()?;
        let (config, materials) = load(&source.path)?;
        let sink = Sink::install(config.log.clone());
        let (opening, creation) = (self.restored.opening(), self.init.creation());
        let outcome = app::run(
            (config, materials),
            opening,
            creation,
            &sink,
            Hooks {
                source: Some(source),
                program: Program::of_this_process().ok(),
                inherited,
                ..Hooks::default()
            },
        );
        sink.drain();
        outcome.map_err(|error| match error {
            StartError::Busy(_) | StartError::Configuration(_) => error.into(),
            // Whatever else it was: it cannot start.
            _ => Failure::cannot_start(error),
        })
    }
}
