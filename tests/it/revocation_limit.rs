//! `limits.revocations_per_user`: a user with so many revoked tokens gets no more, and may revoke all it has.

use crate::audit::rows;
use crate::client::Client;
use crate::command::{Folder, eventually};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::revocation::{delete, is_204};
use rusqlite::Connection;

const LIMIT: usize = 3;

/// A gateway with that limit and a second user.
fn limited(platform: &Platform) -> Gateway {
    Options::new(platform)
        .set("limits", "revocations_per_user", LIMIT)
        .set("store", "upkeep_interval", "\"10ms\"")
        .user(User::new("other", PASSWORD, EMAIL, ORGANIZATION))
        .start()
}

fn store(folder: &Folder) -> Connection {
    Connection::open(folder.state().join("gateway.db")).expect("a store")
}

#[test]
fn a_user_at_the_limit_gets_429_for_a_mint_and_204_for_every_delete() {
    let platform = Platform::echo();
    let gateway = limited(&platform);
    let tokens: Vec<String> = (0..LIMIT + 3).map(|_| gateway.mint()).collect();
    let (first, others) = tokens.split_at(LIMIT);
    let mut client: Client = gateway.client();
    for token in first {
        is_204(&client.exchange(delete(token)));
    }
    let before = rows(&gateway.folder, &[]).len();
    let refused = gateway.log_in(USER, PASSWORD);
    refused.is_error(429);
    assert!(refused.value("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 3600), "{refused:?}");
    assert!(refused.text().contains("revoked"), "{}", refused.text());
    let labels = ["action=\"mint\"", "outcome=\"revocation_limit\""];
    assert_eq!(gateway.metric("ds_gateway_token_requests_total", &labels), 1.0);
    assert_eq!(rows(&gateway.folder, &[]).len(), before, "what was refused has changed nothing");
    // Who it was is in the log.
    eventually("the access line", || {
        let lines = gateway.log.lines();
        lines.iter().any(|line| line.contains("revocation_limit") && line.contains(USER)).then_some(())
    });
    // A wrong password is not told of it, and nobody else is refused.
    assert_eq!(gateway.log_in(USER, "wrong").status, 401);
    assert!(gateway.login("other", PASSWORD).is_some());
    let command = gateway.folder.cli(&["token", "mint", USER], "");
    assert_eq!(command.code, Some(75), "{}", command.stderr);
    assert!(command.stderr.contains("limits.revocations_per_user"), "{}", command.stderr);

    let (revoked, last) = others.split_at(2);
    for token in revoked {
        assert_eq!(gateway.status(token), 200);
        is_204(&client.exchange(delete(token)));
        assert_eq!(gateway.status(token), 401);
    }
    assert_eq!(gateway.status(&last[0]), 200, "no other token of the user is revoked with them");
    gateway.log_in(USER, PASSWORD).is_error(429);
    // What the limit is about is there after a restart too.
    let gateway = gateway.stop().run(&[]);
    gateway.log_in(USER, PASSWORD).is_error(429);
    assert_eq!(gateway.status(&last[0]), 200);
}

#[test]
fn a_user_gets_tokens_again_when_its_revocations_are_forgotten() {
    let platform = Platform::echo();
    let gateway = limited(&platform);
    for _ in 0..LIMIT {
        let token = gateway.mint();
        is_204(&gateway.exchange(delete(&token)));
    }
    gateway.log_in(USER, PASSWORD).is_error(429);
    let folder = gateway.stop();
    // As if the gateway had run for four days.
    store(&folder)
        .execute_batch(
            "INSERT INTO hours (lived, number) SELECT 3600, number FROM sequence;
             UPDATE clock SET lived = lived + 4 * 86400;",
        )
        .expect("an older store");
    let gateway = folder.run(&[]);
    let token = eventually("the revocations to be forgotten", || {
        let answer = gateway.log_in(USER, PASSWORD);
        (answer.status == 201).then(|| answer.json()["user-token"].as_str().expect("a token").to_owned())
    });
    assert_eq!(gateway.status(&token), 200);
    gateway.still_healthy();
}
