//! What a directory answers (RFC 4511 §4), as far as the gateway asks.

use super::ber::{ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE, SET};
use super::entry::Entry;

/// One message of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The number of the request; 0: what the server says unasked, before it closes the connection.
    pub(super) id: u32,
    pub(super) answer: Answer,
}

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What became of a bind.
    Bind(Outcome),
    /// One of the entries that were found.
    Entry(Entry),
    /// More may be found on another server, which is not asked.
    Reference,
    /// The search is at its end.
    SearchDone(Outcome),
    /// What became of an extended request, or a notice.
    Extended(Outcome),
    /// Something that was not asked for.
    Other,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// 0: well.
    pub(super) code: u32,
    /// What the server says besides, for people.
    pub(super) text: String,
}

impl Outcome {
    /// For the log: the code, and the server's words as far as they are short, without what could break a line.
    pub(super) fn describe(&self) -> String {
        let text: String = self.text.trim_end_matches('\0').chars().take(200).collect();
        format!("code {} {text:?}", self.code)
    }
}

impl Message {
    /// Reads a message that is there as a whole; `None` if it is not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut message = Reader::new(Reader::new(bytes).expect(SEQUENCE)?);
        let id = message.number(INTEGER)?;
        let (tag, content) = message.next()?;
        // Controls may follow; none was asked for.
        let answer = match tag {
            0x61 => Answer::Bind(outcome(content)?),
            0x64 => Answer::Entry(entry(content)?),
            0x65 => Answer::SearchDone(outcome(content)?),
            0x73 => Answer::Reference,
            0x78 => Answer::Extended(outcome(content)?),
            _ => Answer::Other,
        };
        Some(Self { id, answer })
    }
}

fn outcome(content: &[u8]) -> Option<Outcome> {
    let mut result = Reader::new(content);
    let code = result.number(ENUMERATED)?;
    let _matched = result.expect(OCTETS)?;
    let text = String::from_utf8_lossy(result.expect(OCTETS)?).into_owned();
    Some(Outcome { code, text })
}

fn entry(content: &[u8]) -> Option<Entry> {
    let mut reader = Reader::new(content);
    let name = std::str::from_utf8(reader.expect(OCTETS)?).ok()?;
    let mut entry = Entry::new(name);
    let mut attributes = Reader::new(reader.expect(SEQUENCE)?);
    while !attributes.is_empty() {
        let mut attribute = Reader::new(attributes.expect(SEQUENCE)?);
        let name = std::str::from_utf8(attribute.expect(OCTETS)?).ok()?;
        let mut values = Reader::new(attribute.expect(SET)?);
        while !values.is_empty() {
            entry.add(name, values.expect(OCTETS)?);
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENTRY: &[u8] = b"\x30\x2d\x02\x01\x02\x64\x28\x04\x08uid=anna\x30\x1c\x30\x0b\x04\x03UID\x31\x04\x04\x02an\x30\x0d\x04\x04mail\x31\x05\x04\x03a@b";

    #[test]
    fn answers_are_read_as_rfc_4511_encodes_them() {
        let mut anna = Entry::new("uid=anna");
        anna.add("uid", b"an");
        anna.add("mail", b"a@b");
        let outcome = |code, text: &str| Outcome { code, text: text.into() };
        for (bytes, id, answer) in [
            (
                &b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"[..],
                1,
                Answer::Bind(outcome(0, "")),
            ),
            (
                b"\x30\x0e\x02\x01\x01\x61\x09\x0a\x01\x31\x04\x00\x04\x02no",
                1,
                Answer::Bind(outcome(49, "no")),
            ),
            (
                b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x5c\x04\x00\x04\x00",
                2,
                Answer::SearchDone(outcome(92, "")),
            ),
            (b"\x30\x09\x02\x01\x02\x73\x04\x04\x02l:", 2, Answer::Reference),
            (
                b"\x30\x0c\x02\x01\x00\x78\x07\x0a\x01\x34\x04\x00\x04\x00",
                0,
                Answer::Extended(outcome(52, "")),
            ),
            (b"\x30\x05\x02\x01\x03\x79\x00", 3, Answer::Other),
            (ENTRY, 2, Answer::Entry(anna)),
        ] {
            assert_eq!(Message::decode(bytes), Some(Message { id, answer }), "{bytes:x?}");
        }
    }

    #[test]
    fn a_cut_answer_is_none() {
        for length in 0..ENTRY.len() {
            assert_eq!(Message::decode(&ENTRY[..length]), None, "{length}");
        }
        for bytes in [
            &b"\x30\x00"[..],
            b"\x30\x03\x02\x01\x01",
            b"\x30\x05\x02\x01\x01\x61\x00",
            b"\x30\x05\x02\x01\xff\x61\x00",
        ] {
            assert_eq!(Message::decode(bytes), None, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn an_answer_with_any_byte_changed_is_an_answer_or_none(at in 0..ENTRY.len(), byte: u8) {
            let mut bytes = ENTRY.to_vec();
            bytes[at] = byte;
            let _ = Message::decode(&bytes);
        }
    }
}
