//! What a command reads and prints, and how it ends.
//!
//! One rule for all of them: an answer that cannot be written is a failure, with a sentence and exit code 1; a reader that
//! went away ends the command quietly, with 0, and at once.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::write;
use zeroize::Zeroizing;

use crate::config::ConfigError;
use crate::logging::visible;
use crate::state_dir::error::StartError;
use crate::store::StoreError;

/// The text of a file, `-` for standard input, up to so many bytes. It may hold a secret.
pub(super) fn read_input(file: &Path, most: u64) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    Ok(text)
}

/// Prints a line of the answer.
pub(super) fn say(line: impl fmt::Display) -> Result<(), Failure> {
    print(&format!("{line}\n"))
}

/// Writes to standard output, a line or a page of lines at once.
///
/// # Errors
///
/// Also for a reader that went away, so that the work ends: that failure is quiet and has the exit code 0.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    // Names may come from clients, and this may be a terminal.
    let text = visible(text);
    let mut bytes = text.as_bytes();
    // Not through the standard library's stream, which takes a descriptor that cannot be written for one that can.
    let out = std::io::stdout();
    while !bytes.is_empty() {
        match write(&out, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EPIPE) => return Err(Failure::reader_gone()),
            Err(error) => return Err(Failure::unwritable(error.desc())),
        }
    }
    Ok(())
}

/// Says something beside the answer, on standard error. Where that cannot be written there is nobody to tell.
pub(super) fn note(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{}", visible(&text.to_string()));
}

/// Why a command did not do what it was asked, and the exit code that says so.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    /// Empty where there is nothing to say.
    pub(super) text: String,
}

impl Failure {
    pub(super) fn cannot_start(text: impl fmt::Display) -> Self {
        Self { code: 1, text: text.to_string() }
    }

    pub(super) fn usage(text: impl fmt::Display) -> Self {
        Self { code: 64, text: text.to_string() }
    }

    pub(super) fn no_such(text: impl fmt::Display) -> Self {
        Self { code: 65, text: text.to_string() }
    }

    pub(super) fn not_permitted(text: impl fmt::Display) -> Self {
        Self { code: 77, text: text.to_string() }
    }

    pub(super) fn try_again(text: impl fmt::Display) -> Self {
        Self { code: 75, text: text.to_string() }
    }

    /// The answer is lost.
    pub(super) fn unwritable(reason: impl fmt::Display) -> Self {
        Self::cannot_start(format!("the answer cannot be written to standard output: {reason}"))
    }

    fn reader_gone() -> Self {
        Self { code: 0, text: String::new() }
    }

    /// Does only somebody who reads no more know of it?
    pub(super) const fn is_quiet(&self) -> bool {
        self.code == 0
    }

    /// The same failure, after these words.
    pub(super) fn after(self, words: &str) -> Self {
        Self { text: format!("{words}: {}", self.text), ..self }
    }

    pub(super) fn configuration(path: &Path, errors: &[ConfigError]) -> Self {
        let lines: Vec<String> = errors.iter().map(ConfigError::to_string).collect();
        let count = match errors.len() {
            1 => "1 error".to_owned(),
            count => format!("{count} errors"),
        };
        Self::usage(format!("{}: {count}:\n{}", path.display(), lines.join("\n")))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::NotPermitted(_) => 77,
            _ if error.is_transient() => 75,
            _ => 1,
        };
        Self { code, text: error.to_string() }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let text = error.to_string();
        match error {
            StartError::Store(_, error) => Self { text, ..error.into() },
            StartError::Busy(_) => Self { code: 75, text },
            StartError::Configuration(_) => Self::usage(text.trim_end()),
            _ => Self::cannot_start(text),
        }
    }
}
