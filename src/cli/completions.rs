use clap::{Args, Command};
use clap_complete::Shell;

use super::output::{Failure, print};

/// `ds-gateway completions`
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints completions for `command`, which is this whole command line.
    pub(super) fn execute(self, command: Command) -> Result<(), Failure> {
        print(&script(self.shell, command))
    }
}

/// What that shell is to read to complete `command`.
pub(super) fn script(shell: Shell, mut command: Command) -> String {
    // Written to memory first: the generator panics where its reader went away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "ds-gateway", &mut script);
    let script = String::from_utf8_lossy(&script);
    // For bash the generator spells the hyphen of the program's name in two ways, and completes nothing behind the first word.
    script.replace("ds__subcmd__gateway", "ds__gateway")
}
