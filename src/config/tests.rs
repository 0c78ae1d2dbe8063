use super::*;
use std::time::Duration;

const MINIMAL: &str = r#"
[server]
http = ["127.0.0.1:0"]
state_dir = "state"
[platform]
servers = ["http://127.0.0.1:9000"]
"#;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let variables = environment.iter().map(|&(name, value)| (name.into(), value.into()));
    let (config, _) = Config::parse(text, Path::new("/etc/ds-gateway"), variables);
    config.map(|(config, _)| config).map_err(|errors| errors.iter().map(ConfigError::to_string).collect())
}

fn errors(text: &str) -> Vec<String> {
    parse(text, &[]).map(|_| ()).expect_err(text)
}

#[test]
fn a_minimal_configuration_has_every_default() {
    let config = parse(MINIMAL, &[]).unwrap();
    assert_eq!(config.server.state_dir, Path::new("/etc/ds-gateway/state"));
    assert_eq!(config.store.place.file(), Some(Path::new("/etc/ds-gateway/state/gateway.db")));
    assert_eq!(config.admin, ["127.0.0.1:9464".parse().unwrap()]);
    assert_eq!(servers(&config), ["127.0.0.1:9000"]);
    let pool = &config.platform.pool;
    assert_eq!((&pool.host, pool.servers[0].host.as_str()), (&HostField::Keep, "127.0.0.1:9000"));
    let after = std::num::NonZeroU32::new(3);
    assert_eq!(pool.ejection, Ejection { after, on_timeouts: false, on_errors: false });
    assert_eq!((config.token.lifetime, config.token.max_lifetime), (86_400, 90_000));
    assert!(config.platform.forward_token && !config.platform.forward_authorization);
    assert!(config.routes.public.is_empty());
    assert_eq!(config.limits.body_bytes, None);
    assert!(config.warnings().is_empty());
}

#[test]
fn every_error_is_found_in_one_pass() {
    let found = errors(
        r#"
        typo = 1
        [server]
        https = "0.0.0.0:8443"
        threads = 0
        colour = "blue"
        [platform]
        servers = ["ftp://x", "http://host/path", "127.0.0.1:9000"]
        read_timeout = "soon"
        ca_file = "/nowhere.pem"
        [token]
        lifetime = "48h"
        keys = [{ kid = "k", algorithm = "RS256", file = "k" }]
        [routes]
        public = ["/a*", "/ds-api/user-token/x"]
        [store]
        url = "redis://x"
        max_staleness = "1s"
        [limits]
        header_bytes = 1
        [log]
        level = "debug"
        [extra]
        "#,
    );
    for expected in [
        "server.https: invalid value",
        "server.threads: must be",
        "server.colour: unknown key",
        "server.state_dir: is required",
        "platform.servers: \"ftp://x\" must begin with",
        "platform.servers: \"http://host/path\" must have no path",
        "platform.servers: \"127.0.0.1:9000\"",
        "platform.read_timeout: invalid value",
        "platform.ca_file: applies to https servers only",
        "token.max_lifetime: is shorter",
        "token.keys: the key \"k\" has an unknown algorithm",
        "routes.public: \"/a*\"",
        "routes.public: \"/ds-api/user-token/x\" is the gateway's own",
        "store.url: must be",
        "store.max_staleness: must be",
        "limits.header_bytes: must be",
        "log.level: must be",
        "typo: unknown section",
        "extra: unknown section",
    ] {
        let hits = found.iter().filter(|error| error.starts_with(expected)).count();
        assert_eq!(hits, 1, "{expected}\n{found:#?}");
    }
    assert_eq!(found.len(), 19, "{found:#?}");
}

#[test]
fn the_environment_overrides_and_is_held_to_the_same_rules() {
    let config = parse(
        MINIMAL,
        &[
            ("DS_GATEWAY__PLATFORM__SERVERS", "http://a:1, http://b:2"),
            ("DS_GATEWAY__PLATFORM__FORWARD_TOKEN", "false"),
            ("DS_GATEWAY__TOKEN__LIFETIME", "1h"),
            ("DS_GATEWAY__ROUTES__PUBLIC", r#"["/x", { path = "/y", methods = ["OPTIONS"] }]"#),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(servers(&config), ["a:1", "b:2"]);
    assert!(!config.platform.forward_token);
    assert_eq!(config.token.lifetime, 3600);
    assert_eq!(config.routes.public.len(), 2);

    let found = parse(MINIMAL, &[("DS_GATEWAY__PLATFORM__SERVER", "x")]).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("DS_GATEWAY__PLATFORM__SERVER: "), "{found:?}");
}

fn servers(config: &Config) -> Vec<&str> {
    config.platform.pool.servers.iter().map(|server| server.name.as_str()).collect()
}

/// The names that certificates must have, of the list `servers` and the lines after it.
fn tls_names(list: &str, rest: &str) -> Result<Vec<Option<String>>, Vec<String>> {
    let text = MINIMAL.replace("[\"http://127.0.0.1:9000\"]", &format!("{list}\n{rest}"));
    let names =
        |config: Config| config.platform.pool.servers.into_iter().map(|server| server.tls_name).collect();
    parse(&text, &[]).map(names)
}

#[test]
fn each_https_server_has_a_name_to_check() {
    for (list, rest, expected) in [
        (r#"["https://p.example"]"#, "", vec![Some("p.example")]),
        (
            r#"["https://a.example", "https://b.example:8443"]"#,
            "",
            vec![Some("a.example"), Some("b.example")],
        ),
        (r#"["https://127.0.0.1:1"]"#, "", vec![Some("127.0.0.1")]),
        (r#"["https://[::1]:1"]"#, "", vec![Some("::1")]),
        (r#"["https://127.0.0.1:1"]"#, "server_name = \"p.example\"", vec![Some("p.example")]),
        (r#"["https://127.0.0.1:1"]"#, "server_name = \"::1\"", vec![Some("::1")]),
        (
            r#"[{ url = "https://10.0.0.1", server_name = "a.example" }, "https://10.0.0.2"]"#,
            "server_name = \"p.example\"",
            vec![Some("a.example"), Some("p.example")],
        ),
        (r#"["unix:/run/p.sock", "https://p.example"]"#, "", vec![None, Some("p.example")]),
        (r#"["unix:/run/p.sock", "http://p.example"]"#, "", vec![None, None]),
    ] {
        let names = tls_names(list, rest).unwrap_or_else(|errors| panic!("{list} {rest}: {errors:?}"));
        assert_eq!(names.iter().map(Option::as_deref).collect::<Vec<_>>(), expected, "{list} {rest}");
    }
    for (list, rest, expected) in [
        (r#"["https://127.0.0.1:1"]"#, "server_name = \"\"", "platform.server_name: must be"),
        (r#"["https://127.0.0.1:1"]"#, "server_name = \"a b\"", "platform.server_name: must be"),
        (
            r#"[{ url = "https://10.0.0.1", server_name = "" }]"#,
            "",
            "platform.servers: \"https://10.0.0.1\" has",
        ),
        (
            r#"[{ url = "http://a", server_name = "a" }]"#,
            "",
            "platform.servers: \"http://a\" has a server_name",
        ),
        (r#"[{ url = "http://a", name = "a" }]"#, "", "platform.servers: invalid value"),
        (r#"["http://a", "https://b"]"#, "", "platform.servers: must be all http or all https"),
        (r#"["http://a", "http://a:80"]"#, "", "platform.servers: \"http://a:80\" is there twice"),
        (r#"["unix:"]"#, "", "platform.servers: \"unix:\" names no socket"),
        (r#"["http://a"]"#, "host = \"a b\"", "platform.host: \"a b\" is not"),
        (r#"["http://a"]"#, "eject_on = [\"connect\"]", "platform.eject_on: \"connect\" must be"),
    ] {
        let found = tls_names(list, rest).expect_err(list);
        assert!(found.iter().any(|error| error.starts_with(expected)), "{list} {rest}: {found:?}");
    }
}

#[test]
fn platforms_below_a_path_have_settings_of_their_own() {
    let more = r#"
        [[platforms]]
        prefix = "/ui"
        servers = ["http://ui:1"]
        read_timeout = "5s"
        [[platforms]]
        prefix = "/ui/admin"
        servers = ["https://admin:1"]
        host = "server"
        "#;
    let config = parse(&format!("{MINIMAL}{more}"), &[]).unwrap();
    let shown =
        |route: &PlatformRoute| (route.prefix.as_str().to_owned(), route.pool.servers[0].name.clone());
    let shown: Vec<_> = config.platforms.iter().map(shown).collect();
    assert_eq!(shown, [("/ui/admin".into(), "admin:1".into()), ("/ui".into(), "ui:1".into())]);
    assert_eq!(config.platforms[0].pool.host, HostField::Server);
    assert_eq!(config.platforms[1].pool.read_timeout, Duration::from_secs(5));
    for (section, expected) in [
        ("servers = [\"http://a\"]", "platforms[1].prefix: \"\" must be a canonical path"),
        ("prefix = \"/\"\nservers = [\"http://a\"]", "platforms[1].prefix: \"/\" must be"),
        ("prefix = \"/a/\"\nservers = [\"http://a\"]", "platforms[1].prefix: \"/a/\" must be"),
        (
            "prefix = \"/ds-api/user-token\"\nservers = [\"http://a\"]",
            "platforms[1].prefix: \"/ds-api/user-token\"",
        ),
        ("prefix = \"/a\"", "platforms[1].servers: is required"),
        (
            "prefix = \"/a\"\nservers = [\"http://a\"]\nforward_token = false",
            "platforms[1].forward_token: unknown key",
        ),
        (
            "prefix = \"/a\"\nservers = [\"http://a\"]\n[[platforms]]\nprefix = \"/a\"\nservers = [\"http://b\"]",
            "platforms[2].prefix: \"/a\" is there twice",
        ),
        ("prefix = \"/a\"\nservers = [\"https://a\"]\nca_file = \"/nowhere.pem\"", "platforms[1].ca_file: "),
    ] {
        let found = errors(&format!("{MINIMAL}[[platforms]]\n{section}\n"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{section}: {found:?}");
    }
    assert!(errors(&format!("{MINIMAL}[platforms]\n"))[0].starts_with("platforms: must be sections"));
}

#[test]
fn a_server_has_a_host_of_its_own() {
    for (list, expected) in [
        (r#"["http://p.example"]"#, "p.example"),
        (r#"["http://p.example:9000"]"#, "p.example:9000"),
        (r#"["https://p.example:443"]"#, "p.example"),
        (r#"["http://[::1]:9000"]"#, "[::1]:9000"),
        (r#"[{ url = "https://10.0.0.1:8443", server_name = "a.example" }]"#, "a.example:8443"),
        (r#"[{ url = "https://10.0.0.1:8443", server_name = "10.0.0.9" }]"#, "10.0.0.1:8443"),
        (r#"["unix:run/p.sock"]"#, "localhost"),
    ] {
        let text = MINIMAL.replace("[\"http://127.0.0.1:9000\"]", list);
        assert_eq!(parse(&text, &[]).unwrap().platform.pool.servers[0].host, expected, "{list}");
    }
    let text = MINIMAL.replace("http://127.0.0.1:9000", "unix:run/p.sock");
    assert_eq!(servers(&parse(&text, &[]).unwrap()), ["unix:/etc/ds-gateway/run/p.sock"]);
}

#[test]
fn what_is_observed_ends_at_a_time_that_is_given() {
    use crate::auth::time::UnixTime;
    let with = |rest: &str| parse(&format!("{MINIMAL}[routes]\n{rest}\n"), &[]);
    for rest in
        ["", "mode = \"enforce\"", "mode = \"enforce\"\nobserve_until = \"2026-12-20\"\nenforce = [\"/x\"]"]
    {
        let config = with(rest).unwrap();
        assert!(config.observe.is_none() && config.observe_warnings().is_empty(), "{rest}");
    }
    let midnight = UnixTime(1_797_724_800);
    for (time, expected) in [
        ("\"2026-12-20\"", midnight),
        ("2026-12-20", midnight),
        ("2026-12-20T01:00:00+02:00", midnight.minus(3600)),
        ("\"2026-12-20T18:00:00Z\"", midnight.plus(18 * 3600)),
    ] {
        let config =
            with(&format!("mode = \"observe\"\nobserve_until = {time}\nenforce = [\"/a/*\", \"/b\"]"));
        let observe = config.unwrap().observe.unwrap();
        assert_eq!((observe.until, observe.enforced.len()), (expected, 2), "{time}");
    }
    let variables =
        [("DS_GATEWAY__ROUTES__MODE", "observe"), ("DS_GATEWAY__ROUTES__OBSERVE_UNTIL", "2026-12-20")];
    assert_eq!(parse(MINIMAL, &variables).unwrap().observe.unwrap().until, midnight);
    let hint = "invalid value: write a date such as";
    for (rest, expected) in [
        ("mode = \"observe\"", "routes.observe_until: is required with mode = \"observe\"".to_owned()),
        ("mode = \"shadow\"", "routes.mode: invalid value: write \"enforce\" or \"observe\"".into()),
        ("mode = \"observe\"\nobserve_until = \"soon\"", format!("routes.observe_until: {hint}")),
        ("mode = \"observe\"\nobserve_until = 20261220", format!("routes.observe_until: {hint}")),
        ("mode = \"observe\"\nobserve_until = 2026-12-20T18:00:00", format!("routes.observe_until: {hint}")),
        ("observe_until = \"2026-12-20\"", "routes.observe_until: has no effect without routes.mode".into()),
        ("enforce = [\"/x\"]", "routes.enforce: has no effect without routes.mode".into()),
        (
            "mode = \"observe\"\nobserve_until = \"2026-12-20\"\nenforce = [\"/a/../b\"]",
            "routes.enforce: \"/a/../b\" is not a canonical path".into(),
        ),
    ] {
        let found = with(rest).map(|_| ()).unwrap_err();
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{rest}: {found:?}");
    }
}

#[test]
fn pages_of_other_origins_are_listed_as_browsers_send_them() {
    use crate::auth::cors::Sharing;
    let with = |rest: &str| parse(&format!("{MINIMAL}[cors]\n{rest}\n"), &[]);
    let sharing =
        |config: &Config| format!("{:?}", config.cors.sharing([&b"https://a.example"[..]].into_iter()));
    let is = |sharing: Sharing<'_>| format!("{sharing:?}");
    assert_eq!(sharing(&parse(MINIMAL, &[]).unwrap()), is(Sharing::Off));
    assert_eq!(sharing(&with("").unwrap()), is(Sharing::Off));
    assert_eq!(sharing(&with("origins = []").unwrap()), is(Sharing::Off));
    assert_eq!(sharing(&with("origins = [\"https://b.example\"]").unwrap()), is(Sharing::Refused));
    let listed = with("origins = [\"https://b.example\", \"https://a.example\"]\nmax_age = \"0s\"").unwrap();
    assert_eq!(sharing(&listed), is(Sharing::Allowed("https://a.example")));
    assert!(listed.warnings().is_empty());
    let everybody = with("origins = [\"*\"]").unwrap();
    assert_eq!(sharing(&everybody), is(Sharing::Allowed("*")));
    assert_eq!(everybody.warnings().len(), 1, "{:?}", everybody.warnings());
    let by_variable =
        parse(MINIMAL, &[("DS_GATEWAY__CORS__ORIGINS", "https://b.example,https://a.example")]).unwrap();
    assert_eq!(sharing(&by_variable), is(Sharing::Allowed("https://a.example")));

    for (rest, expected) in [
        ("origins = \"*\"", "cors.origins: invalid value: write a list"),
        ("origins = [\"*\", \"https://a.example\"]", "cors.origins: \"*\" is a pattern"),
        ("origins = [\"https://*.example\"]", "cors.origins: \"https://*.example\" is a pattern"),
        ("origins = [\"null\"]", "cors.origins: \"null\" is the origin of any file"),
        (
            "origins = [\"https://a.example/\"]",
            "cors.origins: \"https://a.example/\" would never match, since browsers send \"https://a.example\"",
        ),
        (
            "origins = [\"https://A.example:443\"]",
            "cors.origins: \"https://A.example:443\" would never match, since browsers send \"https://a.example\"",
        ),
        ("origins = [\"a.example\"]", "cors.origins: \"a.example\" is not an origin"),
        ("origins = [\"\"]", "cors.origins: \"\" is not an origin"),
        ("origins = [\"https://a.example\"]\nmethods = []", "cors.methods: lists no method"),
        (
            "origins = [\"https://a.example\"]\nmethods = [\"patch\"]",
            "cors.methods: \"patch\" is not a method",
        ),
        ("origins = [\"https://a.example\"]\nmethods = [\"*\"]", "cors.methods: \"*\" is not a method"),
        (
            "origins = [\"https://a.example\"]\nmethods = [\"GET, POST\"]",
            "cors.methods: \"GET, POST\" is not a method",
        ),
        (
            "origins = [\"https://a.example\"]\nheaders = [\"x page\"]",
            "cors.headers: \"x page\" is not the name",
        ),
        ("origins = [\"https://a.example\"]\nheaders = [\"*\"]", "cors.headers: \"*\" is not the name"),
        (
            "origins = [\"https://a.example\"]\nheaders = [\"x\\r\\ny: z\"]",
            "cors.headers: \"x\\r\\ny: z\" is not the name",
        ),
        ("origins = [\"https://a.example\"]\nmax_age = 5", "cors.max_age: invalid value"),
        ("methods = [\"GET\"]", "cors.methods: has no effect without cors.origins"),
        ("headers = [\"x-page\"]", "cors.headers: has no effect without cors.origins"),
        ("credentials = true", "cors.credentials: unknown key"),
    ] {
        let found = errors(&format!("{MINIMAL}[cors]\n{rest}\n"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{rest}: {found:#?}");
    }
}

#[test]
fn dangerous_choices_are_named() {
    let config = parse(
        &format!("{MINIMAL}[routes]\npublic = [\"/*\"]\n[token]\nunknown_users = \"accept\"\n"),
        &[("DS_GATEWAY__SERVER__HTTP", "0.0.0.0:80"), ("DS_GATEWAY__ADMIN__LISTEN", "0.0.0.0:1")],
    )
    .unwrap();
    assert_eq!(config.warnings().len(), 4, "{:#?}", config.warnings());
}

#[test]
fn a_key_file_must_be_private_and_strong() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let read = |mode: u32, secret: &str| {
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let text =
            format!("{MINIMAL}[token]\nkeys = [{{ kid = \"k\", algorithm = \"HS256\", file = {path:?} }}]\n");
        parse(&text, &[]).map(|_| ())
    };
    let strong = "0123456789abcdef0123456789abcdef\n";
    assert_eq!(read(0o600, strong), Ok(()));
    assert_eq!(read(0o400, strong), Ok(()));
    for (mode, secret, expected) in [
        (0o640, strong, "others may read"),
        (0o604, strong, "others may read"),
        (0o620, strong, "others may read"),
        (0o600, "short\n", "shorter than 32 bytes"),
        (0o600, "", "shorter than 32 bytes"),
    ] {
        let found = read(mode, secret).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn a_text_that_is_not_toml_is_one_error_with_its_place() {
    for (text, place) in [
        ("[server\nhttps = []\n", "line 1, column"),
        ("[server]\nhttps = [\"a\"\n[platform]\n", "line "),
        ("[server]\nhttps == []\n", "line 2, column"),
        ("[server]\nstate_dir = state\n", "line 2, column 13"),
        ("[server]\n\n  state_dir\n", "line 3, column"),
        ("[server]\nthreads = 1\nthreads = 2\n", "line 3, column 1"),
        ("[server]\n[log]\n[server]\n", "line 3, column"),
        ("server:\n  https: x\n", "line 1, column"),
        ("[server]\r\nstate_dir = 'x\r\n", "line 2, column"),
        ("# é\n[log]\nformat = \"é\" x\n", "line 3, column"),
        ("\0", "line 1, column"),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text:?} {found:#?}");
        assert!(
            found[0].starts_with("the file: is not valid TOML: ") && found[0].contains(place),
            "{found:?}"
        );
        assert!(!found[0].contains('\n'), "{found:?}");
    }
}

#[test]
fn a_misspelt_name_is_one_error_that_says_what_was_meant_and_where() {
    let minimal = |from: &str, to: &str| MINIMAL.replace(from, to);
    for (text, expected) in [
        (minimal("[server]", "[sever]"), "sever: unknown section: did you mean [server]? (line 2, column 2)"),
        (
            minimal("[platform]", "[plattform]"),
            "plattform: unknown section: did you mean [platform]? (line 5, column 2)",
        ),
        (
            minimal("state_dir", "state-dir"),
            "server.state-dir: unknown key: did you mean \"state_dir\"? (line 4, column 1)",
        ),
        (minimal("http =", "htps ="), "server.htps: unknown key: did you mean \"https\"? (line 3, column 1)"),
        (
            minimal("servers", "server"),
            "platform.server: unknown key: did you mean \"servers\"? (line 6, column 1)",
        ),
        (
            format!("{MINIMAL}lifetime = \"1h\"\n"),
            "platform.lifetime: unknown key: it belongs in [token] (line 7, column 1)",
        ),
        (
            format!("{MINIMAL}[limits.logins]\ntrusted = []\n"),
            "limits.logins: unknown key: did you mean \"login\"? (line 7, column 9)",
        ),
        (
            format!("{MINIMAL}colour = 1\n"),
            "platform.colour: unknown key: remove it or correct its name (line 7, column 1)",
        ),
        (
            minimal("state_dir = \"state\"", "state_dir = 7"),
            "server.state_dir: invalid value: write a path (line 4, column 1)",
        ),
        (
            minimal("[\"127.0.0.1:0\"]", "\"127.0.0.1:0\""),
            "server.http: invalid value: write a list such as [\"0.0.0.0:8443\"] (line 3, column 1)",
        ),
        (
            minimal("[\"http://127.0.0.1:9000\"]", "9000"),
            "platform.servers: invalid value: write a list such as [\"http://127.0.0.1:9000\"] (line 6, column 1)",
        ),
        (
            format!("{MINIMAL}[token]\nkeys = [{{ kid = \"a\", algorithm = \"HS256\", fil = \"a\" }}]\n"),
            "token.keys: invalid value (unknown field `fil`, expected one of `kid`, `algorithm`, `file`, `foreign`): write a list such as [{ kid = \"2026-11\", algorithm = \"HS256\", file = \"…\" }] (line 8, column 1)",
        ),
    ] {
        assert_eq!(errors(&text), [expected], "{text}");
    }
}

#[test]
fn a_setting_that_is_required_and_missing_is_still_named() {
    let found = errors("[log]\nlevel = \"info\"\n");
    for key in ["server.https: no listener", "server.state_dir: is required", "platform.servers: is required"]
    {
        assert!(found.iter().any(|error| error.starts_with(key)), "{key} {found:?}");
    }
    assert_eq!(found.len(), 3);
}

#[test]
fn an_error_in_a_value_of_the_environment_names_the_variable() {
    for (name, value, key) in [
        ("DS_GATEWAY__LIMITS__HEADER_BYTES", "many", "limits.header_bytes: invalid value"),
        ("DS_GATEWAY__LIMITS__HEADER_BYTES", "1", "limits.header_bytes: must be"),
        ("DS_GATEWAY__SERVER__HTTP", "nowhere", "server.http: \"nowhere\" is not an address"),
        ("DS_GATEWAY__PLATFORM__SERVERS", "ftp://x", "platform.servers: \"ftp://x\""),
        ("DS_GATEWAY__LIMITS__LOGIN__TRUSTED", "here", "limits.login.trusted: "),
        (
            "DS_GATEWAY__TOKEN__KEYS",
            "[{ kid = \"a\", algorithm = \"HS256\", file = \"absent.key\" }]",
            "token.keys: the key \"a\"",
        ),
    ] {
        let found = parse(MINIMAL, &[(name, value)]).map(|_| ()).unwrap_err();
        assert!(found.len() == 1 && found[0].starts_with(key), "{found:?}");
        assert!(found[0].ends_with(&format!("(set by {name})")), "{found:?}");
    }
    // What the file says there is of no account, and what it says elsewhere has its own place.
    let text = format!("{MINIMAL}[limits]\nheader_bytes = 1\nheader_fields = 1\n");
    let found = parse(&text, &[("DS_GATEWAY__LIMITS__HEADER_BYTES", "2")]).map(|_| ()).unwrap_err();
    let ends = ["(set by DS_GATEWAY__LIMITS__HEADER_BYTES)", "(line 9, column 1)"];
    assert!(found.len() == 2 && found.iter().zip(ends).all(|(error, end)| error.ends_with(end)), "{found:?}");
}

#[test]
fn an_empty_variable_is_unset_and_one_that_nearly_names_a_key_is_an_error() {
    let empty = [
        ("DS_GATEWAY__SERVER__HTTP", ""),
        ("DS_GATEWAY__PLATFORM__SERVERS", ""),
        ("DS_GATEWAY__NOWHERE", ""),
        ("DS_GATEWAY_SERVER_HTTP", ""),
    ];
    assert_eq!(servers(&parse(MINIMAL, &empty).unwrap()), ["127.0.0.1:9000"]);
    let of_others = [
        ("DS_GATEWAY_CONFIG", "/etc/x.toml"),
        ("DS_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("DS_GATEWAY_PORT", "tcp://10.0.0.1:8443"),
        ("DS_GATEWAY_PORT_8443_TCP", "tcp://10.0.0.1:8443"),
        ("DS_GATEWAY_ADMIN_SERVICE_PORT_HTTP", "9464"),
        ("DS_GATEWAY_VERSION", "1"),
    ];
    assert!(parse(MINIMAL, &of_others).is_ok());
    for name in [
        "DS_GATEWAY_SERVER_HTTP",
        "DS_GATEWAY__SERVER_HTTP",
        "DS_GATEWAY_SERVER__HTTP",
        "ds_gateway__server__http",
        "DS_GATEWAY__SERVER__HTTPX",
    ] {
        let found = parse(MINIMAL, &[(name, ":8443")]).map(|_| ()).unwrap_err();
        assert!(found.len() == 1 && found[0].starts_with(&format!("{name}: ")), "{found:?}");
        assert!(found[0].contains("did you mean DS_GATEWAY__SERVER__HTTP"), "{found:?}");
    }
    let found = parse(MINIMAL, &[("DS_GATEWAY_LIMITS_LOGIN_TRUSTED", "10.0.0.1")]).map(|_| ()).unwrap_err();
    assert!(found[0].contains("did you mean DS_GATEWAY__LIMITS__LOGIN__TRUSTED?"), "{found:?}");
}

/// Keys that the reader asks for and keys that the paper describes are the same.
#[test]
fn the_paper_describes_every_key_and_no_other() {
    let (_, asked) = Config::parse(MINIMAL, Path::new("/"), std::iter::empty());
    let paper = include_str!("../../docs/configuration.md");
    let mut section = "";
    let mut described = Vec::new();
    for line in paper.lines() {
        if let Some(name) = line.strip_prefix("## `[").and_then(|rest| rest.strip_suffix("]`")) {
            section = name;
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) {
            described.push(format!("{section}.{key}"));
        }
    }
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    assert!(asked.len() > 30);
    assert_eq!(sorted(asked), sorted(described));
}

#[test]
fn an_error_in_one_of_several_sections_says_where() {
    let text = "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = [\"http://a\"]\n\
                [[platforms]]\nprefix = \"/a\"\nservers = [\"http://a\"]\n\
                [[platforms]]\nprefix = \"relative\"\nservers = [\"http://a\"]\n";
    let (config, _) = Config::parse(text, Path::new("/nowhere"), std::iter::empty());
    let error = config.unwrap_err()[0].to_string();
    assert!(error.starts_with("platforms[2].prefix") && error.ends_with("(line 10, column 1)"), "{error}");
}
