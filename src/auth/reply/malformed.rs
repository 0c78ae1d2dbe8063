//! Why a request is refused for its form.

use crate::auth::policy::TargetError;

/// A request that is refused for its form, before anybody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The target has no single meaning.
    Target(TargetError),
    /// No `Host`, several, or one that is no name or address (RFC 9112 §3.2).
    Host,
    /// A line of the header that ends in a line feed alone (RFC 9112 §2.2).
    LineEnd,
    /// A request line with other than two blanks (RFC 9112 §3).
    RequestLine,
    /// `Connection` nominates a field that the gateway manages.
    Connection,
    /// A field that some servers take for one that frames the message.
    FieldName,
    /// A field that asks for another method than the request has.
    MethodOverride,
    /// A WebSocket handshake (RFC 6455 §4.1) that its route does not allow, or that is not exactly one: it cannot be answered as a plain
    /// request.
    WebSocket,
    /// `X-DS-At-Least` is no sequence, or there are several.
    AtLeast,
    /// Framing that two servers could read differently (RFC 9112 §6).
    Framing,
    /// An `Expect` other than `100-continue` (RFC 9110 §10.1.1).
    Expect,
    /// `Expect: 100-continue` over HTTP/2, where the engine sends no interim answer.
    ExpectHttp2,
    /// More header bytes than `limits.header_bytes`.
    HeaderBytes,
    /// More fields than `limits.header_fields`.
    HeaderFields,
    /// More body bytes than `limits.body_bytes`.
    Body,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The header did not arrive in time.
    HeaderTimeout,
    /// A target in absolute-form whose authority is not `Host`, or has user information (RFC 9112 §3.2.2).
    Authority,
    /// A byte in the target that RFC 3986 §2 allows nowhere in one, and that the engine does not forward.
    TargetCharacter,
    /// No request at all, by RFC 9112, or one that is no business of a gateway (`CONNECT`).
    Unreadable,
}

impl Malformed {
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::WebSocket => 501,
            Self::Expect | Self::ExpectHttp2 => 417,
            Self::HeaderBytes | Self::HeaderFields => 431,
            Self::Body => 413,
            Self::BodyTimeout | Self::HeaderTimeout => 408,
            _ => 400,
        }
    }

    /// What is wrong with the request, as the client is told and the log says.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Target(error) => error.as_str(),
            Self::Host => {
                "exactly one Host field is required, with a name or an address and optionally a port"
            }
            Self::LineEnd => "each line of the header must end in CRLF",
            Self::RequestLine => {
                "method, target and version must be separated by single spaces, without control characters"
            }
            Self::Connection => "Connection must not name a field that the gateway manages",
            Self::FieldName => {
                "a field name could be read as Content-Length, Transfer-Encoding or a similar field"
            }
            Self::MethodOverride => {
                "the method cannot be overridden by a header field: send the request with that method"
            }
            Self::WebSocket => {
                "WebSocket connections are not allowed here, or this is not a handshake as RFC 6455 has it: see routes.upgrades"
            }
            Self::AtLeast => "X-DS-At-Least must be one decimal number of 64 bits",
            Self::Framing => {
                "the length of the body is ambiguous: use one Content-Length or Transfer-Encoding: chunked"
            }
            Self::Expect => "only Expect: 100-continue is supported",
            Self::ExpectHttp2 => {
                "100 Continue is not sent over HTTP/2: send the body at once, without Expect, or use HTTP/1.1"
            }
            Self::HeaderBytes => "the header is larger than limits.header_bytes allows",
            Self::HeaderFields => "the header has more fields than limits.header_fields allows",
            Self::Body => "the body is larger than limits.body_bytes allows",
            Self::BodyTimeout => "the body did not arrive in time",
            Self::HeaderTimeout => "the header did not arrive in time",
            Self::Authority => "the authority of the target must equal Host, without user and password",
            Self::TargetCharacter => {
                "quotation marks, backticks, <, > and bytes that are not UTF-8 must be percent-encoded in the target: %22, %60, %3C, %3E"
            }
            Self::Unreadable => "the request could not be parsed",
        }
    }
}
