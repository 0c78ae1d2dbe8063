use std::path::PathBuf;

use clap::{Args, Command};

use super::output::{Failure, say};

/// `ds-gateway man`
#[derive(Args, Debug)]
pub(super) struct Man {
    /// The folder, which must exist; gets a page for each command, with the text of `--help`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Man {
    /// Writes a page for `command`, which is this whole command line, and for each of its subcommands.
    pub(super) fn execute(self, command: Command) -> Result<(), Failure> {
        let named = |error| Failure::cannot_start(format!("{}: {error}", self.folder.display()));
        clap_mangen::generate_to(command, &self.folder).map_err(named)?;
        say(format_args!("manual pages written to {}", self.folder.display()))
    }
}
