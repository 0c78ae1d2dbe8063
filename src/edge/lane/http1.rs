//! A request over HTTP/1.1 that goes on to the platform, and its answer.

use std::sync::Arc;

use super::client::{Came as CameIn, Client};
use super::exchange::{Answer, Came, Ended, begin, keep, read_head, reply_to};
use super::platform::{Failed, Platform};
use super::relay::relay;
use super::reply::send_reply;
use super::request::sharing;
use super::resources::{Resources, Work};
use super::taken::Taken;

/// Serves it. What is returned is the platform's connection, where it has changed its protocol and the client was told so.
pub(super) async fn forward(
    resources: &Resources,
    client: &mut Client,
    taken: &mut Taken,
    work: &mut Work,
    ended: &mut Ended,
) -> Option<Platform> {
    let failed = match exchange(resources, client, taken, work, ended).await {
        Ok(switched) => return switched,
        Err(failed) => failed,
    };
    let reply = reply_to(resources, taken, &failed);
    // What has begun can only end.
    if let (Some(reply), 0) = (reply, ended.status) {
        ended.status = reply.status;
        // All of the request was read, so that the next one can follow, but for a body that stood still.
        client.lingers |= client.input.len() < client.request.whole;
        taken.closes |= client.lingers || resources.is_stopping();
        let is_sent = send_reply(client, taken, &reply, &mut work.out).await;
        ended.goes_on = is_sent && !taken.closes;
        ended.sent = if taken.is_head { 0 } else { reply.body.len() as u64 };
    }
    None
}

async fn exchange(
    resources: &Resources,
    client: &mut Client,
    taken: &mut Taken,
    work: &mut Work,
    ended: &mut Ended,
) -> Result<Option<Platform>, Failed> {
    read_body(resources, client, taken).await?;
    let mut platform = begin(resources, client, taken, work).await?;
    let runtime = Arc::clone(&taken.state.runtime);
    let sharing = sharing(client, &runtime.cors);
    let Answer { body, is_event_stream, status } = loop {
        taken.closes |= resources.is_stopping();
        let Work { out, came } = &mut *work;
        match read_head(client, taken, &mut platform, came, sharing, out).await? {
            Came::Interim => client.send(&work.out).await.map_err(|_| Failed::Client)?,
            Came::Switched => {
                client.send(&work.out).await.map_err(|_| Failed::Client)?;
                ended.status = 101;
                return Ok(Some(platform));
            }
            Came::Head(answer) => break answer,
        }
    };
    (ended.status, ended.is_event_stream) = (status, is_event_stream);
    relay(resources, client, taken, &mut platform, work, body, &mut ended.sent).await?;
    // One that was asked for another protocol and did not change to it is not asked again.
    if taken.handshake.is_none() {
        keep(resources, platform, &work.came);
    }
    ended.goes_on = !taken.closes;
    Ok(None)
}

/// Reads the body of the request, all of it.
async fn read_body(resources: &Resources, client: &mut Client, taken: &mut Taken) -> Result<(), Failed> {
    let limits = taken.state.runtime.limits;
    let request = client.request;
    let missing = request.whole.saturating_sub(client.input.len());
    // A little more, to see whether the client is still there.
    if missing > 0 && client.input.capacity() < request.whole + 64 {
        resources.enlarge(&mut client.input);
    }
    while client.input.len() < request.whole {
        match client.more_bytes(limits.body_timeout, &mut None).await {
            CameIn::Bytes => {}
            CameIn::End => return Err(Failed::Client),
            CameIn::Late => return Err(Failed::Body),
        }
        taken.state.body_read = (client.input.len().min(request.whole) - request.head) as u64;
        if client.input.len() < request.whole && taken.state.is_too_slow() {
            return Err(Failed::Body);
        }
    }
    taken.state.body_read = (request.whole - request.head) as u64;
    Ok(())
}
