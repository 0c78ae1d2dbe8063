//! The platform: takes every request, counts it, and says what it was told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::message;

/// What a request without a body is answered.
pub const BODY: &[u8] = &[b'x'; 100];

pub struct Platform {
    address: SocketAddr,
    seen: Arc<AtomicUsize>,
}

impl Platform {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = seen.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(answer_all(stream, counter.clone()))),
                    Err(error) => {
                        eprintln!("the platform cannot accept: {error}");
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self { address, seen })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far.
    pub fn seen(&self) -> usize {
        self.seen.load(Relaxed)
    }
}

/// A request's body is its answer's, so that the client sees what came of it.
async fn answer_all(mut stream: TcpStream, seen: Arc<AtomicUsize>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, mut answer) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    while let Some(head) = message::read(&mut stream, &mut request).await? {
        seen.fetch_add(1, Relaxed);
        let body = request.get(head..).context("a body")?;
        let body = if body.is_empty() { BODY } else { body };
        answer.clear();
        let length = body.len();
        write_head(&mut answer, length)?;
        answer.extend_from_slice(body);
        stream.write_all(&answer).await?;
    }
    Ok(())
}

fn write_head(answer: &mut Vec<u8>, length: usize) -> Result<()> {
    use std::io::Write;
    write!(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")?;
    Ok(())
}
