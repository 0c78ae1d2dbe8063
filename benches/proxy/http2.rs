//! The client's half of HTTP/2: requests without a body, on streams of a connection that several clients may share.

use std::future::poll_fn;
use std::str;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection, from which every request takes a stream; clones share it.
pub type Sender = SendRequest<Bytes>;

/// On a new stream of bytes.
pub async fn open(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Sender> {
    let mut builder = Builder::new();
    builder.enable_push(false).initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (sender, connection) = builder.handshake(stream).await?;
    // It ends with its last sender; what went wrong is told by the requests.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// The status; the body goes to `answer`.
pub async fn exchange(sender: &mut Sender, request: http::Request<()>, answer: &mut Vec<u8>) -> Result<u16> {
    answer.clear();
    poll_fn(|context| sender.poll_ready(context)).await?;
    let (response, _) = sender.send_request(request, true)?;
    let response = response.await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let data = data?;
        answer.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(status)
}

/// The same request as HTTP/1.1 has it, which ends with its head.
pub fn request(http1: &[u8]) -> Result<http::Request<()>> {
    let mut lines = str::from_utf8(http1)?.lines();
    let mut first = lines.next().context("a request line")?.split(' ');
    let (method, path) = (first.next().context("a method")?, first.next().context("a path")?);
    let fields = lines.map_while(|line| line.split_once(": "));
    let (mut host, mut request) = ("", http::Request::builder().method(method));
    for (name, value) in fields {
        ensure!(name != "content-length", "the bench sends no body by HTTP/2");
        if name == "host" {
            host = value;
        } else {
            request = request.header(name, value);
        }
    }
    Ok(request.uri(format!("https://{host}{path}")).body(())?)
}

/// Like h2load's: no request waits for it.
const WINDOW: u32 = (1 << 30) - 1;
