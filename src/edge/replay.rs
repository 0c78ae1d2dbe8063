//! Bytes that were read of a connection before the engine has it, and how much the engine may see of what comes.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// What comes before, and in place of, a stream's own bytes.
#[derive(Default)]
pub(super) struct Replay {
    /// Read, and not yet seen by the engine.
    bytes: BytesMut,
    /// What is left of the one request that the engine has the connection for; `None`: it has it for good.
    left: Option<u64>,
}

impl Replay {
    /// The engine sees `bytes` first. Where it has the connection for one request only, of `length` bytes, it sees nothing of what
    /// comes behind that.
    pub(super) fn new(bytes: &[u8], length: Option<u64>) -> Self {
        Self { bytes: BytesMut::from(bytes), left: length }
    }

    /// What is behind the request.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads for the engine.
    pub(super) fn poll_read(
        &mut self,
        inner: &mut Stream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = match self.left {
            None if self.bytes.is_empty() => return Pin::new(inner).poll_read(cx, buf),
            None => buf.remaining(),
            Some(0) => return self.poll_behind(inner, cx),
            Some(left) => buf.remaining().min(usize::try_from(left).unwrap_or(usize::MAX)),
        };
        let count = if self.bytes.is_empty() {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(Pin::new(inner).poll_read(cx, &mut part))?;
            let count = part.filled().len();
            buf.advance(count);
            count
        } else {
            let count = most.min(self.bytes.len());
            buf.put_slice(self.bytes.get(..count).unwrap_or_default());
            self.bytes.advance(count);
            count
        };
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        Poll::Ready(Ok(()))
    }

    /// The engine looks whether the client is still there. Something that comes is for the next request, and says that it is.
    fn poll_behind(&mut self, inner: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            let mut part = (&mut self.bytes).limit(BEHIND);
            let count = ready!(pin!(inner.read_buf(&mut part)).poll(cx))?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }
}

/// What is read at most behind a request, in bytes: to know that the client is there.
const BEHIND: usize = 1024;
