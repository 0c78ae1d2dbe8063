//! What is usual in the directories that most people have. Every key that is given counts instead.

use serde::Deserialize;

use super::settings::LdapSide;

/// `users.ldap.preset`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Preset {
    ActiveDirectory,
    Freeipa,
    Lldap,
    Openldap,
}

/// The defaults of a preset.
pub(super) struct Defaults {
    pub(super) filter: &'static str,
    pub(super) user_attribute: &'static str,
    pub(super) side: LdapSide,
    pub(super) nested: bool,
    pub(super) domain_scope: bool,
}

impl Preset {
    pub(super) const fn defaults(self) -> Defaults {
        let by_uid = Defaults {
            filter: "(&(objectClass=person)(uid={user}))",
            user_attribute: "uid",
            side: LdapSide::User,
            nested: false,
            domain_scope: false,
        };
        match self {
            // Computers are users there, of another category.
            Self::ActiveDirectory => Defaults {
                filter: "(&(objectCategory=person)(objectClass=user)(sAMAccountName={user}))",
                user_attribute: "sAMAccountName",
                nested: true,
                domain_scope: true,
                ..by_uid
            },
            // Its memberOf has the groups of groups already.
            Self::Freeipa => Defaults { filter: "(&(objectClass=posixAccount)(uid={user}))", ..by_uid },
            Self::Lldap => by_uid,
            // groupOfNames of RFC 2307bis; memberOf needs an overlay.
            Self::Openldap => Defaults {
                filter: "(&(objectClass=inetOrgPerson)(uid={user}))",
                side: LdapSide::Group,
                ..by_uid
            },
        }
    }
}
