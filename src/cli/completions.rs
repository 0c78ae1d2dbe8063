use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure, print};

/// `ds-gateway completions`
#[derive(Args, Debug)]
pub(super) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self) -> Result<(), Failure> {
        // Written to memory first: the generator panics where its reader went away.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ds-gateway", &mut script);
        print(&script)
    }
}
