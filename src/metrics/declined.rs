//! Why the fast lane leaves a request to the engine.

/// A reason, of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// HTTP/1.0.
    Version,
    /// A method that is not one of the seven.
    Method,
    /// Not in origin-form, or with characters that a target seldom has.
    Target,
    /// A line that does not end in CRLF, an empty line in front, or no request at all.
    Syntax,
    /// A field that belongs to the connection or asks for something that the engine does, or one too many.
    Field,
    /// A `Connection` that names something.
    Connection,
    /// A body without a plain length, or a long one.
    Body,
    /// A long head.
    HeaderBytes,
    /// The head did not come whole, in time.
    Incomplete,
    /// More came behind it.
    Pipelined,
    /// The token endpoint answers it, or another answer than a refused token does; or it waits for a sequence of the store.
    Local,
    /// A limit of all requests together is reached.
    Overload,
}

impl Declined {
    pub(super) const ALL: [Self; 12] = [
        Self::Version,
        Self::Method,
        Self::Target,
        Self::Syntax,
        Self::Field,
        Self::Connection,
        Self::Body,
        Self::HeaderBytes,
        Self::Incomplete,
        Self::Pipelined,
        Self::Local,
        Self::Overload,
    ];

    /// The reason as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Method => "method",
            Self::Target => "target",
            Self::Syntax => "syntax",
            Self::Field => "field",
            Self::Connection => "connection",
            Self::Body => "body",
            Self::HeaderBytes => "header_bytes",
            Self::Incomplete => "incomplete",
            Self::Pipelined => "pipelined",
            Self::Local => "local",
            Self::Overload => "overload",
        }
    }
}
