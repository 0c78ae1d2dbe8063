//! A client's TCP connection as the engine takes it. Small writes are gathered until they are flushed, so that a header and a
//! short body go out in one packet.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::l4::socket::SocketAddr as Address;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::admission::Slot;
use super::deadline::Deadline;

/// A socket, and its place among the connections that are served.
pub(super) struct Socket {
    /// Before the stream: a slot names its socket by number, which is another socket's as soon as the stream is closed.
    slot: Option<Slot>,
    stream: TcpStream,
    unsent: BytesMut,
    digest: Arc<SocketDigest>,
    write_timeout: Duration,
    /// While the client takes nothing.
    blocked: Option<Deadline>,
}

impl Socket {
    /// `client` is where the connection comes from; a client that takes nothing for `write_timeout` is an error.
    pub(super) fn new(
        stream: TcpStream,
        client: SocketAddr,
        slot: Option<Slot>,
        write_timeout: Duration,
    ) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // A fresh cell takes its first value.
        let _ = digest.peer_addr.set(Some(Address::Inet(client)));
        Self { slot, stream, unsent: BytesMut::new(), digest: Arc::new(digest), write_timeout, blocked: None }
    }

    /// An error instead of a wait that is too long.
    fn bound<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let limit = self.write_timeout;
        let deadline = self.blocked.get_or_insert_with(|| Deadline::after(limit));
        deadline.poll(Instant::now(), cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends what was gathered.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.unsent);
            let written = ready!(self.bound(written, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if me.unsent.len() + length <= GATHERED {
            parts.iter().for_each(|part| me.unsent.extend_from_slice(part));
            return Poll::Ready(Ok(length));
        }
        // With what was gathered before in one call of the kernel's.
        while me.unsent.has_remaining() {
            let mut all = [IoSlice::new(&[]); PARTS];
            let unsent = [IoSlice::new(&me.unsent)];
            let next = unsent.iter().chain(parts);
            let count = all.iter_mut().zip(next).map(|(slot, part)| *slot = *part).count();
            let all = all.get(..count).unwrap_or_default();
            let written = Pin::new(&mut me.stream).poll_write_vectored(cx, all);
            let written = ready!(me.bound(written, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let before = me.unsent.len().min(written);
            me.unsent.advance(before);
            if written > before {
                return Poll::Ready(Ok(written - before));
            }
        }
        let written = Pin::new(&mut me.stream).poll_write_vectored(cx, parts);
        me.bound(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        ready!(me.poll_unsent(cx))?;
        Pin::new(&mut me.stream).poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.slot.as_ref().is_some_and(|slot| slot.activity().is_aborted()) {
            // An error means that it has ended already.
            let _ = self.stream.set_zero_linger();
        } else if self.unsent.has_remaining() {
            // What does not fit now has nobody left to wait for it.
            let _ = self.stream.try_write(&self.unsent);
        }
        drop(self.slot.take());
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        // An error means that the client is gone already.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.stream.as_raw_fd()
    }
}

impl Ssl for Socket {}

impl Peek for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// What is gathered at most, in bytes: a packet on most networks.
const GATHERED: usize = 1460;

/// More parts than anybody writes at once.
const PARTS: usize = 16;
