use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::config::settings::ServerAddress;
use crate::config::{Config, ConfigError, Materials};

const MINIMAL: &str = r#"
[server]
http = ["127.0.0.1:0"]
state_dir = "state"
[platform]
servers = ["http://127.0.0.1:9000"]
"#;

/// A folder with the file of a password.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.password("of the service\n", 0o600);
        folder
    }

    fn password(&self, text: &str, mode: u32) {
        let path = self.0.path().join("password");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, section: &str, environment: &[(&str, &str)]) -> Result<(Config, Materials), Vec<String>> {
        let text = format!("{MINIMAL}[users]\nsources = [\"store\", \"ldap\"]\n[users.ldap]\n{section}\n");
        let variables = environment.iter().map(|&(name, value)| (name.into(), value.into()));
        let (config, _) = Config::parse(&text, self.0.path(), variables);
        config.map_err(|errors| errors.iter().map(ConfigError::to_string).collect())
    }

    fn ldap(&self, section: &str) -> Ldap {
        self.read(section, &[]).unwrap_or_else(|errors| panic!("{section}: {errors:?}")).0.ldap.unwrap()
    }
}

/// A search, with these lines besides.
fn search(rest: &str) -> String {
    format!(
        "servers = [\"ldaps://a.example\"]\npreset = \"openldap\"\nbind_dn = \"cn=gateway,dc=x\"\nbind_password_file = \"password\"\n\
         base = \"dc=x\"\norganization = \"Main Org.\"\n{rest}"
    )
}

/// The same without one line.
fn without(key: &str) -> String {
    let line = |line: &&str| !line.starts_with(&format!("{key} ="));
    search("").lines().filter(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn there_is_no_directory_without_its_section() {
    let (config, _) = Config::parse(MINIMAL, Path::new("/nowhere"), std::iter::empty());
    assert!(config.unwrap().0.ldap.is_none());
}

#[test]
fn a_preset_has_defaults_that_each_key_overrides() {
    let folder = Folder::new();
    for (preset, filter, user, side, nested, domain_scope) in [
        (
            "active-directory",
            "(&(objectCategory=person)(objectClass=user)(sAMAccountName={user}))",
            "sAMAccountName",
            LdapSide::User,
            true,
            true,
        ),
        ("freeipa", "(&(objectClass=posixAccount)(uid={user}))", "uid", LdapSide::User, false, false),
        ("lldap", "(&(objectClass=person)(uid={user}))", "uid", LdapSide::User, false, false),
        ("openldap", "(&(objectClass=inetOrgPerson)(uid={user}))", "uid", LdapSide::Group, false, false),
    ] {
        let text = search("").replace("openldap", preset);
        let ldap = folder.ldap(&text);
        let expected = Filter::parse(filter).unwrap();
        assert!(matches!(&ldap.lookup, LdapLookup::Search { filter, .. } if *filter == expected), "{preset}");
        let found =
            (ldap.user_attribute.as_str(), ldap.membership.side, ldap.membership.nested, ldap.domain_scope);
        assert_eq!(found, (user, side, nested, domain_scope), "{preset}");
        assert_eq!(ldap.email_attribute, "mail");
        let attribute = if side == LdapSide::User { "memberOf" } else { "member" };
        assert_eq!(ldap.membership.attribute, attribute, "{preset}");

        let overridden = folder.ldap(&format!(
            "{text}filter = \"(cn={{user}})\"\nuser_attribute = \"cn\"\nemail_attribute = \"email\"\nmember_attribute = \"uniqueMember\"\n\
             nested_groups = {}\ndomain_scope = {}\n",
            !nested, !domain_scope
        ));
        let expected = Filter::parse("(cn={user})").unwrap();
        assert!(
            matches!(&overridden.lookup, LdapLookup::Search { filter, .. } if *filter == expected),
            "{preset}"
        );
        assert_eq!(
            (overridden.user_attribute.as_str(), overridden.email_attribute.as_str()),
            ("cn", "email")
        );
        assert_eq!(
            (overridden.membership.nested, overridden.domain_scope),
            (!nested, !domain_scope),
            "{preset}"
        );
        assert_eq!(
            (overridden.membership.attribute.as_str(), overridden.membership.side),
            ("uniqueMember", LdapSide::Group)
        );
    }
}

#[test]
fn defaults_are_those_of_the_page() {
    let folder = Folder::new();
    let (config, materials) = folder.read(&search(""), &[]).unwrap();
    let ldap = config.ldap.as_ref().unwrap();
    assert!(ldap.verify && ldap.knows_names() && config.warnings().is_empty());
    let seconds = |span: Duration| span.as_secs();
    assert_eq!(seconds(ldap.connect_timeout), 5);
    assert_eq!(seconds(ldap.operation_timeout), 5);
    assert_eq!(seconds(ldap.login_timeout), 10);
    assert_eq!(seconds(ldap.idle_timeout), 60);
    assert_eq!(seconds(ldap.eject_for), 10);
    assert_eq!(ldap.max_logins, 16);
    let password = materials.ldap.bind_password.as_ref().unwrap();
    assert_eq!(password.expose_secret(), b"of the service");
    assert!(!format!("{config:?} {materials:?}").contains("of the service"));
}

#[test]
fn each_server_is_reached_as_its_address_says() {
    let folder = Folder::new();
    let server = |url: &str, rest: &str| {
        folder.ldap(&search(rest).replace("ldaps://a.example", url)).servers.remove(0)
    };
    let network = |text: &str| ServerAddress::Network(text.into());
    for (url, rest, address, security, tls_name) in [
        ("ldaps://a.example", "", network("a.example:636"), LdapSecurity::Tls, "a.example"),
        ("ldaps://a.example:1636/", "", network("a.example:1636"), LdapSecurity::Tls, "a.example"),
        (
            "ldaps://10.0.0.1",
            "server_name = \"a.example\"",
            network("10.0.0.1:636"),
            LdapSecurity::Tls,
            "a.example",
        ),
        ("ldaps://[2001:db8::1]", "", network("[2001:db8::1]:636"), LdapSecurity::Tls, "2001:db8::1"),
        (
            "ldap://a.example",
            "starttls = true",
            network("a.example:389"),
            LdapSecurity::StartTls,
            "a.example",
        ),
        ("ldap://127.0.0.1:1389", "", network("127.0.0.1:1389"), LdapSecurity::Plain, "127.0.0.1"),
        (
            "ldap://127.0.0.1",
            "starttls = true",
            network("127.0.0.1:389"),
            LdapSecurity::StartTls,
            "127.0.0.1",
        ),
        ("ldap://[::1]", "", network("[::1]:389"), LdapSecurity::Plain, "::1"),
        ("ldap://localhost", "", network("localhost:389"), LdapSecurity::Plain, "localhost"),
        (
            "ldap://a.example",
            "allow_plaintext = true",
            network("a.example:389"),
            LdapSecurity::Plain,
            "a.example",
        ),
        ("unix:/run/ldapi", "", ServerAddress::Unix("/run/ldapi".into()), LdapSecurity::Plain, ""),
        (
            "unix:/run/ldapi",
            "starttls = true",
            ServerAddress::Unix("/run/ldapi".into()),
            LdapSecurity::Plain,
            "",
        ),
    ] {
        let found = server(url, rest);
        assert_eq!(
            (&found.address, found.security, found.tls_name.as_str()),
            (&address, security, tls_name),
            "{url}"
        );
    }
    for (url, expected) in [
        ("ldap://a.example", "passwords would cross the network in the clear"),
        ("ldap://10.0.0.1", "passwords would cross the network in the clear"),
        ("ldap://localhost.example", "passwords would cross the network in the clear"),
        ("https://a.example", "must begin with ldaps://"),
        ("a.example", "must begin with ldaps://"),
        ("ldaps://", "names no host"),
        ("ldaps://a b", "names no host"),
        ("ldaps://:636", "names no host"),
        ("ldaps://a.example:0", "has no usable port"),
        ("ldaps://a.example:x", "has no usable port"),
        ("ldaps://a.example/dc=x", "must consist of a host and a port only"),
        ("ldaps://u:p@a.example", "must consist of a host and a port only"),
        ("unix:", "names no socket"),
    ] {
        let errors = folder.read(&search("").replace("ldaps://a.example", url), &[]).unwrap_err();
        let is_said =
            errors.iter().any(|error| error.starts_with("users.ldap.servers: ") && error.contains(expected));
        assert!(is_said && errors.len() == 1, "{url}: {errors:?}");
    }
}

#[test]
fn dangerous_choices_are_named() {
    let folder = Folder::new();
    for (text, count) in [
        (search("verify = false"), 1),
        (search("allow_plaintext = true"), 0),
        (search("allow_plaintext = true").replace("ldaps", "ldap"), 1),
        (search("starttls = true\nallow_plaintext = true").replace("ldaps", "ldap"), 0),
        (search("").replace("ldaps://a.example", "ldap://127.0.0.1"), 0),
    ] {
        let warnings = folder.read(&text, &[]).unwrap().0.warnings();
        assert_eq!(warnings.len(), count, "{text} {warnings:?}");
    }
}

#[test]
fn a_directory_is_searched_or_entered_directly() {
    let folder = Folder::new();
    let direct = "servers = [\"ldaps://a.example\"]\nuser_attribute = \"uid\"\nuser_dn = \"uid={user},dc=x\"\norganization = \"A\"\n";
    let ldap = folder.ldap(direct);
    assert!(matches!(ldap.lookup, LdapLookup::Direct { .. }) && !ldap.knows_names());
    for (text, expected) in [
        (format!("{direct}bind_dn = \"cn=a\""), "users.ldap.bind_dn: belongs to a search"),
        (
            format!("{direct}bind_password_file = \"password\""),
            "users.ldap.bind_password_file: belongs to a search",
        ),
        (format!("{direct}base = \"dc=x\""), "users.ldap.base: belongs to a search"),
        (format!("{direct}filter = \"(uid={{user}})\""), "users.ldap.filter: belongs to a search"),
        (direct.replace("{user}", "anna"), "users.ldap.user_dn: \"uid=anna,dc=x\" has no {user}"),
        (
            direct.replace("uid={user},dc=x", "{user}"),
            "users.ldap.user_dn: \"{user}\" is not a distinguished name",
        ),
        (without("servers"), "users.ldap.servers: is required"),
        (without("bind_dn"), "users.ldap.bind_dn: is required"),
        (without("bind_password_file"), "users.ldap.bind_password_file: is required"),
        (without("base"), "users.ldap.base: is required"),
        (without("organization"), "users.ldap.organization: is required"),
        (
            format!("{}\nuser_attribute = \"uid\"", without("preset")),
            "users.ldap.filter: is required without a preset",
        ),
        (
            format!("{}\nfilter = \"(uid={{user}})\"", without("preset")),
            "users.ldap.user_attribute: is required without",
        ),
        (search("").replace("cn=gateway,dc=x", " "), "users.ldap.bind_dn: must not be empty"),
        (search("").replace("\"dc=x\"", "\"x\""), "users.ldap.base: is not a distinguished name"),
        (search("filter = \"(uid=anna)\""), "users.ldap.filter: \"(uid=anna)\" has no {user}"),
        (search("filter = \"uid={user}\""), "users.ldap.filter: \"uid={user}\" is not a filter"),
        (
            search("user_attribute = \"a b\""),
            "users.ldap.user_attribute: \"a b\" is not the name of an attribute",
        ),
        (search("organization_attribute = \"\""), "users.ldap.organization_attribute: \"\" is not the name"),
        (search("required_group = \"staff\""), "users.ldap.required_group: is not a distinguished name"),
        (
            search("member_attribute = \"member\"\nmember_of_attribute = \"memberOf\""),
            "users.ldap.member_attribute: and",
        ),
        (
            search("organization_groups = [{ group = \"a\", organization = \"A\" }]"),
            "users.ldap.organization_groups: \"a\" is not a distinguished name",
        ),
        (
            search("organization_groups = [{ group = \"cn=a\", organization = \" A\" }]"),
            "users.ldap.organization_groups: \" A\" must not begin",
        ),
        (
            search("organization_groups = [{ group = \"cn=a\" }]"),
            "users.ldap.organization_groups: invalid value",
        ),
        (search("").replace("Main Org.", ""), "users.ldap.organization: \"\" must not be empty"),
        (
            search("preset = \"ad\"").replacen("preset = \"openldap\"\n", "", 1),
            "users.ldap.preset: invalid value",
        ),
        (search("server_name = \"a b\""), "users.ldap.server_name: must be"),
        (search("ca_file = \"nowhere.pem\""), "users.ldap.ca_file: "),
        (
            search("client_key = \"nowhere.pem\""),
            "users.ldap.client_certificate: client_certificate and client_key",
        ),
        (search("max_logins = 0"), "users.ldap.max_logins: must be"),
        (search("connect_timeout = \"100ms\""), "users.ldap.connect_timeout: must be at least"),
        (search("login_timeout = \"4s\""), "users.ldap.login_timeout: must not be shorter"),
        (search("password = \"x\""), "users.ldap.password: unknown key"),
        (
            search("").replace("\"ldaps://a.example\"", "\"ldaps://a\", \"ldaps://a:636\""),
            "users.ldap.servers: \"ldaps://a:636\" is there twice",
        ),
    ] {
        let errors = folder.read(&text, &[]).map(drop).unwrap_err();
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected}\n{errors:#?}");
    }
    let groups: String =
        (0..65).map(|number| format!("{{ group = \"cn={number}\", organization = \"A\" }},")).collect();
    let errors =
        folder.read(&search(&format!("organization_groups = [{groups}]")), &[]).map(drop).unwrap_err();
    assert!(errors[0].contains("more than 64 groups"), "{errors:?}");
}

#[test]
fn the_password_of_the_account_is_a_private_file_that_is_not_empty() {
    let folder = Folder::new();
    for (text, mode, expected) in
        [("", 0o600, "which is empty"), ("\n", 0o600, "which is empty"), ("secret", 0o644, "others may read")]
    {
        folder.password(text, mode);
        let errors = folder.read(&search(""), &[]).map(drop).unwrap_err();
        let is_said = errors[0].starts_with("users.ldap.bind_password_file: the password ")
            && errors[0].contains(expected);
        assert!(is_said && errors.len() == 1, "{errors:?}");
    }
}

#[test]
fn the_environment_reaches_the_section() {
    let folder = Folder::new();
    let variable = ("DS_GATEWAY__USERS__LDAP__REQUIRED_GROUP", "cn=staff,dc=x");
    let (config, _) = folder.read(&search(""), &[variable]).unwrap();
    assert_eq!(config.ldap.unwrap().required_group.as_deref(), Some("cn=staff,dc=x"));
    // A variable alone is a directory too, of which most is missing.
    let (config, _) = Config::parse(
        MINIMAL,
        Path::new("/nowhere"),
        [variable].map(|(name, value)| (name.into(), value.into())).into_iter(),
    );
    assert!(config.map(drop).unwrap_err().len() > 3);
}
