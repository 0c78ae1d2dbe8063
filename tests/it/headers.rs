//! What the platform sees of a request: nothing a client could pass off as the gateway's word.

use crate::client::{Answer, request, request_with};
use crate::gateway::{Gateway, USER};
use crate::options::Options;
use crate::platform::{Behaviour, Platform, Seen};

pub const IDENTITY: [&str; 3] = ["X-DS-User", "X-DS-Email", "X-DS-Organization"];

/// The names that only the gateway may set, `user-token` aside.
const MANAGED: [&str; 23] = [
    "authorization",
    "x-ds-user",
    "x-ds-email",
    "x-ds-organization",
    "x-ds-sequence",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-uri",
    "x-forwarded-anything",
    "forwarded",
    "x-real-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded",
    "x-original-uri",
    "client-ip",
    "true-client-ip",
    "proxy",
    "remote-user",
    // By configuration.
    "x-internal",
];

/// Ways to write a name that one reader or another takes for the same.
fn spellings(name: &str) -> Vec<String> {
    let title: String =
        name.split('-').map(|part| format!("-{}{}", part[..1].to_uppercase(), &part[1..])).collect();
    let mut all = vec![name.to_owned(), name.to_uppercase(), title[1..].to_owned()];
    all.extend([name.replace('-', "_"), name.replace('-', "."), name.to_uppercase().replace('-', "_")]);
    all.push(name.replacen('-', "_", 1));
    all.push(name.replacen('-', ".", 1));
    all.extend(['~', '!', '\''].map(|other| name.replace('-', &other.to_string())));
    all.sort();
    all.dedup();
    all
}

/// All values of a name as a reader that folds aliases together would see them.
pub fn folded<'a>(seen: &'a Seen, name: &str) -> Vec<&'a str> {
    let fold = |name: &str| name.to_lowercase().replace(|byte: char| !byte.is_ascii_alphanumeric(), "-");
    seen.head
        .fields
        .iter()
        .filter(|field| fold(&field.0) == fold(name))
        .map(|field| field.1.as_str())
        .collect()
}

/// A gateway that drops a field by configuration, too.
fn dropping_more(platform: &Platform) -> Gateway {
    Options::new(platform)
        .public("[\"/public/*\"]")
        .set("platform", "drop_headers", "[\"X-Internal\"]")
        .start()
}

pub fn get(gateway: &Gateway, target: &str, fields: &[(&str, &str)]) -> Answer {
    gateway.exchange(request("GET", target, fields))
}

#[test]
fn managed_names_of_a_client_are_dropped_in_every_spelling() {
    let platform = Platform::echo();
    let gateway = dropping_more(&platform);
    let token = gateway.mint();
    let names: Vec<String> = MANAGED.iter().flat_map(|name| spellings(name)).collect();
    for (number, name) in names.iter().enumerate() {
        for (target, fields) in [
            (format!("/protected/{number}"), vec![("user-token", token.as_str())]),
            (format!("/public/{number}"), vec![]),
        ] {
            let fields =
                [&fields[..], &[(name.as_str(), "canary"), (name.as_str(), "canary, canary")]].concat();
            assert_eq!(get(&gateway, &target, &fields).status, 200, "{name} {target}");
            platform.request(&target);
        }
    }
    platform.never_saw("canary");
    gateway.still_healthy();
}

#[test]
fn everything_else_of_a_request_and_of_an_answer_goes_through() {
    let raw = b"HTTP/1.1 418 I'm a teapot\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: platform\r\nContent-Length: 2\r\n\r\nok";
    let platform = Platform::start(Behaviour::Raw(raw.to_vec()));
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let fields = [
        ("user-token", token.as_str()),
        ("Accept", "a"),
        ("X-Twice", "1"),
        ("x-twice", "2"),
        ("X-DS-Users", "u"),
        ("X_Other.Name", "n"),
        ("Cookie", "c=1"),
        ("Content-Type", "text/x"),
    ];
    let target = "/ds-api/a%20b;c/%2E%C3%A9/?q=%2F&token=x#cut";
    let answer = gateway.exchange(request_with("PUT", target, &fields, b"body"));
    assert_eq!((answer.status, answer.values("set-cookie")), (418, vec!["a=1", "b=2"]));
    assert_eq!((answer.value("server"), answer.text().as_str()), ("platform", "ok"));
    let seen = &platform.requests()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("PUT", "/ds-api/a%20b;c/%2E%C3%A9/?q=%2F&token=x")
    );
    assert_eq!(seen.values("x-twice"), ["1", "2"]);
    for (name, value) in [
        ("accept", "a"),
        ("x-ds-users", "u"),
        ("x_other.name", "n"),
        ("cookie", "c=1"),
        ("content-type", "text/x"),
    ] {
        assert_eq!(seen.values(name), [value], "{name}");
    }
    assert_eq!(seen.body, b"body");
}

#[test]
fn fields_that_change_what_a_request_is_are_refused() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let token = gateway.mint();
    let overrides =
        ["X-HTTP-Method-Override", "X-HTTP-Method", "X_HTTP_Method_Override", "X~Method~Override"];
    let framing = ["Content_Length", "content~length", "Transfer_Encoding", "Keep.Alive", "Proxy_Connection"];
    for name in [&overrides[..], &framing].concat() {
        for (method, target) in
            [("POST", "/ds-api/canary"), ("GET", "/public/canary"), ("POST", "/ds-api/user-token")]
        {
            let fields = [("user-token", token.as_str()), (name, "7")];
            gateway.exchange(request(method, target, &fields)).is_error(400);
        }
    }
    for name in ["User~Token", "user_token", "USER.TOKEN"] {
        get(&gateway, "/ds-api/canary", &[("user-token", &token), (name, &token)]).is_error(401);
        get(&gateway, "/public/canary", &[(name, &token)]).is_error(401);
    }
    assert_eq!(platform.bytes(), 0, "{:?}", platform.requests());
    gateway.still_healthy();
}

#[test]
fn a_header_has_one_form() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let token = gateway.mint();
    let after = format!("\r\nuser-token: {token}\r\n\r\n");
    for begin in [
        "GET /canary HTTP/1.1\nHost: x",
        "GET /canary HTTP/1.1\r\nX: y\nHost: x",
        "GET  /canary HTTP/1.1\r\nHost: x",
        "GET /canary  HTTP/1.1\r\nHost: x",
        "GET /canary\tHTTP/1.1\r\nHost: x",
        "GET /canary\rx HTTP/1.1\r\nHost: x",
        "GET /canary?x=\0 HTTP/1.1\r\nHost: x",
        "GET /canary?x=\x1b HTTP/1.1\r\nHost: x",
        "GET /canary?x=\x7f HTTP/1.1\r\nHost: x",
        "GET /public/canary?\0 HTTP/1.1\r\nHost: x",
        "GET /public/canary HTTP/1.1\nHost: x",
    ] {
        gateway.exchange(format!("{begin}{after}")).is_error(400);
    }
    gateway.exchange(format!("GET /canary HTTP/1.1\r\nHost: x\r\nuser-token: {token}\r\n\n")).is_error(400);
    for host in ["a b", "a/b", "\"a\"", "a, b", "a;b", "a@b", "a?b", "a#b", "a\\b", "<a>", "a%20b", "a:b", ""]
    {
        gateway.exchange(format!("GET /canary HTTP/1.1\r\nHost: {host}{after}")).is_error(400);
    }
    assert_eq!(platform.bytes(), 0);
    for host in ["a", "a.example:8443", "[::1]:80", "my_service."] {
        assert_eq!(gateway.exchange(format!("GET /x HTTP/1.1\r\nHost: {host}{after}")).status, 200, "{host}");
    }
    gateway.still_healthy();
}

/// What another reads as a length, the gateway may read as nothing, and the other way round: what follows is no request.
#[test]
fn a_header_that_may_hide_a_length_ends_the_connection() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let behind = request("GET", "/ds-api/canary", &[("user-token", &token)]);
    for fields in [
        "Content_Length: 5\r\n",
        "Transfer~Encoding: chunked\r\n",
        "X: y\nContent-Length: 5\r\n",
        "X: y\r\nContent-Length: 5\n",
    ] {
        let mut client = gateway.client();
        let header = format!("POST /ds-api/one HTTP/1.1\r\nHost: x\r\nuser-token: {token}\r\n{fields}\r\n");
        client.send([header.as_bytes(), b"hello", &behind].concat());
        client.answer().expect("an answer").is_error(400);
        client.is_closed();
    }
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn connection_may_not_nominate_a_managed_name() {
    let platform = Platform::echo();
    let gateway = dropping_more(&platform);
    let token = gateway.mint();
    for name in [&["user-token", "User-Token"][..], &MANAGED].concat() {
        for options in
            [name.to_owned(), format!("close, {name}"), name.to_uppercase(), format!("keep-alive,{name} , x")]
        {
            for target in ["/ds-api/canary", "/public/canary"] {
                let fields = [("user-token", token.as_str()), ("Connection", options.as_str())];
                let answer = get(&gateway, target, &fields);
                assert_eq!(answer.status, 400, "Connection: {options} on {target}");
                answer.is_error(400);
            }
        }
    }
    let two = [("user-token", token.as_str()), ("Connection", "keep-alive"), ("Connection", "x-ds-user")];
    get(&gateway, "/ds-api/canary", &two).is_error(400);
    assert_eq!(platform.bytes(), 0);

    let other = [("user-token", token.as_str()), ("Connection", "keep-alive, x-mine"), ("X-Mine", "canary")];
    assert_eq!(get(&gateway, "/ds-api/other", &other).status, 200);
    assert!(
        platform.request("/ds-api/other").values("x-mine").is_empty(),
        "what was nominated is for this hop only"
    );
    gateway.still_healthy();
}

#[test]
fn the_token_and_authorization_go_on_only_where_the_configuration_says_so() {
    let platform = Platform::echo();
    let quiet = Options::new(&platform).set("platform", "forward_token", "false").start();
    let token = quiet.mint();
    assert_eq!(
        get(&quiet, "/quiet", &[("user-token", &token), ("Authorization", "Basic canary")]).status,
        200
    );
    let seen = platform.request("/quiet");
    assert!(folded(&seen, "user-token").is_empty() && folded(&seen, "authorization").is_empty());
    assert_eq!(folded(&seen, "x-ds-user"), [USER]);
    platform.never_saw(&token);

    let open = Options::new(&platform).set("platform", "forward_authorization", "true").start();
    let token = open.mint();
    assert_eq!(get(&open, "/open", &[("user-token", &token), ("Authorization", "Basic mine")]).status, 200);
    assert_eq!(folded(&platform.request("/open"), "authorization"), ["Basic mine"]);
    platform.never_saw("canary");
}

#[test]
fn a_public_route_carries_no_credential() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .public("[\"/public/*\"]")
        .set("platform", "forward_authorization", "true")
        .start();
    let token = gateway.mint();
    for (number, user_token) in [token.as_str(), "canary", ""].iter().enumerate() {
        let target = format!("/public/{number}");
        let fields = [
            ("user-token", *user_token),
            ("Authorization", "Basic canary"),
            ("Cookie", "session=canary"),
            ("X-DS-User", "canary"),
            ("x_ds_email", "canary"),
            ("X.DS.Organization", "canary"),
            ("Accept", "text/plain"),
        ];
        assert_eq!(get(&gateway, &target, &fields).status, 200, "{target}");
        let seen = platform.request(&target);
        for name in [&["user-token", "authorization", "cookie"][..], &IDENTITY].concat() {
            assert!(folded(&seen, name).is_empty(), "{name} in {seen:?}");
        }
        assert_eq!(seen.values("accept"), ["text/plain"]);
        assert_eq!(folded(&seen, "x-request-id").len(), 1);
    }
    platform.never_saw("canary");
    platform.never_saw(&token);
    for alias in ["user_token", "User.Token", "USER_TOKEN"] {
        get(&gateway, "/public/alias", &[(alias, &token)]).is_error(401);
    }
    platform.never_saw("alias");
    gateway.still_healthy();
}
