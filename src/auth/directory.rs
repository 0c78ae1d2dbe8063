//! How a directory (LDAP) is asked for a name: search filters (RFC 4515) and distinguished names (RFC 4514) with a place for it.
//!
//! A name that a client sent never becomes part of the text of a filter: the text is parsed once, from the configuration, and the name is
//! one of its values. A distinguished name is sent as text, so there the name is escaped.

mod dn;
mod filter;

pub use self::dn::{DnError, DnTemplate, escape_value, is_dn};
pub use self::filter::{Comparison, Filter, FilterError, Value, is_attribute};
