//! Who a token speaks for, and how that is written in a header field.

use std::borrow::Cow;

use http::HeaderValue;

use super::name::Name;

/// The person a verified token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Claim `user`, unique over all organizations.
    pub user: Name,
    /// Claim `email`.
    pub email: Box<str>,
    /// Claim `database`: the organization's name.
    pub organization: Name,
}

impl Identity {
    /// User, e-mail address and organization as the values of the fields in which the platform reads them; `None` is
    /// never the case, since an encoded claim is always a value.
    pub fn fields(&self) -> Option<[HeaderValue; 3]> {
        let value = |claim: &str| HeaderValue::from_str(&header_value(claim)).ok();
        Some([value(self.user.as_str())?, value(&self.email)?, value(self.organization.as_str())?])
    }
}

/// A claim as a field value: UTF-8 with every byte outside 0x20–0x7E, every `%`, and a space at either end
/// percent-encoded, so that percent-decoding gives the claim back byte for byte.
///
/// ```
/// use ds_gateway::auth::identity::header_value;
/// assert_eq!(header_value("Main Org."), "Main Org.");
/// assert_eq!(header_value("Zoë 100%"), "Zo%C3%AB 100%25");
/// ```
pub fn header_value(claim: &str) -> Cow<'_, str> {
    let last = claim.len().saturating_sub(1);
    let plain = |at: usize, byte: u8| match byte {
        b' ' => at != 0 && at != last,
        b'%' => false,
        _ => (0x20..=0x7e).contains(&byte),
    };
    if claim.bytes().enumerate().all(|(at, byte)| plain(at, byte)) {
        return Cow::Borrowed(claim);
    }
    let mut value = String::with_capacity(claim.len() + 16);
    for (at, byte) in claim.bytes().enumerate() {
        if plain(at, byte) {
            value.push(char::from(byte));
        } else {
            value.push_str(percent_encoding::percent_encode_byte(byte));
        }
    }
    Cow::Owned(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_space_is_encoded_only_at_the_ends() {
        assert_eq!(header_value(" a b "), "%20a b%20");
        assert_eq!(header_value(" "), "%20");
        assert_eq!(header_value("a\r\nb"), "a%0D%0Ab");
    }

    proptest! {
        #[test]
        fn decoding_gives_the_claim_back(claim in "\\PC{0,64}|.{0,64}") {
            let value = header_value(&claim);
            prop_assert!(value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
            prop_assert_eq!(value.trim(), value.as_ref());
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(&value).collect();
            prop_assert_eq!(decoded, claim.into_bytes());
        }
    }
}
