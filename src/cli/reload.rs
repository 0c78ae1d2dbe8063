use std::path::{Path, PathBuf};

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
        ask_all_gateways(&folder, &Request::Reload, print_reload)
    }
}

/// What became of a reload.
pub(super) fn print_reload(id: &str, reply: Reply) -> Result<(), Failure> {
    let refused =
        |id: &str| format!("gateway {id}: not reloaded, and the configuration that it has stays in force");
    print_verdict(id, reply, "reloaded", refused)
}

/// What a reload would do on the gateways that run.
pub(super) fn compare(config: &ConfigArgs) -> Result<(), Failure> {
    let path = config.source()?.path;
    let refused = |id: &str| format!("gateway {id}: a reload would be refused");
    ask_all_gateways(&config.state_dir()?, &Request::Compare { config: path }, |id, reply| {
        print_verdict(id, reply, "a reload would be accepted", refused)
    })
}

/// Asks every gateway on the state folder, one after the other, and has `take` print what each answers.
pub(super) fn ask_all_gateways(
    folder: &Path,
    request: &Request,
    take: impl Fn(&str, Reply) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let shown = folder.display();
    let waits = |id: &str, text: &str| note(format_args!("gateway {id}: {text}"));
    let asked = ask_all(folder, request, waits).map_err(|error| {
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
        let taken = match reply {
            Ok(Reply::Error(error)) => Err(Failure::cannot_start(format!("gateway {id}: {error}"))),
            Ok(reply) => take(&id, reply),
            Err(error) => Err(Failure::cannot_start(format!("gateway {id} did not answer: {error}"))),
        };
        failures.extend(taken.err());
    }
    let text = failures.iter().map(|failure| failure.text.as_str()).collect::<Vec<_>>().join("\n");
    match failures.first() {
        Some(first) => Err(Failure { code: first.code, text }),
        None => Ok(()),
    }
}

/// An answer to what was not asked: the gateway is of another version.
pub(super) fn unexpected(id: &str) -> Failure {
    Failure::cannot_start(format!(
        "gateway {id} gave an answer that this version does not know; its log says what it did"
    ))
}

fn print_verdict(
    id: &str,
    reply: Reply,
    accepted: &str,
    refused: impl Fn(&str) -> String,
) -> Result<(), Failure> {
    let Reply::Verdict(verdict) = reply else { return Err(unexpected(id)) };
    if verdict.is_ok() {
        verdict.warnings.iter().for_each(|warning| note(format_args!("warning: {warning}")));
        return say(describe(id, accepted, &verdict));
    }
    let count = match verdict.errors.len() {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    };
    Err(Failure::usage(format!("{}: {count}:\n{}", refused(id), verdict.errors.join("\n"))))
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
