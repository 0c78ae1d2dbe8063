//! Each kind of setting, changed while the gateway runs: what it does follows, and connections that are open stay open.

use crate::client::{Client, basic, request, request_with};
use crate::command::{Done, eventually, private};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::h2_client::{self, H2Client};
use crate::jwt;
use crate::options::{Key, Options};
use crate::platform::{Behaviour, Platform};
use crate::platform_side::get;
use crate::platform_tls::{TlsServer, certificates, over_tls};
use openssl::x509::X509;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Condvar, Mutex};

pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Gateway {
    /// Gives its folder this configuration, and has it reloaded by the command.
    #[track_caller]
    pub fn reload(&self, options: &Options) -> Done {
        options.clone().write(&self.folder);
        self.folder.cli(&["reload"], "")
    }

    /// The same, where it must work; what was applied.
    #[track_caller]
    pub fn reloaded(&self, options: &Options) -> Vec<String> {
        let said = self.reload(options).ok();
        assert!(!said.contains("takes a restart"), "{said}");
        let applied = said.lines().filter_map(|line| line.strip_prefix("- applied at once: "));
        applied.map(str::to_owned).collect()
    }
}

/// A platform's behaviour that answers nobody until it is let go.
fn held() -> (impl FnOnce(), Behaviour) {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let waiting = Arc::clone(&gate);
    let behaviour = Behaviour::Custom(Arc::new(move |_, stream| {
        let (is_open, opened) = &*waiting;
        drop(opened.wait_while(is_open.lock().expect("a lock"), |is_open| !*is_open).expect("a lock"));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nheld")
    }));
    let open = move || {
        let (is_open, opened) = &*gate;
        *is_open.lock().expect("a lock") = true;
        opened.notify_all();
    };
    (open, behaviour)
}

/// The status of a request on a connection that is kept.
fn on(client: &mut Client, target: &str, token: &str) -> u16 {
    client.exchange(request("GET", target, &[("user-token", token)])).status
}

#[test]
fn routes_follow_a_reload_on_connections_that_are_open() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let gateway = options.clone().start();
    let mut client = gateway.client();
    let asks = |client: &mut Client, target: &str| client.exchange(request("GET", target, &[])).status;
    assert_eq!(asks(&mut client, "/open"), 401);
    let open = options.clone().public("[\"/open\"]");
    assert_eq!(gateway.reloaded(&open), ["routes.public"]);
    assert_eq!([asks(&mut client, "/open"), asks(&mut client, "/other")], [200, 401]);
    assert_eq!(gateway.reloaded(&options), ["routes.public"]);
    assert_eq!(asks(&mut client, "/open"), 401);
    // By a signal as well.
    open.write(&gateway.folder);
    gateway.signal("HUP");
    eventually("a reload", || (asks(&mut client, "/open") == 200).then_some(()));
    let strict = options.set("routes", "strict_paths", "true");
    assert_eq!(gateway.reloaded(&strict), ["routes.public", "routes.strict_paths"]);
    assert_eq!(asks(&mut client, "/a//b"), 400);
    gateway.still_healthy();
}

#[test]
fn what_new_token_rules_refuse_is_refused_though_it_was_admitted_before() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let gateway = options.clone().start();
    let (token, mut client) = (gateway.mint(), gateway.client());
    assert_eq!([on(&mut client, "/x", &token), on(&mut client, "/x", &token)], [200, 200]);
    let short = options.clone().set("token", "max_lifetime", "\"1h\"").set("token", "lifetime", "\"1h\"");
    assert_eq!(gateway.reloaded(&short), ["token.lifetime", "token.max_lifetime"]);
    assert_eq!(on(&mut client, "/x", &token), 401);
    let by_new = gateway.mint();
    assert_eq!(on(&mut client, "/x", &by_new), 200);
    gateway.reloaded(&options);
    assert_eq!([on(&mut client, "/x", &token), on(&mut client, "/x", &by_new)], [200, 200]);
    gateway.reloaded(&options.clone().set("token", "max_bytes", "512").set(
        "token",
        "inspect_auth",
        "\"token\"",
    ));
    let long = "x".repeat(600);
    assert_eq!([on(&mut client, "/x", &token), on(&mut client, "/x", &long)], [200, 401]);
}

#[test]
fn keys_are_added_changed_and_removed() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let [a, b] = ["a", "b"].map(Key::ours);
    let gateway = options.clone().key(a.clone()).start();
    let (by_a, mut client) = (gateway.mint(), gateway.client());
    assert_eq!(on(&mut client, "/x", &by_a), 200);
    let said = gateway.reload(&options.clone().key(a.clone()).key(b.clone())).ok();
    assert!(said.contains("the key \"b\" verifies from now on") && !said.contains("signs"), "{said}");
    assert_eq!(gateway.metric("ds_gateway_keys", &["state=\"verifying\""]), 1.0);
    let said = gateway.reload(&options.clone().key(b.clone()).key(a)).ok();
    // Once a heartbeat has said that it is there.
    assert!(said.contains("the key \"b\" signs"), "{said}");
    let by_b = eventually("the key to sign", || {
        Some(gateway.mint()).filter(|token| jwt::read(token).0["kid"] == "b")
    });
    assert_eq!([on(&mut client, "/x", &by_a), on(&mut client, "/x", &by_b)], [200, 200]);
    let said = gateway.reload(&options.clone().key(b.clone())).ok();
    assert!(said.contains("the key \"a\" is removed: tokens that it signed are refused"), "{said}");
    assert_eq!([on(&mut client, "/x", &by_a), on(&mut client, "/x", &by_b)], [401, 200]);

    // Another secret under a known name is refused, as a start refuses it.
    let other = Key { secret: b"another secret of the tests, long enough".to_vec(), ..b.clone() };
    let done = gateway.reload(&options.clone().key(other));
    assert!(
        done.code == Some(64) && done.stderr.contains("not the one that the store has recorded"),
        "{done:?}"
    );
    assert_eq!(on(&mut client, "/x", &by_b), 200);
    // Keys of the gateway's own are another matter.
    let done = gateway.reload(&options).ok();
    assert!(done.contains("takes a restart: token.keys"), "{done}");
    assert_eq!(on(&mut client, "/x", &by_b), 200);
    gateway.reloaded(&options.key(b));
    // What the verdict said is what a restart does.
    let gateway = gateway.stop().run(&[]);
    assert_eq!([gateway.status(&by_a), gateway.status(&by_b)], [401, 200]);
}

#[test]
fn new_handshakes_have_the_new_certificate() {
    let platform = Platform::echo();
    let folder = tempfile::TempDir::new().expect("a folder");
    certificates(folder.path());
    let pair = |name: &str| {
        let path = |kind: &str| format!("{:?}", folder.path().join(format!("{name}.{kind}")));
        Options::new(&platform).https().set("server", "certificate", path("pem")).set(
            "server",
            "private_key",
            path("key"),
        )
    };
    let shown = |gateway: &Gateway| {
        let stream = h2_client::tls(LOCAL, gateway.https()).expect("a handshake");
        stream.ssl().peer_certificate().expect("a certificate").to_der().expect("DER")
    };
    let file = |name: &str| {
        let text = fs::read(folder.path().join(format!("{name}.pem"))).expect("a file");
        X509::from_pem(&text).expect("a certificate").to_der().expect("DER")
    };
    let gateway = pair("server").start();
    let token = gateway.mint();
    let mut before = H2Client::connect(LOCAL, gateway.https(), 65_535);
    assert_eq!(h2_client::statuses(vec![before.get_as("/x", &token)]), [200]);
    assert_eq!(shown(&gateway), file("server"));
    assert_eq!(gateway.reloaded(&pair("client")), ["server.certificate"]);
    assert_eq!(shown(&gateway), file("client"));
    // The same path with another content, as a renewal has it.
    for kind in ["pem", "key"] {
        let of = |name: &str| folder.path().join(format!("{name}.{kind}"));
        fs::copy(of("server"), of("client")).expect("a copy");
    }
    assert_eq!(gateway.reloaded(&pair("client")), ["server.certificate"]);
    assert_eq!(shown(&gateway), file("server"));
    assert_eq!(gateway.reloaded(&pair("client")), [""; 0]);
    assert_eq!(h2_client::statuses(vec![before.get_as("/x", &token)]), [200], "what was open stays open");
}

#[test]
fn requests_go_to_new_servers_and_those_under_way_end_where_they_began() {
    let (one, other) = (Platform::echo(), Platform::echo());
    let options = Options::new(&one).https();
    let gateway = options.clone().start();
    let token = gateway.mint();
    let (go_on, behaviour) = held();
    let mut plain = gateway.client();
    let mut streams = H2Client::connect(LOCAL, gateway.https(), 65_535);
    one.behave(behaviour);
    plain.send(request("GET", "/slow-1", &[("user-token", &token)]));
    let slow = streams.get_as("/slow-2", &token);
    one.waits_for("/slow-1");
    one.waits_for("/slow-2");
    let elsewhere = options.clone().set("platform", "servers", format!("[{:?}]", other.url()));
    assert_eq!(gateway.reloaded(&elsewhere), ["platform.servers"]);
    assert_eq!(gateway.status(&token), 200);
    other.request("/ds-api/status-of-a-token");
    go_on();
    assert_eq!(plain.answer().map(|answer| answer.status), Ok(200));
    assert_eq!(h2_client::statuses(vec![slow]), [200]);
    one.behave(Behaviour::Echo);
    // Both connections live on, and go elsewhere.
    assert_eq!(on(&mut plain, "/next-1", &token), 200);
    assert_eq!(h2_client::statuses(vec![streams.get_as("/next-2", &token)]), [200]);
    other.request("/next-1");
    other.request("/next-2");
    // What is counted of servers goes on, and comes back.
    let tries = |platform: &Platform| {
        gateway.metric("ds_gateway_platform_tries_total", &[&format!("server=\"{}\"", platform.address)])
    };
    assert_eq!((tries(&one), tries(&other)), (0.0, 3.0));
    let in_use = |platform: &Platform| {
        gateway
            .metric("ds_gateway_platform_addresses", &[&format!("server=\"{}\"", platform.address), "in_use"])
    };
    assert_eq!((in_use(&one), in_use(&other)), (0.0, 1.0));
    gateway.reloaded(&options);
    assert_eq!((tries(&one), in_use(&one)), (2.0, 1.0));
    let routed =
        format!("{}[[platforms]]\nprefix = \"/ui\"\nservers = [{:?}]\n", options.text(), other.url());
    fs::write(gateway.folder.config(), routed).expect("a configuration");
    assert!(gateway.folder.cli(&["reload"], "").ok().contains("applied at once: platforms"));
    assert_eq!(on(&mut plain, "/ui/x", &token), 200);
    other.request("/ui/x");
}

#[test]
fn whose_certificate_the_platform_must_have_follows() {
    let dir = tempfile::TempDir::new().expect("a folder");
    certificates(dir.path());
    let server = TlsServer::start(dir.path(), &[]);
    let good = over_tls(dir.path(), server.port);
    let gateway = good.clone().start();
    let token = gateway.mint();
    let asked = || get(&gateway, "/", &token).status;
    assert_eq!([asked(), asked()], [200, 200]);
    let file = dir.path().join("changing.pem");
    let changing = good.clone().set("platform", "ca_file", format!("{file:?}"));
    fs::copy(dir.path().join("other.pem"), &file).expect("a copy");
    assert_eq!(gateway.reloaded(&changing), ["platform.ca_file"]);
    assert_eq!([asked(), asked()], [502, 502], "connections by the CA before are not used");
    // The same path with another content.
    fs::copy(dir.path().join("ca.pem"), &file).expect("a copy");
    assert_eq!(gateway.reloaded(&changing), ["platform.ca_file"]);
    assert_eq!(asked(), 200);
    assert_eq!(
        gateway.reloaded(&changing.clone().set("platform", "server_name", "\"elsewhere.test\"")),
        ["platform.servers"]
    );
    assert_eq!(asked(), 502);
    let unverified =
        changing.set("platform", "server_name", "\"elsewhere.test\"").set("platform", "verify", "false");
    let said = gateway.reload(&unverified);
    assert!(said.code == Some(0) && said.stderr.contains("warning: platform.verify: false"), "{said:?}");
    assert_eq!(asked(), 200);
}

#[test]
fn headers_for_the_platform_and_pages_of_other_origins_follow() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let gateway = options.clone().start();
    let (token, mut client) = (gateway.mint(), gateway.client());
    let changed = options
        .set("platform", "user_header", "\"X-Who\"")
        .set("platform", "forward_token", "false")
        .set("cors", "origins", "[\"https://a.example\"]");
    let applied = gateway.reloaded(&changed);
    assert_eq!(applied, ["platform.forward_token", "platform.user_header", "cors"]);
    let fields = [("user-token", token.as_str()), ("Origin", "https://a.example")];
    let answer = client.exchange(request("GET", "/named", &fields));
    assert_eq!(answer.value("access-control-allow-origin"), "https://a.example");
    let seen = platform.request("/named");
    assert_eq!((seen.values("x-who"), seen.values("user-token")), (vec![USER], vec![]));
}

#[test]
fn limits_hold_for_new_requests_and_connections() {
    let platform = Platform::echo();
    let options = Options::new(&platform).set("limits", "keepalive_timeout", "\"60s\"");
    let gateway = options.clone().start();
    let (token, mut client) = (gateway.mint(), gateway.client());
    let post = |client: &mut Client, length: usize| {
        client.exchange(request_with("POST", "/x", &[("user-token", &token)], &vec![b'x'; length])).status
    };
    assert_eq!(post(&mut client, 2000), 200);
    gateway.reloaded(&options.clone().set("limits", "body_bytes", "1000"));
    assert_eq!([post(&mut client, 1000), post(&mut client, 2000)], [200, 413]);

    let fields = |count: usize| {
        let mut fields = vec![("user-token".to_owned(), token.clone())];
        fields.extend((0..count).map(|number| (format!("x-{number}"), "y".to_owned())));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        gateway.exchange(request("GET", "/x", &fields)).status
    };
    assert_eq!(fields(50), 200);
    gateway.reloaded(&options.clone().set("limits", "header_fields", "20"));
    assert_eq!([fields(5), fields(50)], [200, 431]);

    // Lowered below what there is, nothing new comes in until enough has gone; and raised, at once.
    let mut kept: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    assert!(kept.iter_mut().all(|client| on(client, "/x", &token) == 200));
    gateway.reloaded(&options.clone().set("limits", "connections_per_address", "2"));
    assert_eq!(gateway.client().exchange(request("GET", "/x", &[])).status, 503);
    assert!(kept.iter_mut().all(|client| on(client, "/x", &token) == 200), "those that are there stay");
    gateway.reloaded(&options);
    assert_eq!(on(&mut gateway.client(), "/x", &token), 200);

    let mut before = gateway.client();
    assert_eq!(on(&mut before, "/x", &token), 200);
    gateway.reloaded(&options.clone().set("limits", "keepalive_timeout", "\"1s\""));
    let mut after = gateway.client();
    assert_eq!(on(&mut after, "/x", &token), 200);
    after.is_closed();
    assert_eq!(on(&mut before, "/x", &token), 200, "a connection keeps the limits that it began with");

    gateway.reloaded(&options.clone().set("limits", "mint_burst", "1"));
    let statuses: Vec<u16> = (0..3).map(|_| gateway.log_in(USER, PASSWORD).status).collect();
    assert!(statuses.contains(&201) && statuses.contains(&429), "{statuses:?}");
    gateway.reloaded(&options);
    gateway.still_healthy();
}

#[test]
fn requests_at_once_are_counted_through_a_reload() {
    let platform = Platform::echo();
    let options = Options::new(&platform).set("limits", "requests", "100");
    let gateway = options.clone().start();
    let token = gateway.mint();
    let (go_on, behaviour) = held();
    platform.behave(behaviour);
    let mut held: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for (number, client) in held.iter_mut().enumerate() {
        client.send(request("GET", &format!("/held-{number}"), &[("user-token", &token)]));
        platform.waits_for(&format!("/held-{number}"));
    }
    let small = options.clone().set("limits", "requests", "4");
    assert_eq!(gateway.reloaded(&small), ["limits.requests"]);
    let mut client = gateway.client();
    assert_eq!(on(&mut client, "/more", &token), 503);
    go_on();
    for client in &mut held {
        assert_eq!(client.answer().map(|answer| answer.status), Ok(200));
    }
    platform.behave(Behaviour::Echo);
    eventually("room", || (on(&mut gateway.client(), "/more", &token) == 200).then_some(()));
}

#[test]
fn log_and_trusted_proxies_follow() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let gateway = options.clone().start();
    let (token, mut client) = (gateway.mint(), gateway.client());
    let lines = |target: &str| gateway.log.lines().iter().filter(|line| line.contains(target)).count();
    let forwarded = |client: &mut Client, target: &str| {
        let fields = [("user-token", token.as_str()), ("X-Forwarded-For", "192.0.2.7")];
        client.exchange(request("GET", target, &fields));
        platform.request(target).values("x-forwarded-for").join(", ")
    };
    on(&mut client, "/seen-1?ticket=t1", &token);
    eventually("a line", || (lines("ticket=t1") == 1).then_some(()));
    gateway.reloaded(&options.clone().set("log", "redact", "[\"ticket\"]"));
    on(&mut client, "/seen-2?ticket=t2", &token);
    eventually("a line", || (lines("/seen-2") == 1).then_some(()));
    assert_eq!(lines("ticket=t2"), 0);
    gateway.reloaded(&options.clone().set("log", "access", "false"));
    on(&mut client, "/seen-3", &token);
    assert_eq!(forwarded(&mut client, "/from-1"), "127.0.0.1");
    let trusting = options.clone().set("server", "trusted_proxies", "[\"127.0.0.1\"]");
    gateway.reloaded(&trusting);
    let mut trusted = gateway.client();
    assert_eq!(forwarded(&mut trusted, "/from-2"), "192.0.2.7, 127.0.0.1");
    eventually("a line", || (lines("/from-2") == 1).then_some(()));
    assert_eq!(lines("/seen-3"), 0, "none was written meanwhile");
    // Trust ends at once.
    gateway.reloaded(&options);
    assert_eq!(forwarded(&mut trusted, "/from-3"), "127.0.0.1");
}

#[test]
fn sources_of_users_follow() {
    let platform = Platform::echo();
    let options = Options::new(&platform);
    let gateway = options.clone().start();
    let log_in = || {
        gateway
            .exchange(request("POST", "/ds-api/user-token", &[("Authorization", &basic("bert", "x"))]))
            .status
    };
    assert_eq!(log_in(), 401);
    let asked = options.clone().set("users", "sources", "[\"store\", \"platform\"]");
    assert_eq!(gateway.reloaded(&asked), ["users.sources"]);
    log_in();
    assert!(platform.saw("/ds-api/user-token"), "the platform is asked now");
    gateway.reloaded(&options);
    assert_eq!(log_in(), 401);
}

#[test]
fn an_observation_begins_and_ends() {
    let platform = Platform::echo();
    let options = Options::new(&platform).nobody();
    let gateway = options.clone().start();
    let mut client = gateway.client();
    assert_eq!(on(&mut client, "/x", "no token"), 401);
    let in_a_week = chrono_date(7);
    let observing = options.clone().set("routes", "mode", "\"observe\"").set(
        "routes",
        "observe_until",
        format!("{in_a_week:?}"),
    );
    let said = gateway.reload(&observing);
    assert!(said.stderr.contains("routes.mode: \"observe\"") && said.code == Some(0), "{said:?}");
    assert_eq!(on(&mut client, "/x", "no token"), 200);
    let mode = || gateway.admin("/readyz").json()["mode"].as_str().map(str::to_owned);
    assert_eq!(mode().as_deref(), Some("observe"));
    gateway.reloaded(&options);
    assert_eq!((on(&mut client, "/x", "no token"), mode().as_deref()), (401, Some("enforce")));
}

/// A day so many days from now, as the configuration has it.
fn chrono_date(days: i64) -> String {
    let mut command = std::process::Command::new("date");
    command.args(["-u", "-d", &format!("{days} days"), "+%F"]);
    crate::command::finish(command, "").ok().trim().to_owned()
}

#[test]
fn a_password_of_a_directory_is_a_file_that_is_compared() {
    let platform = Platform::echo();
    let directory = Options::new(&platform)
        .set("users", "sources", "[\"store\", \"ldap\"]")
        .set("users.ldap", "servers", "[\"ldap://127.0.0.1:1\"]")
        .set("users.ldap", "preset", "\"openldap\"")
        .set("users.ldap", "bind_dn", "\"cn=gateway,dc=x\"")
        .set("users.ldap", "bind_password_file", "\"password\"")
        .set("users.ldap", "base", "\"dc=x\"")
        .set("users.ldap", "organization", "\"Main Org.\"");
    let gateway = Options::new(&platform).start();
    let password = gateway.folder.dir.path().join("password");
    private(&password, b"one");
    assert_eq!(gateway.reloaded(&directory), ["users.ldap", "users.sources"]);
    assert_eq!(gateway.reloaded(&directory), [""; 0]);
    private(&password, b"other");
    assert_eq!(gateway.reloaded(&directory), ["users.ldap"]);
    gateway.still_healthy();
}
