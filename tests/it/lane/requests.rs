//! Requests, valid and hostile, for the gateway with the lane and the one without.

use fastrand::Rng;

/// What one client sends, and where it is cut into several writes.
#[derive(Clone)]
pub struct Sent {
    /// The methods of its requests, as far as they are known: they say which answers have no body.
    pub methods: Vec<String>,
    pub bytes: Vec<u8>,
    /// In order.
    pub cuts: Vec<usize>,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, rest) = self.bytes.split_at(self.bytes.len().min(3_000));
        write!(f, "\"{}\" and {} more, cut at {:?}", first.escape_ascii(), rest.len(), self.cuts)
    }
}

/// A request before it is written.
struct Request {
    method: String,
    target: String,
    version: &'static str,
    lines: Vec<String>,
    line_end: &'static str,
    body: Vec<u8>,
}

impl Request {
    fn write(&self, bytes: &mut Vec<u8>) {
        let end = self.line_end;
        bytes.extend(format!("{} {} {}\r\n", self.method, self.target, self.version).bytes());
        for (number, line) in self.lines.iter().enumerate() {
            // Bytes over 0x7F are one byte each.
            bytes.extend(line.chars().map(|letter| letter as u8));
            bytes.extend(if number == 0 { end.as_bytes() } else { b"\r\n" });
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
    }
}

fn pick<T: Copy>(random: &mut Rng, all: &[T]) -> T {
    all[random.usize(..all.len())]
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

const TARGETS: [&str; 12] = [
    "/",
    "/a/b",
    "/a?b=c&d",
    "/a%20b/%C3%A9",
    "/a;b=c/d,e",
    "/public/a",
    "/public/",
    "/a//b",
    "/a/./b",
    "/?",
    "/~a!$'()*+:@",
    "/ds-api/other",
];

const ODD_TARGETS: [&str; 26] = [
    "*",
    "http://gateway.test/a",
    "http://other.test/public/a",
    "HTTP://gateway.test/ds-api/user-token",
    "gateway.test:80",
    "a",
    "/a#b",
    "/a b",
    "/{a}",
    "/a?b=[c]|d",
    "/a\\b",
    "/a\tb",
    "/a\u{1}b",
    "/\u{e9}",
    "/public/../a",
    "/public/%2e%2e/a",
    "/public/..;/a",
    "/public/%2Fa",
    "/%zz",
    "/a%00b",
    "/ds-api/user-token",
    "/ds-api/user-token/a",
    "/ds-api/user%2dtoken",
    "/DS-API/USER-TOKEN",
    "//ds-api/user-token",
    "/x/../ds-api/user-token?token=a",
];

/// Fields that go on as they are.
const FREE: [&str; 16] = [
    "Accept: */*",
    "accept-encoding: gzip",
    "X-Free: a",
    "X-FREE: b",
    "x-free:",
    "X-Blanks: \t a  b \t ",
    "X-Bytes: \u{e9}\u{80}\u{ff}",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Cookie: a=b; c=\"d\"",
    "If-None-Match: \"a\", W/\"b\"",
    "Content-Type: application/json",
    "Range: bytes=0-1",
    "X.Dotted_Name!#$%&'*+-^`|~: a",
    "Max-Forwards: 3",
    "Via: 1.1 other",
    "Origin: https://dashboard.example",
];

/// Fields that mean something here, or to somebody on the way.
const ODD_FIELDS: [&str; 84] = [
    "X-DS-User: root",
    "x-ds-user: root",
    "X_DS_User: root",
    "X.DS.Email: root",
    "x~ds~organization: root",
    "X-DS-At-Least: 0",
    "x-ds-at-least: 1",
    "X-DS-At-Least: 18446744073709551615",
    "X-DS-At-Least: 18446744073709551616",
    "X-DS-At-Least: 1, 1",
    "X-DS-At-Least:",
    "X_DS_At_Least: 18446744073709551615",
    "X-DS-Sequence: 9",
    "X-Dropped: a",
    "X_Dropped: a",
    "X-Forwarded-For: 9.9.9.9",
    "X-Forwarded-For: 127.0.1.9, 9.9.9.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: other.test",
    "X-Forwarded-Port: 99",
    "x_forwarded_for: 9.9.9.9",
    "Forwarded: for=9.9.9.9;proto=https",
    "X-Real-IP: 9.9.9.9",
    "Client-IP: 9.9.9.9",
    "X-Original-URL: /a",
    "Proxy: http://other.test",
    "Remote-User: root",
    "X-Request-Id: a-lie",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate: vendor=a",
    "Authorization: Bearer a",
    "Authorization: Basic bXlVc2VyOng=",
    "user_token: a",
    "USER.TOKEN: a",
    "user-token: a",
    "user-token:",
    "X-User-Token: a",
    "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: DELETE",
    "Content_Length: 3",
    "Transfer_Encoding: chunked",
    "Transfer.Encoding: chunked",
    "Cookie: e=f",
    "TE: trailers",
    "te: gzip",
    "Trailer: X-Sum",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "Proxy-Authorization: Basic YTpi",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Keep-Alive",
    "Connection: close, keep-alive",
    "Connection: X-Free",
    "Connection: user-token",
    "Connection: Host",
    "Connection: upgrade",
    "Connection:",
    "Content-Length: 0",
    "Content-Length: 3",
    "Content-Length: 3, 3",
    "Content-Length: +3",
    "Content-Length: 0x3",
    "Content-Length: 99999999999999999999",
    "Content-Length:",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "transfer-encoding:\u{b}chunked",
    "Host: other.test",
    "Host:",
    "Origin: https://evil.example",
    "Access-Control-Request-Method: PUT",
    "X-Spaced : a",
    " X-Folded: a",
    "X-NUL: \0",
    "X-CR: a\rb",
    "no colon",
];

const HOSTS: [&str; 14] = [
    "Host: gateway.test",
    "Host: gateway.test:8080",
    "hOST:gateway.test",
    "Host: [::1]:80",
    "Host: 127.0.0.1",
    "Host: a b",
    "Host: a,b",
    "Host: user@gateway.test",
    "Host: gateway.test:99999999",
    "Host: [::1",
    "Host: gateway.test/a",
    "Host: \u{e9}",
    "Host: -",
    "X-No-Host: a",
];

/// Sizes around those at which somebody does something else.
const SIZES: [usize; 14] =
    [0, 1, 2, 10, 100, 1_000, 7_900, 8_192, 16_384, 65_535, 65_536, 65_537, 70_000, 120_000];

/// A request that is answered by the platform, and after which the connection goes on.
fn good(random: &mut Rng, token: &str) -> Request {
    let method = pick(random, &METHODS);
    let mut lines = vec!["Host: gateway.test".to_owned(), format!("user-token: {token}")];
    let target = format!("{}{}", pick(random, &["/a/", "/public/", "/b?c="]), random.u16(..));
    for _ in 0..random.usize(..5) {
        lines.push(pick(random, &FREE).to_owned());
    }
    let mut body = Vec::new();
    if matches!(method, "POST" | "PUT" | "PATCH") || random.u8(..10) == 0 {
        body = vec![b'b'; random.usize(..50)];
        lines.push(format!("Content-Length: {}", body.len()));
    }
    let has_two_cookies = lines.iter().filter(|line| line.starts_with("Cookie")).count() > 1;
    if has_two_cookies && random.bool() {
        lines.retain(|line| !line.starts_with("Cookie"));
    }
    random.shuffle(&mut lines);
    Request { method: method.to_owned(), target, version: "HTTP/1.1", lines, line_end: "\r\n", body }
}

/// A request of any kind.
fn any(random: &mut Rng, token: &str) -> Request {
    let mut request = good(random, token);
    request.target = pick(random, &TARGETS).to_owned();
    if random.u8(..15) == 0 {
        // On its own: of several faults, one is told, and it depends on the cuts which.
        let lines = &mut request.lines;
        match pick(random, &[(90, 1), (120, 1), (1, 20_000), (1, 40_000), (1, 70_000)]) {
            (1, length) => lines.push(format!("X-Long: {}", "l".repeat(length))),
            (count, _) => lines.extend((0..count).map(|number| format!("X-{number}: {number}"))),
        }
        return request;
    }
    for _ in 0..pick(random, &[0, 0, 1, 1, 1, 2, 2, 4]) {
        spoil(&mut request, random, token);
    }
    if request.method == "DELETE" && request.target.to_ascii_lowercase().contains("token") {
        // It would end the token.
        request.method = "GET".to_owned();
    }
    request
}

/// Changes one thing.
fn spoil(request: &mut Request, random: &mut Rng, token: &str) {
    let lines = &mut request.lines;
    let place = random.usize(..=lines.len());
    let is_token = |line: &String| line.to_ascii_lowercase().starts_with("user-token");
    match random.u8(..24) {
        0 => {
            request.method =
                pick(random, &["get", "TRACE", "CONNECT", "PROPFIND", "G@T", "", "MKCOL"]).to_owned()
        }
        1..4 => request.target = pick(random, &ODD_TARGETS).to_owned(),
        4 => request.target = format!("/{}", "a".repeat(pick(random, &[1_000, 7_500, 8_100, 8_192, 9_000]))),
        5 => {
            request.version =
                pick(random, &["HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", ""])
        }
        6 => lines.retain(|line| !is_token(line)),
        7 => lines.insert(place, format!("User-Token: {token}")),
        8 => {
            for line in lines.iter_mut().filter(|line| is_token(line)) {
                *line = pick(
                    random,
                    &["user-token: a.b.c", "user-token:", "user-token: \u{e9}", "USER-TOKEN: a"],
                )
                .to_owned();
            }
        }
        9 => {
            for line in lines.iter_mut().filter(|line| line.starts_with("Host")) {
                *line = pick(random, &HOSTS).to_owned();
            }
        }
        10 => {
            let size = pick(random, &SIZES);
            request.body = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
            lines.retain(|line| !line.starts_with("Content-Length"));
            lines.insert(random.usize(..=lines.len()), format!("Content-Length: {size}"));
        }
        11 => {
            // What would be a request, if the body ended elsewhere.
            request.body =
                format!("GET /smuggled HTTP/1.1\r\nHost: x\r\nuser-token: {token}\r\n\r\n").into_bytes();
            lines.retain(|line| !line.starts_with("Content-Length"));
            lines.push(format!("Content-Length: {}", request.body.len()));
        }
        12 => {
            lines.retain(|line| !line.starts_with("Content-Length"));
            lines.push("Transfer-Encoding: chunked".to_owned());
            request.body = pick(
                random,
                &[
                    "0\r\n\r\n",
                    "3\r\nabc\r\n0\r\n\r\n",
                    "3;a=b\r\nabc\r\n0;c\r\n\r\n",
                    "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
                    "03\r\nabc\r\n1\r\nd\r\n00\r\n\r\n",
                    "3\r\nabcd\r\n0\r\n\r\n",
                    "z\r\nabc\r\n0\r\n\r\n",
                    "3\nabc\r\n0\r\n\r\n",
                    "-3\r\nabc\r\n0\r\n\r\n",
                ],
            )
            .as_bytes()
            .to_vec();
        }
        13 => request.line_end = pick(random, &["\n", "\r", "\r\r\n", " \r\n", "\n\r\n"]),
        14 => lines
            .insert(place, format!("X-Long: {}", "l".repeat(pick(random, &[3_000, 7_800, 8_000, 8_192])))),
        15 if lines.len() < 20 => lines
            .extend((0..pick(random, &[30, 58, 60, 64, 70])).map(|number| format!("X-{number}: {number}"))),
        16 => {
            for line in lines.iter_mut() {
                if let Some((name, value)) = line.split_once(':') {
                    *line = if random.bool() {
                        format!("{}:{value}", name.to_uppercase())
                    } else {
                        format!("{}:{value}", name.to_lowercase())
                    };
                }
            }
        }
        _ => lines.insert(place, pick(random, &ODD_FIELDS).to_owned()),
    }
}

/// What a client sends: requests that the platform answers, then one of any kind, and perhaps something behind it.
pub fn sent(random: &mut Rng, token: &str) -> Sent {
    let (mut methods, mut bytes, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pick(random, &[0, 0, 0, 1, 1, 2]) {
        let request = good(random, token);
        request.write(&mut bytes);
        methods.push(request.method);
        if random.bool() {
            cuts.push(bytes.len());
        }
    }
    if random.u8(..12) == 0 {
        bytes.extend(pick(random, &["\r\n", "\n", "\r\n\r\n", "\r", " "]).bytes());
    }
    let mut last = any(random, token);
    if !methods.is_empty() {
        // The engine escapes what no target may have if it has read it with the request before it, and refuses it if it has not.
        last.target = last.target.replace(|letter| matches!(letter, '\0'..=' ' | '\u{7f}'), "%20");
    }
    last.write(&mut bytes);
    methods.push(last.method);
    if random.u8(..12) == 0 {
        bytes.extend(pick(random, &["\r\n", "\n", "x", "GET ", "GARBAGE\r\n\r\n", "\0"]).bytes());
    }
    cuts.extend((0..pick(random, &[0, 0, 1, 1, 2, 6])).map(|_| random.usize(..=bytes.len())));
    cuts.sort_unstable();
    Sent { methods, bytes, cuts }
}

/// Requests that are worth a cut at every place.
pub fn short(token: &str) -> Vec<Sent> {
    let head = |line: &str| format!("{line}\r\nHost: a\r\nuser-token: {token}\r\n");
    let of = |methods: &[&str], text: String| Sent {
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        bytes: text.into_bytes(),
        cuts: Vec::new(),
    };
    vec![
        of(&["GET"], format!("{}\r\n", head("GET /a HTTP/1.1"))),
        of(&["POST"], format!("{}Content-Length: 9\r\nX-DS-User: r\r\n\r\nGET / HTT", head("POST /b?c HTTP/1.1"))),
        of(&["PUT", "GET"], format!("{}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n{}\r\n", head("PUT /d HTTP/1.1"), head("GET /e HTTP/1.1"))),
        of(&["GET", "POST"], "GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab\r\n".to_owned()),
        of(&["HEAD", "GET"], format!("\r\n{}\r\nGET /a HTTP/1.1\nHost: a\r\n\r\n", head("HEAD /public/f HTTP/1.1"))),
    ]
}
