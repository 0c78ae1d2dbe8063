//! Sockets by paths of any length: the system takes a hundred characters, and a state folder may be deeper than that.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::LONGEST;

/// A path by which a socket can be bound or reached, for as long as this lives.
pub(super) struct SocketPath {
    path: PathBuf,
    _folder: Option<File>,
}

impl SocketPath {
    /// Of a name in a folder, which must be there.
    pub(super) fn new(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        if path.as_os_str().len() < MOST {
            return Ok(Self { path, _folder: None });
        }
        let opened = File::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(name);
        Ok(Self { path, _folder: Some(opened) })
    }

    /// As the system is told it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The sockets of a state folder, by name.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Reads one line of JSON, however its bytes come.
pub(super) fn read<T: DeserializeOwned>(stream: &mut BufReader<&UnixStream>) -> io::Result<T> {
    let mut line = Vec::new();
    stream.take(LONGEST).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no complete line came"));
    }
    serde_json::from_slice(&line).map_err(io::Error::other)
}

/// Writes one.
pub(super) fn write(mut stream: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Bytes of a path that every Unix takes, with its end.
const MOST: usize = 100;
