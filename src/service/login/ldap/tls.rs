//! TLS towards a directory: whose certificates are believed, and what the gateway shows.

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509VerifyResult;
use openssl::x509::store::X509StoreBuilder;
use tokio_openssl::SslStream;

use super::failure::Failure;
use super::stream::Stream;
use crate::config::LdapMaterials;

/// Makes TLS connections to the servers of a directory.
pub(super) struct Tls {
    connector: SslConnector,
    verify: bool,
}

impl Tls {
    /// With `verify`, a server is believed only with a certificate for its name by a CA of the materials, or else of the system.
    pub(super) fn new(materials: &LdapMaterials, verify: bool) -> Result<Self, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        match &materials.ca {
            Some(certificates) => {
                let mut store = X509StoreBuilder::new()?;
                certificates.iter().try_for_each(|certificate| store.add_cert(certificate.clone()))?;
                builder.set_cert_store(store.build());
            }
            None => {
                // The OpenSSL inside this binary does not know where this system keeps them.
                let found = openssl_probe::probe();
                if found.cert_file.is_some() || found.cert_dir.is_some() {
                    builder.load_verify_locations(found.cert_file.as_deref(), found.cert_dir.as_deref())?;
                }
            }
        }
        if let Some(client) = &materials.client {
            let mut chain = client.chain.iter();
            chain.next().map_or(Ok(()), |leaf| builder.set_certificate(leaf))?;
            chain.try_for_each(|issuer| builder.add_extra_chain_cert(issuer.clone()))?;
            builder.set_private_key(&client.key)?;
        }
        builder.set_verify(if verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
        Ok(Self { connector: builder.build(), verify })
    }

    /// Makes the handshake with a server whose certificate must be for `name`, a DNS name or an address.
    pub(super) async fn connect(
        &self,
        name: &str,
        stream: Box<dyn Stream>,
    ) -> Result<Box<dyn Stream>, Failure> {
        let of_ours = |error: ErrorStack| Failure::unreachable(format!("no TLS: {error}"));
        let mut configuration = self.connector.configure().map_err(of_ours)?;
        configuration.set_verify_hostname(self.verify);
        let ssl = configuration.into_ssl(name).map_err(of_ours)?;
        let mut stream = SslStream::new(ssl, stream).map_err(of_ours)?;
        let handshake = std::pin::Pin::new(&mut stream).connect().await;
        handshake.map_err(|error| match stream.ssl().verify_result() {
            X509VerifyResult::OK => Failure::unreachable(format!("no TLS: {error}")),
            reason => {
                Failure::unreachable(format!("its certificate is not accepted: {}", reason.error_string()))
            }
        })?;
        Ok(Box::new(stream))
    }
}
