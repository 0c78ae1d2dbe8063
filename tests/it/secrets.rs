//! What nobody may see: secrets are looked for wherever the gateway writes.

use crate::client::{basic, request};
use crate::gateway::{EMAIL, ORGANIZATION};
use crate::observability::changed;
use crate::options::{Key, Options, User};
use crate::platform::{Behaviour, Platform};
use crate::wire::find;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

#[test]
fn nothing_secret_is_written_anywhere() {
    let platform = Platform::echo();
    let key = Key::ours("k1");
    let password = "canary-password-Xq7";
    let gateway = Options::new(&platform)
        .set("token", "inspect_auth", "\"token\"")
        .public("[\"/public/*\"]")
        .key(key.clone())
        .user(User::new("canary", password, EMAIL, ORGANIZATION))
        .start();
    let token = gateway.login("canary", password).expect("a token");
    let good = basic("canary", password);
    let forged = changed(&token);
    let wrong = basic("canary", "canary-wrong-Zk3");
    let everything = || {
        for fields in [
            vec![("user-token", token.as_str())],
            vec![("user-token", forged.as_str())],
            vec![("Authorization", good.as_str())],
            vec![("user_token", token.as_str())],
        ] {
            for target in [
                "/x".to_owned(),
                format!("/x?token={token}"),
                format!("/x?a&user-token={token}&b"),
                format!("/public/x?token={token}"),
                format!("/x/{}", token.replacen('e', "%65", 1)),
                format!("/x?a={}", token.replacen('e', "%65", 1)),
                format!("/x?pwd={password}&api_key={password}"),
            ] {
                gateway.exchange(request("GET", &target, &fields));
            }
        }
        gateway.exchange(request(&format!("GET{token}"), "/x", &[]));
        for target in [
            "/ds-api/user-token".to_owned(),
            "/ds-api/user-token/Other".to_owned(),
            format!("/ds-api/user-token?token={token}"),
            format!("/ds-api/user-token?token={forged}"),
            format!("/ds-api/user-token/?user-token={token}"),
        ] {
            for method in ["GET", "POST", "PUT"] {
                for authorization in [&good, &wrong] {
                    gateway.exchange(request(method, &target, &[("Authorization", authorization)]));
                }
            }
        }
        // What the parser refuses carries secrets too.
        for start in [
            format!("GET /x?token={token} HTTP/9.9"),
            format!("G@T /x?token={token} HTTP/1.1"),
            format!("GET http://a/?token={token} HTTP/1.1"),
        ] {
            let mut client = gateway.client();
            client.send(format!(
                "{start}\r\nHost: x\r\nuser-token: {token}\r\nAuthorization: {good}\r\nbad field\r\n\r\n"
            ));
            drop(client.answer());
        }
        let mut client = gateway.client();
        client.send(format!("GET /x?token={token} HTTP/1.1\r\nHost: x\r\nuser-token: {token}"));
        client.finish();
        drop(client.answer());
    };
    everything();
    for behaviour in [
        Behaviour::Close,
        Behaviour::Reset,
        Behaviour::Raw(b"garbage\r\n\r\n".to_vec()),
        Behaviour::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec()),
    ] {
        platform.behave(behaviour);
        for _ in 0..2 {
            let mut client = gateway.client();
            client.send(request(
                "GET",
                &format!("/x?token={token}"),
                &[("user-token", &token), ("Authorization", &good)],
            ));
            drop(client.answer());
        }
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();

    let metrics = gateway.admin("/metrics").text();
    let log = gateway.log.lines().join("\n");
    assert!(log.contains("\"message\":\"access\""), "there is something to look at");
    let mac = |token: &str| token.rsplit('.').next().unwrap_or_default().to_owned();
    let payload = token.split('.').nth(1).expect("claims").to_owned();
    let secret = String::from_utf8(key.secret).expect("a text");
    let encoded = |value: &str| value.rsplit(' ').next().unwrap_or_default().to_owned();
    let secrets = [
        ("the password", password.to_owned()),
        ("a wrong password", "canary-wrong-Zk3".to_owned()),
        ("the token", mac(&token)),
        ("a forged token", mac(&forged)),
        ("the claims as sent", payload),
        ("the key", secret),
        ("Basic", encoded(&good)),
        ("a wrong Basic", encoded(&wrong)),
    ];
    for (name, secret) in &secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{name} in the log: {line:?}");
        assert!(!metrics.contains(secret), "{name} in the metrics");
        let mut files = 0;
        is_nowhere_in(&gateway.folder.state(), secret.as_bytes(), name, &mut files);
        assert!(files > 0, "there are files to look at");
    }
}

/// Looks for a secret in every file below a folder.
fn is_nowhere_in(folder: &Path, secret: &[u8], name: &str, files: &mut usize) {
    for path in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            is_nowhere_in(&path, secret, name, files);
        } else if let Ok(bytes) = fs::read(&path) {
            *files += 1;
            assert!(find(&bytes, secret).is_none(), "{name} in {path:?}");
        }
    }
}

#[test]
fn a_key_that_the_gateway_made_is_in_its_file_only() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    gateway.mint();
    let mut keys = 0;
    for path in fs::read_dir(gateway.folder.state().join("keys"))
        .expect("the keys")
        .flatten()
        .map(|entry| entry.path())
    {
        let secret = fs::read(&path).expect("a key");
        assert!(secret.len() >= 32, "{path:?}");
        let text = String::from_utf8_lossy(&secret).trim_end().to_owned();
        for file in ["gateway.db", "gateway.db-wal"] {
            let bytes = fs::read(gateway.folder.state().join(file)).unwrap_or_default();
            assert!(find(&bytes, secret.trim_ascii_end()).is_none(), "{path:?} in {file}");
        }
        assert!(!gateway.log.lines().join("\n").contains(&text), "{path:?} in the log");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path:?}: {mode:o}");
        keys += 1;
    }
    assert!(keys > 0);
    let mode = fs::metadata(gateway.folder.state()).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "{mode:o}");
}
