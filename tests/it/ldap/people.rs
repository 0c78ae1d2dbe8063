//! The entries of the directory, as LDIF.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ds_gateway::auth::directory::escape_value;
use std::fmt::Write as _;

use super::users::SERVICE_PASSWORD;

/// Everybody's password.
pub const PASSWORD: &str = "correct-canary-password";

/// Names that mean something in a filter or in a distinguished name.
pub const ODD: [&str; 16] = [
    "a*b",
    "*",
    "(x)",
    "back\\slash",
    "comma, person",
    "plus+one",
    "semi;colon",
    "\"quoted\"",
    "<angle>",
    "equals=sign",
    "#hash",
    "and&or|not!",
    "{user}",
    "per%cent",
    "日本語",
    "apostrophe'",
];

/// What never is anybody's name here, and would be if it were not taken literally.
pub const INJECTED: [&str; 16] = [
    "*)(uid=*",
    "anna)(|(uid=*",
    "*)(objectClass=*))(&(uid=anna",
    "an*",
    "a*a",
    "**",
    "anna\\00",
    "anna\\",
    "\\61nna",
    "\\2a",
    "anna,ou=people",
    "anna+cn=x",
    "x,uid=anna",
    "anna,ou=people,dc=example,dc=com",
    "#616e6e61",
    "{anna}",
];

/// One entry. Everything is in base64, so that nothing has to be escaped but in the distinguished name.
pub fn entry(dn: &str, classes: &[&str], attributes: &[(&str, &str)]) -> String {
    let mut text = format!("dn:: {}\n", STANDARD.encode(dn));
    classes.iter().for_each(|class| writeln!(text, "objectClass: {class}").expect("a line"));
    for (name, value) in attributes {
        writeln!(text, "{name}:: {}", STANDARD.encode(value)).expect("a line");
    }
    text + "\n"
}

/// Somebody below `ou=people`, with a password and an e-mail address.
pub fn person(uid: &str, more: &[(&str, &str)]) -> String {
    let mail = format!("{}@example.com", uid.chars().filter(char::is_ascii_alphanumeric).collect::<String>());
    person_without_mail(uid, &[&[("mail", mail.as_str())], more].concat())
}

fn person_without_mail(uid: &str, more: &[(&str, &str)]) -> String {
    let dn = format!("uid={},ou=people,dc=example,dc=com", escape_value(uid));
    let own = [("uid", uid), ("cn", "A Person"), ("sn", "Person"), ("userPassword", PASSWORD)];
    entry(&dn, &["inetOrgPerson", "testAccount"], &[&own[..], more].concat())
}

pub fn everybody() -> String {
    let unit = |name: &str, above: &str| {
        entry(&format!("ou={name},{above}"), &["organizationalUnit"], &[("ou", name)])
    };
    let top = "dc=example,dc=com";
    let people = "ou=people,dc=example,dc=com";
    let mut all = vec![
        entry(top, &["dcObject", "organization"], &[("dc", "example"), ("o", "Example")]),
        unit("people", top),
        unit("groups", top),
        unit("services", top),
        unit("branch", top),
        unit("guests", people),
        entry(
            "cn=gateway,ou=services,dc=example,dc=com",
            &["organizationalRole", "simpleSecurityObject"],
            &[("cn", "gateway"), ("userPassword", SERVICE_PASSWORD)],
        ),
        entry(
            "cn=policy,dc=example,dc=com",
            &["organizationalRole", "pwdPolicy"],
            &[
                ("cn", "policy"),
                ("pwdAttribute", "userPassword"),
                ("pwdLockout", "TRUE"),
                ("pwdMaxFailure", "3"),
                ("pwdLockoutDuration", "600"),
            ],
        ),
        person("anna", &[("o", "Annas Org."), ("memberOf", "cn=staff,ou=groups,dc=example,dc=com")]),
        person("Bert", &[]),
        person("Zoe\u{308}", &[]),
        person("alias", &[("uid", "second")]),
        person("many.mails", &[("mail", "other@example.com")]),
        person("two.orgs", &[("o", "A"), ("o", "B")]),
        person("no.org", &[]),
        person("bad.org", &[("o", "tab\there")]),
        person_without_mail("no.mail", &[]),
        person("disabled", &[("userAccountControl", "514")]),
        person("enabled", &[("userAccountControl", "512"), ("accountExpires", "0"), ("lockoutTime", "0")]),
        person("expired", &[("userAccountControl", "512"), ("accountExpires", "133444736000000000")]),
        person("ipa.locked", &[("nsAccountLock", "TRUE")]),
        person("ipa.open", &[("nsAccountLock", "FALSE")]),
        person("locked.for.good", &[("pwdAccountLockedTime", "000001010000Z")]),
        person("victim", &[]),
        person("twin", &[]),
        entry(
            "uid=twin,ou=guests,ou=people,dc=example,dc=com",
            &["inetOrgPerson"],
            &[
                ("uid", "twin"),
                ("cn", "Twin"),
                ("sn", "Twin"),
                ("mail", "t@example.com"),
                ("userPassword", PASSWORD),
            ],
        ),
        entry(
            "uid=local,ou=branch,dc=example,dc=com",
            &["inetOrgPerson"],
            &[
                ("uid", "local"),
                ("cn", "Local"),
                ("sn", "Local"),
                ("mail", "l@example.com"),
                ("userPassword", PASSWORD),
            ],
        ),
        entry(
            "ou=elsewhere,ou=branch,dc=example,dc=com",
            &["referral", "extensibleObject"],
            &[("ou", "elsewhere"), ("ref", "ldap://127.0.0.1:9/ou=people,dc=example,dc=com")],
        ),
        entry(
            "cn=staff,ou=groups,dc=example,dc=com",
            &["groupOfNames"],
            &[("cn", "staff"), ("member", "uid=anna,ou=people,dc=example,dc=com")],
        ),
        entry(
            "cn=outer,ou=groups,dc=example,dc=com",
            &["groupOfNames"],
            &[("cn", "outer"), ("member", "cn=staff,ou=groups,dc=example,dc=com")],
        ),
        entry(
            "cn=empty,ou=groups,dc=example,dc=com",
            &["groupOfNames"],
            &[("cn", "empty"), ("member", "cn=nobody,dc=example,dc=com")],
        ),
    ];
    all.extend(ODD.iter().map(|name| person(name, &[])));
    all.concat()
}
