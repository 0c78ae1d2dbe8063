//! The answer on its way to the client: its body goes on as it comes, from the buffer that it was read into.

use std::io::Write as _;

use super::buffers::consume;
use super::chunks::Chunks;
use super::client::Client;
use super::platform::{Failed, Platform};
use super::resources::{Resources, Work};
use super::response::Body;
use super::taken::Taken;
use crate::metrics::TryFault;

/// Sends the head that is in `work.out`, then the body as it comes.
pub(super) async fn relay(
    resources: &Resources,
    client: &mut Client,
    taken: &mut Taken,
    platform: &mut Platform,
    work: &mut Work,
    body: Body,
    sent: &mut u64,
) -> Result<(), Failed> {
    let mut left = match body {
        Body::Empty => 0,
        Body::Sized(length) => length,
        Body::Chunked | Body::UntilClose => u64::MAX,
    };
    let mut chunks = Chunks::default();
    if body != Body::Empty && left > work.came.capacity() as u64 {
        resources.enlarge(&mut work.came);
    }
    let mut has_head = true;
    loop {
        // What came is sent, the first of it behind the head.
        let (used, is_done) = match body {
            Body::Empty => (0, true),
            Body::Sized(_) => {
                let used = work.came.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                left -= used as u64;
                *sent += used as u64;
                (used, left == 0)
            }
            Body::Chunked => {
                let Ok(seen) = chunks.read(&mut work.came) else {
                    return Err(Failed::Try(TryFault::Malformed).noted(taken));
                };
                *sent = chunks.content;
                if seen.kept < seen.consumed {
                    work.came.drain(seen.kept..seen.consumed);
                }
                (seen.kept, seen.is_done)
            }
            Body::UntilClose => {
                if !has_head {
                    work.out.clear();
                }
                let came = work.came.len();
                if came > 0 {
                    // A vector takes everything.
                    let _ = write!(work.out, "{came:x}\r\n");
                    work.out.extend_from_slice(&work.came);
                    work.out.extend_from_slice(b"\r\n");
                    *sent += came as u64;
                }
                work.came.clear();
                has_head |= came > 0;
                (0, false)
            }
        };
        if has_head {
            let (first, room) =
                (work.came.get(..used).unwrap_or_default(), work.out.capacity() - work.out.len());
            let rest = if used <= room {
                work.out.extend_from_slice(first);
                &[][..]
            } else {
                first
            };
            client.send_both(&work.out, rest).await.map_err(|_| Failed::Client)?;
            has_head = false;
        } else if used > 0 {
            client.send(work.came.get(..used).unwrap_or_default()).await.map_err(|_| Failed::Client)?;
        }
        consume(&mut work.came, used);
        if is_done {
            return Ok(());
        }
        if platform.more(client, &mut work.came).await.map_err(|failed| failed.noted(taken))? == 0 {
            if body != Body::UntilClose {
                return Err(Failed::Try(TryFault::Closed).noted(taken));
            }
            return client.send(b"0\r\n\r\n").await.map_err(|_| Failed::Client);
        }
    }
}
