//! What differs between the configuration that a gateway runs with and another one, setting by setting: what can be applied at once, and
//! what takes a restart.
//!
//! Every type is taken apart field by field, so that a new setting does not compile until it is said here which of the two it is.

use std::fmt::Debug;

use super::contents::Contents;
use super::materials::MaterialFiles;
use super::networks::Networks;
use super::settings::{
    Audit, Ejection, Limits, Log, Platform, Server, ServerPool, Stop, StorePlace, StoreSettings, Users,
};
use super::whole::Config;
use crate::auth::policy::Policy;
use crate::auth::token::TokenRules;

/// The names of settings that differ, as `section.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that a running gateway can take.
    pub at_once: Vec<String>,
    /// Those that it has for as long as it runs.
    pub at_restart: Vec<String>,
}

impl Changes {
    /// Is everything as it was?
    pub const fn is_empty(&self) -> bool {
        self.at_once.is_empty() && self.at_restart.is_empty()
    }

    fn note<T: Debug + ?Sized>(&mut self, name: &str, running: &T, wanted: &T) {
        // What is plain data is equal where it reads equal.
        if format!("{running:?}") != format!("{wanted:?}") && !self.at_once.iter().any(|known| known == name)
        {
            self.at_once.push(name.to_owned());
        }
    }

    /// Puts back what cannot change.
    fn keep<T: Debug + Clone>(&mut self, name: &str, running: &T, wanted: &mut T) {
        if format!("{running:?}") != format!("{wanted:?}") {
            self.at_restart.push(name.to_owned());
        }
        wanted.clone_from(running);
    }
}

/// Compares what runs with what is wanted, and what the files of both held. Also returns the configuration that a gateway can have at once: the wanted one, but
/// with the running values of what takes a restart.
pub fn compare(running: (&Config, &Contents), wanted: (&Config, &Contents)) -> (Changes, Config) {
    let ((running, held), (wanted, holds)) = (running, wanted);
    let (mut changes, mut effective) = (Changes::default(), wanted.clone());
    let Config {
        server,
        admin,
        platform,
        platforms,
        token,
        cache,
        inspect_auth,
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
    } = &mut effective;
    let all = &mut changes;
    compare_server(all, &running.server, server);
    all.keep("admin.listen", &running.admin, admin);
    compare_platform(all, &running.platform, platform);
    // An entry has no name of its own that would last.
    all.note("platforms", &running.platforms, platforms);
    compare_token(all, &running.token, *token);
    all.note("token.inspect_auth", &running.inspect_auth, inspect_auth);
    compare_files(all, &running.files, files);
    files.state_dir.clone_from(&running.files.state_dir);
    all.keep("cache.entries", &running.cache.entries, &mut cache.entries);
    all.keep("cache.bytes", &running.cache.bytes, &mut cache.bytes);
    let Policy { public, lenient, upgrades, strict_paths } = &routes;
    all.note("routes.public", &running.routes.public, public);
    all.note("routes.lenient", &running.routes.lenient, lenient);
    all.note("routes.upgrades", &running.routes.upgrades, upgrades);
    all.note("routes.strict_paths", &running.routes.strict_paths, strict_paths);
    all.note("routes.mode", &running.observe, observe);
    all.note("routes.request_duration", &running.request_durations, request_durations);
    all.note("cors", &running.cors, cors);
    let Users { sources, platform } = &users;
    all.note("users.sources", &running.users.sources, sources);
    all.note("users.platform", &running.users.platform, platform);
    all.note("users.ldap", &running.ldap, ldap);
    compare_store(all, &running.store, store);
    compare_audit(all, running.audit, *audit);
    compare_limits(all, &running.limits, limits);
    all.note::<Networks>("limits.login.trusted", &running.trusted_logins, trusted_logins);
    compare_log(all, &running.log, log);
    for name in held.differing(holds) {
        all.note(name, "before", "now");
    }
    // A key set of the gateway's own and one that is configured are looked after in different ways.
    if running.files.keys.is_some() != wanted.files.keys.is_some() {
        all.at_once.retain(|name| name != "token.keys");
        all.at_restart.push("token.keys".into());
        files.keys.clone_from(&running.files.keys);
    }
    (changes, effective)
}

fn compare_server(all: &mut Changes, running: &Server, wanted: &mut Server) {
    let Server {
        https,
        http,
        state_dir,
        threads,
        trusted_proxies,
        forwarded_fields,
        proxy_protocol,
        half_close,
        fast_lane,
        stop: Stop { drain_delay, grace, upgrade_grace },
        watch,
    } = wanted;
    all.keep("server.https", &running.https, https);
    all.keep("server.http", &running.http, http);
    all.keep("server.state_dir", &running.state_dir, state_dir);
    all.keep("server.threads", &running.threads, threads);
    all.note("server.trusted_proxies", &running.trusted_proxies, trusted_proxies);
    all.note("server.forwarded_fields", &running.forwarded_fields, forwarded_fields);
    all.keep("server.proxy_protocol", &running.proxy_protocol, proxy_protocol);
    all.note("server.half_close", &running.half_close, half_close);
    all.keep("server.fast_lane", &running.fast_lane, fast_lane);
    all.keep("server.drain_delay", &running.stop.drain_delay, drain_delay);
    all.keep("server.grace", &running.stop.grace, grace);
    all.keep("server.upgrade_grace", &running.stop.upgrade_grace, upgrade_grace);
    all.note("server.watch", &running.watch, watch);
}

fn compare_platform(all: &mut Changes, running: &Platform, wanted: &Platform) {
    let Platform {
        pool,
        forward_token,
        forward_authorization,
        identity_fields: [user, email, organization],
        drop_fields,
        user_changes,
    } = wanted;
    let ServerPool {
        servers,
        verify,
        host,
        connect_timeout,
        read_timeout,
        write_timeout,
        idle_timeout,
        resolve_interval,
        ejection,
    } = pool;
    let before = &running.pool;
    all.note("platform.servers", &before.servers, servers);
    all.note("platform.verify", &before.verify, verify);
    all.note("platform.host", &before.host, host);
    all.note("platform.connect_timeout", &before.connect_timeout, connect_timeout);
    all.note("platform.read_timeout", &before.read_timeout, read_timeout);
    all.note("platform.write_timeout", &before.write_timeout, write_timeout);
    all.note("platform.idle_timeout", &before.idle_timeout, idle_timeout);
    all.note("platform.resolve_interval", &before.resolve_interval, resolve_interval);
    let on = |ejection: &Ejection| (ejection.on_timeouts, ejection.on_errors);
    all.note("platform.eject_after", &before.ejection.after, &ejection.after);
    all.note("platform.eject_on", &on(&before.ejection), &on(ejection));
    all.note("platform.forward_token", &running.forward_token, forward_token);
    all.note("platform.forward_authorization", &running.forward_authorization, forward_authorization);
    let [user_before, email_before, organization_before] = &running.identity_fields;
    all.note("platform.user_header", user_before, user);
    all.note("platform.email_header", email_before, email);
    all.note("platform.organization_header", organization_before, organization);
    all.note("platform.drop_headers", &running.drop_fields, drop_fields);
    all.note("platform.user_changes", &running.user_changes, user_changes);
}

fn compare_token(all: &mut Changes, running: &TokenRules, wanted: TokenRules) {
    let TokenRules { lifetime, max_lifetime, max_skew, max_bytes, unknown_users } = wanted;
    all.note("token.lifetime", &running.lifetime, &lifetime);
    all.note("token.max_lifetime", &running.max_lifetime, &max_lifetime);
    all.note("token.max_skew", &running.max_skew, &max_skew);
    all.note("token.max_bytes", &running.max_bytes, &max_bytes);
    all.note("token.unknown_users", &running.unknown_users, &unknown_users);
}

/// The paths; what is in the files is compared by [`Contents`].
fn compare_files(all: &mut Changes, running: &MaterialFiles, wanted: &MaterialFiles) {
    let MaterialFiles { keys, state_dir: _, server, platform, platforms, ldap } = wanted;
    all.note("token.keys", &running.keys, keys);
    all.note("server.certificate", &running.server.default, &server.default);
    all.note("server.certificates", &running.server.others, &server.others);
    all.note("platform.ca_file", &running.platform.ca, &platform.ca);
    all.note("platform.client_certificate", &running.platform.client, &platform.client);
    all.note("platforms", &running.platforms, platforms);
    all.note("users.ldap", &running.ldap, ldap);
}

fn compare_store(all: &mut Changes, running: &StoreSettings, wanted: &mut StoreSettings) {
    let StoreSettings { place, max_staleness, poll_interval, heartbeat_interval, upkeep_interval } = wanted;
    compare_place(all, &running.place, place);
    all.keep("store.max_staleness", &running.max_staleness, max_staleness);
    all.keep("store.poll_interval", &running.poll_interval, poll_interval);
    all.keep("store.heartbeat_interval", &running.heartbeat_interval, heartbeat_interval);
    all.keep("store.upkeep_interval", &running.upkeep_interval, upkeep_interval);
}

/// What was in the files of a PostgreSQL store is left out: they are read again for each connection.
fn compare_place(all: &mut Changes, running: &StorePlace, wanted: &mut StorePlace) {
    if let (StorePlace::Postgres(running), StorePlace::Postgres(wanted)) = (running, &mut *wanted) {
        wanted.loaded.clone_from(&running.loaded);
        all.keep("store.durability", &running.durability, &mut wanted.durability);
        all.keep("store.password_file", &running.files, &mut wanted.files);
    }
    all.keep("store.url", running, wanted);
}

fn compare_audit(all: &mut Changes, running: Audit, wanted: Audit) {
    let Audit { keep, max_bytes } = wanted;
    all.note("audit.keep", &running.keep, &keep);
    all.note("audit.max_bytes", &running.max_bytes, &max_bytes);
}

fn compare_limits(all: &mut Changes, running: &Limits, wanted: &mut Limits) {
    let Limits {
        header_bytes,
        header_fields,
        body_bytes,
        header_timeout,
        keepalive_timeout,
        body_timeout,
        body_min_rate,
        request_duration,
        upgraded_idle_timeout,
        // Follows from the durations.
        has_deadlines: _,
        handshake_timeout,
        write_timeout,
        connections,
        connections_per_address,
        requests,
        requests_per_connection,
        platform_connections,
        memory,
        login_workers,
        mint_rate,
        mint_burst,
        revocations_per_user,
    } = wanted;
    all.note("limits.header_bytes", &running.header_bytes, header_bytes);
    all.note("limits.header_fields", &running.header_fields, header_fields);
    all.note("limits.body_bytes", &running.body_bytes, body_bytes);
    all.note("limits.header_timeout", &running.header_timeout, header_timeout);
    all.note("limits.keepalive_timeout", &running.keepalive_timeout, keepalive_timeout);
    all.note("limits.body_timeout", &running.body_timeout, body_timeout);
    all.note("limits.body_min_rate", &running.body_min_rate, body_min_rate);
    all.note("limits.request_duration", &running.request_duration, request_duration);
    all.note("limits.upgraded_idle_timeout", &running.upgraded_idle_timeout, upgraded_idle_timeout);
    all.note("limits.handshake_timeout", &running.handshake_timeout, handshake_timeout);
    all.note("limits.write_timeout", &running.write_timeout, write_timeout);
    all.note("limits.connections", &running.connections, connections);
    all.note("limits.connections_per_address", &running.connections_per_address, connections_per_address);
    all.note("limits.requests", &running.requests, requests);
    all.note("limits.requests_per_connection", &running.requests_per_connection, requests_per_connection);
    all.note("limits.platform_connections", &running.platform_connections, platform_connections);
    all.note("limits.memory", &running.memory, memory);
    all.keep("limits.login_workers", &running.login_workers, login_workers);
    all.note("limits.mint_rate", &running.mint_rate, mint_rate);
    all.note("limits.mint_burst", &running.mint_burst, mint_burst);
    all.note("limits.revocations_per_user", &running.revocations_per_user, revocations_per_user);
}

fn compare_log(all: &mut Changes, running: &Log, wanted: &Log) {
    let Log { format, level, access, redact } = wanted;
    all.note("log.format", &running.format, format);
    all.note("log.level", &running.level, level);
    all.note("log.access", &running.access, access);
    all.note("log.redact", &running.redact, redact);
}

#[cfg(test)]
mod tests;
