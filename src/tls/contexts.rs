//! What OpenSSL is told: which protocols, ciphers and groups are spoken, and which certificate is shown for which name.
//!
//! A context has the certificates of a name; they differ in nothing else. A session may be resumed under another name than the one that it was
//! made for: no certificate is shown then, and none is asked of clients, so that no name admits more than another (RFC 8446 §4.6.1).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{
    AlpnError, NameType, SniError, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslRef,
    select_next_proto,
};

use crate::config::{CertifiedKey, ServerCertificates, wildcard_of};

/// Shows clients the certificate of the name that they ask for, and `default` where there is none.
pub(super) fn acceptor(
    default: &CertifiedKey,
    certificates: &ServerCertificates,
    protocols: &'static [u8],
) -> Result<SslAcceptor, ErrorStack> {
    let mut builder = builder(default, protocols)?;
    let named = Named::new(certificates, protocols)?;
    if !named.0.is_empty() {
        builder.set_servername_callback(move |ssl, _| {
            let shown = ssl.servername(NameType::HOST_NAME).and_then(|name| named.find(name));
            let shown = shown.ok_or(SniError::NOACK)?;
            shown.select(ssl).map_err(|_| SniError::ALERT_FATAL)
        });
    }
    Ok(builder.build())
}

/// What is shown, by name.
struct Named(HashMap<String, Arc<Shown>>);

/// The certificates of a name, each with a key of another type: OpenSSL takes the first that the client can verify.
struct Shown {
    context: SslContext,
    /// Added for each connection: a context has one chain for all of its certificates.
    more: Vec<CertifiedKey>,
}

impl Named {
    fn new(certificates: &ServerCertificates, protocols: &'static [u8]) -> Result<Self, ErrorStack> {
        let all: Vec<&CertifiedKey> = certificates.all().map(|(_, pair)| pair).collect();
        let mut made = BTreeMap::<Vec<usize>, Arc<Shown>>::new();
        let mut names = HashMap::new();
        for (name, places) in certificates.by_name() {
            let shown = match made.get(&places) {
                Some(shown) => Arc::clone(shown),
                None => {
                    let of_name = places.iter().filter_map(|at| all.get(*at).copied());
                    Arc::new(Shown::new(of_name.collect(), protocols)?)
                }
            };
            made.insert(places, Arc::clone(&shown));
            names.insert(name, shown);
        }
        Ok(Self(names))
    }

    /// A name of its own comes before a wildcard.
    fn find(&self, name: &str) -> Option<&Shown> {
        let name = name.to_ascii_lowercase();
        let found = self.0.get(&name).or_else(|| self.0.get(&wildcard_of(&name)?));
        found.map(Arc::as_ref)
    }
}

impl Shown {
    fn new(mut pairs: Vec<&CertifiedKey>, protocols: &'static [u8]) -> Result<Self, ErrorStack> {
        // One without intermediates would be sent with those of the context.
        pairs.sort_by_key(|pair| pair.chain.len());
        let (first, more) = pairs.split_first().ok_or_else(ErrorStack::get)?;
        let context = builder(first, protocols)?.build().into_context();
        let more: Vec<CertifiedKey> = more.iter().copied().cloned().collect();
        // Whether OpenSSL takes them is found out now, and not by a client.
        let shown = Self { context, more };
        shown.select(&mut *openssl::ssl::Ssl::new(&shown.context)?)?;
        Ok(shown)
    }

    fn select(&self, ssl: &mut SslRef) -> Result<(), ErrorStack> {
        ssl.set_ssl_context(&self.context)?;
        for pair in &self.more {
            let mut chain = pair.chain.iter();
            if let Some(leaf) = chain.next() {
                ssl.set_certificate(leaf)?;
            }
            ssl.set_private_key(&pair.key)?;
            for intermediate in chain {
                ssl.add_chain_cert(intermediate.clone())?;
            }
        }
        Ok(())
    }
}

/// Mozilla's intermediate profile, version 5, with one certificate.
fn builder(pair: &CertifiedKey, protocols: &'static [u8]) -> Result<SslAcceptorBuilder, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    // What an older library does not know is refused as a whole.
    if builder.set_groups_list(GROUPS_WITH_HYBRID).is_err() {
        builder.set_groups_list(GROUPS)?;
    }
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
    Ok(builder)
}

/// Those of the profile.
const GROUPS: &str = "X25519:P-256:P-384";

/// With the hybrid of ML-KEM-768 and X25519 (draft-ietf-tls-ecdhe-mlkem), which OpenSSL has since 3.5.
const GROUPS_WITH_HYBRID: &str = "X25519MLKEM768:X25519:P-256:P-384";
