//! Revocation as clients and operators see it: at once, durable before it is acknowledged, and on every gateway.

use crate::audit::{rows, token_id};
use crate::client::{Answer, basic, request, request_with};
use crate::command::{Done, Folder, eventually, finish, started_by};
use crate::contract::{ENDPOINT, INVALID_TOKEN, inspect, is_guarded};
use crate::curl::{BOTH, curl};
use crate::deployment::{Deployment, header};
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::http2::{tls_deployment, token_field, url};
use crate::jwt::{self, Members, now, token};
use crate::options::{Key, Options, User};
use crate::platform::Platform;
use serde_json::Value;

/// The request that ends a token.
pub fn delete(token: &str) -> Vec<u8> {
    request("DELETE", ENDPOINT, &[("user-token", token)])
}

/// Makes tokens of a deployment's own: any number for any user, without asking anybody.
#[derive(Clone)]
pub struct Forge {
    secret: Vec<u8>,
    number: u64,
}

impl Forge {
    pub fn of(deployment: &Deployment) -> Self {
        Self { secret: deployment.secret.clone(), number: deployment.number }
    }

    /// From here on tokens as if they were minted at this number.
    pub fn at(&mut self, number: u64) {
        self.number = number;
    }

    pub fn token(&self, user: &str, serial: u64) -> String {
        let (now, random) = (now(), jwt::encode(u128::from(serial).to_be_bytes()));
        let times = Members::new().and("exp", now + 3_600).and("iat", now);
        let claims = times.text("database", ORGANIZATION).text("email", EMAIL).text("user", user);
        let claims = claims.text("jti", &format!("{}.{random}", self.number));
        token(&self.secret, header().json(), claims.json())
    }
}

/// A deployment that is started with other options than most.
pub fn deployment_with(change: impl FnOnce(Options) -> Options) -> Deployment {
    let (platform, key) = (Platform::echo(), Key::ours("k1"));
    let gateway = change(Options::new(&platform).key(key.clone())).start();
    let number = number_of(&gateway.mint());
    Deployment { platform, secret: key.secret, number, gateway }
}

/// The place of a token in the store's order.
pub fn number_of(token: &str) -> u64 {
    let claims = jwt::read(token).1;
    let number = claims["jti"].as_str().expect("a jti").split('.').next();
    number.and_then(|number| number.parse().ok()).expect("a number")
}

/// `ds-gateway revoke …`, again while it says so: on a busy machine a gateway, or a store that another process writes to,
/// may need more than the two seconds that the command waits for it.
pub fn revoke(folder: &Folder, arguments: &[&str]) -> Done {
    eventually("every gateway to know", || {
        let done = revoke_once(folder, arguments);
        (done.code != Some(75)).then_some(done)
    })
}

/// The same, once.
pub fn revoke_once(folder: &Folder, arguments: &[&str]) -> Done {
    folder.cli(&[&["revoke"], arguments].concat(), "")
}

/// Waits until the command line counts so many gateways: one says that it is there a moment after its start.
pub fn are_counted(folder: &Folder, gateways: u64) {
    eventually(&format!("{gateways} gateways"), || {
        let done = revoke(folder, &["organization", "Nobody's", "--json"]);
        let json: Value = serde_json::from_str(done.stdout.trim()).expect("JSON");
        (done.code == Some(65) && json["gateways"] == gateways).then_some(())
    });
}

#[track_caller]
pub fn is_204(answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{answer:?}");
    is_guarded(answer);
    assert!(answer.values("content-length").is_empty() && !answer.head.is_chunked(), "{answer:?}");
    assert!(!answer.says_close(), "{answer:?}");
}

#[test]
fn a_deleted_token_is_refused_on_the_very_next_request_and_its_neighbour_is_not() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let (token, neighbour) = (gateway.mint(), gateway.mint());
    let good = basic(USER, PASSWORD);
    let inspected =
        |token: &str| inspect(&gateway, &format!("?token={token}"), &[("Authorization", &good)]).status;
    assert_eq!((gateway.status(&token), inspected(&token)), (200, 200));
    let mut client = gateway.client();
    is_204(&client.exchange(delete(&token)));
    let used = client.exchange(request("GET", "/ds-api/canary", &[("user-token", &token)]));
    used.is_error(401);
    assert_eq!(used.value("www-authenticate"), INVALID_TOKEN, "{used:?}");
    assert_eq!((gateway.status(&token), inspected(&token)), (401, 401));
    assert_eq!((gateway.status(&neighbour), inspected(&neighbour)), (200, 200));
    is_204(&client.exchange(delete(&token)));
    is_204(&gateway.exchange(delete(&token)));
    assert_eq!(gateway.status(&neighbour), 200);

    // A small body is no business of anybody, and the connection goes on.
    let small = request_with("DELETE", ENDPOINT, &[("user-token", &neighbour)], &[b'x'; 1000]);
    is_204(&client.exchange(small));
    let next = client.exchange(request("GET", "/ds-api/canary", &[("user-token", &neighbour)]));
    next.is_error(401);
    platform.never_saw("canary");

    let of_mine: Vec<Value> = rows(&gateway.folder, &[]);
    let revoked: Vec<&Value> = of_mine.iter().filter(|row| row["action"] == "revoke_token").collect();
    assert_eq!(revoked.len(), 2, "one row a token: {revoked:?}");
    for (row, token) in revoked.into_iter().zip([&token, &neighbour]) {
        assert_eq!((&row["subject"], &row["actor"]), (&USER.into(), &USER.into()), "{row}");
        assert_eq!(row["token_id"], token_id(token), "{row}");
        assert!(row["origin"].as_str().is_some_and(|origin| origin.starts_with("127.0.0.1")), "{row}");
    }
    gateway.still_healthy();
}

#[test]
fn what_is_not_a_token_revokes_nothing() {
    let deployment = Deployment::open();
    let (gateway, good) = (&deployment.gateway, deployment.good());
    let forged = token(b"another secret of at least 32 bytes", header().json(), deployment.claims().json());
    let fields = |token: &str| vec![("user-token", token.to_owned())];
    let rows = [
        ("missing", vec![]),
        ("only Basic", vec![("Authorization", basic(USER, PASSWORD))]),
        ("doubled", [fields(&good), fields(&good)].concat()),
        ("joined", fields(&format!("{good},{good}"))),
        ("an alias", vec![("user_token", good.clone())]),
        ("an alias beside it", [fields(&good), vec![("User.Token", good.clone())]].concat()),
        ("empty", fields("")),
        ("forged", fields(&forged)),
        ("cut", fields(&good[..good.len() - 1])),
        ("none", fields("x")),
        ("expired", fields(&deployment.with("exp", now() - 1))),
    ];
    let mut client = gateway.client();
    for (name, fields) in &rows {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.exchange(request("DELETE", ENDPOINT, &fields));
        assert_eq!(answer.status, 401, "{name}: {}", answer.text());
        answer.is_error(401);
        is_guarded(&answer);
    }
    let by_query = request("DELETE", &format!("{ENDPOINT}?token={good}"), &[]);
    client.exchange(by_query).is_error(401);
    for path in ["/ds-api/user-token/Main%20Org.", "/ds-api/user-token/Other"] {
        let answer = client.exchange(request("DELETE", path, &[("user-token", &good)]));
        answer.is_error(405);
        assert_eq!(answer.value("allow"), "GET, POST");
    }
    assert_eq!(gateway.status(&good), 200, "after {} attempts", rows.len());
    assert_eq!(gateway.metric("ds_gateway_revocations", &["kind=\"token\""]), 0.0);
    let refused = gateway.metric("ds_gateway_token_requests_total", &["\"revoke\"", "\"bad_token\""]);
    assert_eq!(refused, rows.len() as f64 + 1.0);
    gateway.still_healthy();
}

#[test]
fn revocation_over_https_is_the_same_with_both_protocols() {
    let (_platform, gateway, _) = tls_deployment();
    for protocol in BOTH {
        let (token, neighbour) = (gateway.mint(), gateway.mint());
        let fetch = |method: &str, target: &str, token: &str| {
            let arguments = ["-X", method, "-H", &token_field(token)];
            curl(protocol, &url(&gateway, target), &arguments, "")
        };
        fetch("GET", "/ds-api/x", &token).is(200);
        for _ in 0..2 {
            let revoked = fetch("DELETE", ENDPOINT, &token);
            assert!(revoked.is(204).body.is_empty());
            assert_eq!(revoked.values("cache-control"), ["no-store"], "{protocol:?}");
            assert_eq!(revoked.values("x-request-id").len(), 1, "{protocol:?}");
            fetch("GET", "/ds-api/x", &token).is_error(401);
        }
        fetch("DELETE", ENDPOINT, "forged").is_error(401);
        let older = fetch("DELETE", &format!("{ENDPOINT}/Main%20Org."), &neighbour);
        older.is_error(405);
        assert_eq!(older.values("allow"), ["GET, POST"]);
        fetch("GET", "/ds-api/x", &neighbour).is(200);
    }
    gateway.still_healthy();
}

#[test]
fn a_revocation_survives_every_kind_of_end() {
    let platform = Platform::echo();
    let mut gateway = Options::new(&platform).start();
    let mut dead = Vec::new();
    let living = gateway.mint();
    for kill in [false, true] {
        let token = gateway.mint();
        is_204(&gateway.exchange(delete(&token)));
        dead.push(token);
        let folder = if kill { gateway.kill() } else { gateway.stop() };
        gateway = folder.run(&[]);
        assert!(dead.iter().all(|token| gateway.status(token) == 401), "killed: {kill}");
        assert_eq!(gateway.status(&living), 200, "killed: {kill}");
        assert_eq!(gateway.metric("ds_gateway_revocations", &["kind=\"token\""]), dead.len() as f64);
        is_204(&gateway.exchange(delete(&dead[0])));
    }
    gateway.still_healthy();
}

#[test]
fn marks_end_what_came_before_them_and_a_token_of_the_same_second_lives() {
    let deployment = deployment_with(|options| {
        let key = Key::foreign("shared");
        options.key(key).user(User::new("other", "pw", "other@example.com", "Other Org."))
    });
    let (gateway, folder) = (&deployment.gateway, &deployment.gateway.folder);
    are_counted(folder, 1);
    let foreign = |iat: u64| {
        let claims = Members::new().and("exp", iat + 3_600).and("iat", iat).text("database", ORGANIZATION);
        let claims = claims.text("email", EMAIL).text("user", USER);
        token(&Key::foreign("shared").secret, Members::header("HS256", "shared").json(), claims.json())
    };
    let living = || {
        eventually("a foreign token", || {
            Some(foreign(now() + 4)).filter(|token| gateway.status(token) == 200)
        })
    };
    let refused = |reason: &str| gateway.metric("ds_gateway_decisions_total", &[&format!("\"{reason}\"")]);
    let kinds: [(&[&str], &str, &str, &str, bool); 4] = [
        (&["user", USER], "revoke_user", "revoked_user", "user", false),
        (
            &["organization", ORGANIZATION],
            "revoke_organization",
            "revoked_organization",
            "organization",
            false,
        ),
        (&["email", EMAIL], "revoke_email", "revoked_email", "email", false),
        (&["all"], "revoke_all", "revoked_everybody", "everybody", true),
    ];
    for (arguments, action, reason, kind, everybody) in kinds {
        let (ours, foreign) = (gateway.mint(), living());
        let other = gateway.login("other", "pw").expect("a token");
        let before = refused(reason);
        let done = revoke(folder, arguments);
        let after = gateway.mint();
        assert_eq!(gateway.status(&after), 200, "{arguments:?}: minted after it, in the same second or not");
        let by_hand = folder.cli(&["token", "mint", USER], "").ok();
        assert_eq!(gateway.status(by_hand.trim()), 200);
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "revoked; active on 1 of 1 gateways\n"));
        assert_eq!([&ours, &foreign].map(|token| gateway.status(token)), [401, 401], "{arguments:?}");
        assert_eq!(gateway.status(&other), if everybody { 401 } else { 200 }, "{arguments:?}");
        assert_eq!(refused(reason) - before, if everybody { 3.0 } else { 2.0 }, "{arguments:?}");
        // It held once, and anyone who holds it may end it: nothing is left to do.
        is_204(&gateway.exchange(delete(&ours)));
        let rows = rows(folder, &[]);
        let row = rows.iter().rfind(|row| row["action"] == action).expect("a row");
        assert_eq!(
            (&row["subject"], &row["origin"]),
            (&(*arguments.get(1).unwrap_or(&"everybody")).into(), &"command line".into())
        );
        let listed = revoke(folder, &["list"]).ok();
        let number = row["number"].to_string();
        let found = listed.lines().any(|line| line.contains(kind) && line.trim_start().starts_with(&number));
        assert!(found, "{kind} {number} in {listed}");
        if !everybody {
            assert!(gateway.metric("ds_gateway_revocations", &[&format!("kind=\"{kind}\"")]) >= 1.0);
        }
    }
    // The platform's own tokens are ended one by one as well.
    let foreign = living();
    is_204(&gateway.exchange(delete(&foreign)));
    assert_eq!(gateway.status(&foreign), 401);
    gateway.still_healthy();
}

#[test]
fn the_command_line_ends_one_token_and_says_where_and_what_it_cannot_do() {
    let deployment = Deployment::open();
    let (gateway, folder) = (&deployment.gateway, &deployment.gateway.folder);
    are_counted(folder, 1);
    let [by_log, by_audit, by_file, neighbour] = [1, 2, 3, 4].map(|_| gateway.mint());
    let answer = gateway.exchange(request("GET", "/x", &[("user-token", &by_log)]));
    let request_id = answer.value("x-request-id").to_owned();
    let id = eventually("an access line", || {
        let line = gateway.log.messages("access").into_iter().find(|line| line["request_id"] == request_id);
        line.and_then(|line| line["token_id"].as_str().map(str::to_owned))
    });
    assert_eq!(id, token_id(&by_log));
    let say = "revoked; active on 1 of 1 gateways\n";
    assert_eq!(revoke(folder, &["token", &id]).ok(), say);
    assert_eq!(gateway.status(&by_log), 401);

    let rows_before = rows(folder, &[]);
    let minted = rows_before.iter().find(|row| row["token_id"] == token_id(&by_audit)).expect("its mint");
    let json = revoke(folder, &["token", "--json", minted["token_id"].as_str().expect("an id")]).ok();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["durable"], &json["in_force_on"]), (&true.into(), &1.into()), "{json}");
    assert_eq!(json["gateways"], 1, "{json}");
    assert_eq!(gateway.status(&by_audit), 401);

    let done = folder.cli(&["revoke", "token", "--token-file", "-"], &format!("{by_file}\n"));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), say));
    assert_eq!(gateway.status(&by_file), 401);
    assert_eq!(revoke(folder, &["token", &token_id(&by_file)]).ok(), say, "again is no fault");
    let refused = gateway.metric("ds_gateway_decisions_total", &["\"revoked_token\""]);
    assert_eq!((refused, gateway.metric("ds_gateway_revocations", &["kind=\"token\""])), (3.0, 3.0));

    let listed = revoke(folder, &["list", "--json"]).ok();
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut tokens = listed.iter().filter(|row| row["kind"] == "token");
    assert!(tokens.clone().any(|row| row["number"] == json["number"]), "{json} in {listed:?}");
    for token in [&by_file, &by_audit, &by_log] {
        assert_eq!(tokens.next().map(|row| &row["subject"]), Some(&token_id(token).into()));
    }
    let revoked = |row: &&Value| row["action"] == "revoke_token" && row["origin"] == "command line";
    let ids: Vec<Value> =
        rows(folder, &[]).iter().filter(revoked).map(|row| row["token_id"].clone()).collect();
    assert_eq!(ids, [&by_log, &by_audit, &by_file].map(|token| Value::from(token_id(token))));

    let short = &token_id(&neighbour)[1..];
    for (code, arguments, input) in [
        (64, &["token", short][..], ""),
        (64, &["token", &neighbour], ""),
        (64, &["token"], ""),
        (64, &["token", &id, "--token-file", "-"], ""),
        (64, &["token", "--token-file", "/nonexistent"], ""),
        (64, &["user", ""], ""),
        (64, &["organization", "a\u{7}b"], ""),
        (64, &["everything"], ""),
        (65, &["token", "--token-file", "-"], "not a token"),
        (65, &["token", "--token-file", "-"], &neighbour[..neighbour.len() - 1]),
    ] {
        let done = folder.cli(&[&["revoke"], arguments].concat(), input);
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{arguments:?} {done:?}");
        assert!(!done.stderr.is_empty() && !done.stderr.contains(&neighbour[..60]), "{arguments:?} {done:?}");
    }
    // A disk that is full for the command alone.
    let full = ["bash", "-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "bash"];
    let done = finish(started_by(&full, &folder.command(&["revoke", "token", &token_id(&neighbour)])), "");
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
    assert!(done.stderr.contains("not revoked"), "{done:?}");
    assert_eq!(gateway.status(&neighbour), 200, "nothing of all this ended it");
    gateway.still_healthy();
}
