//! A way to a server, before anything is said on it.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::failure::Failure;
use crate::config::ServerAddress;

/// Bytes in both directions, over whatever.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to an address; a name is looked up, and each of its addresses tried.
pub(super) async fn connect(address: &ServerAddress) -> Result<Box<dyn Stream>, Failure> {
    let refused = |error: std::io::Error| Failure::unreachable(format!("no connection: {error}"));
    match address {
        ServerAddress::Network(address) => {
            let stream = TcpStream::connect(address).await.map_err(refused)?;
            // Each request is one write, and its answer is waited for.
            stream.set_nodelay(true).map_err(refused)?;
            Ok(Box::new(stream))
        }
        ServerAddress::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(refused)?)),
    }
}
