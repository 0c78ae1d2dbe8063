//! The handshake of accepted connections.

use std::time::Duration;

use arc_swap::ArcSwap;
use openssl::error::ErrorStack;
use openssl::ssl::SslAcceptor;
use pingora::protocols::IO;
use pingora::protocols::tls::SslStream;
use pingora::protocols::tls::server::handshake;
use tokio::time::timeout;

use super::contexts::acceptor;
use crate::config::{CertifiedKey, ServerCertificates};

/// Makes TLS of accepted connections.
pub struct TlsAcceptor(ArcSwap<Acceptors>);

struct Acceptors {
    any: SslAcceptor,
    http1: SslAcceptor,
}

/// What may be spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2 or HTTP/1.1, as the client likes.
    Any,
    /// HTTP/1.1 if the client knows it: for an answer that needs no connection around it.
    Http1,
}

/// Why a connection did not come to speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The client sent an HTTP request in the clear.
    PlainHttp,
    /// What the client sent is no handshake, or nothing in it is common to both.
    Failed,
    /// It was not over in time.
    TimedOut,
}

impl TlsAcceptor {
    /// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. A client that asks for a name is shown its certificate; any other one, `default`.
    ///
    /// # Errors
    ///
    /// If OpenSSL does not take one of them.
    pub fn new(default: &CertifiedKey, certificates: &ServerCertificates) -> Result<Self, ErrorStack> {
        Ok(Self(ArcSwap::from_pointee(Acceptors {
            any: acceptor(default, certificates, HTTP_2_AND_1)?,
            http1: acceptor(default, certificates, HTTP_1_AND_2)?,
        })))
    }

    /// Takes over the certificates of another one. Handshakes that have begun end with those that they began with. Sessions of before are not
    /// resumed: a client that comes back is shown what is in force now.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// Makes the handshake, which may take `limit`.
    pub async fn accept<S: IO>(
        &self,
        socket: S,
        offer: Offer,
        limit: Duration,
    ) -> Result<SslStream<S>, HandshakeError> {
        let acceptors = self.0.load_full();
        let acceptor = match offer {
            Offer::Any => &acceptors.any,
            Offer::Http1 => &acceptors.http1,
        };
        match timeout(limit, handshake(acceptor, socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            // The engine keeps OpenSSL's reason as text only.
            Ok(Err(error)) if error.to_string().contains("http request") => Err(HandshakeError::PlainHttp),
            Ok(Err(_)) => Err(HandshakeError::Failed),
            Err(_) => Err(HandshakeError::TimedOut),
        }
    }
}

/// For ALPN (RFC 7301 §3.1), what is preferred first.
const HTTP_2_AND_1: &[u8] = b"\x02h2\x08http/1.1";
const HTTP_1_AND_2: &[u8] = b"\x08http/1.1\x02h2";
