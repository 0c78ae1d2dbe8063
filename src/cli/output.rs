//! What a command reads and prints, and how it ends.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::app::StartError;
use crate::config::Fault;
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
    print(format_args!("{line}\n").to_string().as_bytes())
}

/// Writes to standard output. A reader that went away is no fault; an answer that is lost is one.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::cannot_start(format!("the answer cannot be written to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Why a command did not do what it was asked, and the exit code that says so.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
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

    pub(super) fn faults(path: &Path, faults: &[Fault]) -> Self {
        let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let count = match faults.len() {
            1 => "one fault".to_owned(),
            count => format!("{count} faults"),
        };
        Self::usage(format!("{} has {count}:\n{}", path.display(), lines.join("\n")))
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
            _ => Self::cannot_start(text),
        }
    }
}
