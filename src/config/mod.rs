//! The configuration: TOML and environment in, checked values out, or every error at once with its hint.
//!
//! `docs/configuration.md` describes each key; a test holds the two together.
//!
//! It may use `auth` alone.

mod addresses;
mod certificates;
mod changes;
mod contents;
mod cors;
mod files;
mod ldap;
mod machine;
mod materials;
mod networks;
mod observe;
mod origin;
mod place;
mod platform;
mod postgres;
mod routes;
mod sections;
mod server;
mod server_certificates;
mod settings;
mod source;
mod spelling;
mod users;
mod whole;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use addresses::is_ipv6_only;
pub use certificates::{CertifiedKey, PairFile, PairPaths};
pub use changes::{Changes, compare};
pub use contents::{ConfigHash, Contents};
pub use files::{Links, read_secret};
pub use ldap::{Ldap, LdapLookup, LdapMembership, LdapOrganization, LdapSecurity, LdapServer, LdapSide};
pub use materials::{
    KeyFile, LdapFiles, LdapMaterials, MaterialFiles, Materials, PlatformFiles, PlatformMaterials,
    SigningKeys,
};
pub use networks::{ForwardedFields, Network, Networks};
pub use observe::{Observe, Period};
pub use origin::Origin;
pub use postgres::{
    Durability, PasswordSource, PostgresFiles, PostgresHost, PostgresMaterials, PostgresSettings, PostgresTls,
};
pub use server_certificates::{ServerCertificates, ServerPairs, wildcard_of};
pub use settings::{
    Audit, Ejection, HostField, Limits, Log, LogFormat, Platform, PlatformLogin, PlatformRoute, PlatformSays,
    PlatformServer, Server, ServerAddress, ServerPool, Stop, StorePlace, StoreSettings, Users,
};
pub use source::{CONFIG_VARIABLE, ConfigError, PREFIX};
pub use whole::Config;

use self::addresses::conflicts;
use self::cors::read_cors;
use self::files::text_mark;
use self::ldap::read_ldap;
use self::platform::{read_platform, read_platforms};
use self::postgres::Surroundings;
use self::routes::read_routes;
use self::sections::{read_audit, read_cache, read_limits, read_log, read_login, read_store, read_token};
use self::server::{read_admin, read_server};
use self::source::{Finished, Source};
use self::users::read_users;

/// Settings, and what was in the files that they name.
pub type Loaded = (Config, Materials);

impl Config {
    /// Reads `path`, with overrides from `environment`, and the files that it names.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, Vec<ConfigError>> {
        let refused = |text: String| vec![ConfigError::new(&path.display().to_string(), text)];
        let bytes = std::fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let text = match text_mark(&bytes) {
            Some(encoding) if encoding.starts_with("UTF-16") => {
                return Err(refused(format!("is {encoding}: save it as UTF-8")));
            }
            _ => String::from_utf8(bytes).map_err(|_| refused("is not UTF-8: save it as UTF-8".into()))?,
        };
        let base = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, base, environment).0
    }

    /// The state folder alone, as far as it can be told from the file and the environment: also where other settings have errors.
    pub fn state_dir(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Option<PathBuf> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut source = Source::new(&text, environment).ok()?;
        let folder: PathBuf = source.section("server").optional("state_dir", "write a path")?;
        Some(path.parent().unwrap_or(Path::new(".")).join(folder))
    }

    /// Reads a text whose relative paths start at `base`. Also says which keys it looked for.
    pub fn parse(
        text: &str,
        base: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> (Result<Loaded, Vec<ConfigError>>, Vec<String>) {
        let environment: BTreeMap<String, String> = environment.collect();
        let mut source = match Source::new(text, environment.clone().into_iter()) {
            Ok(source) => source,
            Err(error) => return (Err(vec![error]), Vec::new()),
        };
        let (server, pairs) = read_server(source.section("server"), base);
        let admin = read_admin(source.section("admin"));
        let (platform, platform_files) = read_platform(source.section("platform"), base);
        let (platforms, more_files) = read_platforms(&mut source, base).into_iter().unzip();
        let (token, inspect_auth, keys) = read_token(source.section("token"), base);
        let cache = read_cache(source.section("cache"));
        let (routes, request_durations, observe) = read_routes(source.section("routes"));
        let cors = read_cors(source.section("cors"));
        let state_dir = server.as_ref().map(|server| server.state_dir.as_path());
        let surroundings = Surroundings { base, state_dir, environment: &environment };
        let store = read_store(source.section("store"), surroundings);
        if keys.is_none() && store.place.file().is_none() {
            source.error(
                "token.keys",
                "is needed with a store in PostgreSQL: each gateway would make a key of its own. Name the same key files on every gateway",
            );
        }
        let audit = read_audit(source.section("audit"));
        let threads = server.as_ref().map_or(1, |server| server.threads);
        let trusted_logins = read_login(source.section("limits.login"));
        let limits = read_limits(source.section("limits"), threads, &request_durations);
        let section = source.section("users.ldap");
        let is_ldap_given = section.is_given();
        let (ldap, ldap_files) = read_ldap(section, base).unzip();
        let users = read_users(&mut source, is_ldap_given, ldap.as_ref());
        let log = read_log(source.section("log"));
        let files = MaterialFiles {
            keys,
            state_dir: server.as_ref().map(|server| server.state_dir.clone()),
            server: pairs,
            platform: platform_files,
            platforms: more_files,
            ldap: ldap_files,
        };
        if let Some(server) = &server {
            let of = |key: &'static str, all: &[SocketAddr]| {
                all.iter().map(move |address| (key, *address)).collect()
            };
            let all: [Vec<_>; 3] = [
                of("server.https", &server.https),
                of("server.http", &server.http),
                of("admin.listen", &admin),
            ];
            conflicts(&all.concat()).into_iter().for_each(|(key, text)| source.error(key, text));
        }
        let Finished { mut errors, asked, origins } = source.finish();
        let materials = Materials::read(&files).map_err(|more| {
            errors.extend(
                more.into_iter().map(|error| ConfigError { origin: origins.of(&error.key), ..error }),
            );
        });
        let config = match (server, platform, materials) {
            (Some(server), Some(platform), Ok(materials)) if errors.is_empty() => {
                let config = Self {
                    server,
                    admin,
                    platform,
                    platforms,
                    token,
                    inspect_auth,
                    cache,
                    files,
                    routes,
                    observe,
                    request_durations,
                    cors,
                    users,
                    store,
                    audit,
                    limits,
                    trusted_logins,
                    ldap,
                    log,
                };
                Ok((config, materials))
            }
            _ => Err(errors),
        };
        (config, asked)
    }
}

#[cfg(test)]
mod tests;
