//! Keys and certificates: the files that the settings name, read apart from them, so that they can be read again while the
//! gateway runs.

use std::path::{Path, PathBuf};

use openssl::x509::X509;

use super::certificates::{CertifiedKey, PairPaths, read_certificates};
use super::files::{Links, read_secret};
use super::server_certificates::{SERVER, ServerCertificates, ServerPairs};
use super::source::ConfigError;
use crate::auth::keys::{Algorithm, Key, KeySet};
use crate::auth::secret::Secret;
use crate::auth::time::UnixTime;

/// Which files the settings name. Paths are complete.
#[derive(Clone, Debug, Default)]
pub struct MaterialFiles {
    /// `token.keys`; `None`: the gateway makes its own.
    pub keys: Option<Vec<KeyFile>>,
    /// `server.state_dir`: its owner's files are the gateway's own.
    pub state_dir: Option<PathBuf>,
    /// Those of the TLS listeners.
    pub server: ServerPairs,
    /// Those of `[platform]`.
    pub platform: PlatformFiles,
    /// Those of each of `[[platforms]]`.
    pub platforms: Vec<PlatformFiles>,
    /// Those of `[users.ldap]`.
    pub ldap: Option<LdapFiles>,
}

impl MaterialFiles {
    /// Every file, but for those of the TLS listeners: they are reloaded alone.
    pub fn paths(&self) -> Vec<PathBuf> {
        let Self { keys, state_dir: _, server: _, platform, platforms, ldap } = self;
        let pair = |pair: &Option<PairPaths>| {
            pair.iter().flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]).collect::<Vec<_>>()
        };
        let mut paths: Vec<PathBuf> = keys.iter().flatten().map(|key| key.path.clone()).collect();
        for PlatformFiles { section: _, ca, client } in std::iter::once(platform).chain(platforms) {
            paths.extend(ca.iter().cloned().chain(pair(client)));
        }
        if let Some(LdapFiles { ca, client, bind_password }) = ldap {
            paths.extend(ca.iter().chain(bind_password).cloned().chain(pair(client)));
        }
        paths
    }
}

/// The files of a directory.
#[derive(Clone, Debug, Default)]
pub struct LdapFiles {
    /// `ca_file`
    pub ca: Option<PathBuf>,
    /// `client_certificate` and `client_key`.
    pub client: Option<PairPaths>,
    /// `bind_password_file`
    pub bind_password: Option<PathBuf>,
}

/// The files of a platform.
#[derive(Clone, Debug, Default)]
pub struct PlatformFiles {
    /// The name of its section.
    pub section: String,
    /// `ca_file`
    pub ca: Option<PathBuf>,
    /// `client_certificate` and `client_key`.
    pub client: Option<PairPaths>,
}

/// One entry of `token.keys`.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// The name of the key.
    pub kid: String,
    /// As configured.
    pub algorithm: String,
    /// Where its secret is.
    pub path: PathBuf,
    /// Does the platform sign with it too?
    pub foreign: bool,
}

/// What was in those files, checked.
#[derive(Debug)]
pub struct Materials {
    /// The signing keys.
    pub keys: SigningKeys,
    /// Those that TLS listeners show.
    pub certificates: ServerCertificates,
    /// Of `[platform]`.
    pub platform: PlatformMaterials,
    /// Of each of `[[platforms]]`.
    pub platforms: Vec<PlatformMaterials>,
    /// Of `[users.ldap]`.
    pub ldap: LdapMaterials,
}

/// What was in the files of a directory.
#[derive(Clone, Debug, Default)]
pub struct LdapMaterials {
    /// Certificates to trust instead of the system's.
    pub ca: Option<Vec<X509>>,
    /// What the gateway shows the directory.
    pub client: Option<CertifiedKey>,
    /// The password of the gateway's own account there; never empty.
    pub bind_password: Option<Secret>,
}

/// What was in the files of a platform.
#[derive(Clone, Debug, Default)]
pub struct PlatformMaterials {
    /// The name of its section.
    pub section: String,
    /// Certificates to trust instead of the system's.
    pub ca: Option<Vec<X509>>,
    /// What the gateway shows the platform.
    pub client: Option<CertifiedKey>,
}

/// Where the signing keys come from.
#[derive(Debug)]
pub enum SigningKeys {
    /// From the files that the configuration names.
    Configured(KeySet),
    /// From `state_dir/keys`, made there with a new store.
    Generated,
}

impl Materials {
    /// Reads and checks every file, and finds every error at once.
    pub fn read(files: &MaterialFiles) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let keys = read_keys(files.keys.as_deref(), files.state_dir.as_deref(), &mut errors);
        let certificates = ServerCertificates::read(&files.server).map_err(|more| errors.extend(more));
        let certificates = certificates.unwrap_or_default();
        let platform = read_platform(&files.platform, &mut errors);
        let platforms = files.platforms.iter().map(|files| read_platform(files, &mut errors)).collect();
        let ldap = files.ldap.as_ref().map(|ldap| read_ldap(ldap, files.state_dir.as_deref(), &mut errors));
        let ldap = ldap.unwrap_or_default();
        if errors.is_empty() {
            Ok(Self { keys, certificates, platform, platforms, ldap })
        } else {
            Err(errors)
        }
    }

    /// What is allowed and dangerous, or will not be accepted by others at this time, each with its reason.
    pub fn warnings(&self, now: UnixTime) -> Vec<String> {
        let default = self.certificates.default.as_ref();
        let server = default.map(|pair| (SERVER[0].to_owned(), SERVER[1].to_owned(), pair));
        let others = self.certificates.others().map(|(setting, pair)| (setting.clone(), setting, pair));
        let platforms = std::iter::once(&self.platform).chain(&self.platforms).map(|platform| {
            let key = |key: &str| format!("{}.{key}", platform.section);
            Some((key("client_certificate"), key("client_key"), platform.client.as_ref()?))
        });
        let of_ldap = |key: &str| format!("{LDAP}.{key}");
        let client = self.ldap.client.as_ref();
        let ldap = client.map(|pair| (of_ldap("client_certificate"), of_ldap("client_key"), pair));
        let mut warnings = Vec::new();
        for (certificate, key, pair) in
            server.into_iter().chain(others).chain(platforms.flatten()).chain(ldap)
        {
            warnings.extend(pair.warnings(now).into_iter().map(|text| format!("{certificate}{text}")));
            if let Some(file) = &pair.open_file {
                let shown = file.display();
                warnings.push(format!("{key}: {shown} is world-readable: run `chmod 600 {shown}`"));
            }
        }
        if default.is_some_and(|pair| pair.names().is_empty()) {
            let text = "has no DNS name among its subject alternative names, and clients look nowhere else: only those that ask for an address it has will connect";
            warnings.push(format!("{} {text}", SERVER[0]));
        }
        warnings
    }
}

fn error(key: &str, text: String) -> ConfigError {
    ConfigError::new(key, text)
}

fn read_platform(files: &PlatformFiles, errors: &mut Vec<ConfigError>) -> PlatformMaterials {
    let key = |key: &str| format!("{}.{key}", files.section);
    let ca = files.ca.as_ref().and_then(|path| {
        read_certificates(path).map_err(|text| errors.push(error(&key("ca_file"), text))).ok()
    });
    let (certificate, private_key) = (key("client_certificate"), key("client_key"));
    let client = read_pair(files.client.as_ref(), [&certificate, &private_key], errors);
    PlatformMaterials { section: files.section.clone(), ca, client }
}

fn read_ldap(files: &LdapFiles, state_dir: Option<&Path>, errors: &mut Vec<ConfigError>) -> LdapMaterials {
    let key = |key: &str| format!("{LDAP}.{key}");
    let ca = files.ca.as_ref().and_then(|path| {
        read_certificates(path).map_err(|text| errors.push(error(&key("ca_file"), text))).ok()
    });
    let (certificate, private_key) = (key("client_certificate"), key("client_key"));
    let client = read_pair(files.client.as_ref(), [&certificate, &private_key], errors);
    let bind_password = files.bind_password.as_ref().and_then(|path| {
        // A directory takes a name without a password for nobody, and says that all is well (RFC 4513 §5.1.2).
        let secret = read_secret(path, Links::Followed, state_dir).and_then(|secret| {
            if secret.expose_secret().is_empty() {
                Err(format!("is not in {}, which is empty", path.display()))
            } else {
                Ok(secret)
            }
        });
        secret
            .map_err(|text| errors.push(error(&key("bind_password_file"), format!("the password {text}"))))
            .ok()
    });
    LdapMaterials { ca, client, bind_password }
}

/// The section of the directory.
const LDAP: &str = "users.ldap";

/// Reads every key; one error for each that cannot be used.
fn read_keys(
    files: Option<&[KeyFile]>,
    state_dir: Option<&Path>,
    errors: &mut Vec<ConfigError>,
) -> SigningKeys {
    let Some(files) = files else { return SigningKeys::Generated };
    let (mut keys, errors_before) = (Vec::new(), errors.len());
    for file in files {
        match read_key(file, state_dir) {
            Ok(key) => keys.push(key),
            Err(text) => errors.push(error("token.keys", format!("the key {:?} {text}", file.kid))),
        }
    }
    if errors.len() == errors_before {
        match KeySet::new(keys) {
            Ok(key_set) => return SigningKeys::Configured(key_set),
            Err(text) => errors.push(error("token.keys", format!("a key {text}"))),
        }
    }
    SigningKeys::Generated
}

fn read_key(file: &KeyFile, state_dir: Option<&Path>) -> Result<Key, String> {
    let algorithm =
        Algorithm::parse(&file.algorithm).ok_or("has an unknown algorithm: use HS256, HS384 or HS512")?;
    let secret = read_secret(&file.path, Links::Followed, state_dir)?;
    Key::new(&file.kid, algorithm, &secret, file.foreign).map_err(|error| error.to_string())
}

/// The pair; an error lies at one of the two settings.
fn read_pair(
    paths: Option<&PairPaths>,
    [certificate, key]: [&str; 2],
    errors: &mut Vec<ConfigError>,
) -> Option<CertifiedKey> {
    let paths = paths?;
    paths.read([certificate, key]).map_err(|error| errors.push(error)).ok()
}
