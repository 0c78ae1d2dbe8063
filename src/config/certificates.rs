//! Certificates and their keys: how they are read, and what of a chain its verifiers would refuse.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::{Id, PKey, Private};
use openssl::x509::{X509, X509Ref, X509VerifyResult};
use zeroize::Zeroizing;

use super::files::{read_regular, text_mark};
use super::source::ConfigError;
use crate::auth::time::UnixTime;

/// Where a certificate chain and its private key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairPaths {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The key of the leaf.
    pub key: PathBuf,
}

impl PairPaths {
    /// Reads the pair; an error lies at one of the two settings, `certificate` and `key`.
    pub(super) fn read(&self, [certificate, key]: [&str; 2]) -> Result<CertifiedKey, ConfigError> {
        CertifiedKey::read(&self.certificate, &self.key)
            .map_err(|(file, text)| ConfigError::new(file.key(certificate, key), text))
    }
}

/// A certificate chain, leaf first, and its private key.
#[derive(Clone)]
pub struct CertifiedKey {
    /// At least one certificate.
    pub chain: Vec<X509>,
    /// The key of the first.
    pub key: PKey<Private>,
    /// The file of the key, if everybody on the machine may read it.
    pub open_file: Option<PathBuf>,
}

impl std::fmt::Debug for CertifiedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertifiedKey").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// Which of the two files of a pair an error lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairFile {
    /// The certificate chain.
    Certificate,
    /// The private key.
    Key,
}

impl PairFile {
    pub(super) const fn key<'k>(self, certificate: &'k str, key: &'k str) -> &'k str {
        match self {
            Self::Certificate => certificate,
            Self::Key => key,
        }
    }
}

impl CertifiedKey {
    /// Reads a pair and checks that the two belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, (PairFile, String)> {
        let chain = read_certificates(certificate).map_err(|text| (PairFile::Certificate, text))?;
        let shown = key.display();
        let in_key = |text: String| (PairFile::Key, text);
        let pem = read_pem(key).map_err(in_key)?;
        let mut is_encrypted = false;
        let no_passphrase = |_: &mut [u8]| {
            is_encrypted = true;
            Ok(0)
        };
        let private = PKey::private_key_from_pem_callback(&pem, no_passphrase);
        let private = private.map_err(|_| match is_encrypted {
            true => in_key(format!(
                "{shown} is encrypted, and the gateway cannot prompt for a passphrase: decrypt it with \
                 `openssl pkey -in {shown} -out FILE`, readable by the gateway alone"
            )),
            false => in_key(format!("{shown} is not a private key in PEM form")),
        })?;
        let is_of =
            |certificate: &X509| certificate.public_key().is_ok_and(|public| public.public_eq(&private));
        match chain.iter().position(is_of) {
            Some(0) => {}
            Some(place) => {
                return Err((
                    PairFile::Certificate,
                    format!(
                        "{}: the certificate of this key is number {}, and must be the first: put the leaf before its issuers",
                        certificate.display(),
                        place + 1
                    ),
                ));
            }
            None => {
                return Err(in_key(format!(
                    "{shown} is not the key of the certificate {}",
                    certificate.display()
                )));
            }
        }
        let is_open = fs::metadata(key).is_ok_and(|metadata| metadata.mode() & 0o007 != 0);
        Ok(Self { chain, key: private, open_file: is_open.then(|| key.to_owned()) })
    }
}

impl CertifiedKey {
    /// When the first certificate ends, in seconds since 1970.
    pub fn not_after(&self) -> Option<i64> {
        seconds(self.chain.first()?.not_after())
    }

    /// The DNS names of the first certificate in lower case, `*.example.com` among them: its subject alternative names (RFC 9525 §6.3). A wildcard that
    /// is not the whole first label is none, and the common name is not looked at, as clients do it.
    pub fn names(&self) -> Vec<String> {
        let names = self.chain.first().and_then(|leaf| leaf.subject_alt_names());
        let names = names.iter().flatten().filter_map(|name| name.dnsname());
        let is_usable = |name: &&str| {
            let rest = name.strip_prefix("*.").unwrap_or(name);
            !rest.is_empty() && !rest.contains('*')
        };
        names.filter(is_usable).map(str::to_ascii_lowercase).collect()
    }

    /// What people call it: its first name, or the common name.
    pub fn label(&self) -> String {
        let common = || self.chain.first().map(|leaf| name(leaf)).unwrap_or_default();
        self.names().into_iter().next().unwrap_or_else(common)
    }

    /// What kind of key it has. A connection may be offered one certificate of each.
    pub fn key_type(&self) -> &'static str {
        match self.key.id() {
            Id::RSA => "RSA",
            Id::RSA_PSS => "RSA-PSS",
            Id::EC => "ECDSA",
            Id::ED25519 => "Ed25519",
            Id::ED448 => "Ed448",
            _ => "another",
        }
    }

    /// A line: the setting that names it, its names, its type of key, and how long it lasts.
    pub fn describe(&self, setting: &str, now: UnixTime) -> String {
        let names = self.names().join(", ");
        let names = if names.is_empty() { "no DNS name" } else { names.as_str() };
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        let left = self.not_after().map_or(0, |end| end.saturating_sub(now));
        let left = if left < 0 { "expired".into() } else { format!("{} days left", left / DAY) };
        format!("{setting}: {names} ({}), {left}", self.key_type())
    }

    /// What a client that verifies the chain would refuse, now or within a month.
    pub fn warnings(&self, now: UnixTime) -> Vec<String> {
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        let mut warnings = Vec::new();
        for (number, certificate) in (1..).zip(&self.chain) {
            let which = match number {
                1 => String::new(),
                number => format!(": number {number} of the chain ({})", name(certificate)),
            };
            let left = seconds(certificate.not_after()).map_or(i64::MAX, |end| end.saturating_sub(now));
            if left < 0 {
                warnings.push(format!("{which} has expired: peers that verify it will not connect"));
            } else if left < 30 * DAY {
                let soon = match left / DAY {
                    0 => "within a day".to_owned(),
                    1 => "in 1 day".to_owned(),
                    days => format!("in {days} days"),
                };
                warnings.push(format!("{which} expires {soon}"));
            }
            if seconds(certificate.not_before()).is_some_and(|begin| begin > now) {
                warnings
                    .push(format!("{which} is not valid yet: correct the clock, or peers will not connect"));
            }
        }
        let out_of_order = self.chain.windows(2).position(|pair| match pair {
            [one, issuer] => issuer.issued(one) != X509VerifyResult::OK,
            _ => false,
        });
        if let Some(at) = out_of_order {
            warnings.push(format!(
                ": number {} of the chain did not issue number {}: put the leaf first, then its issuer, and so on",
                at + 2,
                at + 1
            ));
        }
        warnings
    }
}

/// What a certificate is called by people.
fn name(certificate: &X509Ref) -> String {
    let entry = certificate.subject_name().entries().last();
    let text = entry.and_then(|entry| entry.data().to_string().ok());
    text.unwrap_or_default()
}

/// Since 1970.
fn seconds(time: &Asn1TimeRef) -> Option<i64> {
    let left = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(left.days) * DAY + i64::from(left.secs))
}

/// In seconds.
const DAY: i64 = 86_400;

/// A PEM file without the byte order marks that editors put before it, and `cat` into it: what stands behind one on its line
/// would be skipped without a word.
fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let bytes = read_regular(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if let Some(encoding) = text_mark(&bytes).filter(|encoding| encoding.starts_with("UTF-16")) {
        return Err(format!("{shown} is {encoding}: save it as plain text"));
    }
    let mut pem = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes.as_slice();
    while let [first, others @ ..] = rest {
        rest = match rest.strip_prefix(b"\xef\xbb\xbf") {
            Some(behind) => behind,
            None => {
                pem.push(*first);
                others
            }
        };
    }
    Ok(pem)
}

/// All certificates of a PEM file, at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<X509>, String> {
    let shown = path.display();
    let pem = read_pem(path)?;
    match X509::stack_from_pem(&pem) {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{shown} holds no certificate in PEM form")),
    }
}
