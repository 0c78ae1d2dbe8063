//! Against a real PostgreSQL.

use std::path::Path;
use std::time::Instant;

use tokio::runtime::Runtime;

use super::*;
use crate::config::{Config, StorePlace};
use crate::store::postgres::test_server::{Setup, Stop, TestServer};

/// Not to be seen anywhere.
const CANARY: &str = "canary-7f3a";

/// A value in the database, which an error must not show; the driver logs statements, below what the gateway writes.
const VALUE: &str = "value-51c9";

/// What the driver and the store have logged.
static LOG: Log = Log(std::sync::Mutex::new(String::new()));

struct Log(std::sync::Mutex<String>);

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("tokio_postgres")
            || metadata.target().starts_with("ds_gateway::store::postgres")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push_str(&format!("{}\n", record.args()));
        }
    }

    fn flush(&self) {}
}

/// The settings of a URL, with libpq's variables and further lines of the section.
fn settings_with(url: &str, lines: &str, environment: &[(&str, &str)]) -> PostgresSettings {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = [\"http://127.0.0.1:9000\"]\n\
         [token]\nkeys = [{{ kid = \"k\", algorithm = \"HS256\", file = \"signing.key\" }}]\n[store]\nurl = {url:?}\n{lines}\n"
    );
    let variables = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let (config, _) = Config::parse(&text, TestServer::certificates(), variables);
    let (config, _) = config.unwrap_or_else(|errors| panic!("{url}: {errors:?}"));
    match config.store.place {
        StorePlace::Postgres(settings) => *settings,
        StorePlace::Sqlite(path) => panic!("{}", path.display()),
    }
}

pub(crate) fn settings(url: &str) -> PostgresSettings {
    settings_with(url, "", &[])
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Connects, and asks one question.
fn ask_with(settings: &PostgresSettings, sql: &str) -> Result<Vec<String>, StoreError> {
    runtime().block_on(async {
        let (client, mut driver) = connect(settings, Purpose::new("test")).await?;
        let asked = async {
            let rows = client.simple_query(sql).await?;
            let row = |row: &SimpleQueryMessage| match row {
                SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                _ => None,
            };
            Ok(rows.iter().filter_map(row).collect())
        };
        Ok(drive(&mut driver, settings.account(), asked).await?)
    })
}

fn ask(url: &str, sql: &str) -> Result<Vec<String>, StoreError> {
    ask_with(&settings(url), sql)
}

/// Makes a file that only its owner may read.
fn private(path: &Path, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A URL over TCP by the name `localhost`.
fn by_name(server: &TestServer, user: &str, parameters: &str) -> String {
    format!("postgres://{user}@localhost:{}/postgres?{parameters}", server.port())
}

#[test]
fn a_session_has_its_settings() {
    let server = TestServer::shared();
    let database = server.create_database();
    let shown = "SHOW application_name; SHOW statement_timeout; SHOW lock_timeout; SHOW idle_in_transaction_session_timeout; \
                 SHOW TimeZone; SHOW client_encoding; SHOW default_transaction_isolation; SHOW synchronous_commit; SHOW search_path; \
                 SHOW geqo; SELECT current_database()";
    let url = format!("{}&options=-c%20geqo%3Doff", server.url(&database));
    let expected = |application, commit| {
        [
            application,
            "30s",
            "5s",
            "10s",
            "UTC",
            "UTF8",
            "read committed",
            commit,
            "\"$user\", public",
            "off",
            &database,
        ]
    };
    assert_eq!(ask(&url, shown).unwrap(), expected("ds-gateway test", "on"));
    let url = format!("{url}&application_name=other");
    let remote = settings_with(&url, "durability = \"remote_apply\"", &[]);
    assert_eq!(ask_with(&remote, shown).unwrap(), expected("other test", "remote_apply"));
}

#[test]
fn each_way_to_give_a_password_works() {
    // Another test of this process may have a log already.
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    let setup = Setup::default()
        .hba("host all scram 127.0.0.1/32 scram-sha-256")
        .hba("local all scram scram-sha-256");
    let server = TestServer::with(setup);
    server.psql(&format!("CREATE ROLE scram LOGIN PASSWORD '{CANARY}'"));
    let folder = tempfile::tempdir().unwrap();
    let file = private(&folder.path().join("password"), &format!("{CANARY}\n"));
    let wrong = private(&folder.path().join("wrong"), "other\n");
    let line = format!("127.0.0.1:{}:postgres:scram:{CANARY}\n", server.port());
    let pass_file =
        private(&folder.path().join("passes"), &format!("# a comment\nelsewhere:*:*:*:x\n{line}"));
    private(&folder.path().join(".pgpass"), &format!("*:*:*:scram:{CANARY}\n"));
    let home = folder.path().to_str().unwrap();
    let url = server.url("postgres").replace("postgres@", "scram@");
    let (right, wrong) = (format!("password_file = {file:?}"), format!("password_file = {wrong:?}"));
    for (lines, environment, is_let_in) in [
        (right.as_str(), &[][..], true),
        (&right, &[("PGPASSWORD", "other")][..], true),
        (&wrong, &[("PGPASSWORD", CANARY)], false),
        ("", &[("PGPASSWORD", CANARY)], true),
        ("", &[("PGPASSWORD", "other"), ("HOME", home)], false),
        ("", &[("PGPASSFILE", &pass_file)], true),
        ("", &[("PGPASSFILE", "/nowhere"), ("HOME", home)], false),
        ("", &[("HOME", home)], true),
        ("", &[], false),
    ] {
        let settings = settings_with(&url, lines, environment);
        assert!(!format!("{settings:?}").contains(CANARY), "{settings:?}");
        let found = ask_with(&settings, "SELECT current_user");
        assert!(!format!("{found:?}").contains(CANARY), "{found:?}");
        match found {
            Ok(rows) => assert!(is_let_in && rows == ["scram"], "{lines} {environment:?} {rows:?}"),
            Err(error) => {
                assert!(
                    !is_let_in && matches!(error, StoreError::Refused(_)),
                    "{lines} {environment:?} {error}"
                );
            }
        }
    }
    // By the socket too.
    let unix = server.unix_url("postgres").replace("postgres@", "scram@");
    assert_eq!(ask_with(&settings_with(&unix, &right, &[]), "SELECT current_user").unwrap(), ["scram"]);
    assert!(!server.log().contains(CANARY), "the server's log");
    assert!(!LOG.0.lock().unwrap().contains(CANARY));
}

#[test]
fn a_new_password_in_the_file_counts_for_the_next_connection() {
    let server = TestServer::with(Setup::default().hba("host all scram 127.0.0.1/32 scram-sha-256"));
    server.psql("CREATE ROLE scram LOGIN PASSWORD 'old'");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let lines = format!("password_file = {:?}", private(&path, "old"));
    let settings = settings_with(&server.url("postgres").replace("postgres@", "scram@"), &lines, &[]);
    ask_with(&settings, "SELECT 1").unwrap();
    server.psql("ALTER ROLE scram PASSWORD 'new'");
    ask_with(&settings, "SELECT 1").unwrap_err();
    private(&path, "new");
    ask_with(&settings, "SELECT 1").unwrap();
    // While it is gone, what was read at first counts.
    std::fs::remove_file(&path).unwrap();
    server.psql("ALTER ROLE scram PASSWORD 'old'");
    ask_with(&settings, "SELECT 1").unwrap();
}

#[test]
fn the_account_of_the_operating_system_is_enough_for_peer() {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let server = TestServer::with(Setup::default().hba(format!("local all {user},stranger peer")));
    server.psql(&format!("CREATE ROLE \"{user}\" LOGIN; CREATE ROLE stranger LOGIN"));
    let url = |user: &str| server.unix_url("postgres").replace("postgres@", &format!("{user}@"));
    assert_eq!(ask(&url(&user), "SELECT current_user").unwrap(), [user]);
    let error = ask(&url("stranger"), "SELECT 1").unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
}

#[test]
fn each_mode_of_tls_accepts_the_servers_that_it_should() {
    let good = TestServer::shared();
    let elsewhere = TestServer::with(Setup { certificate: Some("elsewhere"), ..Setup::default() });
    let plain = TestServer::start();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    // The right name, another name, another CA, no TLS: `Some(true)` is a connection with TLS, `Some(false)` one without.
    for (mode, expected) in [
        ("", [Some(true), None, None, None]),
        ("sslmode=verify-full&", [Some(true), None, None, None]),
        ("sslmode=verify-ca&", [Some(true), Some(true), None, None]),
        ("sslmode=require&", [Some(true), Some(true), Some(true), None]),
        ("sslmode=prefer&", [Some(true), Some(true), Some(true), Some(false)]),
        ("sslmode=disable&", [Some(false), Some(false), Some(false), Some(false)]),
    ] {
        let verifies = mode.is_empty() || mode.contains("verify");
        let ca = |name: &str| {
            if verifies { format!("{mode}sslrootcert={name}.pem") } else { mode.trim_end_matches('&').into() }
        };
        let urls = [
            by_name(good, "postgres", &ca("ca")),
            by_name(&elsewhere, "postgres", &ca("ca")),
            by_name(good, "postgres", &ca("other")),
            by_name(&plain, "postgres", &ca("ca")),
        ];
        for (url, expected) in urls.iter().zip(expected) {
            match (ask(url, encrypted), expected) {
                (Ok(rows), Some(expected)) => assert_eq!(rows, [if expected { "t" } else { "f" }], "{url}"),
                (Err(error), None) => assert!(matches!(error, StoreError::NoTls(_)), "{url} {error}"),
                (found, _) => panic!("{url} {found:?}"),
            }
        }
    }
    // An address in the certificate is as good as a name, and the system's CAs do not know the test's.
    ask(&by_name(good, "postgres", "sslrootcert=ca.pem").replace("localhost", "127.0.0.1"), "SELECT 1")
        .unwrap();
    let error = ask(&by_name(good, "postgres", ""), "SELECT 1").unwrap_err();
    assert!(error.to_string().contains("certificate is not accepted"), "{error}");
}

#[test]
fn a_client_certificate_is_shown() {
    let server = TestServer::with(Setup::tls().hba("hostssl all gateway,other 127.0.0.1/32 cert"));
    server.psql("CREATE ROLE gateway LOGIN; CREATE ROLE other LOGIN");
    let with = "sslrootcert=ca.pem&sslcert=gateway.pem&sslkey=gateway.key";
    assert_eq!(ask(&by_name(&server, "gateway", with), "SELECT current_user").unwrap(), ["gateway"]);
    let settings = settings(&by_name(&server, "gateway", with));
    // It ends in two hours.
    let warnings = StorePlace::Postgres(Box::new(settings)).warnings(crate::clock::wall());
    assert!(
        matches!(&warnings[..], [only] if only == "store.url: sslcert expires within a day"),
        "{warnings:?}"
    );
    for (user, parameters) in [("other", with), ("gateway", "sslrootcert=ca.pem")] {
        let error = ask(&by_name(&server, user, parameters), "SELECT 1").unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{user} {error}");
    }
}

#[test]
fn a_password_is_bound_to_the_certificate_of_the_server() {
    let server = TestServer::with(Setup::tls().hba("hostssl all scram 127.0.0.1/32 scram-sha-256"));
    server.psql(&format!("CREATE ROLE scram LOGIN PASSWORD '{CANARY}'"));
    let url = by_name(&server, "scram", "sslrootcert=ca.pem");
    assert_eq!(ask_with(&settings_with(&url, "", &[("PGPASSWORD", CANARY)]), "SELECT 1").unwrap(), ["1"]);
}

#[test]
fn a_host_that_is_down_is_passed_over() {
    let mut down = TestServer::start();
    down.stop(Stop::Fast);
    let up = TestServer::shared();
    let port = down.port();
    let hosts = |second: u16| {
        format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{second}/postgres?sslmode=disable", port)
    };
    assert_eq!(ask(&hosts(up.port()), "SHOW port").unwrap(), [up.port().to_string()]);
    let error = ask(&hosts(1), "SELECT 1").unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{}: ", down.port())), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1: "), "{error}");
    let error = ask("postgres://postgres@no-such-host.invalid/postgres", "SELECT 1").unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    down.start_again();
    assert_eq!(ask(&hosts(up.port()), "SHOW port").unwrap(), [down.port().to_string()]);
}

#[test]
fn a_standby_is_passed_over() {
    let primary = TestServer::start();
    let standby = primary.replica();
    let url = |first: &TestServer, second: &TestServer, target: &str| {
        format!(
            "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable{target}",
            first.port(),
            second.port()
        )
    };
    let port = |url: &str| ask(url, "SHOW port").unwrap().concat();
    assert_eq!(
        port(&url(&standby, &primary, "&target_session_attrs=read-write")),
        primary.port().to_string()
    );
    assert_eq!(port(&url(&standby, &primary, "")), primary.port().to_string());
    let error = ask(&standby.url("postgres"), "SELECT 1").unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("standby")), "{error}");

    primary.psql("CREATE TABLE seen ()");
    primary.wait_for(&standby);
    let url = url(&primary, &standby, "");
    drop(primary);
    standby.promote();
    assert_eq!(ask(&url, "SELECT count(*) FROM seen").unwrap(), ["0"]);
}

#[test]
fn a_paused_server_is_given_up_in_time() {
    let server = TestServer::start();
    let url = format!("{}&connect_timeout=1", server.url("postgres"));
    server.pause();
    let begin = Instant::now();
    let error = ask(&url, "SELECT 1").unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    // One second, and what a busy machine adds.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    server.resume();
    assert_eq!(ask(&url, "SELECT 1").unwrap(), ["1"]);
}

#[test]
fn a_server_says_why_it_cannot_be_used() {
    let mut server = TestServer::with(
        Setup::default()
            .set("max_connections", "4")
            .set("superuser_reserved_connections", "1")
            .set("max_wal_senders", "0"),
    );
    server.psql("CREATE ROLE ann LOGIN; CREATE TABLE users (name text PRIMARY KEY)");
    let as_ann = server.url("postgres").replace("postgres@", "ann@");
    let error = ask(&as_ann, "SELECT * FROM users").unwrap_err();
    assert!(matches!(&error, StoreError::Refused(text) if text.contains("GRANT")), "{error}");
    let error = ask(&server.url("nowhere"), "SELECT 1").unwrap_err();
    assert!(
        matches!(&error, StoreError::Refused(text) if text.contains("CREATE DATABASE \"nowhere\"")),
        "{error}"
    );
    let twice = format!("INSERT INTO users VALUES ('{VALUE}'), ('{VALUE}')");
    let error = ask(&server.url("postgres"), &twice).unwrap_err();
    assert!(matches!(&error, StoreError::Failed(text) if text.contains("users_pkey")), "{error}");
    assert!(!format!("{error:?}").contains(VALUE), "{error:?}");
    let timed_out =
        ask(&server.url("postgres"), "SET statement_timeout = 10; SELECT pg_sleep(60)").unwrap_err();
    assert_eq!(timed_out, StoreError::TimedOut);

    runtime().block_on(async {
        let settings = settings(&as_ann);
        let mut held = Vec::new();
        let error = loop {
            match connect(&settings, Purpose::new("test")).await {
                Ok(connected) => held.push(connected),
                Err(error) => break error,
            }
            assert!(held.len() < 5);
        };
        assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("53300")), "{error}");
        // The session is ended by the server.
        server.stop(Stop::Fast);
        let (client, mut driver) = held.pop().unwrap();
        let asked = async { client.simple_query("SELECT 1").await };
        let error = StoreError::from(drive(&mut driver, settings.account(), asked).await.unwrap_err());
        assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("57P01")), "{error}");
    });
    server.start_again();
    server.kill();
    let error = ask(&as_ann, "SELECT 1").unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    // It recovers from a crash.
    server.start_again();
    assert_eq!(ask(&server.url("postgres"), "SELECT count(*) FROM users").unwrap(), ["0"]);
}
