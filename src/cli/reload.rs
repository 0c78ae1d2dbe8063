use std::path::PathBuf;

use clap::Args;

use super::context::ConfigArgs;
use super::output::{Failure, note, say};
use crate::control::{Asked, Reply, Request, Verdict, ask_all};

/// `ds-gateway reload`
#[derive(Args, Debug)]
pub(super) struct Reload {
    #[command(flatten)]
    config: ConfigArgs,
    /// The state folder of the gateway, if not the one that the configuration names
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
}

impl Reload {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let folder = match self.state_dir {
            Some(folder) => folder,
            None => self.config.state_dir()?,
        };
        let refused = |id: &str| {
            format!("gateway {id}: not reloaded, and the configuration that it has stays in force")
        };
        ask(folder, &Request::Reload, "reloaded", refused)
    }
}

/// What a reload would do on the gateways that run.
pub(super) fn compare(config: &ConfigArgs) -> Result<(), Failure> {
    let path = config.source()?.path;
    let refused = |id: &str| format!("gateway {id}: a reload would be refused");
    ask(config.state_dir()?, &Request::Compare { config: path }, "a reload would be accepted", refused)
}

/// Asks every gateway on the state folder, and prints what each answers.
fn ask(
    folder: PathBuf,
    request: &Request,
    accepted: &str,
    refused: impl Fn(&str) -> String,
) -> Result<(), Failure> {
    let shown = folder.display();
    let asked = ask_all(&folder, request).map_err(|error| {
        let text = format!("{shown}: the control sockets of gateways cannot be looked for: {error}");
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Failure::not_permitted(text),
            _ => Failure::cannot_start(text),
        }
    })?;
    if asked.is_empty() {
        return Err(Failure::cannot_start(format!(
            "no gateway that can be asked runs on the state folder {shown}: name its configuration with --config FILE"
        )));
    }
    let mut failures = Vec::new();
    for Asked { id, reply } in asked {
        match reply {
            Ok(Reply::Verdict(verdict)) if verdict.is_ok() => {
                verdict.warnings.iter().for_each(|warning| note(format_args!("warning: {warning}")));
                say(describe(&id, accepted, &verdict))?;
            }
            Ok(Reply::Verdict(verdict)) => {
                let count = match verdict.errors.len() {
                    1 => "1 error".to_owned(),
                    count => format!("{count} errors"),
                };
                failures.push(Failure::usage(format!(
                    "{}: {count}:\n{}",
                    refused(&id),
                    verdict.errors.join("\n")
                )));
            }
            Ok(Reply::Error(error)) => failures.push(Failure::cannot_start(format!("gateway {id}: {error}"))),
            Err(error) => {
                failures.push(Failure::cannot_start(format!("gateway {id} did not answer: {error}")))
            }
        }
    }
    let text = failures.iter().map(|failure| failure.text.as_str()).collect::<Vec<_>>().join("\n");
    match failures.first() {
        Some(first) => Err(Failure { code: first.code, text }),
        None => Ok(()),
    }
}

fn describe(id: &str, accepted: &str, verdict: &Verdict) -> String {
    let Verdict { applied, at_restart, notes, hash, .. } = verdict;
    let mut lines = vec![format!("gateway {id}: {accepted} (configuration {hash})")];
    if applied.is_empty() && at_restart.is_empty() {
        lines.push("- nothing differs from what is in force".into());
    }
    lines.extend(applied.iter().map(|name| format!("- applied at once: {name}")));
    lines.extend(at_restart.iter().map(|name| format!("- takes a restart: {name}")));
    lines.extend(notes.iter().map(|note| format!("- {note}")));
    lines.join("\n")
}
