//! The configuration: TOML and environment in, checked values out, or every error at once with its hint.
//!
//! `docs/configuration.md` describes each key; a test holds the two together.
//!
//! It may use `auth` alone.

mod addresses;
mod certificates;
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
mod settings;
mod source;
mod spelling;
mod users;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use addresses::is_ipv6_only;
pub use certificates::{CertifiedKey, PairFile};
pub use files::{Links, read_secret};
pub use ldap::{Ldap, LdapLookup, LdapMembership, LdapOrganization, LdapSecurity, LdapServer, LdapSide};
pub use materials::{
    KeyFile, LdapFiles, LdapMaterials, MaterialFiles, Materials, PairPaths, PlatformFiles, PlatformMaterials,
    SigningKeys,
};
pub use networks::{ForwardedFields, Network, Networks};
pub use observe::{Observe, Period};
pub use origin::Origin;
pub use postgres::{
    Durability, PasswordSource, PostgresFiles, PostgresHost, PostgresMaterials, PostgresSettings, PostgresTls,
};
pub use settings::{
    Audit, Ejection, HostField, Limits, Log, LogFormat, Platform, PlatformLogin, PlatformRoute, PlatformSays,
    PlatformServer, Server, ServerAddress, ServerPool, Stop, StorePlace, StoreSettings, Users,
};
pub use source::{CONFIG_VARIABLE, ConfigError, PREFIX};

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
use crate::auth::cache::CacheLimits;
use crate::auth::cors::Cors;
use crate::auth::endpoint::InspectAuth;
use crate::auth::gate::enforces_endpoint;
use crate::auth::policy::{PathPattern, Policy, PublicRoute};
use crate::auth::token::{TokenRules, UnknownUsers};

/// Settings, and what was in the files that they name.
pub type Loaded = (Config, Materials);

/// Everything that an operator can decide, checked: plain data. The files that it names are [`Materials`].
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[admin] listen`: one address, or the two that a name stands for.
    pub admin: Vec<SocketAddr>,
    /// `[platform]`
    pub platform: Platform,
    /// `[[platforms]]`, the longest prefix first.
    pub platforms: Vec<PlatformRoute>,
    /// `[token]`, but for the two below
    pub token: TokenRules,
    /// `[cache]`
    pub cache: CacheLimits,
    /// `[token] inspect_auth`
    pub inspect_auth: InspectAuth,
    /// The keys and certificates that the sections name.
    pub files: MaterialFiles,
    /// `[routes]`
    pub routes: Policy,
    /// `[routes] mode`, with what belongs to it; `None`: every route is enforced.
    pub observe: Option<Observe>,
    /// `[routes] request_duration`
    pub request_durations: Vec<(PathPattern, Option<Duration>)>,
    /// `[cors]`
    pub cors: Cors,
    /// `[users]`
    pub users: Users,
    /// `[store]`
    pub store: StoreSettings,
    /// `[audit]`
    pub audit: Audit,
    /// `[limits]`
    pub limits: Limits,
    /// `[limits.login] trusted`: places that every account knows.
    pub trusted_logins: Networks,
    /// `[users.ldap]`
    pub ldap: Option<Ldap>,
    /// `[log]`
    pub log: Log,
}

impl Config {
    /// The servers of every platform, the default one first, as `Materials` has what belongs to them.
    pub fn pools(&self) -> impl Iterator<Item = &ServerPool> {
        std::iter::once(&self.platform.pool).chain(self.platforms.iter().map(|route| &route.pool))
    }

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
        let (server, pair) = read_server(source.section("server"), base);
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
            server: pair,
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

    /// The settings that matter to anyone who reads the metrics, as labels: few, and none of them a secret.
    pub fn info_labels(&self) -> Vec<(&'static str, &'static str)> {
        let word = |on: bool| if on { "true" } else { "false" };
        vec![
            ("forward_token", word(self.platform.forward_token)),
            (
                "inspect_auth",
                match self.inspect_auth {
                    InspectAuth::Basic => "basic",
                    InspectAuth::Token => "token",
                },
            ),
            ("strict_paths", word(self.routes.strict_paths)),
            (
                "unknown_users",
                match self.token.unknown_users {
                    UnknownUsers::Refuse => "refuse",
                    UnknownUsers::Accept => "accept",
                },
            ),
        ]
    }

    /// What an operator should know while routes are observed; nothing where none are.
    pub fn observe_warnings(&self) -> Vec<String> {
        let Some(Observe { until, enforced, .. }) = &self.observe else {
            return Vec::new();
        };
        let is_endpoint_enforced = enforces_endpoint(enforced);
        let has_foreign = self.files.keys.iter().flatten().any(|key| key.foreign);
        let mut warnings = vec![format!(
            "routes.mode: \"observe\" until {until} UTC: what would be refused is logged and counted, and forwarded to the platform's own check{}",
            if is_endpoint_enforced { "" } else { "; so is the token endpoint" }
        )];
        let mut warn = |on: bool, text: &str| warnings.extend(on.then(|| text.to_owned()));
        warn(
            !is_endpoint_enforced && !has_foreign,
            "routes.mode: no key in token.keys has foreign = true, so each token that the platform issues counts as refused, and no client gets through on a route in routes.enforce: share the platform's key, or enforce \"/ds-api/user-token\" first",
        );
        warn(
            !self.platform.forward_token,
            "platform.forward_token: false takes a valid token out of a request: the platform's own check then has the identity headers alone",
        );
        warn(
            !is_endpoint_enforced && self.inspect_auth == InspectAuth::Basic,
            "token.inspect_auth: \"basic\" answers the vendor's playbooks with 401 once \"/ds-api/user-token\" is enforced, since they inspect a token without a password: set it to \"token\" if you use them",
        );
        warnings
    }

    /// Choices that are allowed and dangerous, each with its reason.
    pub fn warnings(&self) -> Vec<String> {
        let open = |address: &SocketAddr| !address.ip().is_loopback();
        let mut warnings = Vec::new();
        let mut warn = |on: bool, text: &str| {
            if on {
                warnings.push(text.to_owned());
            }
        };
        warn(
            self.routes.public.iter().any(PublicRoute::is_everything),
            "routes.public: \"/*\" makes every path public",
        );
        warn(
            !self.platform.pool.verify
                && self.platform.pool.servers.iter().any(|server| server.tls_name.is_some()),
            "platform.verify: false lets anyone on the network path impersonate the platform",
        );
        warn(
            self.server.http.iter().any(open),
            "server.http: passwords and tokens cross the network unencrypted; keep it behind a load balancer with TLS",
        );
        warn(
            self.server.trusted_proxies.is_everybody(),
            "server.trusted_proxies: every peer is trusted to name the client",
        );
        warn(
            self.trusted_logins.is_everybody(),
            "limits.login.trusted: anyone may try 20 passwords for every account, from each address",
        );
        warn(
            self.cors.is_for_everybody(),
            "cors.origins: \"*\" lets any page that a browser opens call the gateway and read its answers, public routes without a token",
        );
        warn(
            self.ldap.as_ref().is_some_and(|ldap| !ldap.verify),
            "users.ldap.verify: false lets anyone on the network path read passwords, and let in whom they like",
        );
        warn(
            self.ldap.as_ref().is_some_and(Ldap::is_plain),
            "users.ldap.allow_plaintext: passwords cross the network to the directory unencrypted",
        );
        warn(self.admin.iter().any(open), "admin.listen: metrics are open to the network");
        warn(
            self.token.unknown_users == UnknownUsers::Accept,
            "token.unknown_users: \"accept\" admits foreign tokens of users that were never added",
        );
        if let StorePlace::Postgres(settings) = &self.store.place {
            warnings.extend(settings.warnings());
        }
        let most = Limits::connections_within(self.limits.memory);
        if self.limits.connections > most {
            warnings.push(format!(
                "limits.memory is enough for {most} connections: limits.connections is lowered to that; for {} it must be {}",
                self.limits.connections,
                2 * Limits::CONNECTION_BYTES * self.limits.connections as u64
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
