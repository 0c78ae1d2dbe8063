//! A connection to another gateway's control socket that is kept, for one question after the other.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::protocol::{FOLDER, LONGEST, Reply, Request};
use super::socket::{SocketPath, write};

/// The connection.
#[derive(Debug)]
pub struct Link {
    stream: BufReader<UnixStream>,
    /// What has come of the next answer.
    line: Vec<u8>,
    /// Answers that are still to come, those that nobody waits for any more included.
    owed: usize,
}

impl Link {
    /// To the gateway `id` of that state folder.
    ///
    /// # Errors
    ///
    /// If nobody listens there.
    pub fn connect(state_dir: &Path, id: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(SocketPath::new(&state_dir.join(FOLDER), id)?.path())?;
        Ok(Self { stream: BufReader::new(stream), line: Vec::new(), owed: 0 })
    }

    /// Asks that gateway once, on a connection for that alone.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect) and [`ask`](Self::ask).
    pub fn ask_once(state_dir: &Path, id: &str, request: &Request, limit: Duration) -> io::Result<Reply> {
        Self::connect(state_dir, id)?.ask(request, limit)
    }

    /// Asks, and waits so long for the answer. One that comes later is passed over, so that the next question gets its own.
    ///
    /// # Errors
    ///
    /// If the answer does not come in time, is not understood, or the other side has gone.
    pub fn ask(&mut self, request: &Request, limit: Duration) -> io::Result<Reply> {
        let deadline = Instant::now() + limit;
        self.stream.get_ref().set_write_timeout(Some(limit))?;
        write(self.stream.get_ref(), request)?;
        self.owed += 1;
        loop {
            self.read_line(deadline)?;
            let line = self.take_line();
            if self.owed == 0 {
                return serde_json::from_slice(&line).map_err(io::Error::other);
            }
        }
    }

    /// Has the other side gone? Waits for nothing. Answers that came too late are passed over: its end may be behind them.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.read_line(Instant::now()) {
                Ok(()) => drop(self.take_line()),
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    /// One answer less is to come.
    fn take_line(&mut self) -> Vec<u8> {
        self.owed = self.owed.saturating_sub(1);
        std::mem::take(&mut self.line)
    }

    fn read_line(&mut self, deadline: Instant) -> io::Result<()> {
        while self.line.last() != Some(&b'\n') {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.get_ref().set_read_timeout(Some(left))?;
            let read = match self.stream.read_until(b'\n', &mut self.line) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                other => other.map(drop),
            };
            read?;
            if self.line.len() as u64 > LONGEST {
                return Err(io::Error::other("an answer is too long"));
            }
        }
        Ok(())
    }
}
