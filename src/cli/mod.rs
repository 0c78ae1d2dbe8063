//! The command line: subcommands, one file a noun, and what their ends mean to a script.
//!
//! It may use every other layer but `admin` and `tls`.

mod audit;
mod backup;
mod check;
mod completions;
mod context;
mod demo;
mod gateways;
mod import;
mod key;
mod man;
mod output;
mod password;
mod reload;
mod revocations;
mod revoke;
mod run;
mod store;
mod store_copy;
mod terminal;
mod token;
mod tokens;
mod upgrade;
mod user;
mod users;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use once_cell::sync::Lazy;

use self::context::ACCOUNT;
use self::output::{Failure, note};
use crate::app::core_dumps;

/// The authentication gateway in front of the Datasentinel platform API.
///
/// It answers /ds-api/user-token itself (HTTP Basic in, a 24-hour token out) and checks the user-token
/// header on everything else before a byte reaches the platform.
///
/// Try it: `ds-gateway demo`. Run it: `ds-gateway run --config FILE`.
#[derive(Debug, Parser)]
#[command(name = "ds-gateway", version = VERSION, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run(run::Run),
    /// Check whether the gateway would start here: report every reason at once, and warn of dangerous settings
    ///
    /// Reads the configuration, keys and certificates, looks at the state folder and the store, resolves names, binds every port
    /// for a moment, and asks the platform for an answer. Changes nothing; a gateway may be running.
    Check(check::Check),
    /// Have the running gateway read its configuration again, and print what changed, or every error
    ///
    /// Settings, certificates, keys and passwords are read and checked whole; then all of them replace those in force at once, and no request is lost. If
    /// anything is wrong, nothing is replaced. What takes a restart is named. Every gateway on the state folder is asked.
    Reload(reload::Reload),
    /// Start the gateway's binary anew, and have the new process take over without a lost request
    ///
    /// The new process is handed the sockets, loads everything, and serves; then the old one accepts no more, and ends once its requests and connections are
    /// done. If the new process cannot start, nothing changes and this says why. It reads the configuration again: what takes a restart is changed, too, but for
    /// the state folder and the store. Every gateway on the state folder is upgraded.
    Upgrade(upgrade::Upgrade),
    /// Run a throwaway demo gateway: loopback only, with a sample platform and user; nothing is kept
    Demo(demo::Demo),
    /// Add, change, list and remove users
    User(user::User),
    /// Mint, inspect and explain tokens
    Token(token::Token),
    /// Generate and list signing keys
    Key(key::Key),
    /// Revoke tokens
    Revoke(revoke::Revoke),
    /// Show who did what, when and from where
    Audit(audit::Audit),
    /// Copy the store to another place or engine, check it, back it up, repair it
    Store(store::Store),
    /// Back up store, keys and certificate to a folder; the gateway may be running
    Backup(backup::Backup),
    /// Restore a backup over the current state; revokes every token
    Restore(backup::Restore),
    /// Print completions for a shell
    Completions(completions::Completions),
    /// Write the manual pages to a folder
    Man(man::Man),
}

/// `0.1.0 (commit, profile, compiler)`
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("BUILD_COMMIT"),
    ", ",
    env!("BUILD_PROFILE"),
    ", ",
    env!("BUILD_RUSTC"),
    ")"
);

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   cannot start or cannot be done
  64  wrong usage, or faults in the configuration
  65  not found, or faults in imported data; a revocation of an unknown name is done all the same
  75  try again
  77  not permitted";

/// Parses the arguments, does what they say, and says how it went.
pub fn main() -> ExitCode {
    Lazy::force(&ACCOUNT);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            if error.use_stderr() {
                return ExitCode::from(64);
            }
            // Help and version are answers, not errors.
            return match printed {
                Err(lost) if lost.kind() != ErrorKind::BrokenPipe => end(&Failure::unwritable(lost)),
                _ => ExitCode::SUCCESS,
            };
        }
    };
    let allow_core = matches!(&cli.command, Command::Run(run) if run.allow_core);
    if !allow_core && let Err(error) = core_dumps::forbid() {
        return end(&Failure::cannot_start(format!("core dumps cannot be switched off: {error}")));
    }
    let outcome = match cli.command {
        Command::Run(run) => run.execute(),
        Command::Check(check) => check.execute(),
        Command::Reload(reload) => reload.execute(),
        Command::Upgrade(upgrade) => upgrade.execute(),
        Command::Demo(demo) => demo.execute(),
        Command::User(user) => user.execute(),
        Command::Token(token) => token.execute(),
        Command::Key(key) => key.execute(),
        Command::Revoke(revoke) => revoke.execute(),
        Command::Audit(audit) => audit.execute(),
        Command::Store(store) => store.execute(),
        Command::Backup(backup) => backup.execute(),
        Command::Restore(restore) => restore.execute(),
        Command::Completions(completions) => completions.execute(Cli::command()),
        Command::Man(man) => man.execute(Cli::command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(&failure),
    }
}

fn end(failure: &Failure) -> ExitCode {
    if !failure.text.is_empty() {
        note(format_args!("ds-gateway: {}", failure.text));
    }
    ExitCode::from(failure.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command and all below it, each with its words.
    fn walk(command: &clap::Command, words: &str, see: &mut impl FnMut(&clap::Command, &str)) {
        see(command, words);
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            walk(below, &format!("{words} {}", below.get_name()), see);
        }
    }

    #[test]
    fn every_command_and_every_argument_has_a_help_text() {
        let (mut commands, mut arguments, mut without) = (0, 0, Vec::new());
        let mut command = Cli::command();
        command.build();
        walk(&command, "ds-gateway", &mut |command, words| {
            commands += 1;
            let is_said = |text: Option<&clap::builder::StyledStr>| {
                text.is_some_and(|text| !text.to_string().trim().is_empty())
            };
            if !is_said(command.get_about()) {
                without.push(words.to_owned());
            }
            for argument in command.get_arguments() {
                arguments += 1;
                if !is_said(argument.get_help()) {
                    without.push(format!("{words} {}", argument.get_id()));
                }
            }
        });
        assert!(without.is_empty(), "no help: {without:#?}");
        assert!(commands > 30 && arguments > 100, "{commands} {arguments}");
    }

    /// Asks a real bash what it would offer, as a user that presses the tabulator would see it.
    fn offered(script: &str, lines: &[Vec<String>]) -> Vec<String> {
        let mut asked =
            format!("{script}\nask() {{ COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n");
        asked += "_ds__gateway \"$1\" \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\" 2> /dev/null\n";
        asked += "echo \" ${COMPREPLY[*]} \"; }\n";
        for words in lines {
            asked += &format!("ask {}\n", words.iter().map(|word| format!("'{word}' ")).collect::<String>());
        }
        let done = std::process::Command::new("bash").args(["--norc", "-c", &asked]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_every_word_of_every_command() {
        let script = completions::script(clap_complete::Shell::Bash, Cli::command());
        let (mut lines, mut expected) = (Vec::new(), Vec::new());
        let mut command = Cli::command();
        command.build();
        // By its name, and by its path.
        for program in ["ds-gateway", "/usr/local/bin/ds-gateway"] {
            walk(&command, program, &mut |command, words| {
                let mut ask = |last: &str, offered: Vec<String>| {
                    lines.push(words.split(' ').chain([last]).map(str::to_owned).collect());
                    expected.push(offered);
                };
                let below: Vec<String> =
                    command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
                ask(
                    "--",
                    command.get_opts().map(|option| format!("--{}", option.get_long().unwrap())).collect(),
                );
                // The beginning of each word finds it.
                for name in below.iter().filter(|name| *name != "help") {
                    ask(&name[..name.len() - 1], vec![name.clone()]);
                }
                ask("", below);
            });
        }
        let found = offered(&script, &lines);
        assert!(found.len() == lines.len() && lines.len() > 150, "{} of {}", found.len(), lines.len());
        for ((words, found), expected) in lines.iter().zip(&found).zip(&expected) {
            for word in expected {
                assert!(found.contains(&format!(" {word} ")), "{words:?} offers {found:?}, and not {word}");
            }
        }
        // Values of an option, too.
        let kinds =
            offered(&script, &["ds-gateway revoke list --kind ".split(' ').map(str::to_owned).collect()]);
        assert_eq!(kinds, [" token user organization email everybody key "]);
    }

    #[test]
    fn scripts_for_other_shells_are_sound_where_those_shells_are() {
        for (shell, arguments) in
            [(clap_complete::Shell::Zsh, ["-n", "-c"]), (clap_complete::Shell::Fish, ["--no-execute", "-c"])]
        {
            let script = completions::script(shell, Cli::command());
            assert!(script.contains("repair-clock") && script.contains("token-file"), "{shell}");
            if let Ok(done) =
                std::process::Command::new(shell.to_string()).args(arguments).arg(&script).output()
            {
                assert!(done.status.success(), "{shell}: {done:?}");
            }
        }
    }
}
