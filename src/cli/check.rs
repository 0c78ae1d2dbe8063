use clap::Args;

use super::context::ConfigArgs;
use super::output::{Failure, note, say};

/// `ds-gateway check`
#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        for warning in config.warnings() {
            note(format_args!("warning: {warning}"));
        }
        say(format_args!("{} has no fault", self.config.config.display()))?;
        Ok(())
    }
}
