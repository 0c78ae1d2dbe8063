//! What was in the files that the settings name, as far as it must be told from what is in them later: a digest for each setting.

use std::fmt;

use openssl::x509::X509;
use sha2::{Digest, Sha256};

use super::certificates::CertifiedKey;
use super::materials::{LdapMaterials, MaterialFiles, Materials, PlatformMaterials, SigningKeys};
use super::server_certificates::{OTHERS, SERVER, ServerCertificates};
use super::whole::Config;
use crate::auth::keys::Key;

/// A digest for each setting that names a file, by its name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents(Vec<Content>);

#[derive(Clone, PartialEq, Eq)]
struct Content {
    setting: String,
    digest: [u8; 32],
    /// A password may be guessed by its digest: that is shown to nobody.
    is_password: bool,
}

impl Contents {
    /// Of these files.
    pub fn of(materials: &Materials) -> Self {
        let Materials { keys, certificates, platform, platforms, ldap } = materials;
        let LdapMaterials { ca, client, bind_password } = ldap;
        let mut all = Self::default();
        if let SigningKeys::Configured(keys) = keys {
            let key = |key: &Key| {
                format!(
                    "{} {} {} {}\n",
                    key.kid(),
                    key.algorithm().as_str(),
                    key.foreign(),
                    key.fingerprint()
                )
            };
            all.add("token.keys", keys.iter().map(key));
        }
        all.add_platform("platform.ca_file", "platform.client_certificate", platform);
        for platform in platforms {
            all.add_platform("platforms", "platforms", platform);
        }
        all.add_certificates("users.ldap", ca.as_deref());
        all.add_pair("users.ldap", client.as_ref());
        if let Some(password) = bind_password {
            let digest = Sha256::digest(password.expose_secret()).into();
            all.0.push(Content { setting: "users.ldap".into(), digest, is_password: true });
        }
        // Last, as `with_server` has them.
        all.add_server(certificates);
        all
    }

    /// The same, but for the certificates of the TLS listeners.
    pub fn with_server(&self, certificates: &ServerCertificates) -> Self {
        let is_other = |content: &&Content| !content.setting.starts_with(SERVER[0]);
        let mut all = Self(self.0.iter().filter(is_other).cloned().collect());
        all.add_server(certificates);
        all
    }

    /// Of the files of one platform.
    pub fn of_platform(materials: &PlatformMaterials) -> Self {
        let mut all = Self::default();
        all.add_platform("ca_file", "client_certificate", materials);
        all
    }

    /// The settings whose files differ.
    pub fn differing<'c>(&'c self, other: &'c Self) -> impl Iterator<Item = &'c str> {
        let is_in = |content: &Content, all: &Self| all.0.contains(content);
        let gone = self.0.iter().filter(move |content| !is_in(content, other));
        let new = other.0.iter().filter(move |content| !is_in(content, self));
        gone.chain(new).map(|content| content.setting.as_str())
    }

    /// A digest of a configuration with these files, without their passwords: the same for gateways that are configured alike, whatever their
    /// files are called and in which order and with which comments they are written.
    pub fn hash_with(&self, config: &Config) -> ConfigHash {
        let mut digest = Sha256::new();
        // The paths are of this machine; the settings have them nowhere else.
        let shown = Config { files: MaterialFiles::default(), ..config.clone() };
        digest.update(format!("{shown:?}"));
        for content in self.0.iter().filter(|content| !content.is_password) {
            digest.update(format!("\n{} ", content.setting));
            digest.update(content.digest);
        }
        ConfigHash(digest.finalize().into())
    }

    fn add<T: AsRef<[u8]>>(&mut self, setting: &str, parts: impl Iterator<Item = T>) {
        let digest = parts.fold(Sha256::new(), |digest, part| digest.chain_update(part)).finalize().into();
        self.0.push(Content { setting: setting.into(), digest, is_password: false });
    }

    fn add_server(&mut self, certificates: &ServerCertificates) {
        self.add_pair(SERVER[0], certificates.default.as_ref());
        certificates.others.iter().for_each(|pair| self.add_pair(OTHERS, Some(pair)));
    }

    fn add_platform(&mut self, ca: &str, client: &str, materials: &PlatformMaterials) {
        self.add_certificates(ca, materials.ca.as_deref());
        self.add_pair(client, materials.client.as_ref());
    }

    /// The key of a pair belongs to its certificate.
    fn add_pair(&mut self, setting: &str, pair: Option<&CertifiedKey>) {
        self.add_certificates(setting, pair.map(|pair| pair.chain.as_slice()));
    }

    fn add_certificates(&mut self, setting: &str, certificates: Option<&[X509]>) {
        if let Some(certificates) = certificates {
            self.add(setting, certificates.iter().map(|one| one.to_der().unwrap_or_default()));
        }
    }
}

/// The beginning of a digest: enough to tell configurations apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConfigHash([u8; 32]);

/// 16 hexadecimal digits.
impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Digests alone are no use in a log, and one of a password does not belong there.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|content| &content.setting)).finish()
    }
}
