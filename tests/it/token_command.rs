//! `ds-gateway token`: minting, reading and explaining tokens beside a running gateway, of one mind with it.

use crate::audit::token_id;
use crate::client::request;
use crate::command::{Done, Folder, eventually, private};
use crate::contract::ENDPOINT;
use crate::deployment::{Deployment, header};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt::{self, now, signed, utc};
use crate::observability::changed;
use crate::options::{Options, User};
use crate::platform::Platform;
use serde_json::Value;

fn mint(folder: &Folder, name: &str) -> Done {
    folder.cli(&["token", "mint", name], "")
}

/// A command on a token that comes on standard input.
fn on(folder: &Folder, token: &str, arguments: &[&str]) -> Done {
    folder.cli(&[&["token"], arguments, &["--token-file", "-"]].concat(), token)
}

/// The decision that the gateway logs for a request with this token.
fn decision(gateway: &Gateway, token: &str) -> (u16, String) {
    let answer = gateway.exchange(request("GET", "/decided", &[("user-token", token)]));
    let id = answer.value("x-request-id");
    let line = eventually("an access line", || {
        gateway.log.messages("access").into_iter().find(|line| line["request_id"] == id)
    });
    (answer.status, line["decision"].as_str().expect("a decision").to_owned())
}

#[test]
fn a_token_minted_by_hand_is_one_like_any_other() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).user(User::new("another", "pw", EMAIL, ORGANIZATION)).start();
    let done = mint(&gateway.folder, USER).ok();
    let token = done.trim();
    assert_eq!(done, format!("{token}\n"), "the token and nothing else");
    assert_eq!(gateway.status(token), 200, "at its first use");
    let (header, claims) = jwt::read(token);
    let (other_header, other) = jwt::read(&gateway.mint());
    assert_eq!(header, other_header);
    let names = |claims: &Value| claims.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&claims), names(&other));
    for claim in ["user", "email", "database"] {
        assert_eq!(claims[claim], other[claim]);
    }
    assert_eq!(claims["exp"].as_u64().expect("a time") - claims["iat"].as_u64().expect("a time"), 86_400);
    assert_ne!(claims["jti"], other["jti"]);
    let seen = platform.requests();
    assert_eq!(seen[0].values("x-ds-user"), [USER]);

    // What ends the user's tokens ends this one.
    gateway.folder.cli(&["user", "passwd", USER, "--password-stdin"], PASSWORD).ok();
    eventually("the token to die", || (gateway.status(token) == 401).then_some(()));
    gateway.folder.cli(&["user", "disable", "another"], "").ok();
    for (name, code) in [("another", 65), ("nobody", 65), ("MYUSER", 65), ("", 65)] {
        let done = mint(&gateway.folder, name);
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{name:?}: {done:?}");
        assert!(!done.stderr.is_empty());
    }
    gateway.still_healthy();
}

#[test]
fn an_inspection_says_what_the_endpoint_says() {
    let deployment = Deployment::open();
    let folder = &deployment.gateway.folder;
    let token = deployment.gateway.mint();
    let claims = jwt::read(&token).1;
    let file = folder.dir.path().join("token");
    private(&file, format!("  {token}\r\n").as_bytes());
    let by_file = ["token", "inspect", "--json", "--token-file", file.to_str().expect("a path")];
    let json: Value = serde_json::from_str(&folder.cli(&by_file, "").ok()).expect("JSON");
    assert_eq!(
        json,
        serde_json::from_str::<Value>(&on(folder, &token, &["inspect", "--json"]).ok()).expect("JSON")
    );
    assert_eq!((&json["user"], &json["email"]), (&USER.into(), &EMAIL.into()));
    assert_eq!(json["organization_name"], ORGANIZATION);
    assert_eq!(json["expire_time"], utc(claims["exp"].as_u64().expect("a time")));
    assert_eq!(json["token_id"], token_id(&token));
    let text = on(folder, &format!("{token}\n"), &["inspect"]).ok();
    for word in [USER, EMAIL, ORGANIZATION, &utc(claims["exp"].as_u64().expect("a time")), &token_id(&token)]
    {
        assert!(text.contains(word), "no {word} in {text}");
    }
    assert!(!text.contains(&token), "the token itself is not printed again");
    for (bad, reason) in [
        (changed(&token), "token_signature"),
        (ended(&deployment), "token_expired"),
        ("x".to_owned(), "token_malformed"),
        (String::new(), "token"),
    ] {
        let done = on(folder, &bad, &["inspect", "--json"]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(65), ""), "{done:?}");
        assert!(done.stderr.contains(reason), "{reason}: {done:?}");
        assert!(bad.len() < 10 || !done.stderr.contains(&bad), "{done:?}");
    }
    for arguments in [
        &["token", "inspect"][..],
        &["token", "inspect", &token],
        &["token", "explain", &token],
        &["token", "inspect", "--token-file", "/nonexistent"],
        &["token", "inspect", "--token-file", "/"],
        &["token", "mint"],
        &["token"],
    ] {
        let done = folder.cli(arguments, "");
        assert_eq!((done.code, done.stdout.as_str()), (Some(64), ""), "{arguments:?}: {done:?}");
    }
    deployment.gateway.still_healthy();
}

/// A token that was good until a second ago.
fn ended(deployment: &Deployment) -> String {
    deployment.token(&header(), &deployment.claims().with("iat", now() - 100).with("exp", now() - 1))
}

/// What `explain` says: each check with its outcome, in order.
fn explained(folder: &Folder, token: &str, extra: &[&str]) -> Vec<(String, String)> {
    let text = on(folder, token, &[&["explain"], extra].concat()).stdout;
    let pair = |line: &str| {
        line.split_once(' ').map(|(check, outcome)| (check.to_owned(), outcome.trim().to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

#[test]
fn an_explanation_names_the_check_that_fails_and_agrees_with_the_gateway() {
    let deployment = Deployment::open();
    let good = deployment.good();
    let old = deployment.gateway.login(USER, PASSWORD).expect("a token");
    deployment.gateway.folder.cli(&["user", "passwd", USER, "--password-stdin"], PASSWORD).ok();
    eventually("the change to be in force", || (deployment.gateway.status(&old) == 401).then_some(()));
    let fresh = deployment.gateway.mint();
    let number =
        jwt::read(&fresh).1["jti"].as_str().and_then(|jti| jti.split('.').next()).expect("<n>").to_owned();
    let deployment = Deployment { number: number.parse().expect("a number"), ..deployment };
    let later = deployment.good();
    assert_ne!(later, good);
    let rows = [
        ("", "admitted", fresh),
        ("", "admitted", later.clone()),
        ("size", "token_oversized", "a".repeat(9_000)),
        ("shape", "token_malformed", "x".to_owned()),
        ("shape", "token_malformed", format!("{later}=")),
        ("header", "token_header", deployment.with_header(header().and("crit", "[]").json())),
        ("key", "token_key", deployment.with_header(header().with("kid", "\"k9\"").json())),
        ("key", "token_algorithm", deployment.with_header(header().with("alg", "\"none\"").json())),
        ("signature", "token_signature", changed(&later)),
        (
            "signature",
            "token_signature",
            signed(b"another secret that is long enough too", later.rsplit_once('.').expect("a signature").0),
        ),
        ("claims", "token_claims", deployment.with_claims(deployment.claims().without("email").json())),
        ("origin", "token_foreign", deployment.with_claims(deployment.claims().without("jti").json())),
        ("lifetime", "token_lifetime", deployment.with("exp", now() + 200_000)),
        ("expiry", "token_expired", ended(&deployment)),
        ("start", "token_not_yet_valid", deployment.with("iat", now() + 1_000)),
        ("revocation", "revoked_user", old),
    ];
    let mut wrong = Vec::new();
    for (check, denial, token) in rows {
        let said = explained(&deployment.gateway.folder, &token, &["--path", "/decided"]);
        let failed: Vec<&(String, String)> = said
            .iter()
            .filter(|(check, outcome)| {
                check != "route" && check != "token" && outcome != "ok" && outcome != "-"
            })
            .collect();
        let (status, decided) = decision(&deployment.gateway, &token);
        let code = on(&deployment.gateway.folder, &token, &["explain", "--path", "/decided"]).code;
        assert_eq!(code, Some(if denial == "admitted" { 0 } else { 65 }), "{check} {denial}");
        let verdict = said.last().map(|(_, verdict)| verdict.as_str()).unwrap_or_default();
        let agrees = match denial {
            "admitted" => {
                failed.is_empty() && verdict == "holds" && (status, decided.as_str()) == (200, denial)
            }
            _ => {
                // The claim, where it is one, comes behind it.
                let named = |outcome: &str| outcome.split(':').next() == Some(denial);
                let after = said.iter().skip_while(|(name, _)| name != check).skip(1);
                matches!(failed[..], [(failed, outcome)] if failed == check && named(outcome))
                    && verdict == "refused"
                    && after.take_while(|(name, _)| name != "token").all(|(_, outcome)| outcome == "-")
                    && (status, decided.as_str()) == (401, denial)
            }
        };
        if !agrees {
            wrong.push(format!("{check} {denial}: {status} {decided} {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    deployment.gateway.still_healthy();
}

#[test]
fn an_explanation_names_the_claim_at_fault() {
    let deployment = Deployment::open();
    let (folder, claims) = (&deployment.gateway.folder, deployment.claims());
    let later = now() + 1_000;
    for (token, expected) in [
        (deployment.with_claims(claims.clone().without("email").json()), "token_claims: email is missing"),
        (
            deployment.with_claims(claims.clone().and("user", "1").json()),
            "token_claims: user is there more than once",
        ),
        (deployment.with("user", 1), "token_claims: user must be a string"),
        (deployment.with("user", "\"a:b\""), "token_claims: user must not contain a colon"),
        (deployment.with("exp", "\"1.5\""), "token_claims: exp must be a number of seconds"),
        (deployment.with("iat", "1e3"), "token_claims: iat must be a number of seconds"),
        (deployment.with("exp", format!("{later}.5")), "token_claims: exp must be a whole number"),
        (deployment.with_claims(claims.and("nbf", 1).json()), "token_claims: nbf is not in any token"),
        (deployment.with("iat", later), "token_not_yet_valid: iat is in the future"),
        (ended(&deployment), "token_expired: exp is in the past"),
        (deployment.with("exp", now() + 200_000), "token_lifetime: exp is further away"),
    ] {
        let said = explained(folder, &token, &[]);
        let outcomes: Vec<&str> = said.iter().map(|(_, outcome)| outcome.as_str()).collect();
        assert!(outcomes.iter().any(|outcome| outcome.starts_with(expected)), "{expected}: {said:?}");
    }
    deployment.gateway.still_healthy();
}

#[test]
fn an_explanation_says_which_way_a_request_would_go() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let token = gateway.mint();
    let forged = changed(&token);
    for (method, path, word, status) in [
        ("GET", "/x", "protected", 401),
        ("GET", "/public/x", "public", 200),
        ("HEAD", "/public/x", "public", 200),
        ("POST", "/public/x", "protected", 401),
        ("GET", "/public//x", "protected", 401),
        ("GET", "/public/../x", "400", 400),
        ("GET", "/public/x?y=1", "public", 200),
        ("PUT", ENDPOINT, "endpoint", 405),
        ("GET", &format!("{ENDPOINT}/a/b"), "404", 404),
        ("GET", "/DS-API/user-token", "404", 404),
        ("GET", "/%00", "400", 400),
        ("GET", "nowhere", "400", 400),
    ] {
        let said = explained(&gateway.folder, &forged, &["--method", method, "--path", path]);
        let route = &said[0];
        assert!(route.0 == "route" && route.1.contains(word), "{method} {path}: {said:?}");
        let mut client = gateway.client();
        client.send(request(method, path, &[("user-token", &forged)]));
        assert_eq!(client.answer_to(method).map(|answer| answer.status), Ok(status), "{method} {path}");
    }
    let done = on(&gateway.folder, &token, &["explain"]);
    assert_eq!(done.code, Some(0), "without a path it explains the token: {done:?}");
    assert!(!done.stdout.contains(&token) && !done.stderr.contains(&token));
    gateway.still_healthy();
}
