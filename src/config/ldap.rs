//! The section on a directory (LDAP) as a source of users.

mod preset;
mod servers;
mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use self::preset::Preset;
use self::servers::parse_server;
pub use self::settings::{
    Ldap, LdapLookup, LdapMembership, LdapOrganization, LdapSecurity, LdapServer, LdapSide,
};
use super::addresses::is_server_name;
use super::materials::LdapFiles;
use super::sections::read_pair;
use super::source::Section;
use crate::auth::directory::{DnTemplate, Filter, is_attribute, is_dn};
use crate::auth::name::Name;

/// `[users.ldap]` and the files that it names; nothing if the section is not there.
pub(super) fn read_ldap(mut section: Section<'_>, base: &Path) -> Option<(Ldap, LdapFiles)> {
    let is_given = section.is_given();
    let section = &mut section;
    let preset: Option<Preset> =
        section.optional("preset", "write \"active-directory\", \"freeipa\", \"lldap\" or \"openldap\"");
    let (servers, verify, files) = read_servers(section, base, is_given);
    let (lookup, bind_password) = read_lookup(section, base, preset, is_given);
    let (user_attribute, email_attribute) = read_names(section, preset, is_given);
    let membership = read_membership(section, preset);
    let required_group: Option<String> = section.optional("required_group", DN);
    if required_group.as_deref().is_some_and(|group| !is_dn(group)) {
        section.error("required_group", format!("is not a distinguished name: {DN}"));
    }
    let organization = read_organization(section, is_given);
    let domain_scope = preset.is_some_and(|preset| preset.defaults().domain_scope);
    let domain_scope = section.or("domain_scope", domain_scope, "write true or false");
    let times = read_times(section);
    let revalidate = section.delay("revalidate", 0);
    let is_unknowable = lookup.as_ref().is_some_and(|lookup| !matches!(lookup, LdapLookup::Search { .. }));
    if !revalidate.is_zero() && is_unknowable {
        section.error(
            "revalidate",
            "needs a search (bind_dn, base): with user_dn nobody can be asked for without a password",
        );
    }
    let max_logins = section.or("max_logins", 16, "write a number of logins");
    if !(1..=256).contains(&max_logins) {
        section.error("max_logins", "must be between 1 and 256");
    }
    if !is_given {
        return None;
    }
    let [connect_timeout, operation_timeout, login_timeout, idle_timeout, eject_for] = times;
    let ldap = Ldap {
        servers,
        verify,
        lookup: lookup?,
        domain_scope,
        user_attribute,
        email_attribute,
        organization,
        membership,
        required_group,
        max_logins,
        connect_timeout,
        operation_timeout,
        login_timeout,
        idle_timeout,
        eject_for,
        revalidate: (!revalidate.is_zero()).then_some(revalidate),
    };
    Some((ldap, LdapFiles { bind_password, ..files }))
}

/// What a distinguished name looks like.
const DN: &str = "write a distinguished name such as \"cn=staff,ou=groups,dc=example,dc=com\"";

fn read_servers(
    section: &mut Section<'_>,
    base: &Path,
    is_given: bool,
) -> (Vec<LdapServer>, bool, LdapFiles) {
    let urls: Vec<String> = section.or(
        "servers",
        Vec::new(),
        "write a list such as [\"ldaps://a.example\", \"ldaps://b.example\"]",
    );
    let starttls = section.or("starttls", false, "write true or false");
    let allow_plaintext = section.or("allow_plaintext", false, "write true or false");
    let pem = "write a path to a PEM file";
    let ca: Option<PathBuf> = section.optional("ca_file", pem);
    let server_name: Option<String> =
        section.optional("server_name", "write the name in the directory's certificate");
    let verify = section.or("verify", true, "write true or false");
    let certificate: Option<PathBuf> = section.optional("client_certificate", pem);
    let key: Option<PathBuf> = section.optional("client_key", pem);
    let client = read_pair(section, base, ("client_certificate", "client_key"), (certificate, key));
    let files = LdapFiles { ca: ca.map(|path| base.join(path)), client, bind_password: None };
    if !is_given {
        return (Vec::new(), verify, files);
    }
    if urls.is_empty() {
        section.missing(
            "servers",
            "is required: the servers of the directory, for example [\"ldaps://a.example\"]",
        );
    }
    if server_name.as_deref().is_some_and(|name| !is_server_name(name)) {
        section.error("server_name", "must be the DNS name or the IP address in the directory's certificate");
    }
    let mut servers = Vec::<LdapServer>::new();
    for url in urls {
        match parse_server(&url, starttls, server_name.as_deref(), base) {
            Ok(server) if servers.iter().any(|other| other.address == server.address) => {
                section.error("servers", format!("{url:?} is there twice"));
            }
            Ok(server) if server.security == LdapSecurity::Plain && !server.is_local && !allow_plaintext => {
                section.error(
                    "servers",
                    format!(
                        "{url:?}: passwords would cross the network in the clear: write ldaps://, or starttls = true; \
                         allow_plaintext = true only where the network itself is encrypted"
                    ),
                );
            }
            Ok(server) => servers.push(server),
            Err(text) => section.error("servers", format!("{url:?} {text}")),
        }
    }
    (servers, verify, files)
}

/// How a name becomes an entry, and the file of the password that this needs.
fn read_lookup(
    section: &mut Section<'_>,
    base_folder: &Path,
    preset: Option<Preset>,
    is_given: bool,
) -> (Option<LdapLookup>, Option<PathBuf>) {
    let bind_dn: Option<String> = section.optional("bind_dn", DN);
    let password: Option<PathBuf> = section.optional("bind_password_file", "write a path to a file");
    let base: Option<String> = section.optional("base", DN);
    let text: Option<String> =
        section.optional("filter", "write a filter such as \"(&(objectClass=person)(uid={user}))\"");
    let user_dn: Option<String> =
        section.optional("user_dn", "write for example \"uid={user},ou=people,dc=example,dc=com\"");
    if !is_given {
        return (None, None);
    }
    if let Some(user_dn) = user_dn {
        let others = [
            ("bind_dn", bind_dn.is_some()),
            ("bind_password_file", password.is_some()),
            ("base", base.is_some()),
            ("filter", text.is_some()),
        ];
        for (key, _) in others.into_iter().filter(|(_, is_given)| *is_given) {
            section
                .error(key, "belongs to a search, and user_dn says where every user is: give one of the two");
        }
        return match DnTemplate::parse(&user_dn) {
            Ok(user_dn) => (Some(LdapLookup::Direct { user_dn }), None),
            Err(error) => {
                section.error("user_dn", format!("{user_dn:?} {error}"));
                (None, None)
            }
        };
    }
    let why = "is required: an account of the gateway's own searches for users; or give user_dn, which says where every user is";
    let is_required = [
        ("bind_dn", bind_dn.is_some(), why),
        ("bind_password_file", password.is_some(), "is required: the file with the password of bind_dn"),
        ("base", base.is_some(), "is required: below which entry users are, such as \"dc=example,dc=com\""),
        (
            "filter",
            text.is_some() || preset.is_some(),
            "is required without a preset, such as \"(uid={user})\"",
        ),
    ];
    for (key, _, text) in is_required.into_iter().filter(|(_, is_there, _)| !is_there) {
        section.missing(key, text);
    }
    if bind_dn.as_deref().is_some_and(|name| name.trim().is_empty()) {
        section.error("bind_dn", "must not be empty: nobody would be logged in");
    }
    if base.as_deref().is_some_and(|base| !is_dn(base)) {
        section.error("base", format!("is not a distinguished name: {DN}"));
    }
    let text = text.or_else(|| preset.map(|preset| preset.defaults().filter.to_owned()));
    let filter = text.and_then(|text| {
        Filter::parse(&text).map_err(|error| section.error("filter", format!("{text:?} {error}"))).ok()
    });
    let password = password.map(|path| base_folder.join(path));
    let (Some(bind_dn), Some(base), Some(filter)) = (bind_dn, base, filter) else { return (None, password) };
    (Some(LdapLookup::Search { bind_dn, base, filter }), password)
}

/// The attributes with the name and the e-mail address.
fn read_names(section: &mut Section<'_>, preset: Option<Preset>, is_given: bool) -> (String, String) {
    let default = preset.map(|preset| preset.defaults().user_attribute.to_owned());
    let user = attribute(section, "user_attribute", "uid").or(default);
    if is_given && user.is_none() {
        section.missing(
            "user_attribute",
            "is required without a preset: the attribute with the name, such as \"uid\"",
        );
    }
    let email = attribute(section, "email_attribute", "mail").unwrap_or_else(|| "mail".to_owned());
    (user.unwrap_or_default(), email)
}

fn attribute(section: &mut Section<'_>, key: &str, example: &str) -> Option<String> {
    let name: Option<String> =
        section.optional(key, &format!("write the name of an attribute such as {example:?}"));
    if let Some(name) = name.as_deref().filter(|name| !is_attribute(name)) {
        section.error(key, format!("{name:?} is not the name of an attribute such as {example:?}"));
    }
    name
}

fn read_membership(section: &mut Section<'_>, preset: Option<Preset>) -> LdapMembership {
    let defaults = preset.map(Preset::defaults);
    let of_user = attribute(section, "member_of_attribute", "memberOf");
    let of_group = attribute(section, "member_attribute", "member");
    let nested = defaults.as_ref().is_some_and(|defaults| defaults.nested);
    let nested = section.or("nested_groups", nested, "write true or false");
    let side = defaults.map_or(LdapSide::User, |defaults| defaults.side);
    let (side, attribute) = match (of_user, of_group, side) {
        (Some(_), Some(_), _) => {
            section
                .error("member_attribute", "and member_of_attribute exclude each other: give one of the two");
            (LdapSide::User, String::new())
        }
        (Some(name), None, _) => (LdapSide::User, name),
        (None, Some(name), _) => (LdapSide::Group, name),
        (None, None, LdapSide::User) => (LdapSide::User, "memberOf".to_owned()),
        (None, None, LdapSide::Group) => (LdapSide::Group, "member".to_owned()),
    };
    LdapMembership { attribute, side, nested }
}

/// One entry of `organization_groups`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupEntry {
    group: String,
    organization: String,
}

fn read_organization(section: &mut Section<'_>, is_given: bool) -> LdapOrganization {
    let hint = "write a list such as [{ group = \"cn=a,dc=example,dc=com\", organization = \"A\" }]";
    let entries: Vec<GroupEntry> = section.or("organization_groups", Vec::new(), hint);
    let by_attribute = attribute(section, "organization_attribute", "o");
    let others: Option<String> =
        section.optional("organization", "write the organization of all users of the directory");
    if is_given && entries.is_empty() && by_attribute.is_none() && others.is_none() {
        section.missing(
            "organization",
            "is required, or organization_attribute, or organization_groups: a token names the organization of its user",
        );
    }
    let mut name = |key: &str, text: &str| {
        Name::parse(text).map_err(|error| section.error(key, format!("{text:?} {error}"))).ok()
    };
    let others = others.and_then(|text| name("organization", &text));
    let mut groups = Vec::new();
    for GroupEntry { group, organization } in entries {
        groups.extend(name("organization_groups", &organization).map(|organization| (group, organization)));
    }
    for (group, _) in groups.iter().filter(|(group, _)| !is_dn(group)) {
        section.error("organization_groups", format!("{group:?} is not a distinguished name: {DN}"));
    }
    if groups.len() > MOST_GROUPS {
        section.error(
            "organization_groups",
            "lists more than 64 groups, each of which is a question at a login: use organization_attribute",
        );
    }
    LdapOrganization { groups, attribute: by_attribute, others }
}

/// How many groups are asked for, one after the other.
const MOST_GROUPS: usize = 64;

/// Connect, operation, login, idle, ejection.
fn read_times(section: &mut Section<'_>) -> [Duration; 5] {
    let connect = section.duration("connect_timeout", 5);
    let operation = section.duration("operation_timeout", 5);
    let login = section.duration("login_timeout", 10);
    if login < connect || login < operation {
        section.error("login_timeout", "must not be shorter than connect_timeout or operation_timeout");
    }
    [connect, operation, login, section.duration("idle_timeout", 60), section.duration("eject_for", 10)]
}

#[cfg(test)]
mod tests;
