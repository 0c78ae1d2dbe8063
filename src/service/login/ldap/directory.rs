//! Who is who in a directory: from a name to an entry, its account, its groups and its identity.

use super::account::{ATTRIBUTES, State};
use super::connection::{Bound, Found};
use super::entry::Entry;
use super::failure::Failure;
use super::person::{identity, name, organization};
use super::request::{Scope, Search};
use crate::auth::directory::Filter;
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::time::UnixTime;
use crate::config::{Ldap, LdapLookup, LdapSide};
use crate::service::login::source::Refused;

/// What a directory says of a name.
#[derive(Debug)]
pub(super) enum Resolution {
    /// Nobody has it.
    Unknown,
    /// Somebody has it, and may not log in; and why, for the log.
    Refused(Refused, &'static str),
    /// Somebody has it.
    Found(Person),
}

/// Somebody who may log in.
pub(super) struct Person {
    /// The name of the entry, to bind as.
    pub(super) dn: String,
    pub(super) identity: Identity,
    pub(super) state: State,
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Person").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Questions on one connection.
pub(super) struct Directory<'d> {
    pub(super) settings: &'d Ldap,
    pub(super) now: UnixTime,
}

impl Directory<'_> {
    /// Finds out whose name this is. `own` is the entry of the user as whom the connection is bound, where there is no search.
    pub(super) async fn resolve(
        &self,
        connection: &mut Bound,
        user: &Name,
        own: Option<&str>,
    ) -> Result<Resolution, Failure> {
        let refused = |why| Ok(Resolution::Refused(Refused::Identity, why));
        let mut entries = self.find(connection, user, own).await?.into_iter();
        let entry = match (entries.next(), entries.next()) {
            (Some(entry), None) if entry.name().is_empty() => {
                return Err(Failure::question("found an entry without a name"));
            }
            (Some(entry), None) => entry,
            (None, _) if own.is_some() => return refused("it may not read its own entry"),
            (None, _) => return Ok(Resolution::Unknown),
            (Some(_), Some(_)) => return refused("several entries match the name"),
        };
        let user = match name(&entry, self.settings, user) {
            Ok(user) => user,
            Err(why) => return refused(why),
        };
        let state = State::of(&entry, self.now);
        if let State::Closed(why) = state {
            return Ok(Resolution::Refused(Refused::Account, why));
        }
        if let Some(group) = &self.settings.required_group
            && !self.is_member(connection, &entry, group).await?
        {
            return Ok(Resolution::Refused(Refused::Account, "it is not in the required group"));
        }
        let organization = match self.organization(connection, &entry).await? {
            Ok(organization) => organization,
            Err(why) => return refused(why),
        };
        match identity(&entry, self.settings, user, organization) {
            Ok(identity) => Ok(Resolution::Found(Person { dn: entry.name().to_owned(), identity, state })),
            Err(why) => refused(why),
        }
    }

    /// The entries of the name, no more than two.
    async fn find(
        &self,
        connection: &mut Bound,
        user: &Name,
        own: Option<&str>,
    ) -> Result<Vec<Entry>, Failure> {
        let settings = self.settings;
        let names = [&settings.user_attribute, &settings.email_attribute];
        let names = names.into_iter().chain(&settings.organization.attribute).map(String::as_str);
        let attributes: Vec<&str> = names.chain(ATTRIBUTES).collect();
        let anything = Filter::anything();
        let (base, scope, filter) = match (&settings.lookup, own) {
            (LdapLookup::Search { base, filter, .. }, None) => (base.as_str(), Scope::Subtree, filter),
            (_, Some(own)) => (own, Scope::Base, &anything),
            (LdapLookup::Direct { .. }, None) => {
                return Err(Failure::question("has no account to search with"));
            }
        };
        let found = self.search(connection, base, scope, filter, user.as_str(), &attributes).await?;
        match found {
            Found { is_without_base: true, .. } if own.is_none() => {
                Err(Failure::question("has no entry that is named as base"))
            }
            // Who is nowhere here may be there, and nobody may take a name of theirs.
            Found { is_referred: true, entries, .. } if entries.is_empty() => Err(Failure::question(
                "refers to other servers, which are not asked: name a base without referrals",
            )),
            Found { entries, .. } => Ok(entries),
        }
    }

    /// The organization of the first group, the entry's own, or everybody else's.
    async fn organization(
        &self,
        connection: &mut Bound,
        entry: &Entry,
    ) -> Result<Result<Name, &'static str>, Failure> {
        let settings = &self.settings.organization;
        for (group, name) in &settings.groups {
            if self.is_member(connection, entry, group).await? {
                return Ok(Ok(name.clone()));
            }
        }
        Ok(match organization(entry, self.settings) {
            Ok(own) => own.or_else(|| settings.others.clone()).ok_or("it has no organization"),
            Err(why) => Err(why),
        })
    }

    /// Is the entry in the group? The server compares the names: it knows how they may be written, and how groups are nested.
    async fn is_member(&self, connection: &mut Bound, entry: &Entry, group: &str) -> Result<bool, Failure> {
        let membership = &self.settings.membership;
        let rule = membership.nested.then_some(IN_CHAIN);
        let (base, other) = match membership.side {
            LdapSide::User => (entry.name(), group),
            LdapSide::Group => (group, entry.name()),
        };
        let filter = Filter::equals(&membership.attribute, rule, other);
        let found = self.search(connection, base, Scope::Base, &filter, "", &[NO_ATTRIBUTES]).await?;
        Ok(!found.entries.is_empty())
    }

    async fn search(
        &self,
        connection: &mut Bound,
        base: &str,
        scope: Scope,
        filter: &Filter,
        user: &str,
        attributes: &[&str],
    ) -> Result<Found, Failure> {
        let seconds = connection.operation_timeout().as_secs();
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX).clamp(1, i32::MAX.unsigned_abs());
        let domain_scope = self.settings.domain_scope;
        let search = Search { base, scope, filter, user, attributes, domain_scope, seconds };
        connection.search(&search).await
    }
}

/// LDAP_MATCHING_RULE_IN_CHAIN of Active Directory: follows groups in groups to the root.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// Asks for no attribute (RFC 4511 §4.5.1.8).
const NO_ATTRIBUTES: &str = "1.1";
