use std::io::Write as _;
use std::path::PathBuf;
use std::{fs, io};

use clap::{Args, Command};
use clap_mangen::roff::{Roff, roman};

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
        let mut command = command.disable_help_subcommand(true);
        command.build();
        self.write(&command)
            .map_err(|error| Failure::cannot_start(format!("{}: {error}", self.folder.display())))?;
        say(format_args!("manual pages written to {}", self.folder.display()))
    }

    fn write(&self, command: &Command) -> io::Result<()> {
        command.get_subcommands().try_for_each(|below| self.write(below))?;
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        fs::write(self.folder.join(format!("{name}.1")), page(command, name)?)
    }
}

/// The page of one command, whose pages below have pages of their own.
fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let after = command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string);
    let bare = command.clone().override_usage(usage(command));
    let bare = bare.after_help(None::<&'static str>).after_long_help(None::<&'static str>);
    let man = clap_mangen::Man::new(bare);
    let mut text = Vec::new();
    // Not by `render_title`, whose empty date is not quoted, so that what follows takes its place.
    let (title, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
    writeln!(text, ".TH {title} 1 \"\" \"ds-gateway {version}\" \"User Commands\"")?;
    // Names of options are neither hyphenated nor pulled apart.
    text.write_all(b".nh\n.ad l\n")?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(after) = after {
        section(&after).to_writer(&mut text)?;
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut text)?;
    }
    Ok(text)
}

/// Every option with its value, where `--help` has `[OPTIONS]`.
fn usage(command: &Command) -> String {
    let mut usage = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let shown = |argument: &&clap::Arg| {
        !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
    };
    let (positional, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(shown).partition(|argument| argument.is_positional());
    for option in options {
        usage += &if option.is_required_set() { format!(" {option}") } else { format!(" [{option}]") };
    }
    positional.iter().for_each(|argument| usage += &format!(" {argument}"));
    if command.has_subcommands() {
        usage += " <COMMAND>";
    }
    usage
}

/// What stands behind the options in `--help`: its first line is the heading, and indented lines stay as they are.
fn section(text: &str) -> Roff {
    let mut roff = Roff::default();
    let (heading, body) = text.split_once('\n').unwrap_or(("", text));
    roff.control("SH", [heading.trim_end_matches(':').to_uppercase().as_str()]);
    let mut is_preformatted = false;
    for line in body.lines() {
        let is_blank = line.trim().is_empty();
        // A blank line goes with what stands before it.
        if !is_blank && line.starts_with(' ') != is_preformatted {
            is_preformatted = !is_preformatted;
            roff.control(if is_preformatted { "nf" } else { "fi" }, []);
        }
        match (is_blank, is_preformatted) {
            (true, false) => roff.control("PP", []),
            (true, true) => roff.control("sp", []),
            _ => roff.text([roman(line)]),
        };
    }
    if is_preformatted {
        roff.control("fi", []);
    }
    roff
}
