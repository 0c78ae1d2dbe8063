//! Tokens that the platform mints itself with a shared key: they pass only where the configuration says so.

use crate::client::request;
use crate::command::eventually;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, USER};
use crate::jwt::{Members, now, token};
use crate::options::{Key, Options, User};
use crate::platform::Platform;

pub fn claims(user: &str) -> Members {
    // As far ahead as `max_skew` allows, so that the wait for the cutoff of the new store is short.
    let iat = now() + 4;
    let times = Members::new().and("exp", iat + 3_600).and("iat", iat);
    times.text("database", ORGANIZATION).text("email", EMAIL).text("user", user)
}

pub fn mint(key: &Key, claims: &Members) -> String {
    token(&key.secret, Members::header("HS256", &key.kid).json(), claims.json())
}

/// Asks with fresh tokens until one is admitted: the cutoff of a new store stands above those of its first seconds.
fn is_admitted(gateway: &Gateway, key: &Key, user: &str) {
    eventually("a foreign token to be admitted", || {
        (gateway.status(&mint(key, &claims(user))) == 200).then_some(())
    });
}

fn deployment(unknown_users: &str) -> (Platform, Gateway, Key, Key) {
    let platform = Platform::echo();
    let (ours, shared) = (Key::ours("k1"), Key::foreign("shared"));
    let gateway = Options::new(&platform)
        .set("token", "unknown_users", format!("{unknown_users:?}"))
        .key(ours.clone())
        .key(shared.clone())
        .user(User::new("other", "otherPassword", EMAIL, ORGANIZATION))
        .start();
    (platform, gateway, ours, shared)
}

#[test]
fn a_foreign_token_passes_only_under_a_foreign_key() {
    let (platform, gateway, ours, shared) = deployment("refuse");
    is_admitted(&gateway, &shared, USER);
    assert_eq!(
        gateway.status(&mint(&ours, &claims(USER))),
        401,
        "no jti of our form, and the key is not foreign"
    );
    assert_eq!(
        gateway.status(&mint(&shared, &claims(USER).text("jti", "a-uuid"))),
        200,
        "a jti of another form"
    );

    // The platform need not know how we call its key.
    let no_kid =
        token(&shared.secret, Members::header("HS256", "x").without("kid").json(), claims(USER).json());
    assert_eq!(gateway.status(&no_kid), 200, "without a kid");
    let wrong_kid = token(&shared.secret, Members::header("HS256", "k1").json(), claims(USER).json());
    assert_eq!(gateway.status(&wrong_kid), 401, "under the name of another key");

    let seen =
        gateway.exchange(request("GET", "/ds-api/who", &[("user-token", &mint(&shared, &claims(USER)))]));
    assert_eq!(seen.status, 200);
    assert_eq!(platform.request("/ds-api/who").values("x-ds-user"), [USER]);
    gateway.still_healthy();
}

#[test]
fn a_foreign_token_is_checked_like_any_other() {
    let (platform, gateway, _, shared) = deployment("refuse");
    is_admitted(&gateway, &shared, USER);
    let before = platform.bytes();
    let at = now();
    let fresh = || claims(USER);
    let mut rows = vec![
        ("expired", fresh().with("exp", at)),
        ("a lifetime beyond max_lifetime", fresh().with("exp", at + 100_000)),
        ("iat beyond the skew", fresh().with("iat", at + 120)),
        ("older than the store", fresh().with("iat", at - 3_600)),
        ("nbf ahead", fresh().and("nbf", at + 600)),
        ("nbf one text", fresh().and("nbf", "\"0\"")),
        ("nbf null", fresh().and("nbf", "null")),
        ("exp a text", fresh().with("exp", format!("\"{}\"", at + 3_600))),
        ("two users", fresh().text("user", "other")),
        ("a control character", fresh().with("user", "\"my\\u0000User\"")),
        ("an unknown user", claims("stranger")),
        ("another case", claims("MYUSER")),
        ("a number for a user", fresh().with("user", 1)),
    ];
    for name in ["exp", "iat", "database", "email", "user"] {
        rows.push(("a claim is missing", fresh().without(name)));
    }
    for (name, claims) in rows {
        let answer =
            gateway.exchange(request("GET", "/ds-api/canary", &[("user-token", &mint(&shared, &claims))]));
        assert_eq!(answer.status, 401, "{name}: {}", claims.json());
        answer.is_error(401);
    }
    for (name, json) in
        [("crit", "[]"), ("b64", "false"), ("jku", "\"http://127.0.0.1:1/\""), ("zip", "\"DEF\"")]
    {
        let header = Members::header("HS256", "shared").and(name, json).json();
        assert_eq!(
            gateway.status(&token(&shared.secret, header, fresh().json())),
            401,
            "{name} in the header"
        );
    }
    assert_eq!(platform.bytes(), before);
    platform.never_saw("canary");
    gateway.still_healthy();
}

#[test]
fn a_foreign_token_may_have_fractional_times() {
    let (_platform, gateway, ours, shared) = deployment("refuse");
    is_admitted(&gateway, &shared, USER);
    let at = now();
    // As Python writes `time.time()`.
    let times = |iat: &str, exp: &str| {
        let claims = Members::new().and("exp", exp).and("iat", iat);
        mint(&shared, &claims.text("database", ORGANIZATION).text("email", EMAIL).text("user", USER))
    };
    let (iat, exp) = (format!("{at}.7319502"), format!("{}.7319502", at + 3_600));
    eventually("a token with fractional times", || {
        // The cutoff of the new store may stand above its `iat` for a while.
        let fresh = times(&format!("{}.7319502", now() + 4), &exp);
        (gateway.status(&fresh) == 200).then_some(())
    });
    let with = |claims: &Members| gateway.status(&mint(&shared, claims));
    assert_eq!(with(&claims(USER).and("nbf", format!("{}.5", now() - 2))), 200, "nbf behind");
    for (what, token) in [
        ("an nbf ahead", mint(&shared, &claims(USER).and("nbf", format!("{}.5", now() + 60)))),
        ("an exp of this very second", times(&iat, &format!("{}.999", at))),
        ("an exponent", times(&iat, &format!("{}e0", at + 3_600))),
        ("a sign", times(&format!("-{iat}"), &exp)),
        ("a string", times(&format!("\"{iat}\""), &exp)),
        ("no digit after the dot", times(&format!("{at}."), &exp)),
        ("no digit before it", times(".5", &exp)),
        ("two fractional exps", mint(&shared, &claims(USER).and("exp", &exp))),
    ] {
        assert_eq!(gateway.status(&token), 401, "{what}");
    }
    // Ours are whole.
    let (_, minted) = crate::jwt::read(&gateway.mint());
    assert!(minted["exp"].is_u64() && minted["iat"].is_u64(), "{minted}");
    let ours = |exp: String| {
        let text = |name: &str| minted[name].as_str().expect("a text");
        let members = Members::new().and("exp", exp).and("iat", &minted["iat"]);
        let members = members.text("database", text("database")).text("email", text("email"));
        mint(&ours, &members.text("user", text("user")).text("jti", text("jti")))
    };
    assert_eq!(gateway.status(&ours(minted["exp"].to_string())), 200, "the token made again");
    assert_eq!(gateway.status(&ours(format!("{}.0", minted["exp"]))), 401, "with a fraction");
    gateway.still_healthy();
}

#[test]
fn unknown_users_are_refused_or_accepted_as_configured_but_never_those_that_were_sent_away() {
    let (_platform, gateway, _, shared) = deployment("accept");
    is_admitted(&gateway, &shared, "stranger");
    is_admitted(&gateway, &shared, "other");
    let status = |user: &str| gateway.status(&mint(&shared, &claims(user)));

    gateway.folder.cli(&["user", "disable", "other"], "").ok();
    eventually("the disabled user to be refused", || (status("other") == 401).then_some(()));
    gateway.folder.cli(&["user", "enable", "other"], "").ok();
    is_admitted(&gateway, &shared, "other");
    gateway.folder.cli(&["user", "remove", "other"], "").ok();
    eventually("the removed user to be refused", || (status("other") == 401).then_some(()));
    assert_eq!(status("stranger"), 200);
    gateway.still_healthy();
}

#[test]
fn a_known_user_becomes_admissible_and_an_unknown_one_stays_out() {
    let (_platform, gateway, _, shared) = deployment("refuse");
    is_admitted(&gateway, &shared, USER);
    assert_eq!(gateway.status(&mint(&shared, &claims("newcomer"))), 401);
    gateway.folder.add(&User::new("newcomer", "newPassword", EMAIL, ORGANIZATION));
    is_admitted(&gateway, &shared, "newcomer");
    gateway.still_healthy();
}
