//! The configuration as a whole, and what is to be said of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::ldap::Ldap;
use super::materials::MaterialFiles;
use super::networks::Networks;
use super::observe::Observe;
use super::settings::{
    Audit, Limits, Log, Platform, PlatformRoute, Server, ServerPool, StorePlace, StoreSettings, Users,
};
use crate::auth::cache::CacheLimits;
use crate::auth::cors::Cors;
use crate::auth::endpoint::InspectAuth;
use crate::auth::gate::enforces_endpoint;
use crate::auth::policy::{PathPattern, Policy, PublicRoute};
use crate::auth::token::{TokenRules, UnknownUsers};

/// Everything that an operator can decide, checked: plain data. The files that it names are [`Materials`](super::Materials).
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
