//! HTTP/1.1 framing as both ends need it: the client reads answers with it, the platform reads requests.
//! It is strict on purpose: whatever the gateway sends that is not exactly right is a [`Fault`], never guessed at.

use std::io::{ErrorKind, Read};

/// Why a message could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The peer closed (or reset) before the first byte of a message.
    Closed,
    /// The peer closed (or reset) inside a message.
    Truncated,
    /// The peer said nothing until the deadline of the socket.
    Silent,
    /// The bytes are not HTTP/1.1.
    Broken(String),
}

/// A start line and the fields after it. Bytes above 0x7F are kept as the characters U+0080 to U+00FF.
#[derive(Debug, Clone)]
pub struct Head {
    pub start: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// All values of a field, in order, whatever the case of its name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|field| field.1.as_str()).collect()
    }

    pub fn length(&self) -> Option<usize> {
        self.values("content-length").first().and_then(|value| value.parse().ok())
    }

    pub fn is_chunked(&self) -> bool {
        self.values("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked"))
    }
}

/// A stream with what was read of it beyond the last message.
pub struct Wire<R> {
    inner: R,
    held: Vec<u8>,
}

impl<R: Read> Wire<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, held: Vec::new() }
    }

    pub fn inner(&mut self) -> &mut R {
        &mut self.inner
    }

    /// What it reads from; nothing may have been read beyond the last message.
    pub fn into_inner(self) -> R {
        assert!(self.held.is_empty(), "{:?}", String::from_utf8_lossy(&self.held));
        self.inner
    }

    /// How much was read beyond the last message.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Reads up to and with the blank line.
    pub fn head(&mut self) -> Result<Head, Fault> {
        let end = loop {
            if let Some(at) = find(&self.held, b"\r\n\r\n") {
                break at;
            }
            let empty = self.held.is_empty();
            if self.fill()? == 0 {
                return Err(if empty { Fault::Closed } else { Fault::Truncated });
            }
        };
        let text: String = self.held.drain(..end + 4).map(char::from).collect();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').ok_or_else(|| Fault::Broken(line.to_owned()))?;
            Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
        };
        Ok(Head { start, fields: lines.map(field).collect::<Result<_, _>>()? })
    }

    pub fn sized(&mut self, length: usize) -> Result<Vec<u8>, Fault> {
        while self.held.len() < length {
            if self.fill()? == 0 {
                return Err(Fault::Truncated);
            }
        }
        let rest = self.held.split_off(length);
        Ok(std::mem::replace(&mut self.held, rest))
    }

    /// Hands on so many bytes as they come, and keeps none.
    pub fn pass(&mut self, mut length: usize, mut each: impl FnMut(&[u8])) -> Result<(), Fault> {
        while length > 0 {
            if self.held.is_empty() && self.fill()? == 0 {
                return Err(Fault::Truncated);
            }
            let count = length.min(self.held.len());
            each(&self.held[..count]);
            self.held.drain(..count);
            length -= count;
        }
        Ok(())
    }

    /// Reads one chunk; `None` is the clean end (trailers are not expected from anybody here).
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
            .map_err(|_| Fault::Broken(format!("chunk size {line:?}")))?;
        let data = self.sized(size)?;
        match self.line()?.as_str() {
            "" if size == 0 => Ok(None),
            "" => Ok(Some(data)),
            other => Err(Fault::Broken(format!("after a chunk: {other:?}"))),
        }
    }

    pub fn chunked(&mut self) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            body.extend(chunk);
        }
        Ok(body)
    }

    /// Everything until the peer closes. A reset counts as a close: what came before it was read.
    pub fn rest(&mut self) -> Result<Vec<u8>, Fault> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.held))
    }

    fn line(&mut self) -> Result<String, Fault> {
        let end = loop {
            if let Some(at) = find(&self.held, b"\r\n") {
                break at;
            }
            if self.fill()? == 0 {
                return Err(Fault::Truncated);
            }
        };
        let line: Vec<u8> = self.held.drain(..end + 2).take(end).collect();
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn fill(&mut self) -> Result<usize, Fault> {
        let mut buffer = [0; 64 * 1024];
        match self.inner.read(&mut buffer) {
            Ok(count) => {
                self.held.extend_from_slice(&buffer[..count]);
                Ok(count)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Fault::Silent),
                ErrorKind::Interrupted => self.fill(),
                _ => Ok(0),
            },
        }
    }
}

/// Where `needle` begins in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// `bytes` as the body of a chunked message, in pieces of `size`, with its end.
pub fn chunks(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::with_capacity(bytes.len() + 1024);
    for piece in bytes.chunks(size) {
        framed.extend(format!("{:x}\r\n", piece.len()).bytes());
        framed.extend(piece);
        framed.extend(b"\r\n");
    }
    framed.extend(b"0\r\n\r\n");
    framed
}
