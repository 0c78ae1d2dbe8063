//! TLS towards PostgreSQL: whose certificates are believed, and what the gateway shows.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ssl::{SslConnector, SslMethod, SslRef, SslVerifyMode, SslVersion};
use openssl::x509::X509VerifyResult;
use openssl::x509::store::X509StoreBuilder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_openssl::SslStream;
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use crate::config::{PostgresMaterials, PostgresTls};

/// Makes TLS connections as `sslmode` says.
#[derive(Clone)]
pub(super) struct Tls {
    connector: SslConnector,
    verifies_name: bool,
}

impl Tls {
    /// A server is believed only with a certificate by a CA of the materials, or else of the system, unless the mode says otherwise.
    pub(super) fn new(materials: &PostgresMaterials, mode: PostgresTls) -> Result<Self, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        let verifies = matches!(mode, PostgresTls::VerifyFull | PostgresTls::VerifyCa);
        match &materials.ca {
            Some(certificates) => {
                let mut store = X509StoreBuilder::new()?;
                certificates.iter().try_for_each(|certificate| store.add_cert(certificate.clone()))?;
                builder.set_cert_store(store.build());
            }
            None if verifies => {
                // The OpenSSL inside this binary does not know where this system keeps them.
                let found = openssl_probe::probe();
                if found.cert_file.is_some() || found.cert_dir.is_some() {
                    builder.load_verify_locations(found.cert_file.as_deref(), found.cert_dir.as_deref())?;
                }
            }
            None => {}
        }
        if let Some(client) = &materials.client {
            let mut chain = client.chain.iter();
            chain.next().map_or(Ok(()), |leaf| builder.set_certificate(leaf))?;
            chain.try_for_each(|issuer| builder.add_extra_chain_cert(issuer.clone()))?;
            builder.set_private_key(&client.key)?;
        }
        builder.set_verify(if verifies { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
        Ok(Self { connector: builder.build(), verifies_name: mode == PostgresTls::VerifyFull })
    }
}

/// Why there is no TLS.
#[derive(Debug)]
pub(super) struct TlsFault(String);

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for TlsFault {}

impl From<ErrorStack> for TlsFault {
    fn from(error: ErrorStack) -> Self {
        Self(error.to_string())
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = TlsFault;

    fn make_tls_connect(&mut self, name: &str) -> Result<Handshake, TlsFault> {
        Ok(Handshake { tls: self.clone(), name: name.to_owned() })
    }
}

/// The handshake with a server whose certificate must be for this name, a DNS name or an address.
pub(super) struct Handshake {
    tls: Tls,
    name: String,
}

impl Handshake {
    async fn make(self, socket: Socket) -> Result<Encrypted, TlsFault> {
        let mut configuration = self.tls.connector.configure()?;
        configuration.set_verify_hostname(self.tls.verifies_name);
        let ssl = configuration.into_ssl(&self.name)?;
        let mut stream = SslStream::new(ssl, socket)?;
        let handshake = Pin::new(&mut stream).connect().await;
        handshake.map_err(|error| match stream.ssl().verify_result() {
            X509VerifyResult::OK => TlsFault(format!("the handshake failed: {error}")),
            reason => {
                TlsFault(format!("the server's certificate is not accepted: {}", reason.error_string()))
            }
        })?;
        Ok(Encrypted(stream))
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = TlsFault;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, TlsFault>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(self.make(socket))
    }
}

/// An encrypted connection.
pub(super) struct Encrypted(SslStream<Socket>);

impl Encrypted {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut SslStream<Socket>> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        end_point(self.0.ssl()).map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// The digest that binds a password's exchange to this server's certificate (RFC 5929 §4.1).
fn end_point(ssl: &SslRef) -> Option<Vec<u8>> {
    let certificate = ssl.peer_certificate()?;
    let algorithms = certificate.signature_algorithm().object().nid().signature_algorithms()?;
    let digest = match algorithms.digest {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        digest => MessageDigest::from_nid(digest)?,
    };
    certificate.digest(digest).ok().map(|digest| digest.to_vec())
}

impl AsyncRead for Encrypted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
