//! Tokens made by hand, so that every way to make one wrong can be written down.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};
use std::time::{SystemTime, UNIX_EPOCH};

/// The members of a JSON object as they are written: in order, and doubled if a test wants that.
#[derive(Debug, Clone)]
pub struct Members(Vec<(String, String)>);

impl Members {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// The header of a token of ours.
    pub fn header(algorithm: &str, kid: &str) -> Self {
        Self::new().text("typ", "JWT").text("alg", algorithm).text("kid", kid)
    }

    /// Adds a member whose value is JSON text, even if there is one of that name.
    pub fn and(mut self, name: &str, json: impl ToString) -> Self {
        self.0.push((name.to_owned(), json.to_string()));
        self
    }

    /// Adds a string.
    pub fn text(self, name: &str, value: &str) -> Self {
        self.and(name, Value::from(value))
    }

    /// Replaces the value of a member.
    pub fn with(mut self, name: &str, json: impl ToString) -> Self {
        let json = json.to_string();
        let member = self.0.iter_mut().find(|member| member.0 == name).expect("a member of that name");
        member.1 = json;
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        let before = self.0.len();
        self.0.retain(|member| member.0 != name);
        assert_eq!(self.0.len() + 1, before, "a member of that name");
        self
    }

    pub fn json(&self) -> String {
        let members: Vec<String> = self.0.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The MAC of `text`, encoded.
pub fn sign(algorithm: &str, secret: &[u8], text: &str) -> String {
    fn mac<M: Mac + KeyInit>(secret: &[u8], text: &str) -> String {
        let mut mac = <M as KeyInit>::new_from_slice(secret).expect("any length is a key");
        mac.update(text.as_bytes());
        encode(mac.finalize().into_bytes())
    }
    match algorithm {
        "HS256" => mac::<Hmac<Sha256>>(secret, text),
        "HS384" => mac::<Hmac<Sha384>>(secret, text),
        "HS512" => mac::<Hmac<Sha512>>(secret, text),
        other => panic!("no such MAC: {other}"),
    }
}

/// A token over any two texts, signed with HS256.
pub fn token(secret: &[u8], header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    signed(secret, &format!("{}.{}", encode(header), encode(claims)))
}

/// `header.payload`, encoded already, with its signature.
pub fn signed(secret: &[u8], text: &str) -> String {
    format!("{text}.{}", sign("HS256", secret, text))
}

/// The header and the claims of a token, its signature not looked at.
pub fn read(token: &str) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "{token}");
    let part =
        |text| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON");
    (part(parts[0]), part(parts[1]))
}

/// The wall clock in whole seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// `YYYY-MM-DD HH:MM:SS` in UTC (days to a date after Howard Hinnant's `civil_from_days`, for years after 1970).
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[test]
fn the_reference_vectors_hold() {
    // RFC 7515 appendix A.1, and RFC 4231 case 2 for the longer MACs.
    let key = URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .expect("base64url");
    let text = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    assert_eq!(sign("HS256", &key, text), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let short = |algorithm| sign(algorithm, b"Jefe", "what do ya want for nothing?")[..8].to_owned();
    assert_eq!(short("HS384"), encode([0xaf, 0x45, 0xd2, 0xe3, 0x76, 0x48]));
    assert_eq!(short("HS512"), encode([0x16, 0x4b, 0x7a, 0x7b, 0xfc, 0xf8]));
    assert_eq!(utc(1_580_216_224), "2020-01-28 12:57:04");
    assert_eq!(utc(951_782_399), "2000-02-28 23:59:59");
    assert_eq!(utc(951_868_800), "2000-03-01 00:00:00");
}
