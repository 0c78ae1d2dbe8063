use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::config::{Loaded, Materials, PREFIX};

const RUNNING: &str = r#"
[server]
http = ["127.0.0.1:0"]
state_dir = "state"
[platform]
servers = ["http://127.0.0.1:9000"]
[[platforms]]
prefix = "/ui"
servers = ["http://127.0.0.1:9001"]
[limits]
connections = 100
platform_connections = 300
[cors]
origins = ["https://a.example"]
[routes]
mode = "observe"
observe_until = "2026-12-20"
[users]
sources = ["store", "ldap", "platform"]
[users.ldap]
servers = ["ldaps://a.example"]
preset = "openldap"
bind_dn = "cn=gateway,dc=x"
bind_password_file = "password"
base = "dc=x"
organization = "Main Org."
[token]
keys = [{ kid = "a", algorithm = "HS256", file = "a.key" }, { kid = "b", algorithm = "HS256", file = "b.key" }]
"#;

/// Every setting with another value than it has above, or by default; the part of the text that stands for it where it is not a key of its own.
const OTHER: [(&str, &str); 75] = [
    ("admin.listen", "127.0.0.1:1"),
    ("audit.keep", "1d"),
    ("audit.max_bytes", "99999999"),
    ("cache.bytes", "99999999"),
    ("cache.entries", "7"),
    ("cors.headers", "[\"x-page\"]"),
    ("cors.max_age", "1s"),
    ("cors.methods", "[\"GET\"]"),
    ("cors.origins", "[\"https://b.example\"]"),
    ("limits.body_bytes", "7"),
    ("limits.body_min_rate", "7"),
    ("limits.body_timeout", "7s"),
    ("limits.connections", "77"),
    ("limits.connections_per_address", "7"),
    ("limits.handshake_timeout", "7s"),
    ("limits.header_bytes", "8192"),
    ("limits.header_fields", "77"),
    ("limits.header_timeout", "7s"),
    ("limits.keepalive_timeout", "7s"),
    ("limits.login.trusted", "[\"10.0.0.1\"]"),
    ("limits.login_workers", "17"),
    ("limits.memory", "777777777"),
    ("limits.mint_burst", "7"),
    ("limits.mint_rate", "7"),
    ("limits.platform_connections", "777"),
    ("limits.request_duration", "7s"),
    ("limits.requests", "777"),
    ("limits.requests_per_connection", "7"),
    ("limits.revocations_per_user", "7777"),
    ("limits.upgraded_idle_timeout", "7s"),
    ("limits.write_timeout", "7s"),
    ("log.access", "false"),
    ("log.format", "text"),
    ("log.level", "error"),
    ("log.redact", "[\"ticket\"]"),
    ("platform.connect_timeout", "7s"),
    ("platform.drop_headers", "[\"x-role\"]"),
    ("platform.eject_after", "7"),
    ("platform.eject_on", "[\"5xx\"]"),
    ("platform.email_header", "X-Mail"),
    ("platform.forward_authorization", "true"),
    ("platform.forward_token", "false"),
    ("platform.host", "server"),
    ("platform.idle_timeout", "7s"),
    ("platform.organization_header", "X-Org"),
    ("platform.read_timeout", "7s"),
    ("platform.resolve_interval", "7s"),
    ("platform.servers", "[\"http://127.0.0.1:7\"]"),
    ("platform.user_changes", "[{ path = \"/x/{email}\", ends = \"{email}\" }]"),
    ("platform.user_header", "X-Who"),
    ("platform.write_timeout", "7s"),
    ("routes.enforce", "[\"/x\"]"),
    ("routes.lenient", "[\"/x/*\"]"),
    ("routes.observe_until", "2026-12-21"),
    ("routes.public", "[\"/x\"]"),
    ("routes.request_duration", "[{ path = \"/x\", limit = \"7s\" }]"),
    ("routes.strict_paths", "true"),
    ("routes.upgrades", "[\"/x\"]"),
    ("server.drain_delay", "7s"),
    ("server.fast_lane", "false"),
    ("server.forwarded_fields", "forwarded"),
    ("server.grace", "7s"),
    ("server.half_close", "true"),
    ("server.http", "[\"127.0.0.1:7\"]"),
    ("server.https", "[\"127.0.0.1:7\"]"),
    ("server.threads", "77"),
    ("server.trusted_proxies", "[\"10.0.0.1\"]"),
    ("server.upgrade_grace", "7s"),
    ("server.watch", "true"),
    ("token.inspect_auth", "token"),
    ("token.lifetime", "7h"),
    ("token.max_bytes", "777"),
    ("token.max_lifetime", "77h"),
    ("token.max_skew", "7s"),
    ("token.unknown_users", "accept"),
];

/// A key, the variables, and the settings that differ then.
type Together = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

/// Those that are about other settings, or cannot have another value without them; what is to be added to the text, and the setting whose name stands for it.
const TOGETHER: [Together; 9] = [
    // The store is in it.
    ("server.state_dir", &[("SERVER__STATE_DIR", "other")], &["server.state_dir", "store.url"]),
    ("routes.mode", &[("ROUTES__MODE", "enforce")], &["routes.mode"]),
    ("store.url", &[("STORE__URL", "postgres://g@localhost/g?sslmode=disable")], &["store.url"]),
    ("store.max_staleness", &[("STORE__MAX_STALENESS", "77s")], &["store.max_staleness"]),
    ("store.poll_interval", &[("STORE__POLL_INTERVAL", "77ms")], &["store.poll_interval"]),
    ("store.heartbeat_interval", &[("STORE__HEARTBEAT_INTERVAL", "7s")], &["store.heartbeat_interval"]),
    ("store.upkeep_interval", &[("STORE__UPKEEP_INTERVAL", "7s")], &["store.upkeep_interval"]),
    (
        "server.proxy_protocol",
        &[("SERVER__PROXY_PROTOCOL", "127.0.0.1:0"), ("SERVER__TRUSTED_PROXIES", "10.0.0.1")],
        &["server.proxy_protocol", "server.trusted_proxies"],
    ),
    ("users.sources", &[("USERS__SOURCES", "ldap,store,platform")], &["users.sources"]),
];

/// Settings that name files or are about TLS and PostgreSQL: [`files_are_compared_by_what_is_in_them`], and `tests/it/reload_settings.rs`.
const ELSEWHERE: [&str; 11] = [
    "platform.ca_file",
    "platform.client_certificate",
    "platform.client_key",
    "platform.server_name",
    "platform.verify",
    "server.certificate",
    "server.certificates",
    "server.private_key",
    "store.durability",
    "store.password_file",
    "token.keys",
];

/// Sections that count as one setting, and are compared as one.
const SECTIONS: [&str; 3] = ["cors", "users.ldap", "users.platform"];

/// What a gateway has for as long as it runs, as `docs/configuration.md` lists it.
fn documented() -> BTreeSet<String> {
    let paper = include_str!("../../../docs/configuration.md");
    let (_, rest) = paper.split_once("## What takes a restart\n").expect("a section on restarts");
    let is_entry = |line: &&str| line.starts_with("- ");
    let list = rest.lines().skip_while(|line| !is_entry(line)).take_while(is_entry);
    list.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "password", "of the directory");
    write(&folder, "a.key", "a secret of the tests, long enough: a");
    write(&folder, "b.key", "a secret of the tests, long enough: b");
    folder
}

fn write(folder: &tempfile::TempDir, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn load(folder: &Path, variables: &[(&str, &str)]) -> (Loaded, Vec<String>) {
    load_text(RUNNING, folder, variables)
}

fn load_text(text: &str, folder: &Path, variables: &[(&str, &str)]) -> (Loaded, Vec<String>) {
    let variables = variables.iter().map(|&(name, value)| (format!("{PREFIX}{name}"), value.to_owned()));
    let (loaded, asked) = Config::parse(text, folder, variables);
    (loaded.unwrap_or_else(|errors| panic!("{errors:?}")), asked)
}

fn between(running: &Loaded, wanted: &Loaded) -> (Changes, Config) {
    let of = |materials: &Materials| Contents::of(materials);
    compare((&running.0, &of(&running.1)), (&wanted.0, &of(&wanted.1)))
}

#[test]
fn every_setting_is_applied_at_once_or_named_as_taking_a_restart() {
    let folder = folder();
    let (running, asked) = load(folder.path(), &[]);
    let restart = documented();
    let (none, same) = between(&running, &load(folder.path(), &[]).0);
    assert!(none.is_empty() && format!("{same:?}") == format!("{:?}", running.0), "{none:?}");

    let mut seen: BTreeSet<String> = ELSEWHERE.into_iter().map(str::to_owned).collect();
    let mut check = |key: &str, variables: &[(&str, &str)], names: &[&str]| {
        let (wanted, _) = load(folder.path(), variables);
        let (changes, effective) = between(&running, &wanted);
        let (late, soon): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| restart.contains(**name));
        assert_eq!(
            changes,
            Changes {
                at_once: soon.iter().map(|name| (*name).to_owned()).collect(),
                at_restart: late.iter().map(|name| (*name).to_owned()).collect(),
            },
            "{key}"
        );
        // What takes a restart stays as it is; what does not is as wanted.
        let expected = if soon.is_empty() { &running.0 } else { &wanted.0 };
        assert!(
            !late.is_empty() && !soon.is_empty() || format!("{effective:?}") == format!("{expected:?}"),
            "{key}"
        );
        seen.insert(key.to_owned());
    };
    for (key, value) in OTHER {
        let name = key.to_ascii_uppercase().replace('.', "__");
        let stands =
            SECTIONS.into_iter().find(|section| key.starts_with(&format!("{section}."))).unwrap_or(key);
        let stands =
            if matches!(key, "routes.enforce" | "routes.observe_until") { "routes.mode" } else { stands };
        check(key, &[(name.as_str(), value)], &[stands]);
    }
    for (key, variables, names) in TOGETHER {
        check(key, variables, names);
    }
    check("users.ldap", &[("USERS__LDAP__MAX_LOGINS", "7")], &["users.ldap"]);
    check("users.platform", &[("USERS__PLATFORM__TIMEOUT", "7s")], &["users.platform"]);
    let (other, _) = load_text(&RUNNING.replace("9001", "9002"), folder.path(), &[]);
    assert_eq!(between(&running, &other).0.at_once, ["platforms"]);
    let forgotten = asked.iter().filter(|key| {
        !seen.contains(*key)
            && !key.starts_with("platforms[")
            && !seen
                .iter()
                .any(|known| SECTIONS.contains(&known.as_str()) && key.starts_with(&format!("{known}.")))
    });
    assert_eq!(forgotten.collect::<Vec<_>>(), Vec::<&String>::new(), "settings that no test changes");
    assert_eq!(restart.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "no such settings");
}

#[test]
fn files_are_compared_by_what_is_in_them() {
    let folder = folder();
    let (running, _) = load(folder.path(), &[]);
    let names = |wanted: &Loaded| between(&running, wanted).0.at_once;
    write(&folder, "b.key", "a secret of the tests, long enough: c");
    let (wanted, _) = load(folder.path(), &[]);
    assert_eq!(names(&wanted), ["token.keys"]);
    write(&folder, "b.key", "a secret of the tests, long enough: b\n");
    write(&folder, "password", "another one");
    assert_eq!(names(&load(folder.path(), &[]).0), ["users.ldap"]);
    // Its digest would tell a guess from a password.
    let hash = |(config, materials): &Loaded| Contents::of(materials).hash_with(config).to_string();
    assert_eq!(hash(&load(folder.path(), &[]).0), hash(&running));
    assert_ne!(hash(&wanted), hash(&running));
    let other = load(folder.path(), &[("LOG__ACCESS", "false")]).0;
    assert_ne!(hash(&other), hash(&running));
    // The same keys under another path are the same configuration.
    let elsewhere = self::folder();
    std::fs::rename(elsewhere.path().join("b.key"), elsewhere.path().join("moved.key")).unwrap();
    let keys = r#"[{ kid = "a", algorithm = "HS256", file = "a.key" }, { kid = "b", algorithm = "HS256", file = "moved.key" }]"#;
    let moved = load(elsewhere.path(), &[("TOKEN__KEYS", keys)]).0;
    assert!(names(&moved).contains(&"token.keys".to_owned()));
}
