use clap::Args;

use super::context::ConfigArgs;
use super::output::{Failure, note, say};
use crate::app::descriptors::needed;
use crate::clock::wall;

/// `ds-gateway check`
#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let (config, materials) = self.config.load()?;
        for warning in config.warnings().into_iter().chain(materials.warnings(wall())) {
            note(format_args!("warning: {warning}"));
        }
        say(format_args!("{}: OK", self.config.path()?.display()))?;
        let limits = &config.limits;
        let logins = HASH_BYTES * (limits.login_workers as u64 + 1);
        say(format_args!(
            "at these limits: {} of memory at most (connections and requests {}, verified tokens {}, logins {}) beside users and \
             revocations, and {} file descriptors",
            size(limits.memory + config.cache.bytes as u64 + logins),
            size(limits.memory),
            size(config.cache.bytes as u64),
            size(logins),
            needed(limits, config.server.threads)
        ))?;
        Ok(())
    }
}

/// In whole megabytes, or in gigabytes.
fn size(bytes: u64) -> String {
    match bytes.div_ceil(1_000_000) {
        megabytes if megabytes < 1_000 => format!("{megabytes} MB"),
        megabytes => format!("{:.1} GB", megabytes as f64 / 1e3),
    }
}

/// What a thread that hashes passwords takes, in bytes.
const HASH_BYTES: u64 = 19 * 1024 * 1024;
