//! `ds-gateway store copy`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::context::{ACCOUNT, ConfigArgs, LOCK_WAIT, run};
use super::output::{Failure, note, say};
use crate::clock::Clock;
use crate::config::{Config, StorePlace};
use crate::service::gateways::Gateways;
use crate::service::store_copy::{self, StoreCopyError};
use crate::state_dir;
use crate::state_dir::error::store_error;
use crate::store::copy::{Began, Copied, CopyError, CopyOptions, OnProgress, Progress};
use crate::store::{Opening, Store};

/// `ds-gateway store copy`
#[derive(Args, Debug)]
#[group(id = "places", multiple = true, required = true, args = ["from", "to"])]
pub(super) struct Copy {
    /// The store to copy: sqlite:FILE or postgres://USER@HOST/DATABASE [default: store.url of the configuration]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Where to: a place that has no store yet [default: store.url of the configuration]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// A file (mode 600) with the password for a PostgreSQL that --from or --to names [default: PGPASSWORD, then ~/.pgpass]
    ///
    /// A URL never holds a password: everyone on the machine can read the arguments of a command.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Copy the store although gateways run on it: whatever they acknowledge after the copy has begun is missing in it
    #[arg(long)]
    while_running: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Copy {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let path = self.config.path()?;
        let (config, _) = self.config.load()?;
        let from = self.place(&config, "--from", self.from.as_deref())?;
        let to = self.place(&config, "--to", self.to.as_deref())?;
        let (from_shown, to_shown) = (from.shown(), to.shown());
        if from_shown == to_shown {
            return Err(Failure::usage(format!(
                "--from and --to are the same store: {} has store.url, which is used for the one that is not given",
                path.display()
            )));
        }
        let state_dir = &config.server.state_dir;
        let entered = state_dir::enter(state_dir, LOCK_WAIT)?;
        let clock = Clock::observer();
        let source = Store::open(&from, Opening::Command, clock, Arc::default())
            .map_err(|error| store_error(&from_shown, error))?;
        let gateways = Gateways::new(source.clone(), state_dir.clone(), ACCOUNT.actor());
        // Commands may go on where the gateways do.
        let entered = (!self.while_running).then_some(entered);
        let options = CopyOptions {
            source: from_shown.display().to_string(),
            rows: CopyOptions::ROWS,
            may_change: self.while_running,
        };
        let copied = run(store_copy::copy(&source, &gateways, &to, options, progress()))?;
        drop(entered);
        self.report(&copied, &from_shown.display().to_string(), &to_shown.display().to_string())
    }

    fn report(&self, copied: &Copied, from: &str, to: &str) -> Result<(), Failure> {
        if copied.is_outdated {
            note(
                "ds-gateway: warning: the source has changed since the copy began, and the copy does not have that",
            );
        }
        let began = match copied.began {
            Began::New => "new",
            Began::Continued => "continued",
            Began::Again => "again",
        };
        if self.json {
            let tables: Vec<_> = copied
                .tables
                .iter()
                .map(|table| json!({"name": table.name, "rows": table.rows, "sha256": table.digest}))
                .collect();
            return say(
                json!({"from": from, "to": to, "began": began, "outdated": copied.is_outdated, "tables": tables}),
            );
        }
        match copied.began {
            Began::New => {}
            Began::Continued => note("ds-gateway: an unfinished copy was continued"),
            Began::Again => note(
                "ds-gateway: an unfinished copy was begun again: the source has changed since, or the copy was not equal to it",
            ),
        }
        let rows: u64 = copied.tables.iter().map(|table| table.rows).sum();
        say(format_args!("copied {from}\n    to {to}: {rows} rows, each compared"))?;
        say(
            "now set store.url to the copy, and start every gateway with it; a gateway on the old store would not know what the others do",
        )
    }

    fn place(&self, config: &Config, option: &str, url: Option<&str>) -> Result<StorePlace, Failure> {
        let Some(url) = url else { return Ok(absolute(config.store.place.clone())) };
        let here = std::env::current_dir().map_err(Failure::cannot_start)?;
        let is_file = url.starts_with("sqlite:");
        let password_file = self.password_file.as_deref().filter(|_| !is_file);
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let place = config.store_place(url, password_file, &here, environment).map_err(|errors| {
            let lines: Vec<String> = errors
                .iter()
                .map(|text| format!("{option}: {}", text.replace("store.password_file", "--password-file")))
                .collect();
            Failure::usage(lines.join("\n"))
        })?;
        Ok(absolute(place))
    }
}

/// The same wherever the command is called.
fn absolute(place: StorePlace) -> StorePlace {
    match place {
        StorePlace::Sqlite(path) => StorePlace::Sqlite(std::path::absolute(&path).unwrap_or(path)),
        other => other,
    }
}

/// Says how far the copy has come, once a second.
pub(super) fn progress() -> OnProgress {
    let mut told = Instant::now();
    Box::new(move |Progress { is_comparing, table, done, rows }| {
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            let verb = if is_comparing { "comparing" } else { "copying" };
            note(format_args!("ds-gateway: {verb} {table}: {done} of {rows} rows"));
        }
        Ok(())
    })
}

impl From<StoreCopyError> for Failure {
    fn from(error: StoreCopyError) -> Self {
        let text = error.to_string();
        match error {
            StoreCopyError::Running(_) | StoreCopyError::Copy(CopyError::Changed | CopyError::Differs(_)) => {
                Self::try_again(text)
            }
            StoreCopyError::Store(error)
            | StoreCopyError::Copy(CopyError::Source(error) | CopyError::Target(error)) => {
                Self { text, ..Self::from(error) }
            }
            StoreCopyError::Copy(CopyError::Occupied | CopyError::OtherSource(_)) => Self::cannot_start(text),
        }
    }
}
