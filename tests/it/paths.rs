//! Paths as their readers see them, written from the rule and not from the gateway.

/// If a path has one spelling only (the rule of `auth::policy::path`).
pub fn canonical(path: &[u8]) -> bool {
    let mut at = 0;
    while at < path.len() {
        match path[at] {
            b'%' => {
                let digits = path.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                    return false;
                };
                let plain = byte.is_ascii_alphanumeric() || b"-._~/\\;".contains(&byte);
                if plain || byte.is_ascii_control() || digits.is_some_and(|digits| digits.starts_with('+')) {
                    return false;
                }
                at += 3;
            }
            b'\\' | b';' | 0x80.. | 0..=0x20 | 0x7f => return false,
            _ => at += 1,
        }
    }
    let dots = |segment: &[u8]| segment == b"." || segment == b"..";
    path.starts_with(b"/")
        && crate::wire::find(path, b"//").is_none()
        && !path.split(|byte| *byte == b'/').any(dots)
}

pub fn path_of(target: &[u8]) -> &[u8] {
    // Every request of the tests has this `Host`.
    let origin = target.strip_prefix(b"http://gateway.test").filter(|rest| rest.starts_with(b"/"));
    origin.unwrap_or(target).split(|byte| *byte == b'?' || *byte == b'#').next().unwrap_or_default()
}

/// What readers make of a path: plainly after RFC 3986, with slashes merged, and with `\` and `;` given a meaning.
pub fn readings(target: &str) -> [String; 3] {
    let path = path_of(target.as_bytes());
    let decode = |path: &[u8]| {
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < path.len() {
            let digits = path.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) if path[at] == b'%' => (bytes.push(byte), at += 3).1,
                _ => (bytes.push(path[at]), at += 1).1,
            }
        }
        String::from_utf8_lossy(&bytes).to_lowercase()
    };
    let resolve = |path: &str, merge: bool| {
        let mut kept: Vec<&str> = Vec::new();
        for segment in path.split('/').skip(1) {
            match segment {
                "." => {}
                ".." => drop(kept.pop()),
                "" if merge => {}
                _ => kept.push(segment),
            }
        }
        format!("/{}", kept.join("/"))
    };
    let bare: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').map(|s| s.split(|b| *b == b';').next().unwrap_or(s)).collect();
    let windows = decode(&bare.join(&b'/')).replace('\\', "/");
    [resolve(&decode(path), false), resolve(&decode(path), true), resolve(&windows, true)]
}

pub fn is_endpoint(reading: &str) -> bool {
    reading == "/ds-api/user-token" || reading.starts_with("/ds-api/user-token/")
}

/// The ways in which a path is bent.
pub fn bent(path: &str) -> Vec<String> {
    let (start, last) = path.trim_end_matches('/').rsplit_once('/').expect("a segment");
    let mut all = Vec::new();
    for middle in [
        "/",
        "/./",
        "/x/../",
        "/%2e/",
        "/x/%2E%2e/",
        "/x/..%2f",
        "/%252e/",
        "/%2f",
        "/%5c",
        "/\\",
        "\\",
        "/;/",
        "/;x=1/",
        "/x/..;/",
        "/.;/",
        "/%00/",
        "/%23/",
        "/%3f/",
        "/?/",
        "/#/",
        "/..%00/",
        "/%c0%ae%c0%ae/",
        "/%c0%af",
        "%2f",
    ] {
        all.push(format!("{start}{middle}{last}"));
        all.push(format!("{middle}{path}"));
    }
    for tail in [
        "",
        "/",
        "//",
        ".",
        "/.",
        "/..",
        "%20",
        "%09",
        "%00",
        ";",
        ";x=1",
        ";/",
        "%3b",
        "?",
        "?x=1",
        "?/../x",
        "#",
        "#/../x",
        "%23",
        "%3f",
        "\\",
        "%5c",
        "%2f",
        "%2e",
        "/%2e%2e/secret",
        "/../secret",
        "/..;/secret",
        "/..%2fsecret",
        "/..\\secret",
        "/%2e./secret",
        "%c0%af",
        "%",
        "%2",
        "%zz",
        "%u002f",
        "x",
        "x/y",
    ] {
        all.push(format!("{path}{tail}"));
    }
    all.extend([
        path.to_uppercase(),
        path.replacen("ds-api", "dS-api", 1),
        path.replacen("ds-api", "%64s-api", 1),
    ]);
    all.push(path.replacen("ds-api", "ds%2Dapi", 1));
    all.extend([
        path[1..].to_owned(),
        format!("http://gateway.test{path}"),
        format!("http://evil.test{path}"),
    ]);
    all.extend([format!("//gateway.test{path}"), format!("gateway.test:80{path}"), format!("http:{path}")]);
    all
}

#[test]
fn the_oracle_knows_its_rule() {
    for path in ["/", "/a", "/a/", "/a/b.c/..d/%20/%C3%A9", "/a%23b", "/ds-api/"] {
        assert!(canonical(path.as_bytes()), "{path}");
    }
    let not = "a //a /a//b /. /a/.. /a/./b /%2e /%61 /%7e /%2F /%5c /%3b /%00 /%0a /%7f /% /%2 /%zz /%+f /a\\b /a;b /é";
    for path in not.split(' ') {
        assert!(!canonical(path.as_bytes()), "{path}");
    }
    let endpoint = "/ds-api/user-token /DS-API/user-token/x /%64s-api/user%2dtoken /x/../ds-api/user-token //ds-api/user-token
        /ds-api\\user-token /ds-api%5cuser-token /ds-api;x/user-token;y /ds-api/x/..;/user-token /ds-api/%2e/user-token?x#y";
    for target in endpoint.split_whitespace() {
        assert!(
            readings(target).iter().any(|reading| is_endpoint(reading)),
            "{target} {:?}",
            readings(target)
        );
    }
    for target in
        ["/ds-api/user-tokens", "/user-token", "/ds-api/x?/ds-api/user-token", "/ds-api/%2575ser-token"]
    {
        assert!(!readings(target).iter().any(|reading| is_endpoint(reading)), "{target}");
    }
}
