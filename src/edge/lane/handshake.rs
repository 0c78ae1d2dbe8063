//! A request that asks to change the protocol of its connection (RFC 9110 §7.8), and the answer that agrees.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use crate::edge::request_head::RequestHead;
use crate::metrics::UpgradedProtocol;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Handshake {
    /// As the client wrote it.
    protocol: Box<[u8]>,
    /// Of a WebSocket: what a server that means it answers (RFC 6455 §4.2.2).
    accept: Option<String>,
}

impl Handshake {
    /// Reads the head of a request that asks for `protocol`, and for no other. A WebSocket's needs one key of 16 bytes and one version;
    /// which versions there are is the platform's to say.
    pub(super) fn read<H: RequestHead>(head: &H, protocol: &[u8]) -> Option<Self> {
        let accept = if protocol.eq_ignore_ascii_case(WEBSOCKET) {
            let version = head.single("sec-websocket-version")?;
            let is_number = (1..=3).contains(&version.len()) && version.iter().all(u8::is_ascii_digit);
            let key = head.single("sec-websocket-key").filter(|_| is_number)?;
            let is_key = STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
            Some(is_key.then(|| accept_of(key))?)
        } else {
            None
        };
        Some(Self { protocol: protocol.into(), accept })
    }

    /// Is it agreed to by an answer 101 with these values of `Upgrade` and `Sec-WebSocket-Accept`? One that says something else was not
    /// made for this request: what follows it is in a protocol that nobody asked for.
    pub(super) fn is_agreed<'v>(
        &self,
        mut upgrade: impl Iterator<Item = &'v [u8]>,
        mut accept: impl Iterator<Item = &'v [u8]>,
    ) -> bool {
        let is_asked_for = upgrade.next().is_some_and(|named| named.eq_ignore_ascii_case(&self.protocol));
        let is_proven = match &self.accept {
            Some(expected) => accept.next() == Some(expected.as_bytes()) && accept.next().is_none(),
            None => true,
        };
        is_asked_for && upgrade.next().is_none() && is_proven
    }

    pub(super) const fn protocol(&self) -> UpgradedProtocol {
        if self.accept.is_some() { UpgradedProtocol::WebSocket } else { UpgradedProtocol::Other }
    }
}

/// RFC 6455 §4.2.2.
fn accept_of(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(SUFFIX).finalize())
}

const WEBSOCKET: &[u8] = b"websocket";

const KEY_BYTES: usize = 16;

/// What a server appends to the key (RFC 6455 §1.3).
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::raw_head::RawHead;

    fn read(fields: &str, protocol: &str) -> Option<Handshake> {
        let text = format!("GET /x HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        Handshake::read(&RawHead::parse(text.as_bytes()).unwrap(), protocol.as_bytes())
    }

    /// The example of RFC 6455 §1.3.
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[test]
    fn a_websocket_handshake_has_one_key_of_16_bytes_and_one_version() {
        let both = format!("{KEY}{VERSION}");
        let found = read(&both, "WebSocket").unwrap();
        assert_eq!((found.accept.as_deref(), found.protocol()), (Some(ACCEPT), UpgradedProtocol::WebSocket));
        assert!(read(&format!("{KEY}Sec-WebSocket-Version: 8\r\n"), "websocket").is_some());
        for fields in [
            String::new(),
            KEY.into(),
            VERSION.into(),
            format!("{both}{KEY}"),
            format!("{both}{VERSION}"),
            format!("{KEY}Sec-WebSocket-Version: 13, 8\r\n"),
            format!("{KEY}Sec-WebSocket-Version: \r\n"),
            format!("{VERSION}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n"),
            format!("{VERSION}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n"),
            format!("{VERSION}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSEh\r\n"),
            format!("{VERSION}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n"),
            format!("{VERSION}Sec-WebSocket-Key: \r\n"),
        ] {
            assert!(read(&fields, "websocket").is_none(), "{fields}");
        }
        assert_eq!(read("", "foo/1").unwrap().protocol(), UpgradedProtocol::Other);
    }

    #[test]
    fn only_an_answer_to_this_request_agrees() {
        let (websocket, other) =
            (read(&format!("{KEY}{VERSION}"), "websocket").unwrap(), read("", "foo/1").unwrap());
        let agrees = |handshake: &Handshake, upgrade: &[&'static str], accept: &[&'static str]| {
            let bytes =
                |values: &[&'static str]| values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>();
            handshake.is_agreed(bytes(upgrade).into_iter(), bytes(accept).into_iter())
        };
        assert!(agrees(&websocket, &["WebSocket"], &[ACCEPT]));
        assert!(agrees(&other, &["FOO/1"], &[]));
        let wrong = "AAAALMBiTxaQ9kYGzzhZRbK+xOo=";
        for (upgrade, accept) in [
            (&["websocket"][..], &[][..]),
            (&["websocket"], &[wrong]),
            (&["websocket"], &[ACCEPT, ACCEPT]),
            (&["websocket", "websocket"], &[ACCEPT]),
            (&["websocket, h2c"], &[ACCEPT]),
            (&["h2c"], &[ACCEPT]),
            (&[], &[ACCEPT]),
        ] {
            assert!(!agrees(&websocket, upgrade, accept), "{upgrade:?} {accept:?}");
        }
        for upgrade in [&["foo"][..], &["websocket"], &["foo/2"], &[], &["foo/1", "foo/1"]] {
            assert!(!agrees(&other, upgrade, &[]), "{upgrade:?}");
        }
    }
}
