//! HTTP/1.1 read strictly (RFC 9112), by both ends: what a client's bytes mean, and what reached the platform.

use std::fmt;

/// A start line and the fields behind it, names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub start: Vec<u8>,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of it, its end included.
    pub length: usize,
}

impl Head {
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let of_name = self.fields.iter().filter(|(have, _)| have == name.as_bytes());
        of_name.map(|(_, value)| value.as_slice()).collect()
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub head: Head,
    pub body: Vec<u8>,
    /// Is all of the body there?
    pub is_complete: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head.start.escape_ascii())?;
        for (name, value) in &self.head.fields {
            writeln!(f, "    {}: {}", name.escape_ascii(), value.escape_ascii())?;
        }
        let end = if self.is_complete { "" } else { ", and its end is missing" };
        write!(f, "    a body of {} bytes{end}: {}", self.body.len(), self.body.escape_ascii())
    }
}

/// Why nothing can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More bytes are needed.
    Short,
    /// Not as RFC 9112 has it.
    Broken(&'static str),
}

/// Reads a header from its first byte to its blank line.
pub fn head(bytes: &[u8]) -> Result<Head, Fault> {
    let (mut start, mut fields, mut at) = (None, Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Fault::Short)?;
        let line = rest[..end].strip_suffix(b"\r").ok_or(Fault::Broken("a bare line feed"))?;
        at += end + 1;
        // In the start line, that is for who reads it.
        if start.is_some() && (line.contains(&b'\r') || line.contains(&0)) {
            return Err(Fault::Broken("a control in a line"));
        }
        match start {
            None => start = Some(line.to_vec()),
            Some(start) if line.is_empty() => return Ok(Head { start, fields, length: at }),
            Some(_) => fields.push(field(line)?),
        }
    }
}

fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Fault::Broken("no colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Fault::Broken("a field's name"));
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(begin, |last| last + 1);
    Ok((name.to_ascii_lowercase(), value[begin..end].to_vec()))
}

pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Sized(usize),
    Chunked,
}

/// One length or one `chunked` (RFC 9112 §6.3), nothing that could be read in two ways.
pub fn framing(head: &Head) -> Result<Framing, Fault> {
    let digits = |value: &[u8]| {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        is_number.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
    };
    match (&head.values("transfer-encoding")[..], &head.values("content-length")[..]) {
        ([], []) => Ok(Framing::Sized(0)),
        ([], [length]) => digits(length).map(Framing::Sized).ok_or(Fault::Broken("a length")),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        _ => Err(Fault::Broken("the framing")),
    }
}

/// A body, and how many bytes it takes; as much of it as there is.
pub struct Body {
    pub bytes: Vec<u8>,
    pub length: usize,
    pub end: Result<(), Fault>,
}

pub fn body(bytes: &[u8], framing: Framing) -> Body {
    match framing {
        Framing::Sized(length) => {
            let there = length.min(bytes.len());
            let end = if there == length { Ok(()) } else { Err(Fault::Short) };
            Body { bytes: bytes[..there].to_vec(), length: there, end }
        }
        Framing::Chunked => {
            let mut body = Body { bytes: Vec::new(), length: 0, end: Ok(()) };
            body.end = chunks(bytes, &mut body.bytes, &mut body.length);
            body
        }
    }
}

fn chunks(bytes: &[u8], body: &mut Vec<u8>, at: &mut usize) -> Result<(), Fault> {
    loop {
        let line = line(bytes, at)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        let is_extension = extension.is_empty() || extension.starts_with(b";");
        if digits == 0 || digits > 8 || !is_extension || extension.contains(&0) {
            return Err(Fault::Broken("a chunk's size"));
        }
        let size = std::str::from_utf8(size).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let size = size.expect("hexadecimal digits");
        if size == 0 {
            break;
        }
        let rest = &bytes[*at..];
        let there = size.min(rest.len());
        body.extend(&rest[..there]);
        *at += there;
        let end = &bytes[*at..];
        if there < size || end.len() < 2 {
            return Err(if there < size || b"\r\n".starts_with(end) {
                Fault::Short
            } else {
                Fault::Broken("the end of a chunk")
            });
        }
        if !end.starts_with(b"\r\n") {
            return Err(Fault::Broken("the end of a chunk"));
        }
        *at += 2;
    }
    loop {
        let trailer = line(bytes, at)?;
        if trailer.is_empty() {
            return Ok(());
        }
        field(trailer)?;
    }
}

fn line<'b>(bytes: &'b [u8], at: &mut usize) -> Result<&'b [u8], Fault> {
    let rest = &bytes[*at..];
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Fault::Short)?;
    let line = rest[..end].strip_suffix(b"\r").ok_or(Fault::Broken("a bare line feed"))?;
    if line.contains(&b'\r') {
        return Err(Fault::Broken("a control in a line"));
    }
    *at += end + 1;
    Ok(line)
}

fn is_blank(byte: &u8) -> bool {
    *byte == b' '
}

impl Request {
    /// Has its target what no target has? Anyone who reads it so must refuse it, or escape that.
    pub fn is_odd(&self) -> bool {
        self.target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
    }
}

/// The next request; as much of its body as there is. Also how many bytes it takes, and what is wrong with its body.
pub fn request(bytes: &[u8]) -> Result<(Request, usize, Result<(), Fault>), Fault> {
    let head = head(bytes)?;
    let (first, last) = (head.start.iter().position(is_blank), head.start.iter().rposition(is_blank));
    let (Some(first), Some(last)) = (first, last) else { return Err(Fault::Broken("the request line")) };
    let (method, version) = (&head.start[..first], &head.start[last + 1..]);
    let target = head.start.get(first + 1..last).unwrap_or_default();
    let is_line = !method.is_empty()
        && method.iter().copied().all(is_token)
        && !target.is_empty()
        && [&b"HTTP/1.1"[..], b"HTTP/1.0"].contains(&version);
    if !is_line {
        return Err(Fault::Broken("the request line"));
    }
    let target = origin_form(&head, method, target).unwrap_or_else(|| target.to_vec());
    let method = method.to_vec();
    let framing = framing(&head)?;
    let Body { bytes: body, length, end } = body(&bytes[head.length..], framing);
    let length = head.length + length;
    Ok((Request { method, target, head, body, is_complete: end.is_ok() }, length, end))
}

/// A target in absolute-form (RFC 9112 §3.2.2) as it goes on; `None` where it does not, or is in another form.
fn origin_form(head: &Head, method: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let text: String = target.iter().map(|byte| char::from(*byte)).collect();
    let lower = text.to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme))?;
    let rest = &target[scheme.len()..];
    let end = rest.iter().position(|byte| [b'/', b'?', b'#'].contains(byte)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let hosts = head.values("host");
    let is_old = head.start.ends_with(b" HTTP/1.0");
    if authority.is_empty() || !(hosts == [authority] || hosts.is_empty() && is_old) {
        return None;
    }
    Some(match path.first() {
        None | Some(b'#') if method == b"OPTIONS" => b"*".to_vec(),
        Some(b'/') => path.to_vec(),
        _ => [b"/", path].concat(),
    })
}

/// Reads the answers to requests of these methods, one after the other; the statuses of those that are no interim ones.
pub fn answers(mut bytes: &[u8], methods: &[Vec<u8>]) -> Result<Vec<u16>, Fault> {
    let mut statuses = Vec::new();
    while !bytes.is_empty() {
        let head = head(bytes)?;
        let status = match head.start.strip_prefix(b"HTTP/1.1 ") {
            Some([a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..]) => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(Fault::Broken("a status line")),
        };
        bytes = &bytes[head.length..];
        if status < 200 {
            continue;
        }
        let is_head = methods.get(statuses.len()).is_some_and(|method| method == b"HEAD");
        // What the engine cannot read at all is answered with a body, whatever its method, and ends the connection.
        let is_unread =
            status == 400 && head.values("connection") == [&b"close"[..]] && bytes.starts_with(b"{");
        // The method of what is no request is not read here. If it was HEAD, nothing follows.
        let is_last = statuses.len() >= methods.len() && bytes.is_empty();
        let is_bare = status == 204 || status == 304 || is_head && !is_unread || is_last;
        statuses.push(status);
        if is_bare {
            continue;
        }
        let has_length =
            !head.values("content-length").is_empty() || !head.values("transfer-encoding").is_empty();
        if !has_length {
            // It ends with the connection.
            break;
        }
        let body = body(bytes, framing(&head)?);
        body.end?;
        bytes = &bytes[body.length..];
    }
    Ok(statuses)
}
