use std::path::Path;

use super::*;
use crate::config::Config;

const MINIMAL: &str = "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = [\"http://127.0.0.1:9000\"]\n";

fn users(text: &str) -> Result<Users, Vec<String>> {
    let text = format!("{MINIMAL}{text}");
    let (config, _) = Config::parse(&text, Path::new("/etc/ds-gateway"), std::iter::empty());
    config.map(|(config, _)| config.users).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn without_a_word_the_store_alone_has_users() {
    let Users { sources, platform } = users("").unwrap();
    assert_eq!(sources, [SourceName::Store]);
    assert_eq!(platform.remember_for, None);
}

#[test]
fn sources_are_asked_in_the_order_of_the_list() {
    let text = "[users]\nsources = [\"store\", \"platform\"]\n[users.platform]\npath = \"/login\"\nsuccess = 200\nmember = \"jwt\"\nidentity = \"inspection\"\nconnections = 3\ntimeout = \"2s\"\nremember = \"argon2id\"\nremember_for = \"1d\"\n";
    let Users { sources, platform } = users(text).unwrap();
    assert_eq!(sources, [SourceName::Store, SourceName::Platform]);
    let expected = PlatformLogin {
        path: "/login".into(),
        success: 200,
        member: "jwt".into(),
        says: PlatformSays::Inspection,
        connections: 3,
        timeout: Duration::from_secs(2),
        remember_for: Some(Duration::from_secs(86_400)),
    };
    assert_eq!(platform, expected);
    let off =
        "[users]\nsources = [\"platform\"]\n[users.platform]\nremember = \"off\"\nremember_for = \"1d\"\n";
    assert_eq!(users(off).unwrap().platform.remember_for, None);
}

#[test]
fn each_wrong_setting_is_refused_with_its_key() {
    let platform = "[users]\nsources = [\"platform\"]\n[users.platform]\n";
    for (text, key) in [
        ("[users]\nsources = []\n".to_owned(), "users.sources"),
        ("[users]\nsources = [\"files\"]\n".to_owned(), "users.sources"),
        ("[users]\nsources = [\"store\", \"store\"]\n".to_owned(), "users.sources"),
        ("[users]\nsources = [\"platform\", \"store\"]\n".to_owned(), "users.sources"),
        ("[users.platform]\npath = \"/x\"\n".to_owned(), "users.platform.path"),
        ("[users.platform]\nremember = \"argon2id\"\n".to_owned(), "users.platform.remember"),
        (format!("{platform}path = \"x\"\n"), "users.platform.path"),
        (format!("{platform}path = \"/x?y\"\n"), "users.platform.path"),
        (format!("{platform}path = \"/x y\"\n"), "users.platform.path"),
        (format!("{platform}success = 404\n"), "users.platform.success"),
        (format!("{platform}identity = \"guess\"\n"), "users.platform.identity"),
        (format!("{platform}remember = \"bcrypt\"\n"), "users.platform.remember"),
        (format!("{platform}connections = 0\n"), "users.platform.connections"),
        (format!("{platform}timeout = \"2m\"\n"), "users.platform.timeout"),
        (format!("{platform}remember_for = \"1000d\"\n"), "users.platform.remember_for"),
    ] {
        let errors = users(&text).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(key), "{text}: {errors:?}");
    }
}
