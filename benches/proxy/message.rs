//! HTTP/1.1 messages whose length is given, which is all that the bench sends and gets.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads one whole message into `buffer` (emptied before; nobody pipelines): how long its head is, or `None` if the other
/// side closed instead.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<Option<usize>> {
    buffer.clear();
    let mut whole = None;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            ensure!(buffer.is_empty(), "the connection was closed within a message");
            return Ok(None);
        }
        if whole.is_none() {
            whole = lengths(buffer)?;
        }
        if let Some((head, body)) = whole
            && buffer.len() >= head + body
        {
            return Ok(Some(head));
        }
    }
}

/// Of head and body; `None` while the head is not complete.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(bytes.get(..end).context("a head")?)?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Ok(0), |(_, length)| length.trim().parse())?;
    Ok(Some((end + 4, length)))
}
