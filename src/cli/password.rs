//! Where a command takes a password from: a terminal, or standard input. Never an argument, which others could read.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use clap::Args;
use zeroize::Zeroizing;

use super::output::Failure;
use super::terminal;
use crate::auth::password::Phc;
use crate::auth::secret::Secret;
use crate::service::users::NewPassword;

/// How a new password is given.
#[derive(Args, Debug)]
pub(super) struct PasswordArgs {
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
    /// Accept a password of fewer than 8 characters
    #[arg(long)]
    allow_weak: bool,
}

impl PasswordArgs {
    /// The password, asked for twice on a terminal.
    pub(super) fn read(&self) -> Result<NewPassword, Failure> {
        let password = if self.password_stdin { read_line() } else { prompt() }?;
        let parsed =
            if self.allow_weak { NewPassword::parse_weak(password) } else { NewPassword::parse(password) };
        Ok(parsed?)
    }
}

fn read_line() -> Result<Secret, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(2048));
    let mut input = io::stdin().lock().take(Phc::MAX_PASSWORD as u64 + 2);
    input.read_until(b'\n', &mut line).map_err(Failure::usage)?;
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Ok(Secret::new(text.to_vec()))
}

fn prompt() -> Result<Secret, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("cannot prompt without a terminal; use --password-stdin"));
    }
    terminal::restore_on_signals().map_err(Failure::usage)?;
    let ask = |text: &str| match rpassword::prompt_password(text) {
        Ok(typed) => Ok(Secret::new(typed.into_bytes())),
        // Ctrl-C: it has sent itself the signal.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => terminal::end_by_signal(),
        Err(error) => Err(Failure::usage(error)),
    };
    let password = ask("Password: ")?;
    if password != ask("Again: ")? {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(password)
}
