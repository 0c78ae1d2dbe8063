//! `[users.ldap]` as plain data.

use std::time::Duration;

use crate::auth::directory::{DnTemplate, Filter};
use crate::auth::name::Name;
use crate::config::settings::ServerAddress;

/// `[users.ldap]`: a directory whose users may log in, and how it is asked.
#[derive(Clone, Debug)]
pub struct Ldap {
    /// In the order in which they are asked.
    pub servers: Vec<LdapServer>,
    /// Are certificates verified? Off only by explicit word.
    pub verify: bool,
    /// How a name becomes an entry.
    pub lookup: LdapLookup,
    /// Is the server asked not to point at other parts of its forest (a control of Active Directory)?
    pub domain_scope: bool,
    /// The attribute with the name of a user.
    pub user_attribute: String,
    /// The attribute with the e-mail address.
    pub email_attribute: String,
    /// Where the organization comes from.
    pub organization: LdapOrganization,
    /// How it is known who is in a group.
    pub membership: LdapMembership,
    /// The group that all who log in are in.
    pub required_group: Option<String>,
    /// Logins, and questions without a password, at once.
    pub max_logins: usize,
    /// TCP and TLS together.
    pub connect_timeout: Duration,
    /// One request and its answer.
    pub operation_timeout: Duration,
    /// All that one login may take.
    pub login_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long a server is left out that failed.
    pub eject_for: Duration,
    /// How often users who have tokens are asked for again; `None`: never.
    pub revalidate: Option<Duration>,
}

impl Ldap {
    /// Can it say of a name that nobody has it, whatever the password? It must be the last source if it cannot.
    pub const fn knows_names(&self) -> bool {
        matches!(self.lookup, LdapLookup::Search { .. })
    }

    /// Does a password cross a network in the clear?
    pub(in crate::config) fn is_plain(&self) -> bool {
        self.servers.iter().any(|server| server.security == LdapSecurity::Plain && !server.is_local)
    }
}

/// One server of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapServer {
    /// As configured: what logs call it.
    pub name: String,
    /// Where it listens.
    pub address: ServerAddress,
    /// How the connection is protected.
    pub security: LdapSecurity,
    /// The name or IP address that its certificate must have.
    pub tls_name: String,
    /// Is it on this machine?
    pub is_local: bool,
}

/// How a connection to a directory is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LdapSecurity {
    /// TLS from the first byte.
    Tls,
    /// TLS from the first request on, or no connection.
    StartTls,
    /// Not at all.
    Plain,
}

/// How a name becomes an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LdapLookup {
    /// An account of the gateway's own searches for it.
    Search {
        /// The name of that account; its password is a file.
        bind_dn: String,
        /// Where the search begins.
        base: String,
        /// What it looks for.
        filter: Filter,
    },
    /// The name is part of the entry's own, as which the login binds.
    Direct {
        /// The entry's name.
        user_dn: DnTemplate,
    },
}

/// Where the organization of a user comes from: the first of these that gives one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LdapOrganization {
    /// Groups, and the organization of whoever is in one.
    pub groups: Vec<(String, Name)>,
    /// An attribute of the user.
    pub attribute: Option<String>,
    /// The organization of all others.
    pub others: Option<Name>,
}

/// How it is known who is in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapMembership {
    /// The attribute with the distinguished name of the other.
    pub attribute: String,
    /// Whose attribute it is.
    pub side: LdapSide,
    /// Do members of groups in the group count too (a matching rule of Active Directory)?
    pub nested: bool,
}

/// Whose attribute says who is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LdapSide {
    /// The user's names its groups.
    User,
    /// The group's names its members.
    Group,
}
