//! What the gateway asks of a directory (RFC 4511 §4): to bind, to search, to begin with TLS. Nothing else can be sent, and nothing
//! that a directory would take for an anonymous login.

use super::ber::{BOOLEAN, ENUMERATED, INTEGER, OCTETS, SEQUENCE, Writer};
use crate::auth::directory::{Comparison, Filter};
use crate::auth::secret::Secret;

/// A name and a password that a directory is asked to check. Neither is empty: a directory says that all is well to one without the
/// other, and has logged nobody in (RFC 4513 §5.1).
#[derive(Clone, Copy)]
pub(super) struct SimpleBind<'c> {
    name: &'c str,
    password: &'c Secret,
}

impl<'c> SimpleBind<'c> {
    /// `None` where one of the two is empty.
    pub(super) fn new(name: &'c str, password: &'c Secret) -> Option<Self> {
        let is_complete = !name.trim().is_empty() && !password.expose_secret().is_empty();
        is_complete.then_some(Self { name, password })
    }

    pub(super) fn encode(self, id: u32) -> Writer {
        let password = self.password.expose_secret();
        // Of the whole size at once: see `Writer`.
        let mut writer = Writer::with_capacity(self.name.len() + password.len() + 64);
        message(&mut writer, id, |message| {
            message.constructed(BIND, |bind| {
                bind.number(INTEGER, 3);
                bind.octets(OCTETS, self.name.as_bytes());
                bind.octets(SIMPLE, password);
            });
        });
        writer
    }
}

/// Where a search looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// At the base alone.
    Base,
    /// At the base and below.
    Subtree,
}

/// A search for entries, at most two: the second one is one too many.
#[derive(Clone, Copy)]
pub(super) struct Search<'s> {
    pub(super) base: &'s str,
    pub(super) scope: Scope,
    pub(super) filter: &'s Filter,
    /// Stands where the filter has a place for a name.
    pub(super) user: &'s str,
    pub(super) attributes: &'s [&'s str],
    /// Is the server asked not to point elsewhere?
    pub(super) domain_scope: bool,
    /// How long the server may search, in seconds.
    pub(super) seconds: u32,
}

impl Search<'_> {
    pub(super) fn encode(&self, id: u32) -> Writer {
        let mut writer = Writer::with_capacity(1024);
        message(&mut writer, id, |message| {
            message.constructed(SEARCH, |search| {
                search.octets(OCTETS, self.base.as_bytes());
                search.number(
                    ENUMERATED,
                    match self.scope {
                        Scope::Base => 0,
                        Scope::Subtree => 2,
                    },
                );
                // Aliases are not followed: they may lead anywhere.
                search.number(ENUMERATED, 0);
                search.number(INTEGER, MOST_ENTRIES);
                search.number(INTEGER, self.seconds);
                search.boolean(BOOLEAN, false);
                filter(search, self.filter, self.user);
                search.constructed(SEQUENCE, |list| {
                    self.attributes.iter().for_each(|name| list.octets(OCTETS, name.as_bytes()));
                });
            });
            if self.domain_scope {
                message.constructed(CONTROLS, |controls| {
                    controls.constructed(SEQUENCE, |control| control.octets(OCTETS, DOMAIN_SCOPE));
                });
            }
        });
        writer
    }
}

/// The request to begin with TLS (RFC 4511 §4.14).
pub(super) fn start_tls(id: u32) -> Writer {
    let mut writer = Writer::with_capacity(64);
    message(&mut writer, id, |message| {
        message.constructed(EXTENDED, |request| request.octets(REQUEST_NAME, START_TLS));
    });
    writer
}

fn message(writer: &mut Writer, id: u32, operation: impl FnOnce(&mut Writer)) {
    writer.constructed(SEQUENCE, |message| {
        message.number(INTEGER, id);
        operation(message);
    });
}

/// As deep as the text of the configuration is, which is bounded where it is parsed.
fn filter(writer: &mut Writer, of: &Filter, user: &str) {
    match of {
        Filter::And(all) => {
            writer.constructed(AND, |list| all.iter().for_each(|one| filter(list, one, user)))
        }
        Filter::Or(all) => writer.constructed(OR, |list| all.iter().for_each(|one| filter(list, one, user))),
        Filter::Not(one) => writer.constructed(NOT, |inside| filter(inside, one, user)),
        Filter::Present(attribute) => writer.octets(PRESENT, attribute.as_bytes()),
        Filter::Compare(comparison, attribute, value) => {
            let tag = match comparison {
                Comparison::Equal => 0xa3,
                Comparison::AtLeast => 0xa5,
                Comparison::AtMost => 0xa6,
                Comparison::Like => 0xa8,
            };
            writer.constructed(tag, |assertion| {
                assertion.octets(OCTETS, attribute.as_bytes());
                assertion.octets(OCTETS, &value.of(user));
            });
        }
        Filter::Substrings { attribute, first, middle, last } => {
            writer.constructed(SUBSTRINGS, |assertion| {
                assertion.octets(OCTETS, attribute.as_bytes());
                assertion.constructed(SEQUENCE, |parts| {
                    first.iter().for_each(|value| parts.octets(0x80, &value.of(user)));
                    middle.iter().for_each(|value| parts.octets(0x81, &value.of(user)));
                    last.iter().for_each(|value| parts.octets(0x82, &value.of(user)));
                });
            })
        }
        Filter::Extensible { rule, attribute, value, of_dn } => writer.constructed(EXTENSIBLE, |assertion| {
            rule.iter().for_each(|rule| assertion.octets(0x81, rule.as_bytes()));
            attribute.iter().for_each(|attribute| assertion.octets(0x82, attribute.as_bytes()));
            assertion.octets(0x83, &value.of(user));
            if *of_dn {
                assertion.boolean(0x84, true);
            }
        }),
    }
}

/// The second one says that there are several.
pub(super) const MOST_ENTRIES: u32 = 2;

const BIND: u8 = 0x60;
const SEARCH: u8 = 0x63;
const EXTENDED: u8 = 0x77;
const SIMPLE: u8 = 0x80;
const CONTROLS: u8 = 0xa0;
const REQUEST_NAME: u8 = 0x80;

const AND: u8 = 0xa0;
const OR: u8 = 0xa1;
const NOT: u8 = 0xa2;
const SUBSTRINGS: u8 = 0xa4;
const PRESENT: u8 = 0x87;
const EXTENSIBLE: u8 = 0xa9;

const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// LDAP_SERVER_DOMAIN_SCOPE_OID of Active Directory; not critical, so that another server ignores it.
const DOMAIN_SCOPE: &[u8] = b"1.2.840.113556.1.4.1339";

#[cfg(test)]
mod tests;
