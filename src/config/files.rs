//! How files with secrets and certificates are read: regular ones only, and secrets from nobody's reach.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use zeroize::Zeroizing;

use crate::auth::secret::Secret;

/// Whether a file may be named by a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// As Kubernetes mounts the secrets that a configuration names.
    Followed,
    /// In a folder of ours, where a link was made by somebody else.
    Refused,
}

/// A secret from a file that nobody else may read; a final newline is not part of it.
pub fn read_secret(path: &Path, links: Links) -> Result<Secret, String> {
    let shown = path.display();
    let error = |error: std::io::Error| format!("is in {shown}, which cannot be read: {error}");
    let mut file = open_regular(path, links).map_err(error)?;
    let mode = file.metadata().map_err(error)?.mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "is in {shown}, which others may read or write (mode {:o}): run `chmod 600 {shown}`",
            mode & 0o777
        ));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.by_ref().take(64 * 1024).read_to_end(&mut bytes).map_err(error)?;
    let trimmed = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let trimmed = trimmed.strip_suffix(b"\r").unwrap_or(trimmed);
    Ok(Secret::new(trimmed.to_vec()))
}

/// Opens a file, and nothing that a reader could wait for: a pipe, a device.
fn open_regular(path: &Path, links: Links) -> io::Result<File> {
    let (metadata, no_follow) = match links {
        Links::Followed => (fs::metadata(path)?, OFlag::empty()),
        Links::Refused => (fs::symlink_metadata(path)?, OFlag::O_NOFOLLOW),
    };
    if metadata.is_symlink() {
        return Err(io::Error::other("it is a symbolic link: put the file itself there"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::options().read(true).custom_flags(no_follow.bits()).open(path)
}

fn read_regular(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    open_regular(path, Links::Followed)?.read_to_end(&mut bytes)?;
    Ok(bytes)
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
        let pem = read_regular(key).map_err(|error| in_key(format!("{shown} cannot be read: {error}")))?;
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
        let matches = chain
            .first()
            .and_then(|leaf| leaf.public_key().ok())
            .is_some_and(|public| public.public_eq(&private));
        if !matches {
            return Err(in_key(format!(
                "{shown} is not the key of the certificate {}",
                certificate.display()
            )));
        }
        let is_open = fs::metadata(key).is_ok_and(|metadata| metadata.mode() & 0o007 != 0);
        Ok(Self { chain, key: private, open_file: is_open.then(|| key.to_owned()) })
    }
}

/// All certificates of a PEM file, at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<X509>, String> {
    let shown = path.display();
    let pem = read_regular(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    match X509::stack_from_pem(&pem) {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{shown} holds no certificate in PEM form")),
    }
}
