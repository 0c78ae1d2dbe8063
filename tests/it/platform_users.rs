//! Users of the platform, who log in here with the password that they have there.

use crate::client::{Answer, basic, request, request_with};
use crate::command::eventually;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::jwt;
use crate::logins::guess;
use crate::options::{Key, Options};
use crate::platform::{Behaviour, Platform, Seen};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const ENDPOINT: &str = "/ds-api/user-token";

/// A platform with users of its own: name to password, e-mail address and organization.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<BTreeMap<String, [String; 3]>>>);

impl Directory {
    pub fn set(&self, name: &str, password: &str, organization: &str) {
        let user = [password, &format!("{name}@platform.example"), organization].map(str::to_owned);
        self.0.lock().expect("a lock").insert(name.to_owned(), user);
    }

    /// As the platform answers it: 201 with a token of its own kind, or 401.
    fn log_in(&self, seen: &Seen) -> (u16, String) {
        let field = seen.values("authorization");
        let decoded = field.first().and_then(|field| STANDARD.decode(field.strip_prefix("Basic ")?).ok());
        let pair = String::from_utf8(decoded.unwrap_or_default()).expect("text");
        let (name, password) = pair.split_once(':').unwrap_or_default();
        match self.0.lock().expect("a lock").get(name) {
            Some([own, email, organization]) if own == password => {
                let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let claims = json!({ "user": name, "email": email, "database": organization, "exp": 1 });
                let token = format!("{}.{}.c2ln", part(&json!({ "alg": "RS256" })), part(&claims));
                (201, json!({ "user-token": token }).to_string())
            }
            _ => (401, json!({ "error": "wrong" }).to_string()),
        }
    }

    pub fn platform(&self) -> Platform {
        Platform::start(self.behaviour())
    }

    pub fn behaviour(&self) -> Behaviour {
        let users = self.clone();
        Behaviour::Custom(Arc::new(move |seen: &Seen, stream: &mut TcpStream| {
            let (status, body) = match (seen.method.as_str(), seen.target.as_str()) {
                ("POST", ENDPOINT) => users.log_in(seen),
                _ => (200, json!({ "user": seen.values("x-ds-user") }).to_string()),
            };
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        }))
    }
}

fn options(platform: &Platform) -> Options {
    Options::new(platform).set("users", "sources", "[\"store\", \"platform\"]")
}

/// One login, again where too many waited.
pub fn log_in(gateway: &Gateway, name: &str, password: &str) -> Answer {
    eventually("a login", || {
        let answer = gateway.log_in(name, password);
        (!answer.text().contains("too many logins")).then_some(answer)
    })
}

#[track_caller]
pub fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["user-token"].as_str().expect("a token").to_owned()
}

fn logins_at(platform: &Platform) -> usize {
    platform.requests().iter().filter(|seen| seen.target == ENDPOINT).count()
}

fn run(gateway: &Gateway, arguments: &[&str]) -> String {
    gateway.folder.cli(arguments, "").ok()
}

/// A request that the platform answers.
pub fn call(gateway: &Gateway, token: &str, target: &str) -> Answer {
    gateway.exchange(request("GET", target, &[("user-token", token)]))
}

#[test]
fn user_of_the_platform_logs_in_with_its_password_there() {
    let users = Directory::default();
    users.set("anna", "anna's password", "Main Org.");
    let platform = users.platform();
    let gateway = options(&platform).start();
    let token = token(&log_in(&gateway, "anna", "anna's password"));
    assert_eq!(call(&gateway, &token, "/x").status, 200);
    assert_eq!(platform.request("/x").values("x-ds-user"), ["anna"]);
    assert_eq!(platform.request("/x").values("x-ds-email"), ["anna@platform.example"]);
    // One that is wrong there is wrong here, and so is one that nobody has.
    log_in(&gateway, "anna", "wrong").is_error(401);
    log_in(&gateway, "nobody", "wrong").is_error(401);
    assert_eq!(logins_at(&platform), 3);
    let trail = run(&gateway, &["audit", "list", "--user", "anna"]);
    assert!(trail.contains("checked_by \"platform, "), "{trail}");
    // Kept without a password, so that everything else works on it.
    let shown: Value =
        serde_json::from_str(&run(&gateway, &["user", "show", "anna", "--json"])).expect("JSON");
    assert_eq!((&shown["source"], &shown["organization"]), (&json!("platform"), &json!("Main Org.")));
    run(&gateway, &["revoke", "user", "anna"]);
    assert_eq!(call(&gateway, &token, "/y").status, 401);
    let again = self::token(&log_in(&gateway, "anna", "anna's password"));
    assert_eq!(call(&gateway, &again, "/z").status, 200);
    run(&gateway, &["user", "disable", "anna"]);
    eventually("the change in force", || (call(&gateway, &again, "/y").status == 401).then_some(()));
    log_in(&gateway, "anna", "anna's password").is_error(401);
}

#[test]
fn store_owns_its_names_and_is_asked_first() {
    let users = Directory::default();
    users.set(USER, "another password", "Main Org.");
    let platform = users.platform();
    let gateway = options(&platform).start();
    token(&log_in(&gateway, USER, PASSWORD));
    log_in(&gateway, USER, "another password").is_error(401);
    assert_eq!(logins_at(&platform), 0);
    // A name like it is the platform's to check, and still not one that may log in here.
    users.set("MYUSER", "another password", "Main Org.");
    log_in(&gateway, "MYUSER", "another password").is_error(401);
    assert_eq!(logins_at(&platform), 1);
    let trail = run(&gateway, &["audit", "list"]);
    assert!(trail.contains("login_conflict"), "{trail}");
}

#[test]
fn claims_that_changed_on_the_platform_end_the_older_tokens() {
    let users = Directory::default();
    users.set("anna", "anna's password", "Main Org.");
    let platform = users.platform();
    let gateway = options(&platform).start();
    let old = token(&log_in(&gateway, "anna", "anna's password"));
    users.set("anna", "anna's password", "Other Org.");
    let new = token(&log_in(&gateway, "anna", "anna's password"));
    assert_eq!(call(&gateway, &old, "/x").status, 401);
    assert_eq!(call(&gateway, &new, "/x").status, 200);
    assert_eq!(platform.request("/x").values("x-ds-organization"), ["Other Org."]);
}

#[test]
fn platform_that_does_not_answer_is_503_and_lets_nobody_in_by_another_way() {
    let users = Directory::default();
    users.set("anna", "anna's password", "Main Org.");
    let platform = users.platform();
    let gateway = options(&platform).set("users.platform", "timeout", "\"1s\"").start();
    let token = token(&log_in(&gateway, "anna", "anna's password"));
    for behaviour in [
        Behaviour::Never,
        Behaviour::Close,
        Behaviour::Reset,
        Behaviour::Raw(b"nonsense\r\n\r\n".to_vec()),
        Behaviour::Raw(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Behaviour::Raw(b"HTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        Behaviour::Raw(b"HTTP/1.1 201 X\r\nContent-Length: 99\r\n\r\n{}".to_vec()),
        Behaviour::Raw([&b"HTTP/1.1 201 X\r\n\r\n"[..], &[b' '; 80_000]].concat()),
    ] {
        platform.behave(behaviour);
        for password in ["anna's password", "wrong"] {
            let answer = log_in(&gateway, "anna", password);
            answer.is_error(503);
            assert!(answer.text().contains("password cannot be checked"), "{answer:?}");
        }
    }
    // The store's own are not kept waiting, and tokens go on.
    self::token(&log_in(&gateway, USER, PASSWORD));
    platform.behave(users.behaviour());
    assert_eq!(call(&gateway, &token, "/x").status, 200);
    self::token(&log_in(&gateway, "anna", "anna's password"));
    let count = |answer: &str| {
        let labels = [format!("answer=\"{answer}\""), "source=\"platform\"".to_owned()];
        gateway.metric("ds_gateway_login_source_answers_total", &labels.each_ref().map(String::as_str))
    };
    assert_eq!((count("accepted"), count("refused"), count("unavailable")), (2.0, 0.0, 16.0));
}

#[test]
fn remembered_password_serves_while_the_platform_is_away_and_only_then() {
    let users = Directory::default();
    users.set("anna", "anna's password", "Main Org.");
    let platform = users.platform();
    let options = options(&platform).set("users.platform", "timeout", "\"1s\"");
    let gateway = options.set("users.platform", "remember", "\"argon2id\"").start();
    token(&log_in(&gateway, "anna", "anna's password"));
    let remembered = || run(&gateway, &["user", "list", "--source", "platform", "--remembered"]);
    eventually("a hash that is kept", || remembered().contains("anna").then_some(()));
    platform.behave(Behaviour::Never);
    token(&log_in(&gateway, "anna", "anna's password"));
    log_in(&gateway, "anna", "wrong").is_error(401);
    log_in(&gateway, "bert", "wrong").is_error(503);
    // The platform's word counts where it gives one.
    users.set("anna", "a new password", "Main Org.");
    platform.behave(users.behaviour());
    log_in(&gateway, "anna", "anna's password").is_error(401);
    // What was revoked since it was remembered ends it.
    platform.behave(Behaviour::Never);
    run(&gateway, &["revoke", "user", "anna"]);
    log_in(&gateway, "anna", "anna's password").is_error(503);
}

/// Such an answer may be about this user alone.
#[test]
fn remembered_password_does_not_serve_where_the_platform_gives_another_answer() {
    let users = Directory::default();
    users.set("anna", "anna's password", "Main Org.");
    let platform = users.platform();
    let gateway = options(&platform).set("users.platform", "remember", "\"argon2id\"").start();
    token(&log_in(&gateway, "anna", "anna's password"));
    let remembered = || run(&gateway, &["user", "list", "--source", "platform", "--remembered"]);
    eventually("a hash that is kept", || remembered().contains("anna").then_some(()));
    for status in [302, 400, 404, 410, 422, 423, 429] {
        platform.behave(Behaviour::Raw(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into()));
        log_in(&gateway, "anna", "anna's password").is_error(503);
    }
    platform.behave(Behaviour::Raw(b"HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n".to_vec()));
    token(&log_in(&gateway, "anna", "anna's password"));
}

#[test]
fn user_that_is_moved_to_the_store_needs_the_platform_no_more() {
    let users = Directory::default();
    users.set("anna", "anna's password", "Main Org.");
    let platform = users.platform();
    let gateway = options(&platform).set("users.platform", "remember", "\"argon2id\"").start();
    let token = token(&log_in(&gateway, "anna", "anna's password"));
    let remembered = || run(&gateway, &["user", "list", "--source", "platform", "--remembered"]);
    eventually("a hash that is kept", || remembered().contains("anna").then_some(()));
    run(&gateway, &["user", "move", "anna"]);
    assert_eq!(call(&gateway, &token, "/x").status, 200);
    platform.behave(Behaviour::Never);
    self::token(&log_in(&gateway, "anna", "anna's password"));
    log_in(&gateway, "anna", "wrong").is_error(401);
}

#[test]
fn password_is_in_no_log_line_no_metric_and_no_file() {
    let users = Directory::default();
    users.set("anna", "canary-of-anna", "Main Org.");
    let platform = users.platform();
    let gateway = options(&platform).set("users.platform", "remember", "\"argon2id\"").start();
    token(&log_in(&gateway, "anna", "canary-of-anna"));
    log_in(&gateway, "anna", "canary-of-nobody").is_error(401);
    platform.behave(Behaviour::Raw(b"HTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\n{}".to_vec()));
    log_in(&gateway, "anna", "canary-of-anna");
    let encoded = STANDARD.encode("anna:canary-of-anna");
    let sinks =
        [gateway.log.lines().join("\n"), gateway.admin("/metrics").text(), run(&gateway, &["audit", "list"])];
    for sink in sinks {
        assert!(!sink.contains("canary") && !sink.contains(&encoded), "{sink}");
    }
}

/// The platform has users of its own, checks tokens by itself, with the key that the gateway signs with, and changes passwords.
#[test]
fn published_flow_works_with_the_passwords_of_the_platform() {
    let users = Directory::default();
    users.set("anna", "old password", "Main Org.");
    let (own, key) = (users.clone(), Key::ours("shared"));
    let secret = key.secret.clone();
    let platform =
        Platform::start(Behaviour::Custom(Arc::new(move |seen: &Seen, stream: &mut TcpStream| {
            let is_good = |token: &&str| {
                let (text, _) = token.rsplit_once('.').unwrap_or_default();
                jwt::signed(&secret, text) == **token
            };
            let is_known = seen.values("user-token").first().is_some_and(is_good);
            let (status, body) = match (seen.method.as_str(), seen.target.as_str()) {
                ("POST", ENDPOINT) => own.log_in(seen),
                _ if !is_known => (401, "{}".to_owned()),
                ("PUT", "/ds-api/users/anna@platform.example") => {
                    own.set("anna", &String::from_utf8_lossy(&seen.body), "Main Org.");
                    (200, "{}".to_owned())
                }
                _ => (200, "{}".to_owned()),
            };
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        })));
    let changes = "[{ methods = [\"PUT\"], path = \"/ds-api/users/{email}\", ends = \"{email}\" }]";
    let gateway = options(&platform).key(key).set("platform", "user_changes", changes).start();
    let old = token(&log_in(&gateway, "anna", "old password"));
    assert_eq!(call(&gateway, &old, "/ds-api/servers").status, 200);
    let basic = basic("anna", "old password");
    let inspection = request("GET", &format!("{ENDPOINT}?token={old}"), &[("Authorization", &basic)]);
    let inspected = eventually("an inspection", || {
        let answer = gateway.exchange(&inspection);
        (answer.status != 503).then_some(answer)
    });
    assert_eq!(inspected.json()["user"], "anna");
    let change =
        request_with("PUT", "/ds-api/users/anna@platform.example", &[("user-token", &old)], b"new password");
    assert_eq!(gateway.exchange(change).status, 200);
    assert_eq!(call(&gateway, &old, "/ds-api/servers").status, 401);
    log_in(&gateway, "anna", "old password").is_error(401);
    let new = token(&log_in(&gateway, "anna", "new password"));
    assert_eq!(call(&gateway, &new, "/ds-api/servers").status, 200);
}

#[test]
fn wrong_passwords_at_the_platform_are_counted_as_any_other() {
    let users = Directory::default();
    users.set("anna", "anna's password", "Main Org.");
    let platform = users.platform();
    let gateway = options(&platform).start();
    // From here it is known afterwards.
    token(&log_in(&gateway, "anna", "anna's password"));
    let asked = logins_at(&platform);
    let began = Instant::now();
    let checked = guess(&gateway, "anna", 90);
    let most = 60 + began.elapsed().as_secs() as usize / 36;
    assert!((60..=most).contains(&checked), "{checked}: no more are checked, from however many places");
    // Those that are throttled never reach the platform, which may lock the account.
    assert_eq!(logins_at(&platform) - asked, checked);
    token(&log_in(&gateway, "anna", "anna's password"));
    let outcome = |outcome: &str| gateway.metric("ds_gateway_logins_total", &[outcome]);
    assert_eq!(outcome("outcome=\"refused\""), checked as f64);
    assert_eq!(outcome("outcome=\"throttled_account\""), (90 - checked) as f64);
}
