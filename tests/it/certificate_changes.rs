//! Certificates are taken over when their files change, without a reload of anything else, and no request fails meanwhile.

use crate::certificates::{ecdsa, handshake, label, pair, shown, with, write};
use crate::client::request;
use crate::command::{Stop, eventually, private};
use crate::gateway::Gateway;
use crate::h2_client::{H2Client, statuses};
use crate::options::Options;
use crate::platform::Platform;
use crate::reload_load::{Counts, plain, streams};
use crate::reload_settings::LOCAL;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const RELOADED: &str = "the certificates were reloaded";

fn errors(gateway: &Gateway) -> Vec<String> {
    gateway.log.lines().into_iter().filter(|line| line.contains("certificates were not reloaded")).collect()
}

fn follows(gateway: &Gateway, name: Option<&str>, expected: &str) {
    eventually(expected, || (shown(gateway, name) == expected).then_some(()));
}

fn succeeds(gateway: &Gateway) -> f64 {
    gateway.metric("ds_gateway_certificates_last_reload_successful", &[])
}

/// Gives a pair that is there another content.
fn overwrite(folder: &Path, file: &str, label: &str, names: &[&str]) {
    let (certificate, key) = pair(label, names, &ecdsa(), 200);
    private(&folder.join(format!("{file}.crt")), &certificate);
    private(&folder.join(format!("{file}.key")), &key);
}

#[test]
fn certificates_follow_their_files_however_they_are_changed() {
    let (platform, dir) = (Platform::echo(), tempfile::tempdir().expect("a folder"));
    let folder = dir.path();
    // As certbot has it: `live` has links into `archive`.
    for (version, names) in [("1", ["gw.test"]), ("2", ["gw.test"])] {
        write(folder, &format!("archive-{version}"), &names, &ecdsa());
    }
    let turn = |file: &str, to: &str| {
        symlink(to, folder.join("new")).expect("a link");
        fs::rename(folder.join("new"), folder.join(file)).expect("a name");
    };
    turn("live.crt", "archive-1.crt");
    turn("live.key", "archive-1.key");
    // As clusters have it: a link to a folder, in which everything is another at once.
    for version in ["v1", "v2"] {
        fs::create_dir(folder.join(version)).expect("a folder");
        overwrite(&folder.join(version), "tls", version, &["cluster.test"]);
    }
    turn("..data", "v1");
    turn("tls.crt", "..data/tls.crt");
    turn("tls.key", "..data/tls.key");
    write(folder, "plain", &["plain.test"], &ecdsa());

    let options = with(Options::new(&platform), folder, "live", &["tls", "plain"]);
    let gateway = options.clone().start();
    assert_eq!(
        [None, Some("cluster.test"), Some("plain.test")].map(|name| shown(&gateway, name)),
        ["archive-1", "v1", "plain"]
    );
    let hash = || gateway.metric("ds_gateway_config_last_reload_success_timestamp_seconds", &[]);
    let loaded = hash();
    turn("live.crt", "archive-2.crt");
    turn("live.key", "archive-2.key");
    follows(&gateway, None, "archive-2");
    turn("..data", "v2");
    follows(&gateway, Some("cluster.test"), "v2");
    overwrite(folder, "plain", "in place", &["plain.test", "more.test"]);
    follows(&gateway, Some("plain.test"), "in place");
    assert_eq!(shown(&gateway, Some("more.test")), "in place", "the names are those of the new one");
    // The certificate first, and the key some seconds later; and the other way round.
    let pauses = [["crt", "key"], ["key", "crt"]];
    for (order, expected) in pauses.into_iter().zip(["certificate first", "key first"]) {
        let (certificate, key) = pair(expected, &["plain.test"], &ecdsa(), 200);
        for kind in order {
            let content = if kind == "crt" { &certificate } else { &key };
            private(&folder.join(format!("plain.{kind}")), content);
            thread::sleep(Duration::from_millis(2_500));
        }
        follows(&gateway, Some("plain.test"), expected);
    }
    assert_eq!((errors(&gateway), succeeds(&gateway)), (vec![], 1.0));
    assert_eq!(hash(), loaded, "nothing else was read");
    assert_eq!(gateway.log.messages("the configuration was reloaded").len(), 0);
    // A reload finds nothing to do, and the configuration that is in force is that of a gateway that starts now.
    assert_eq!(gateway.reloaded(&options), [""; 0]);
    gateway.still_healthy();
}

#[test]
fn a_pair_that_stays_broken_leaves_the_one_before_and_is_told_of_once() {
    let (platform, dir) = (Platform::echo(), tempfile::tempdir().expect("a folder"));
    let folder = dir.path();
    write(folder, "gw", &["gw.test"], &ecdsa());
    write(folder, "other", &["other.test"], &ecdsa());
    let options = with(Options::new(&platform), folder, "gw", &["other"]);
    let gateway = options.clone().start();
    assert_eq!(succeeds(&gateway), 1.0);
    let before = fs::read(folder.join("other.key")).expect("a key");
    private(&folder.join("other.key"), b"broken");
    overwrite(folder, "gw", "renewed", &["gw.test"]);
    eventually("an error", || (succeeds(&gateway) == 0.0).then_some(()));
    assert_eq!([shown(&gateway, None), shown(&gateway, Some("other.test"))], ["gw", "other"]);
    // It is tried again, and said no more.
    thread::sleep(Duration::from_secs(12));
    let told = errors(&gateway);
    assert!(
        told.len() == 1 && told[0].contains("server.certificates: ") && told[0].contains("other.key"),
        "{told:?}"
    );
    gateway.still_healthy();
    private(&folder.join("other.key"), &before);
    follows(&gateway, None, "renewed");
    assert_eq!(succeeds(&gateway), 1.0);
    // So is a reload, which covers them.
    assert_eq!(gateway.reloaded(&options), [""; 0]);
}

#[test]
fn an_expired_certificate_keeps_serving_and_a_renewed_one_ends_the_alarm() {
    let (platform, dir) = (Platform::echo(), tempfile::tempdir().expect("a folder"));
    let (certificate, key) = pair("ended", &["gw.test"], &ecdsa(), -3);
    private(&dir.path().join("gw.crt"), &certificate);
    private(&dir.path().join("gw.key"), &key);
    let folder = with(Options::new(&platform), dir.path(), "gw", &[]).folder();
    let done = folder.cli(&["check"], "");
    assert!(done.code == Some(0) && done.stderr.contains("server.certificate has expired"), "{done:?}");
    assert!(done.stdout.contains("server.certificate: gw.test (ECDSA), expired"), "{done:?}");
    let gateway = with(Options::new(&platform), dir.path(), "gw", &[]).start();
    assert_eq!(shown(&gateway, Some("gw.test")), "ended");
    let end = || gateway.metric("ds_gateway_certificate_not_after_timestamp_seconds", &["gw.test"]);
    let now = crate::jwt::now() as f64;
    assert!(end() < now, "{}", end());
    overwrite(dir.path(), "gw", "renewed", &["gw.test"]);
    follows(&gateway, Some("gw.test"), "renewed");
    assert!(end() > now + 100.0 * 86_400.0);
}

#[test]
fn the_gateways_own_certificate_is_made_again_while_it_runs_and_one_of_somebody_else_is_not() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let first = shown(&gateway, None);
    let tls = gateway.folder.state().join("tls");
    let end = || gateway.metric("ds_gateway_certificate_not_after_timestamp_seconds", &["self-signed"]);
    let day = 86_400.0;
    let in_days = || (end() - crate::jwt::now() as f64) / day;
    assert!((364.0..=365.0).contains(&in_days()), "{}", in_days());
    // One that is ours, and ends in ten days: it is served no longer than until it is seen.
    let (certificate, key) = pair("ours", &["localhost"], &ecdsa(), 10);
    private(&tls.join("self-signed.crt"), &certificate);
    private(&tls.join("self-signed.key"), &key);
    eventually("another one", || {
        let there = fs::read(tls.join("self-signed.crt")).expect("a certificate");
        (there != certificate && in_days() > 364.0).then_some(())
    });
    assert_eq!(shown(&gateway, None), first);
    eventually("both to be taken", || (gateway.log.messages(RELOADED).len() == 1).then_some(()));
    // A start does the same.
    private(&tls.join("self-signed.crt"), &certificate);
    private(&tls.join("self-signed.key"), &key);
    let gateway = gateway.kill().run(&[]);
    let end = || gateway.metric("ds_gateway_certificate_not_after_timestamp_seconds", &["self-signed"]);
    assert!(end() - crate::jwt::now() as f64 > 364.0 * day);
    assert_ne!(fs::read(tls.join("self-signed.crt")).expect("a certificate"), certificate);
}

/// A new connection with a handshake of its own for each request, over TLS.
fn handshakes(address: SocketAddr, token: &str, counts: &Counts, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for name in ["gw.test", "a.test"] {
            let asked = || -> Result<u16, String> {
                let mut stream = handshake(address, Some(name), &|_| {})?;
                let expected = if name == "a.test" { ["a", "a next"] } else { ["gw", "gw next"] };
                let shown = label(&stream);
                if !expected.contains(&shown.as_str()) {
                    return Err(format!("{name} was shown {shown}"));
                }
                let fields = [("user-token", token), ("Connection", "close")];
                stream.write_all(&request("GET", "/x", &fields)).map_err(|error| error.to_string())?;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
                let answer = String::from_utf8_lossy(&answer);
                answer.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| answer.into_owned())
            };
            match asked() {
                Ok(status) => counts.add("handshake", status),
                Err(fault) => counts.add("handshake", fault),
            }
        }
    }
}

/// A new HTTP/2 connection for a few requests.
fn connections(address: SocketAddr, token: &str, counts: &Counts, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut client = H2Client::connect(LOCAL, address, 65_535);
        let answers: Vec<_> = (0..3).map(|_| client.get_as("/ds-api/x", token)).collect();
        statuses(answers).into_iter().for_each(|status| counts.add("connection", status));
    }
}

#[test]
fn no_request_fails_through_twenty_changes_of_certificates() {
    let (platform, dir) = (Platform::echo(), tempfile::tempdir().expect("a folder"));
    let folder = dir.path();
    write(folder, "gw", &["gw.test"], &ecdsa());
    write(folder, "a", &["a.test"], &ecdsa());
    let options = with(Options::new(&platform), folder, "gw", &["a"]).public("[\"/toggled\"]");
    let gateway = options.start();
    let (token, stop, counts) = (gateway.mint(), AtomicBool::new(false), Counts::default());
    let https = gateway.https();
    thread::scope(|scope| {
        scope.spawn(|| plain(gateway.http(), &token, &counts, &stop));
        scope.spawn(|| streams(https, &token, &counts, &stop));
        scope.spawn(|| handshakes(https, &token, &counts, &stop));
        scope.spawn(|| connections(https, &token, &counts, &stop));
        let _stop = Stop(&stop);
        for number in 1..=20 {
            let (file, name) = if number % 2 == 0 { ("gw", "gw.test") } else { ("a", "a.test") };
            let (certificate, key) = pair(&format!("{file} next"), &[name], &ecdsa(), 200);
            let write = |kind: &str, content: &[u8]| {
                let path = folder.join(format!("{file}.{kind}"));
                if number % 4 < 2 {
                    return private(&path, content);
                }
                let draft = folder.join("draft");
                private(&draft, content);
                symlink(&draft, folder.join("link")).expect("a link");
                let target = folder.join(format!("{file}-{number}.{kind}"));
                fs::rename(&draft, &target).expect("a name");
                fs::remove_file(folder.join("link")).expect("a link");
                symlink(&target, folder.join("link")).expect("a link");
                fs::rename(folder.join("link"), &path).expect("a name");
            };
            write("crt", &certificate);
            write("key", &key);
            eventually("the change", || (gateway.log.messages(RELOADED).len() >= number).then_some(()));
        }
    });
    for (what, expected) in [
        ("protected", &["200"][..]),
        ("upload", &["200"]),
        ("foreign", &["401"]),
        ("stream", &["200"]),
        ("handshake", &["200"]),
        ("connection", &["200"]),
    ] {
        assert!(counts.are(what, expected) > 50, "too few {what}");
    }
    assert_eq!((errors(&gateway), succeeds(&gateway)), (vec![], 1.0));
    gateway.still_healthy();
}
