//! A connection that has changed its protocol: bytes both ways until one side ends it, nothing moves any more, or its token no longer
//! holds. Of a WebSocket the frames towards the client are followed, so that the gateway can say why it ends. See decision 0057.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::client::Client;
use super::exchange::Ended;
use super::frames::{Frames, close_frame};
use super::half::{Failed, Half};
use super::resources::{Resources, Work};
use super::taken::Taken;
use crate::auth::denial::Denial;
use crate::edge::cut::Cut;
use crate::edge::ongoing::Watched;
use crate::metrics::{UpgradedEnd, UpgradedProtocol};

/// What ends it from outside.
pub(super) struct Bounds<'b, S> {
    /// Its token, if one admitted it.
    pub(super) watched: Option<Watched>,
    /// Resolves once the process accepts no more connections.
    pub(super) stop: Pin<&'b mut S>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TunnelEnd {
    /// Both sides were done, the client first or not.
    Done {
        by_client: bool,
    },
    /// A side was lost.
    Lost {
        is_client: bool,
    },
    Denied(Denial),
    Overdue,
    Idle,
    Stopping,
}

impl TunnelEnd {
    const fn label(self) -> UpgradedEnd {
        match self {
            Self::Done { by_client: true } | Self::Lost { is_client: true } => UpgradedEnd::Client,
            Self::Done { by_client: false } | Self::Lost { is_client: false } => UpgradedEnd::Platform,
            Self::Denied(_) => UpgradedEnd::Token,
            Self::Overdue => UpgradedEnd::Duration,
            Self::Idle => UpgradedEnd::Idle,
            Self::Stopping => UpgradedEnd::Stopping,
        }
    }

    /// The reason as the log has it.
    const fn fault(self) -> Option<&'static str> {
        Some(match self {
            Self::Done { .. } => return None,
            Self::Lost { is_client: true } => "client connection lost",
            Self::Lost { is_client: false } => "platform connection lost",
            Self::Denied(denial) => Cut::Denied(denial).as_str(),
            Self::Overdue => Cut::Overdue.as_str(),
            Self::Idle => "upgraded connection idle",
            Self::Stopping => "gateway stopping",
        })
    }

    /// What a WebSocket is told that the gateway ends (RFC 6455 §7.4.1; 1013 is registered for "try again later").
    fn close_frame(self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Done { .. } | Self::Lost { .. } => return None,
            Self::Denied(Denial::StateStale) => close_frame(1013, "try again later"),
            Self::Denied(Denial::TokenExpired) => close_frame(1008, "token expired"),
            Self::Denied(_) => close_frame(1008, "token revoked"),
            Self::Overdue => close_frame(1008, "connection open for too long"),
            Self::Idle => close_frame(1001, "idle for too long"),
            Self::Stopping => close_frame(1001, "gateway stopping"),
        })
    }
}

/// Serves a connection whose platform has agreed, which the client was told.
pub(super) async fn serve(
    resources: &Resources,
    client: &mut Client,
    taken: &mut Taken,
    platform: Stream,
    work: Work,
    bounds: Bounds<'_, impl Future<Output = ()>>,
    ended: &mut Ended,
) {
    let protocol = taken.handshake.as_ref().map_or(UpgradedProtocol::Other, |handshake| handshake.protocol());
    let open = resources.gateway.shared.metrics.upgraded(protocol);
    resources.give_back(work.out);
    let due = taken.limit.map(|limit| taken.state.started + limit);
    let idle = taken.state.runtime.limits.upgraded_idle_timeout;
    let mut tunnel = Tunnel {
        resources,
        up: Half::new(behind(resources, client)),
        down: Half::new(work.came),
        frames: (protocol == UpgradedProtocol::WebSocket).then(Frames::default),
        platform,
        closing: None,
        moved_at: Instant::now(),
        is_down_first: false,
        idle,
        due,
        bounds,
    };
    let ending = poll_fn(|cx| tunnel.poll(client, cx)).await;
    let is_clean = tunnel.may_say_more();
    let has_closed = tunnel.frames.is_some_and(|frames| frames.has_closed());
    taken.state.body_read = tunnel.up.moved;
    (ended.sent, ended.is_event_stream) = (tunnel.down.moved, true);
    [tunnel.up, tunnel.down].into_iter().for_each(|half| resources.give_back(half.into_buffer()));
    // Before the client hears of it: what it sends from here on reaches nobody.
    drop(tunnel.platform);
    taken.state.fault = ending.fault();
    if let TunnelEnd::Denied(denial) = ending {
        resources.gateway.shared.metrics.ended_in_flight(denial);
    }
    open.ended(ending.label());
    client.is_cut = true;
    match (ending, ending.close_frame()) {
        (TunnelEnd::Done { .. } | TunnelEnd::Lost { is_client: true }, _) => {}
        (_, Some(frame)) if is_clean => close(client, if has_closed { &[] } else { &frame }).await,
        // What was cut must not look complete.
        _ => client.connection.abort(),
    }
}

/// What the client has sent behind its request. Of the request itself only as much is kept as the log needs.
fn behind(resources: &Resources, client: &mut Client) -> Vec<u8> {
    let mut behind = resources.heads.lend();
    let (head, rest) = client.input.split_at_checked(client.request.whole).unwrap_or((&client.input, &[]));
    behind.extend_from_slice(rest);
    let head = head.to_vec();
    resources.give_back(std::mem::replace(&mut client.input, head));
    behind
}

/// Says why, and gives the client a moment to read that: to close over what it has sent would take it away.
async fn close(client: &mut Client, frame: &[u8]) {
    let mut is_sent = false;
    let closing = async {
        client.send(frame).await?;
        client.stream.shutdown().await?;
        is_sent = true;
        let mut scratch = [0; 1024];
        while client.stream.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    };
    // A client that does not end it is ended.
    let _ = timeout(LINGER, closing).await;
    if !is_sent {
        client.connection.abort();
    }
}

struct Tunnel<'t, S> {
    resources: &'t Resources,
    /// To the platform.
    up: Half,
    /// To the client.
    down: Half,
    /// Of a WebSocket, towards the client.
    frames: Option<Frames>,
    platform: Stream,
    /// Why it ends once the frame that is on its way has arrived, and until when that may take.
    closing: Option<(TunnelEnd, Option<Instant>)>,
    moved_at: Instant,
    /// Which direction is looked at first this time.
    is_down_first: bool,
    idle: Duration,
    /// When it has been open for too long.
    due: Option<Instant>,
    bounds: Bounds<'t, S>,
}

impl<S: Future<Output = ()>> Tunnel<'_, S> {
    fn poll(&mut self, client: &mut Client, cx: &mut Context<'_>) -> Poll<TunnelEnd> {
        loop {
            // A stop may wait for a frame for long; a token that ceases to hold meanwhile waits for none.
            if self.closing.is_none_or(|(ending, _)| ending == TunnelEnd::Stopping) {
                self.closing = self.poll_closing(cx).or(self.closing);
            }
            if let Some((ending, _)) = self.closing
                && (self.frames.is_none() || self.down.has_ended())
            {
                return Poll::Ready(ending);
            }
            match self.poll_halves(client, cx) {
                Ok(true) => self.moved_at = Instant::now(),
                Ok(false) => {}
                Err(ending) => return Poll::Ready(ending),
            }
            if let Some((ending, _)) = self.closing
                && self.may_say_more()
            {
                return Poll::Ready(ending);
            }
            if self.up.is_shut() && self.down.is_shut() {
                return Poll::Ready(TunnelEnd::Done { by_client: client.has_ended });
            }
            let idle_at = self.moved_at + self.idle;
            let limit = self.closing.map_or(self.due, |(_, until)| until);
            client.deadline.set(limit.map_or(idle_at, |limit| limit.min(idle_at)));
            let now = Instant::now();
            if client.deadline.poll(now, cx).is_pending() {
                return Poll::Pending;
            }
            match self.closing {
                Some((ending, _)) => return Poll::Ready(ending),
                None if now >= idle_at => return Poll::Ready(TunnelEnd::Idle),
                None => self.closing = Some((TunnelEnd::Overdue, Some(now + PATIENCE))),
            }
        }
    }

    /// Is it to end?
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Option<(TunnelEnd, Option<Instant>)> {
        let Bounds { watched, stop } = &mut self.bounds;
        if let Some(Poll::Ready(denial)) = watched.as_mut().map(|watched| watched.poll_denied(cx)) {
            return Some((TunnelEnd::Denied(denial), Some(Instant::now() + PATIENCE)));
        }
        // Of another protocol nobody knows where it could end: it has as long as a request in flight.
        let is_stopping = self.frames.is_some() && stop.as_mut().poll(cx).is_ready();
        is_stopping.then_some((TunnelEnd::Stopping, None))
    }

    /// Moves what can be moved; whether anything was. Once it is to end, nothing more goes to the platform. A direction in which much
    /// comes may use up the time that a task has, so they take turns in being the first.
    fn poll_halves(&mut self, client: &mut Client, cx: &mut Context<'_>) -> Result<bool, TunnelEnd> {
        let is_last = self.closing.is_some();
        self.is_down_first = !self.is_down_first;
        let mut has_moved = false;
        for is_down in [self.is_down_first, !self.is_down_first] {
            if is_down {
                has_moved |= self.poll_down(client, is_last, cx)?;
            } else if !is_last {
                has_moved |= self.poll_up(client, cx)?;
            }
        }
        Ok(has_moved)
    }

    fn poll_up(&mut self, client: &mut Client, cx: &mut Context<'_>) -> Result<bool, TunnelEnd> {
        let (ends, buffers) = ((&mut client.stream, &mut self.platform), &self.resources.heads);
        let moved = self.up.poll(ends, buffers, None, false, cx);
        // Whose end came first says who ended it.
        client.has_ended |= self.up.has_ended() && !self.down.has_ended();
        moved.map_err(|failed| TunnelEnd::Lost { is_client: failed == Failed::Reading })
    }

    fn poll_down(
        &mut self,
        client: &mut Client,
        is_last: bool,
        cx: &mut Context<'_>,
    ) -> Result<bool, TunnelEnd> {
        let (ends, buffers) = ((&mut self.platform, &mut client.stream), &self.resources.answers);
        let moved = self.down.poll(ends, buffers, self.frames.as_mut(), is_last, cx);
        moved.map_err(|failed| TunnelEnd::Lost { is_client: failed == Failed::Writing })
    }

    /// May a frame of ours follow what was sent to the client?
    fn may_say_more(&self) -> bool {
        self.down.is_at_rest() && self.frames.is_some_and(|frames| frames.is_boundary())
    }
}

/// How long the frame that is on its way may take to arrive.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long the client may take to read why, and to end the connection.
const LINGER: Duration = Duration::from_millis(300);
