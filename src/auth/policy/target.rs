//! The endpoint's path, and why a target is refused.

/// The token endpoint's path, as published.
pub const ENDPOINT: &str = "/ds-api/user-token";

/// A target that has no single meaning: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// Not in origin-form (RFC 9112 §3.2.1), nor `OPTIONS *`.
    NotOriginForm,
    /// `//host/path`, which some readers take for an authority.
    SeveralSeparators,
    /// A `%` without two hexadecimal digits.
    BadEscape,
    /// `%uXXXX`, which no standard has and some servers decode.
    UnicodeEscape,
    /// Escapes of escapes of escapes.
    ThirdLayer,
    /// C0, DEL or C1 (U+0000 to U+001F, U+007F to U+009F).
    Control,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// U+00AD, which some servers drop.
    SoftHyphen,
    /// `.`, `..` and what some server reads as one of them.
    DotSegment,
    /// Not canonical, with `routes.strict_paths` on.
    NotCanonical,
}

impl TargetError {
    /// Every error.
    pub const ALL: [Self; 10] = [
        Self::NotOriginForm,
        Self::SeveralSeparators,
        Self::BadEscape,
        Self::UnicodeEscape,
        Self::ThirdLayer,
        Self::Control,
        Self::NotUtf8,
        Self::SoftHyphen,
        Self::DotSegment,
        Self::NotCanonical,
    ];

    /// What is wrong with the target, as the client is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOriginForm => "the request target must be a path that begins with /",
            Self::SeveralSeparators => {
                "the path begins with more than one slash or backslash: does your base URL end in /?"
            }
            Self::BadEscape => {
                "each % in the path must be followed by two hexadecimal digits: write %25 for a percent sign"
            }
            Self::UnicodeEscape => "the path must not contain %uXXXX: escape the bytes of its UTF-8",
            Self::ThirdLayer => "the path is escaped three times or more",
            Self::Control => "the path must not contain control characters",
            Self::NotUtf8 => "the path must be UTF-8",
            Self::SoftHyphen => "the path must not contain soft hyphens (U+00AD)",
            Self::DotSegment => "the path must not contain segments of dots: resolve them first",
            Self::NotCanonical => "the path must be in its canonical form",
        }
    }
}
