//! One direction of a connection that has changed its protocol: what came from one side, on its way to the other.

use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::protocols::Stream;
use tokio::io::AsyncWrite as _;

use super::buffers::Buffers;
use super::frames::Frames;
use super::platform::poll_read;

/// What is on its way. Nothing more is read before all of it is taken, so that a slow reader slows the sender down.
pub(super) struct Half {
    buffer: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// How much was offered and not taken: over TLS the same must be offered again.
    offered: usize,
    is_flushed: bool,
    has_ended: bool,
    is_shut: bool,
    /// Bytes that were taken in all.
    pub(super) moved: u64,
}

/// Which side of it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Reading,
    Writing,
}

impl Half {
    /// With what came already.
    pub(super) const fn new(buffer: Vec<u8>) -> Self {
        Self { buffer, taken: 0, offered: 0, is_flushed: true, has_ended: false, is_shut: false, moved: 0 }
    }

    /// Moves what can be moved; whether anything was. An end is passed on, too. With `last`, only the frame that is on its way.
    pub(super) fn poll(
        &mut self,
        (from, to): (&mut Stream, &mut Stream),
        buffers: &Buffers,
        mut frames: Option<&mut Frames>,
        is_last: bool,
        cx: &mut Context<'_>,
    ) -> Result<bool, Failed> {
        let mut has_moved = false;
        loop {
            let rest = self.buffer.get(self.taken..).unwrap_or_default();
            let at_boundary = is_last && frames.as_ref().is_none_or(|frames| frames.is_boundary());
            if !rest.is_empty() && (!at_boundary || self.offered > 0) {
                let count = match &frames {
                    _ if self.offered > 0 => self.offered,
                    Some(frames) if is_last => Frames::clone(frames).follow(rest),
                    _ => rest.len(),
                };
                let offer = rest.get(..count).unwrap_or(rest);
                match Pin::new(&mut *to).poll_write(cx, offer) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        if let Some(frames) = &mut frames {
                            frames.follow_all(offer.get(..count).unwrap_or_default());
                        }
                        self.taken += count;
                        self.moved += count as u64;
                        (self.offered, self.is_flushed, has_moved) = (0, false, true);
                    }
                    Poll::Ready(Ok(_) | Err(_)) => return Err(Failed::Writing),
                    Poll::Pending => {
                        self.offered = offer.len();
                        return Ok(has_moved);
                    }
                }
                continue;
            }
            self.buffer.clear();
            self.taken = 0;
            if !self.is_flushed {
                match Pin::new(&mut *to).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.is_flushed = true,
                    Poll::Ready(Err(_)) => return Err(Failed::Writing),
                    Poll::Pending => return Ok(has_moved),
                }
            }
            if at_boundary {
                return Ok(has_moved);
            }
            if self.has_ended {
                if !self.is_shut {
                    // An error means that the other side is gone, which is an end as well.
                    self.is_shut = Pin::new(&mut *to).poll_shutdown(cx).is_ready();
                }
                return Ok(has_moved);
            }
            if self.buffer.capacity() == 0 {
                self.buffer = buffers.lend();
            }
            match poll_read(from, &mut self.buffer, cx) {
                Poll::Ready(Ok(count)) => {
                    self.has_ended = count == 0;
                    has_moved = true;
                }
                Poll::Ready(Err(_)) => return Err(Failed::Reading),
                Poll::Pending => {
                    // A connection on which nothing moves holds no buffer.
                    buffers.give_back(std::mem::take(&mut self.buffer));
                    return Ok(has_moved);
                }
            }
        }
    }

    /// Did its sender end it?
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Did its reader hear of that?
    pub(super) const fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// May something else be written to its reader?
    pub(super) const fn is_at_rest(&self) -> bool {
        self.offered == 0 && !self.has_ended
    }

    /// What it held.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}
