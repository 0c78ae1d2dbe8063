use clap::Args;

use super::context::{ConfigArgs, LOCK_WAIT};
use super::output::{Failure, note, say};
use super::reload::compare;
use crate::app;
use crate::app::descriptors::needed;
use crate::clock::{Clock, wall};
use crate::config::{Config, Period};
use crate::state_dir::Services;
use crate::state_dir::error::StartError;
use crate::state_dir::privileges::act_as;

/// `ds-gateway check`
#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// Check as this user (a name or a number), with its groups: the one that the gateway will run as. Only root may
    #[arg(long, value_name = "USER")]
    as_user: Option<String>,
    /// Read the configuration and the files that it names, and nothing else: for a machine where the gateway does not run
    #[arg(long)]
    config_only: bool,
    /// Ask the gateway that runs what a reload of this file would do: what would be applied, what would take a restart, every error. Nothing is applied
    #[arg(long, conflicts_with_all = ["config_only", "as_user"])]
    against_running: bool,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failure> {
        if self.against_running {
            return compare(&self.config);
        }
        if let Some(user) = &self.as_user {
            act_as(user).map_err(|text| Failure::usage(format!("--as-user: {text}")))?;
        }
        let path = self.config.path()?;
        let shown = path.display();
        let (config, materials) = self.config.load()?;
        let limits = memory(&config);
        let certificates = materials.certificates.describe(wall());
        if self.config_only {
            let warnings = config
                .warnings()
                .into_iter()
                .chain(materials.warnings(wall()))
                .chain(config.store.place.warnings(wall()));
            warnings.for_each(|warning| note(format_args!("warning: {warning}")));
            match config.observe.as_ref().map(|observe| observe.period(wall())) {
                Some(Period::Over(error) | Period::TooLong(error)) => {
                    return Err(Failure::configuration(&path, &[error]));
                }
                Some(Period::Current) => {
                    let warnings = config.observe_warnings().into_iter();
                    warnings.for_each(|warning| note(format_args!("warning: {warning}")));
                }
                None => {}
            }
            say(format_args!("{shown}: OK; whether the gateway can start here was not tried"))?;
            certificates.iter().try_for_each(say)?;
            return say(limits);
        }
        let services =
            Services { clock: Clock::observer(), metrics: Default::default(), lock_wait: LOCK_WAIT };
        let report = app::check(&config, materials, &services);
        report.warnings.iter().for_each(|warning| note(format_args!("warning: {warning}")));
        if !report.failures.is_empty() {
            report.outdated.iter().for_each(|error| note(format_args!("warning: {error}")));
            return Err(refused(&shown.to_string(), report.failures));
        }
        if !report.outdated.is_empty() {
            return Err(Failure::configuration(&path, &report.outdated));
        }
        if report.conditions.is_empty() {
            say(format_args!("{shown}: OK"))?;
        } else {
            say(format_args!("{shown}: OK, provided that:\n- {}", report.conditions.join("\n- ")))?;
        }
        certificates.iter().try_for_each(say)?;
        say(limits)
    }
}

/// With the code that `run` would end with.
fn refused(shown: &str, failures: Vec<StartError>) -> Failure {
    let count = match failures.len() {
        1 => "the gateway would not start".to_owned(),
        count => format!("the gateway would not start, for {count} reasons"),
    };
    let error = StartError::of(failures);
    let text = format!("{shown}: {count}:\n{error}");
    match error {
        StartError::Busy(_) | StartError::Configuration(_) => Failure { text, ..error.into() },
        _ => Failure::cannot_start(text),
    }
}

/// What the limits come to.
fn memory(config: &Config) -> String {
    let limits = &config.limits;
    let logins = HASH_BYTES * (limits.login_workers as u64 + 1);
    format!(
        "at these limits: {} of memory at most (connections and requests {}, verified tokens {}, logins {}) beside users and \
         revocations, and {} file descriptors",
        size(limits.memory + config.cache.bytes as u64 + logins),
        size(limits.memory),
        size(config.cache.bytes as u64),
        size(logins),
        needed(limits, config.server.threads)
    )
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
