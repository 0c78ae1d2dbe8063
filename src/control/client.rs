//! The side of whoever asks.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::protocol::{FOLDER, Reply, Request};
use super::socket::{SocketPath, names, read, write};

/// What one gateway answered.
#[derive(Debug)]
pub struct Asked {
    /// The gateway.
    pub id: String,
    /// Its answer, or why there is none.
    pub reply: io::Result<Reply>,
}

/// Asks every gateway that runs on the state folder, one after the other. `tell` hears what one that takes longer waits for.
///
/// # Errors
///
/// If the folder cannot be looked into. One that is not there has no gateway.
pub fn ask_all(
    state_dir: &Path,
    request: &Request,
    mut tell: impl FnMut(&str, &str),
) -> io::Result<Vec<Asked>> {
    let folder = state_dir.join(FOLDER);
    match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut answers = Vec::new();
    for id in names(&folder) {
        match ask(&folder, &id, request, |text| tell(&id, text)) {
            // Nobody listens there any more.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
            reply => answers.push(Asked { id, reply }),
        }
    }
    Ok(answers)
}

fn ask(folder: &Path, id: &str, request: &Request, mut tell: impl FnMut(&str)) -> io::Result<Reply> {
    let stream = UnixStream::connect(SocketPath::new(folder, id)?.path())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write(&stream, request)?;
    let mut stream = BufReader::new(&stream);
    loop {
        let reply = read(&mut stream).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not answer within {} s; its log says what it does", PATIENCE.as_secs()),
            ),
            _ => error,
        })?;
        match reply {
            Reply::Progress(text) => tell(&text),
            reply => return Ok(reply),
        }
    }
}

/// How long an answer may take: names are resolved meanwhile, and other requests may be before this one.
const PATIENCE: Duration = Duration::from_secs(120);
