//! The handshake of accepted connections.

use std::time::Duration;

use arc_swap::ArcSwap;
use openssl::error::ErrorStack;
use openssl::ssl::{AlpnError, SslAcceptor, SslMethod, select_next_proto};
use pingora::protocols::IO;
use pingora::protocols::tls::SslStream;
use pingora::protocols::tls::server::handshake;
use tokio::time::timeout;

use crate::config::CertifiedKey;

/// Makes TLS of accepted connections.
pub struct TlsAcceptor(ArcSwap<Acceptors>);

/// Those with one certificate. Which certificate a client is shown is decided here: several of them, by the name that it asks for, would be here
/// too.
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
    /// TLS 1.2 and 1.3 with this certificate, HTTP/2 and HTTP/1.1.
    pub fn new(pair: &CertifiedKey) -> Result<Self, ErrorStack> {
        Ok(Self(ArcSwap::from_pointee(Acceptors::new(pair)?)))
    }

    /// Takes over the certificate of another one. Handshakes that have begun end with the one that they began with.
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

impl Acceptors {
    fn new(pair: &CertifiedKey) -> Result<Self, ErrorStack> {
        Ok(Self { any: Self::build(pair, HTTP_2_AND_1)?, http1: Self::build(pair, HTTP_1_AND_2)? })
    }

    fn build(pair: &CertifiedKey, protocols: &'static [u8]) -> Result<SslAcceptor, ErrorStack> {
        // Mozilla's intermediate profile, version 5.
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
        let mut chain = pair.chain.iter();
        if let Some(leaf) = chain.next() {
            builder.set_certificate(leaf)?;
        }
        for intermediate in chain {
            builder.add_extra_chain_cert(intermediate.clone())?;
        }
        builder.set_private_key(&pair.key)?;
        builder.check_private_key()?;
        builder.set_alpn_select_callback(move |_, offered| {
            select_next_proto(protocols, offered).ok_or(AlpnError::NOACK)
        });
        // The socket below is not buffered: without this each record would be read in two parts, its length first.
        builder.set_read_ahead(true);
        Ok(builder.build())
    }
}

/// For ALPN (RFC 7301 §3.1), what is preferred first.
const HTTP_2_AND_1: &[u8] = b"\x02h2\x08http/1.1";
const HTTP_1_AND_2: &[u8] = b"\x08http/1.1\x02h2";
