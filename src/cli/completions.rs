use clap::{Args, Command};
use clap_complete::Shell;

use super::output::{Failure, print};

/// `ds-gateway completions`
#[derive(Args, Debug)]
pub(super) struct Completions {
    shell: Shell,
}

impl Completions {
    /// Prints completions for `command`, which is this whole command line.
    pub(super) fn execute(self, mut command: Command) -> Result<(), Failure> {
        // Written to memory first: the generator panics where its reader went away.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "ds-gateway", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
