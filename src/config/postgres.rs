//! The store in PostgreSQL: `store.url` and what belongs to it.

mod host;
mod materials;
mod pass_file;
mod settings;
mod url;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use self::host::PostgresHost;
pub use self::materials::{PasswordSource, PostgresFiles, PostgresMaterials};
pub use self::settings::{Durability, PostgresSettings, PostgresTls};
pub(super) use self::url::without_scheme;
use self::url::{PostgresUrl, parse_url};
use super::certificates::PairPaths;
use super::source::Section;
use crate::auth::secret::Secret;

/// What the configuration is read next to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'s> {
    /// Where relative paths start.
    pub(super) base: &'s Path,
    /// `server.state_dir`
    pub(super) state_dir: Option<&'s Path>,
    /// The process's variables, for libpq's own.
    pub(super) environment: &'s BTreeMap<String, String>,
}

/// Reads `url`, whose scheme was taken off, with the settings that belong to it.
pub(super) fn read_postgres(
    section: &mut Section<'_>,
    url: &str,
    password_file: Option<PathBuf>,
    durability: Durability,
    surroundings: Surroundings<'_>,
) -> Option<PostgresSettings> {
    let mut errors = Vec::new();
    let read = parse_url(url).map_err(|found| errors = found).ok();
    let settings = read.map(|url| {
        let password = password_source(password_file, surroundings);
        settings(url, password, durability, surroundings, &mut errors)
    });
    for text in errors {
        section.error("url", text);
    }
    let mut settings = settings?;
    match settings.files.read() {
        Ok(materials) => settings.loaded = Arc::new(materials),
        Err(errors) => errors.into_iter().for_each(|(key, text)| section.error(key, text)),
    }
    Some(settings)
}

/// The first place that has one.
fn password_source(file: Option<PathBuf>, surroundings: Surroundings<'_>) -> PasswordSource {
    let variable = |name: &str| surroundings.environment.get(name).filter(|value| !value.is_empty());
    if let Some(file) = file {
        return PasswordSource::File(surroundings.base.join(file));
    }
    if let Some(password) = variable("PGPASSWORD") {
        return PasswordSource::Environment(Secret::new(password.clone().into_bytes()));
    }
    let default = || variable("HOME").map(|home| Path::new(home).join(".pgpass"));
    let pass_file = variable("PGPASSFILE").map(PathBuf::from).or_else(default);
    pass_file.map_or(PasswordSource::None, PasswordSource::PassFile)
}

fn settings(
    url: PostgresUrl,
    password: PasswordSource,
    durability: Durability,
    Surroundings { base, state_dir, .. }: Surroundings<'_>,
    errors: &mut Vec<String>,
) -> PostgresSettings {
    let PostgresUrl { hosts, user, database, mut parameters } = url;
    let has_network = hosts.iter().any(|host| matches!(host, PostgresHost::Tcp { .. }));
    let tls = read_tls(parameters.remove("sslmode"), has_network, errors);
    let verifies = matches!(tls, PostgresTls::VerifyFull | PostgresTls::VerifyCa);
    let ca = parameters.remove("sslrootcert");
    if ca.is_some() && !(verifies && has_network) {
        errors.push(
            "sslrootcert is used only with sslmode=verify-full or verify-ca, and not over a Unix socket"
                .into(),
        );
    }
    // libpq's word for them.
    let ca = ca.filter(|ca| ca != "system").map(|ca| base.join(ca));
    let client = match (parameters.remove("sslcert"), parameters.remove("sslkey")) {
        (Some(certificate), Some(key)) => {
            if tls == PostgresTls::Disable || !has_network {
                errors.push("sslcert and sslkey are used only with TLS".into());
            }
            Some(PairPaths { certificate: base.join(certificate), key: base.join(key) })
        }
        (None, None) => None,
        _ => {
            errors.push("sslcert and sslkey go together: give both".into());
            None
        }
    };
    let files = PostgresFiles { ca, client, password, state_dir: state_dir.map(Path::to_owned) };
    let target = parameters.remove("target_session_attrs");
    if target.is_some_and(|target| target != "read-write") {
        errors.push(
            "target_session_attrs must be \"read-write\": a gateway writes, and reads where it has written"
                .into(),
        );
    }
    let connect_timeout = parameters.remove("connect_timeout").map_or(Some(5), |text| text.parse().ok());
    let connect_timeout = connect_timeout.filter(|seconds| (1..=300).contains(seconds));
    if connect_timeout.is_none() {
        errors.push("connect_timeout must be a number of seconds between 1 and 300".into());
    }
    let application_name = parameters.remove("application_name").unwrap_or_else(|| "ds-gateway".to_owned());
    let is_plain = application_name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if application_name.is_empty() || application_name.len() > 40 || !is_plain {
        errors.push("application_name must have 1 to 40 characters of printable ASCII".into());
    }
    PostgresSettings {
        hosts,
        database,
        user,
        tls,
        application_name,
        connect_timeout: Duration::from_secs(connect_timeout.unwrap_or(5)),
        options: parameters.remove("options"),
        durability,
        files,
        loaded: Arc::default(),
    }
}

fn read_tls(mode: Option<String>, has_network: bool, errors: &mut Vec<String>) -> PostgresTls {
    let tls = match mode.as_deref() {
        None | Some("verify-full") => PostgresTls::VerifyFull,
        Some("verify-ca") => PostgresTls::VerifyCa,
        Some("require") => PostgresTls::Require,
        Some("prefer") => PostgresTls::Prefer,
        Some("disable") => PostgresTls::Disable,
        Some(_) => {
            errors.push(
                "sslmode must be \"verify-full\" (the default), \"verify-ca\", \"require\", \"prefer\" or \"disable\"".into(),
            );
            PostgresTls::VerifyFull
        }
    };
    if mode.is_some() && tls != PostgresTls::Disable && !has_network {
        errors.push("sslmode has no effect over a Unix socket: remove it".into());
    }
    tls
}

#[cfg(test)]
mod tests;
