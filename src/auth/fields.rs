//! Which header fields belong to the gateway, in every spelling that a server behind it could accept.
//!
//! CGI turns `-` into `_`, some servers turn `.` too, and one turns every byte that is no letter or digit: there `X~DS~User`
//! arrives as `X-DS-User`. A client's field that any of them could take for ours never goes on.

/// What a client's field is to the gateway, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Not ours: goes on.
    Free,
    /// `user-token`, spelt exactly so.
    Token,
    /// Any other spelling of `user-token`.
    TokenAlias,
    /// `x-ds-at-least`, spelt exactly so: read, then dropped.
    AtLeast,
    /// Set by the gateway or by nobody: dropped.
    Managed,
    /// Another spelling of a field that frames the message or belongs to the connection: refused.
    FramingAlias,
    /// Asks for another method than the request has: refused, since without it a DELETE would be a POST.
    MethodOverride,
}

/// The names that the gateway manages.
#[derive(Clone, Debug)]
pub struct ManagedFields {
    names: Vec<Box<[u8]>>,
    shortcut: Shortcut,
}

impl ManagedFields {
    /// The fixed names and the configured ones: those of the identity fields, and those to be dropped.
    pub fn new<'n>(configured: impl IntoIterator<Item = &'n str>) -> Self {
        let names: Vec<Box<[u8]>> = FIXED
            .into_iter()
            .chain(configured)
            .map(|name| name.to_ascii_lowercase().into_bytes().into())
            .collect();
        let mut shortcut = Shortcut::NONE;
        names.iter().for_each(|name| shortcut.add(name));
        FRAMING.iter().chain([&TOKEN, &METHOD_OVERRIDE]).for_each(|name| shortcut.add(name));
        [FORWARDED, HTTP_METHOD].iter().for_each(|prefix| shortcut.add_prefix(prefix));
        Self { names, shortcut }
    }

    /// What the field of that name is, in whatever case.
    pub fn classify(&self, name: &[u8]) -> Field {
        if !self.shortcut.may_hold(name) {
            return Field::Free;
        }
        let begins = |prefix: &[u8]| {
            name.split_at_checked(prefix.len()).is_some_and(|(head, _)| reads_as(head, prefix))
        };
        if name.eq_ignore_ascii_case(TOKEN) {
            Field::Token
        } else if reads_as(name, TOKEN) {
            Field::TokenAlias
        } else if name.eq_ignore_ascii_case(AT_LEAST) {
            Field::AtLeast
        } else if begins(HTTP_METHOD) || reads_as(name, METHOD_OVERRIDE) {
            Field::MethodOverride
        } else if begins(FORWARDED) || self.names.iter().any(|managed| reads_as(name, managed)) {
            Field::Managed
        } else if FRAMING.iter().any(|framing| !name.eq_ignore_ascii_case(framing) && reads_as(name, framing))
        {
            Field::FramingAlias
        } else {
            Field::Free
        }
    }

    /// Is it one that the gateway sets or nobody, in any spelling?
    pub fn is_managed(&self, name: &[u8]) -> bool {
        self.classify(name) == Field::Managed
    }

    /// Does a value of `Connection` nominate a field that must not disappear on the way?
    pub fn is_nominated(&self, connection: &[u8]) -> bool {
        connection.split(|&byte| byte == b',').any(|option| {
            let option = option.trim_ascii();
            option.eq_ignore_ascii_case(b"host") || self.classify(option) != Field::Free
        })
    }
}

/// Which lengths the names have that begin with each byte: most fields of a request are settled here.
#[derive(Clone, Debug)]
struct Shortcut([u64; 256]);

impl Shortcut {
    const NONE: Self = Self([0; 256]);

    fn add(&mut self, name: &[u8]) {
        self.set(name, Self::bit(name.len()));
    }

    /// That name, and all that begin with it.
    fn add_prefix(&mut self, name: &[u8]) {
        self.set(name, Self::bit(name.len()).wrapping_neg());
    }

    fn set(&mut self, name: &[u8], lengths: u64) {
        if let Some(have) = name.first().and_then(|&byte| self.0.get_mut(usize::from(byte))) {
            *have |= lengths;
        }
    }

    fn may_hold(&self, name: &[u8]) -> bool {
        let lengths = name.first().and_then(|byte| self.0.get(usize::from(byte.to_ascii_lowercase())));
        lengths.is_some_and(|lengths| lengths & Self::bit(name.len()) != 0)
    }

    /// The last stands for all that are longer.
    fn bit(length: usize) -> u64 {
        1 << length.min(63)
    }
}

/// Equal but for case, with every byte of `name` that is no letter or digit read as `-`.
fn reads_as(name: &[u8], managed: &[u8]) -> bool {
    let reads = |(have, &want): (&u8, &u8)| {
        have.to_ascii_lowercase() == want || (want == b'-' && !have.is_ascii_alphanumeric())
    };
    name.len() == managed.len() && name.iter().zip(managed).all(reads)
}

/// The field that carries a token.
pub const TOKEN: &[u8] = b"user-token";

/// The field by which a client asks for a gateway that has applied a sequence of the store.
const AT_LEAST: &[u8] = b"x-ds-at-least";

/// The field of an answer that says which sequence of the store it acknowledges. Nobody else sets it.
pub const SEQUENCE: &str = "x-ds-sequence";

/// All of `X-Forwarded-*`.
const FORWARDED: &[u8] = b"x-forwarded-";

/// All of `X-HTTP-Method*`.
const HTTP_METHOD: &[u8] = b"x-http-method";

const METHOD_OVERRIDE: &[u8] = b"x-method-override";

/// Names that say where a message ends, or belong to one connection (RFC 9110 §7.6.1), as far as they can be spelt otherwise.
const FRAMING: [&[u8]; 7] = [
    b"content-length",
    b"transfer-encoding",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"http2-settings",
];

const FIXED: [&str; 16] = [
    "authorization",
    "client-ip",
    "forwarded",
    // CGI makes of it HTTP_PROXY, which clients on that machine obey.
    "proxy",
    "remote-user",
    "traceparent",
    "tracestate",
    "true-client-ip",
    // Other spellings of it; it is read itself.
    "x-ds-at-least",
    SEQUENCE,
    "x-forwarded",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

#[cfg(test)]
mod tests;
