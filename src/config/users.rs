//! The sections on users: where they come from, and how those of the platform log in.

use std::time::Duration;

use serde::Deserialize;

use super::ldap::Ldap;
use super::settings::{PlatformLogin, PlatformSays, Users};
use super::source::{Section, Source};
use crate::auth::user_source::SourceName;

/// The section of a directory was read before, if it is given.
pub(super) fn read_users(source: &mut Source, is_ldap_given: bool, ldap: Option<&Ldap>) -> Users {
    // What lies inside a section is read before it.
    let (platform, given) = read_platform_login(source.section("users.platform"));
    let sources = read_sources(&mut source.section("users"));
    if !sources.contains(&SourceName::Platform) {
        for key in given {
            let text = "has no effect: \"platform\" is not in users.sources";
            source.error(&format!("users.platform.{key}"), text);
        }
    }
    let has_ldap = sources.contains(&SourceName::Ldap);
    if has_ldap && !is_ldap_given {
        source.error(
            "users.sources",
            "\"ldap\" needs the section [users.ldap]: where the directory is and how it is asked",
        );
    }
    if !has_ldap && is_ldap_given {
        source.error("users.ldap", "has no effect: \"ldap\" is not in users.sources");
    }
    if has_ldap && sources.last() != Some(&SourceName::Ldap) && ldap.is_some_and(|ldap| !ldap.knows_names()) {
        let text = "\"ldap\" must be the last source with users.ldap.user_dn: without a search it does not tell an unknown name from a wrong password";
        source.error("users.sources", text);
    }
    Users { sources, platform }
}

fn read_sources(section: &mut Section<'_>) -> Vec<SourceName> {
    let hint = "write a list such as [\"store\", \"platform\"]";
    let names: Vec<String> = section.or("sources", vec![SourceName::Store.to_string()], hint);
    let mut sources = Vec::new();
    for name in &names {
        match SourceName::parse(name) {
            None => section.error(
                "sources",
                format!("{name:?} is not a source of users: name \"store\", \"ldap\" or \"platform\""),
            ),
            Some(source) if sources.contains(&source) => {
                section.error("sources", format!("{name:?} is there twice"));
            }
            Some(source) => sources.push(source),
        }
    }
    if names.is_empty() {
        section.error("sources", format!("names no source, so nobody could log in: {hint}"));
    }
    let is_last = sources.last() == Some(&SourceName::Platform);
    if sources.contains(&SourceName::Platform) && !is_last {
        let text = "\"platform\" must be the last source: it does not tell an unknown name from a wrong password, so no source after it would be asked";
        section.error("sources", text);
    }
    sources
}

/// Whether hashes of passwords that the platform found right are kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Remember {
    Off,
    Argon2id,
}

/// Also which keys are given that have no effect without such users.
fn read_platform_login(mut section: Section<'_>) -> (PlatformLogin, Vec<&'static str>) {
    let default = PlatformLogin::default();
    let path: Option<String> = section.optional("path", "write a path such as \"/ds-api/user-token\"");
    let success: Option<u16> = section.optional("success", "write a status such as 201");
    let member: Option<String> =
        section.optional("member", "write the member of the answer that has the token");
    let says: Option<PlatformSays> = section.optional("identity", "write \"claims\" or \"inspection\"");
    let remember: Option<Remember> = section.optional("remember", "write \"argon2id\" or \"off\"");
    let given = [
        ("path", path.is_some()),
        ("success", success.is_some()),
        ("member", member.is_some()),
        ("identity", says.is_some()),
        ("remember", remember.is_some()),
    ];
    let given = given.into_iter().filter_map(|(key, is_given)| is_given.then_some(key)).collect();
    let connections: usize = section.or(
        "connections",
        default.connections,
        "write how many logins the platform is asked about at once",
    );
    if !(1..=1000).contains(&connections) {
        section.error("connections", "must be between 1 and 1000");
    }
    let timeout = section.duration("timeout", default.timeout.as_secs());
    if timeout > Duration::from_secs(60) {
        section.error("timeout", "must be a minute at most: clients do not wait for longer");
    }
    let period = section.duration("remember_for", REMEMBER_FOR.as_secs());
    if period > LONGEST_REMEMBERED {
        section.error("remember_for", "must be 90 days at most");
    }
    let path = path.unwrap_or(default.path);
    if !is_plain_path(&path) {
        section
            .error("path", format!("{path:?} is not a path without a query, such as \"/ds-api/user-token\""));
    }
    let success = success.unwrap_or(default.success);
    if !(200..300).contains(&success) {
        section.error("success", "must be between 200 and 299");
    }
    let member = member.unwrap_or(default.member);
    let remember_for = (remember == Some(Remember::Argon2id)).then_some(period);
    let says = says.unwrap_or_default();
    (PlatformLogin { path, success, member, says, connections, timeout, remember_for }, given)
}

fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte))
}

/// For how long a remembered hash serves.
const REMEMBER_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

const LONGEST_REMEMBERED: Duration = Duration::from_secs(90 * 24 * 3600);

#[cfg(test)]
mod tests;
