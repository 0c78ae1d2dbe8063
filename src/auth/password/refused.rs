//! Hashes that are known and not accepted, by name: anyone who reads that knows what to look for.

/// What a text is that no accepted form begins like, as the second half of a sentence.
pub(super) fn reason(text: &str) -> &'static str {
    let by_prefix = PREFIXES.iter().find(|(prefix, _)| starts_with(text, prefix));
    match by_prefix.map(|(_, reason)| *reason).or_else(|| by_shape(text)) {
        Some(reason) => reason,
        None if text.starts_with(['$', '{']) => UNKNOWN,
        None => PLAIN,
    }
}

/// Schemes in braces are written in either case.
fn starts_with(text: &str, prefix: &str) -> bool {
    let start = text.get(..prefix.len());
    start.is_some_and(|start| {
        start == prefix || (prefix.starts_with('{') && start.eq_ignore_ascii_case(prefix))
    })
}

fn by_shape(text: &str) -> Option<&'static str> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (rest, length) = (text.get(1..).unwrap_or_default(), text.len());
    match text.as_bytes().first() {
        None => Some("is empty"),
        Some(b'*') if length == 41 && is_hex(rest) => {
            Some("is a MySQL password (unsalted SHA-1), which is not accepted")
        }
        Some(b'!' | b'*') => Some("is locked or unusable (it begins with ! or *): leave the user out"),
        Some(b'_') if length == 20 => Some("is extended DES crypt (_), which is not accepted"),
        _ if text.strip_prefix("md5").is_some_and(|rest| rest.len() == 32 && is_hex(rest)) => {
            Some("is a PostgreSQL password (MD5), which is not accepted")
        }
        _ if is_hex(text) => match length {
            32 => Some("is MD5 or NTLM without a salt, which is not accepted"),
            40 => Some("is SHA-1 without a salt, which is not accepted"),
            64 => Some("is SHA-256 without a salt, which is not accepted"),
            128 => Some("is SHA-512 without a salt, which is not accepted"),
            _ => None,
        },
        _ => None,
    }
}

/// How they begin. Accepted forms were looked for before.
const PREFIXES: [(&str, &str); 30] = [
    ("$1$", "is md5-crypt ($1$), which is not accepted"),
    ("$2$", "is the first bcrypt ($2$), which is not accepted; $2a$, $2b$, $2x$ and $2y$ are"),
    ("$3$", NTLM),
    ("$NT$", NTLM),
    ("{NT}", NTLM),
    ("{LANMAN}", "is a LAN Manager hash, which is not accepted"),
    ("$7$", "is scrypt in the form of crypt(3) ($7$), which is not accepted"),
    ("$y$", "is yescrypt ($y$), which is not accepted"),
    ("$gy$", "is gost-yescrypt ($gy$), which is not accepted"),
    ("$md5", "is SunMD5 ($md5), which is not accepted"),
    ("$sha1$", "is sha1-crypt ($sha1$), which is not accepted"),
    ("$P$", "is phpass ($P$, MD5), which is not accepted"),
    ("$H$", "is phpass ($H$, MD5), which is not accepted"),
    ("$S$", "is Drupal 7's phpass ($S$), which is not accepted"),
    ("$8$", "is a Cisco type 8 password, which is not accepted"),
    ("$9$", "is a Cisco type 9 password, which is not accepted"),
    ("$scram", SCRAM),
    ("SCRAM-SHA-", SCRAM),
    ("{SCRAM", SCRAM),
    ("{MD5}", "is MD5 without a salt ({MD5}), which is not accepted"),
    ("{SMD5}", "is salted MD5 ({SMD5}), which is not accepted"),
    ("{SHA}", "is SHA-1 without a salt ({SHA}), which is not accepted"),
    ("{SHA256}", "is SHA-256 without a salt ({SHA256}), which is not accepted"),
    ("{SHA512}", "is SHA-512 without a salt ({SHA512}), which is not accepted"),
    ("{CLEARTEXT}", PLAIN),
    ("{PLAIN}", PLAIN),
    ("plain$", PLAIN),
    ("md5$", "is one round of MD5 (md5$), which is not accepted"),
    ("sha1$", "is one round of SHA-1 (sha1$), which is not accepted"),
    ("unsalted_", "is an unsalted digest of Django, which is not accepted"),
];

const NTLM: &str = "is an NTLM hash, which is not accepted";

const SCRAM: &str = "is a SCRAM verifier, which is not accepted";

const PLAIN: &str = "is plain text, DES crypt or nothing known: only hashes are accepted (--help lists them)";

const UNKNOWN: &str = "is of an unknown kind (--help lists those that are accepted)";
