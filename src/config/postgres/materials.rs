//! Certificates, keys and the password for PostgreSQL, and the files that they are in.

use std::path::PathBuf;

use openssl::x509::X509;

use super::host::PostgresHost;
use super::pass_file::{PassLine, read_pass_file};
use crate::auth::secret::Secret;
use crate::config::certificates::PairPaths;
use crate::config::certificates::{CertifiedKey, PairFile, read_certificates};
use crate::config::files::{Links, read_secret};

/// Where certificates, keys and the password come from. Paths are complete.
#[derive(Clone, Debug, Default)]
pub struct PostgresFiles {
    /// `sslrootcert`; `None`: the system's certificates.
    pub ca: Option<PathBuf>,
    /// `sslcert` and `sslkey`
    pub client: Option<PairPaths>,
    /// The first of the places that a password may be in.
    pub password: PasswordSource,
    /// `server.state_dir`: its owner's files are the gateway's own.
    pub state_dir: Option<PathBuf>,
}

/// Where the password comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PasswordSource {
    /// There is none.
    #[default]
    None,
    /// `store.password_file`
    File(PathBuf),
    /// `PGPASSWORD`
    Environment(Secret),
    /// `PGPASSFILE`, or `~/.pgpass`; it need not exist.
    PassFile(PathBuf),
}

/// What was in those files, checked.
#[derive(Clone, Debug, Default)]
pub struct PostgresMaterials {
    /// Certificates to trust instead of the system's.
    pub ca: Option<Vec<X509>>,
    /// What the gateway shows the server.
    pub client: Option<CertifiedKey>,
    /// The password for every host.
    password: Option<Secret>,
    /// Passwords for some.
    lines: Vec<PassLine>,
    /// Why a file of passwords is ignored.
    pub(super) warning: Option<String>,
}

impl PostgresFiles {
    /// Reads and checks every file; an error comes with the key that it belongs to. Blocks.
    pub(super) fn read(&self) -> Result<PostgresMaterials, Vec<(&'static str, String)>> {
        let mut errors = Vec::new();
        let ca = self.ca.as_ref().and_then(|path| {
            read_certificates(path).map_err(|text| errors.push(("url", format!("sslrootcert: {text}")))).ok()
        });
        let client = self.client.as_ref().and_then(|paths| {
            let pair = CertifiedKey::read(&paths.certificate, &paths.key);
            let named = |(file, text): (PairFile, String)| {
                ("url", format!("{}: {text}", file.key("sslcert", "sslkey")))
            };
            pair.map_err(|error| errors.push(named(error))).ok()
        });
        let mut materials = PostgresMaterials { ca, client, ..PostgresMaterials::default() };
        match &self.password {
            PasswordSource::None => {}
            PasswordSource::Environment(secret) => materials.password = Some(secret.clone()),
            PasswordSource::File(path) => {
                match read_secret(path, Links::Followed, self.state_dir.as_deref()) {
                    Ok(secret) if secret.expose_secret().is_empty() => errors.push((
                        "password_file",
                        format!("the password is not in {}, which is empty", path.display()),
                    )),
                    Ok(secret) => materials.password = Some(secret),
                    Err(text) => errors.push(("password_file", format!("the password {text}"))),
                }
            }
            PasswordSource::PassFile(path) => match read_pass_file(path) {
                Ok(lines) => materials.lines = lines,
                Err(warning) => materials.warning = Some(warning),
            },
        }
        if errors.is_empty() { Ok(materials) } else { Err(errors) }
    }
}

impl PostgresMaterials {
    /// The password of that user at a host.
    pub fn password(&self, host: &PostgresHost, database: &str, user: &str) -> Option<&Secret> {
        self.password.as_ref().or_else(|| {
            self.lines.iter().find(|line| line.is_for(host, database, user)).map(PassLine::password)
        })
    }
}
