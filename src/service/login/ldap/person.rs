//! From an entry to the identity that tokens carry.

use unicode_normalization::UnicodeNormalization as _;

use super::entry::{Entry, Only};
use crate::auth::identity::Identity;
use crate::auth::name::{Name, check_email};
use crate::config::Ldap;

/// The user's name as the directory writes it, in normalization form C. It must be the name that was asked for, but for case and
/// compatibility forms: an account has one name here, or it could be tried, revoked and disabled under one and used under another.
pub(super) fn name(entry: &Entry, settings: &Ldap, asked: &Name) -> Result<Name, &'static str> {
    let text = match entry.only(&settings.user_attribute) {
        Only::Text(text) => text,
        Only::None => return Err("its entry has no user_attribute"),
        Only::Unusable => return Err("its user_attribute has several values, or one that is not text"),
    };
    let name = Name::parse_user(&text.nfc().collect::<String>()).map_err(|error| error.as_str());
    let name = name.map_err(|_| "its user_attribute is not a name that a token may have")?;
    if name.folded() == asked.folded() {
        Ok(name)
    } else {
        Err("its user_attribute is another name than the one asked for")
    }
}

/// The organization that the entry itself names; `None`: it names none.
pub(super) fn organization(entry: &Entry, settings: &Ldap) -> Result<Option<Name>, &'static str> {
    let Some(attribute) = &settings.organization.attribute else { return Ok(None) };
    match entry.only(attribute) {
        Only::None => Ok(None),
        Only::Text(text) => Name::parse(&text.nfc().collect::<String>())
            .map(Some)
            .map_err(|_| "its organization_attribute is not a name that a token may have"),
        Only::Unusable => Err("its organization_attribute has several values, or one that is not text"),
    }
}

/// All of it. Of several e-mail addresses the first counts.
pub(super) fn identity(
    entry: &Entry,
    settings: &Ldap,
    user: Name,
    organization: Name,
) -> Result<Identity, &'static str> {
    let email =
        entry.first(&settings.email_attribute).ok_or("its entry has no email_attribute that is text")?;
    check_email(email).map_err(|_| "its email_attribute is not an address that a token may have")?;
    Ok(Identity { user, email: email.into(), organization })
}
