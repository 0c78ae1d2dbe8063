use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::*;
use crate::config::{Config, ConfigError, StorePlace};

/// Not to be seen anywhere.
const CANARY: &str = "canary-7f3a";

fn read(url: &str, lines: &str, base: &Path, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = [\"http://127.0.0.1:9000\"]\n\
         [token]\nkeys = [{{ kid = \"k\", algorithm = \"HS256\", file = {:?} }}]\n[store]\nurl = {url:?}\n{lines}\n",
        key_file()
    );
    let variables = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let (config, _) = Config::parse(&text, base, variables);
    config.map(|(config, _)| config).map_err(|errors| errors.iter().map(ConfigError::to_string).collect())
}

/// A key, which such a store asks for.
fn key_file() -> &'static Path {
    static FILE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signing.key");
        std::fs::write(&file, (b'0'..b'0' + 48).collect::<Vec<u8>>()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        (folder, file)
    });
    &FILE.1
}

#[test]
fn a_store_for_several_gateways_needs_keys_that_all_of_them_have() {
    let text = "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = [\"http://127.0.0.1:9000\"]\n\
                [store]\nurl = \"postgres://ann@db/ds\"\n";
    let (config, _) = Config::parse(text, Path::new("/nowhere"), std::iter::empty());
    let errors: Vec<String> = config.unwrap_err().iter().map(ConfigError::to_string).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("token.keys: is needed with a store in PostgreSQL"), "{errors:?}");
}

fn settings(url: &str) -> PostgresSettings {
    let config =
        read(url, "", Path::new("/nowhere"), &[]).unwrap_or_else(|errors| panic!("{url}: {errors:?}"));
    match config.store.place {
        StorePlace::Postgres(settings) => *settings,
        StorePlace::Sqlite(path) => panic!("{}", path.display()),
    }
}

fn errors(url: &str) -> Vec<String> {
    read(url, "", Path::new("/nowhere"), &[]).map(|_| ()).expect_err(url)
}

#[test]
fn a_url_has_hosts_names_and_defaults() {
    let tcp = |host: &str, port| PostgresHost::Tcp { host: host.into(), port };
    let unix = PostgresHost::Unix { folder: "/run/postgresql".into(), port: 5432 };
    for (url, hosts, user, database) in [
        ("postgres://ann@db/ds", vec![tcp("db", 5432)], "ann", "ds"),
        ("postgresql://ann@db:1/ds", vec![tcp("db", 1)], "ann", "ds"),
        (
            "postgres://a@x:1,y,[::1]:3,192.0.2.1/d",
            vec![tcp("x", 1), tcp("y", 5432), tcp("::1", 3), tcp("192.0.2.1", 5432)],
            "a",
            "d",
        ),
        ("postgres://a%40b@%2Frun%2Fpostgresql/d%2Fs", vec![unix.clone()], "a@b", "d/s"),
        ("postgres://a@%2Frun%2Fpostgresql:5432,db/d", vec![unix, tcp("db", 5432)], "a", "d"),
    ] {
        let settings = settings(url);
        assert_eq!(
            (settings.hosts, settings.user.as_str(), settings.database.as_str()),
            (hosts, user, database),
            "{url}"
        );
        assert_eq!(settings.tls, PostgresTls::VerifyFull, "{url}");
        assert_eq!(
            (settings.connect_timeout, settings.durability),
            (Duration::from_secs(5), Durability::Local),
            "{url}"
        );
        assert_eq!((settings.application_name.as_str(), settings.options), ("ds-gateway", None), "{url}");
    }
    let settings = settings(
        "postgres://a@h/d?sslmode=require&connect_timeout=9&application_name=a+b&options=-c%20x%3Dy&target_session_attrs=read-write",
    );
    assert_eq!(settings.tls, PostgresTls::Require);
    assert_eq!(settings.connect_timeout, Duration::from_secs(9));
    assert_eq!((settings.application_name.as_str(), settings.options.as_deref()), ("a+b", Some("-c x=y")));
}

#[test]
fn each_error_of_a_url_is_named() {
    for (url, expected) in [
        ("postgres://db/ds", "names no user"),
        ("postgres://ann@db", "names no database"),
        ("postgres://ann@/ds", "names no host"),
        ("postgres://ann@db:0/ds", "no usable port"),
        ("postgres://ann@db:x/ds", "no usable port"),
        ("postgres://ann@::1/ds", "in brackets"),
        ("postgres://ann@[x]/ds", "not an IPv6 address"),
        ("postgres://ann@d%20b/ds", "neither a DNS name"),
        ("postgres://ann@db,db:5432/ds", "db:5432 twice"),
        ("postgres://ann@%ff/ds", "not UTF-8"),
        ("postgres://ann@db/ds?sslmod=require", "did you mean \"sslmode\"?"),
        ("postgres://ann@db/ds?gssencmode=x", "unknown parameter \"gssencmode\""),
        ("postgres://ann@db/ds?host=%2Frun", "before the \"?\""),
        ("postgres://ann@db/ds?sslmode", "has no value"),
        ("postgres://ann@db/ds?sslmode=allow", "sslmode must be"),
        ("postgres://ann@db/ds?sslmode=disable&sslmode=require", "\"sslmode\" twice"),
        ("postgres://ann@db/ds?sslmode=require&sslrootcert=ca.pem", "sslrootcert is used only with"),
        ("postgres://ann@db/ds?sslrootcert=absent.pem", "sslrootcert: /nowhere/absent.pem cannot be read"),
        ("postgres://ann@db/ds?sslcert=absent.pem", "sslcert and sslkey go together"),
        ("postgres://ann@db/ds?sslcert=absent.pem&sslkey=k", "sslcert: /nowhere/absent.pem cannot be read"),
        ("postgres://ann@%2Frun/ds?sslmode=require", "no effect over a Unix socket"),
        ("postgres://ann@db/ds?target_session_attrs=any", "target_session_attrs must be"),
        ("postgres://ann@db/ds?target_session_attrs=read-only", "target_session_attrs must be"),
        ("postgres://ann@db/ds?connect_timeout=0", "connect_timeout must be"),
        ("postgres://ann@db/ds?connect_timeout=5s", "connect_timeout must be"),
        ("postgres://ann@db/ds?application_name=", "application_name must have"),
    ] {
        let found = errors(url);
        let is_named = |error: &String| error.starts_with("store.url: ") && error.contains(expected);
        assert!(found.iter().any(is_named), "{url} {found:#?}");
    }
    let all = errors("postgres://db:x,e:0/?sslmode=x&connect_timeout=x&colour=x");
    assert_eq!(all.len(), 5, "{all:#?}");
}

#[test]
fn a_password_in_the_url_is_refused_and_shown_nowhere() {
    for url in [
        "postgres://ann:SECRET@db/ds",
        "postgres://ann:SECRET@db:x/ds?nothing",
        "postgres://ann:a/SECRET@db/ds",
        "postgres://ann:a?SECRET@db/ds",
        "postgres://ann:a?SECRET=SECRET@db/ds",
        "postgres://ann:a@SECRET@db/ds",
        "postgres://ann:a#SECRET@db/ds",
        "postgres://ann:%zzSECRET@db/ds",
        "postgres://ann@db/ds?password=SECRET",
        "postgres://ann@db/ds?sslpassword=SECRET",
    ] {
        let found = errors(&url.replace("SECRET", CANARY));
        let is_refused = |error: &String| {
            error.contains("must not contain a password") && error.contains("store.password_file")
        };
        assert!(found.iter().any(is_refused), "{url} {found:?}");
        assert!(!format!("{found:?}").contains(CANARY), "{found:?}");
        let overridden = [("DS_GATEWAY__STORE__URL", url.replace("SECRET", CANARY))];
        let variables: Vec<_> = overridden.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let found = read("sqlite:x.db", "", Path::new("/nowhere"), &variables).unwrap_err();
        assert!(found.iter().any(is_refused) && !format!("{found:?}").contains(CANARY), "{found:?}");
    }
}

#[test]
fn a_password_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let line = "password_file = \"password\"";
    let read = || read("postgres://ann@db/ds", line, folder.path(), &[]);
    assert!(read().unwrap_err().concat().starts_with("store.password_file: the password is in"));
    for (text, mode, expected) in
        [(CANARY, 0o600, None), (CANARY, 0o644, Some("chmod 600")), ("\n", 0o600, Some("is empty"))]
    {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let found = read().map(|config| format!("{config:?}")).map_err(|errors| errors.concat());
        assert!(!format!("{found:?}").contains(CANARY), "{found:?}");
        match (found, expected) {
            (Ok(_), None) => {}
            (Err(text), Some(expected)) => assert!(text.contains(expected), "{text}"),
            (found, _) => panic!("{mode:o} {found:?}"),
        }
    }
}

#[test]
fn a_file_of_passwords_that_others_may_read_is_ignored_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passes");
    std::fs::write(&path, format!("*:*:*:*:{CANARY}\n")).unwrap();
    for (mode, is_used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let variables = [("PGPASSFILE", path.to_str().unwrap())];
        let config = read("postgres://ann@db/ds", "", folder.path(), &variables).unwrap();
        assert_eq!(config.warnings().is_empty(), is_used, "{:?}", config.warnings());
        assert!(is_used || config.warnings().concat().contains("chmod 600"), "{:?}", config.warnings());
        assert!(!format!("{config:?}").contains(CANARY));
        let StorePlace::Postgres(settings) = &config.store.place else { panic!("{mode:o}") };
        let password = settings.loaded.password(&settings.hosts[0], &settings.database, &settings.user);
        assert_eq!(password.is_some(), is_used, "{mode:o}");
    }
}

#[test]
fn each_mode_that_can_be_impersonated_is_warned_of() {
    for (host, is_remote) in [
        ("db", true),
        ("192.0.2.1", true),
        ("127.0.0.1", false),
        ("[::1]", false),
        ("localhost", false),
        ("%2Frun,db", true),
        ("localhost,db", true),
    ] {
        for mode in ["verify-full", "verify-ca", "require", "prefer", "disable"] {
            let url = format!("postgres://ann@{host}/ds?sslmode={mode}");
            let warnings = read(&url, "", Path::new("/nowhere"), &[]).unwrap().warnings();
            assert_eq!(warnings.len(), usize::from(is_remote && mode != "verify-full"), "{url} {warnings:?}");
            assert!(warnings.iter().all(|text| text.contains(mode)), "{warnings:?}");
        }
    }
}

#[test]
fn what_belongs_to_postgresql_is_refused_with_sqlite() {
    for (line, key) in [("password_file = \"x\"", "password_file"), ("durability = \"local\"", "durability")]
    {
        let found = read("sqlite:x.db", line, Path::new("/nowhere"), &[]).unwrap_err();
        assert!(found.len() == 1 && found[0].starts_with(&format!("store.{key}: ")), "{found:?}");
    }
    let found =
        read("postgres://ann@db/ds", "durability = \"none\"", Path::new("/nowhere"), &[]).unwrap_err();
    assert!(found.concat().starts_with("store.durability: invalid value"), "{found:?}");
}
