//! Which header fields belong to the gateway, in every spelling that a server behind it could accept.
//!
//! CGI-like servers turn `-` into `_` and some turn `.` too, so that `X_DS_User` and `X.DS.User` arrive as
//! `X-DS-User`. A client's field that any of them could take for ours never goes on.

/// What a client's field is to the gateway, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Not ours: goes on.
    Free,
    /// `user-token`, spelt exactly so.
    Token,
    /// Any other spelling of `user-token`.
    TokenAlias,
    /// Set by the gateway or by nobody: dropped.
    Managed,
}

/// The names that the gateway manages.
#[derive(Clone, Debug)]
pub struct ManagedFields {
    names: Vec<Box<[u8]>>,
    /// By first byte: does any managed name begin so? Most fields of a request are settled here.
    initials: [bool; 256],
}

impl ManagedFields {
    /// The fixed names and the configured names of the identity fields.
    pub fn new<'n>(identity: impl IntoIterator<Item = &'n str>) -> Self {
        let names: Vec<Box<[u8]>> = FIXED
            .into_iter()
            .chain(identity)
            .map(|name| name.to_ascii_lowercase().into_bytes().into())
            .collect();
        let mut initials = [false; 256];
        let first_bytes = names.iter().filter_map(|name| name.first()).chain([&b'u']);
        for &byte in first_bytes {
            if let Some(initial) = initials.get_mut(usize::from(byte)) {
                *initial = true;
            }
        }
        Self { names, initials }
    }

    /// What the field of that name, in lower case, is.
    pub fn classify(&self, name: &[u8]) -> Field {
        let initial = name.first().and_then(|&byte| self.initials.get(usize::from(byte)));
        if initial != Some(&true) {
            return Field::Free;
        }
        if name == TOKEN {
            return Field::Token;
        }
        if reads_as(name, TOKEN) {
            return Field::TokenAlias;
        }
        let forwarded = name.split_at_checked(FORWARDED.len());
        let managed = forwarded.is_some_and(|(prefix, _)| reads_as(prefix, FORWARDED))
            || self.names.iter().any(|managed| reads_as(name, managed));
        if managed { Field::Managed } else { Field::Free }
    }

    /// Does a value of `Connection` nominate a field that must not disappear on the way?
    pub fn is_nominated(&self, connection: &[u8]) -> bool {
        connection.split(|&byte| byte == b',').any(|option| {
            let option = option.trim_ascii().to_ascii_lowercase();
            option == b"host" || self.classify(&option) != Field::Free
        })
    }
}

/// Equal, with `_` and `.` of `name` read as `-`.
fn reads_as(name: &[u8], managed: &[u8]) -> bool {
    let reads = |(&have, &want): (&u8, &u8)| have == want || (want == b'-' && (have == b'_' || have == b'.'));
    name.len() == managed.len() && name.iter().zip(managed).all(reads)
}

/// The field that carries a token.
pub const TOKEN: &[u8] = b"user-token";

/// All of `X-Forwarded-*`.
const FORWARDED: &[u8] = b"x-forwarded-";

const FIXED: [&str; 7] = [
    "authorization",
    "forwarded",
    "x-http-method-override",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn managed() -> ManagedFields {
        ManagedFields::new(["X-DS-User", "X-DS-Email", "X-DS-Organization"])
    }

    #[test]
    fn each_name_has_its_kind() {
        for (name, expected) in [
            ("user-token", Field::Token),
            ("user_token", Field::TokenAlias),
            ("user.token", Field::TokenAlias),
            ("user-tokens", Field::Free),
            ("user-agent", Field::Free),
            ("usertoken", Field::Free),
            ("authorization", Field::Managed),
            ("x-ds-user", Field::Managed),
            ("x_ds_user", Field::Managed),
            ("x.ds-user", Field::Managed),
            ("x-ds-users", Field::Free),
            ("x-forwarded-for", Field::Managed),
            ("x_forwarded_anything", Field::Managed),
            ("x-forwarded", Field::Free),
            ("forwarded", Field::Managed),
            ("x-request-id", Field::Managed),
            ("x.real.ip", Field::Managed),
            ("host", Field::Free),
            ("", Field::Free),
        ] {
            assert_eq!(managed().classify(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn connection_must_not_name_them() {
        for (value, expected) in [
            ("keep-alive", false),
            ("close, TE", false),
            ("close, X-DS-User", true),
            ("user-token", true),
            ("User_Token", true),
            ("X-Forwarded-Proto ", true),
            ("Host", true),
            ("", false),
        ] {
            assert_eq!(managed().is_nominated(value.as_bytes()), expected, "{value}");
        }
    }

    proptest! {
        /// The shortcut by first byte changes no answer.
        #[test]
        fn the_shortcut_is_only_a_shortcut(name in "[a-z._-]{0,24}|x[._-]ds[._-]user|user[._-]token") {
            let mut slow = managed();
            slow.initials = [true; 256];
            prop_assert_eq!(managed().classify(name.as_bytes()), slow.classify(name.as_bytes()));
        }
    }
}
