//! The part of the Basic Encoding Rules (X.690) that LDAP uses: definite lengths and tags of one byte (RFC 4511 §5.1).
//!
//! What comes from a server is read without recursion and without a copy, and never further than it reaches.

use zeroize::Zeroizing;

/// An encoding that grows. It may hold a password, and is wiped when it is dropped.
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// With room for `capacity` bytes. A writer that had to grow would leave a copy behind that nobody wipes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A value of bytes: text, or a boolean's one.
    pub(super) fn octets(&mut self, tag: u8, bytes: &[u8]) {
        self.constructed(tag, |inside| inside.0.extend_from_slice(bytes));
    }

    pub(super) fn boolean(&mut self, tag: u8, value: bool) {
        self.octets(tag, &[if value { 0xff } else { 0 }]);
    }

    /// A number that is not negative, with a zero in front of a first bit that would be its sign.
    pub(super) fn number(&mut self, tag: u8, value: u32) {
        let bytes = u64::from(value).to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let has_sign = bytes.get(zeros).is_none_or(|first| *first >= 0x80);
        let begin = if has_sign { zeros.saturating_sub(1) } else { zeros };
        self.octets(tag, bytes.get(begin..).unwrap_or_default());
    }

    /// What `write` writes, as one value. Its length takes four bytes whatever it is, as in Active Directory's own messages.
    pub(super) fn constructed(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        self.0.extend_from_slice(&[tag, 0x84]);
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(self);
        let length = self.0.len() - at - 4;
        // Nothing here comes near four gigabytes.
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&length);
        }
    }
}

/// What is left of an encoding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(super) const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next value and its tag; `None` where there is none, or it is not one.
    pub(super) fn next(&mut self) -> Option<(u8, &'b [u8])> {
        let Head::Whole { tag, begin, end } = head(self.0) else { return None };
        let content = self.0.get(begin..end)?;
        self.0 = self.0.get(end..)?;
        Some((tag, content))
    }

    /// The next value, if it has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'b [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The next value, a number that is not negative.
    pub(super) fn number(&mut self, tag: u8) -> Option<u32> {
        match self.expect(tag)? {
            [] => None,
            [first, ..] if *first >= 0x80 => None,
            bytes => {
                let value = bytes
                    .iter()
                    .try_fold(0_u64, |value, byte| Some((value.checked_mul(256)?) | u64::from(*byte)));
                u32::try_from(value?).ok()
            }
        }
    }
}

/// The length of the message that a buffer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// It is there, and has so many bytes.
    Whole(usize),
    /// More bytes are needed.
    Partial,
    /// It is not a message, or a longer one than anybody sends.
    Invalid,
}

/// Looks for a message at the beginning of what was received.
pub(super) fn frame(buffer: &[u8]) -> Frame {
    match head(buffer) {
        Head::Whole { tag: SEQUENCE, end, .. } => Frame::Whole(end),
        Head::Partial { tag: SEQUENCE } => Frame::Partial,
        Head::Whole { .. } | Head::Partial { .. } | Head::Invalid => Frame::Invalid,
        Head::Nothing => Frame::Partial,
    }
}

/// A tag and a length, and whether what they announce is there.
enum Head {
    Nothing,
    Partial { tag: u8 },
    Whole { tag: u8, begin: usize, end: usize },
    Invalid,
}

fn head(bytes: &[u8]) -> Head {
    let [tag, rest @ ..] = bytes else { return Head::Nothing };
    let tag = *tag;
    // A tag of several bytes, which LDAP has none of.
    if tag & 0x1f == 0x1f {
        return Head::Invalid;
    }
    let (length_bytes, length) = match rest {
        [] => return Head::Partial { tag },
        [short, ..] if *short < 0x80 => (1, usize::from(*short)),
        // An indefinite length, or one of more than four bytes.
        [long, ..] if *long == 0x80 || *long > 0x84 => return Head::Invalid,
        [long, rest @ ..] => {
            let count = usize::from(*long - 0x80);
            let Some(bytes) = rest.get(..count) else { return Head::Partial { tag } };
            (1 + count, bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
    };
    if length > LONGEST {
        return Head::Invalid;
    }
    let begin = 1 + length_bytes;
    if bytes.len() < begin + length {
        Head::Partial { tag }
    } else {
        Head::Whole { tag, begin, end: begin + length }
    }
}

/// A message with a few attributes of one entry is far shorter, whatever the entry has.
const LONGEST: usize = 1024 * 1024;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_written_as_others_read_them() {
        for (value, expected) in [
            (0_u32, &[2, 0x84, 0, 0, 0, 1, 0][..]),
            (127, &[2, 0x84, 0, 0, 0, 1, 127]),
            (128, &[2, 0x84, 0, 0, 0, 2, 0, 128]),
            (256, &[2, 0x84, 0, 0, 0, 2, 1, 0]),
            (u32::MAX, &[2, 0x84, 0, 0, 0, 5, 0, 255, 255, 255, 255]),
        ] {
            let mut writer = Writer::with_capacity(16);
            writer.number(INTEGER, value);
            assert_eq!(writer.bytes(), expected);
            assert_eq!(Reader::new(expected).number(INTEGER), Some(value));
        }
        for bytes in [&[2, 1, 0x80][..], &[2, 0], &[2, 5, 1, 0, 0, 0, 0], &[4, 1, 1], &[2, 2, 1], &[]] {
            assert_eq!(Reader::new(bytes).number(INTEGER), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_frame_is_found_and_what_is_none_is_refused() {
        for (bytes, expected) in [
            (&[][..], Frame::Partial),
            (&[0x30], Frame::Partial),
            (&[0x30, 0x82, 0], Frame::Partial),
            (&[0x30, 2, 0], Frame::Partial),
            (&[0x30, 0], Frame::Whole(2)),
            (&[0x30, 2, 1, 2, 3], Frame::Whole(4)),
            (&[0x30, 0x84, 0, 0, 0, 1, 9], Frame::Whole(7)),
            (b"HTTP/1.1 400", Frame::Invalid),
            (&[0x31, 0], Frame::Invalid),
            (&[0x31], Frame::Invalid),
            (&[0x3f, 0], Frame::Invalid),
            (&[0x30, 0x80], Frame::Invalid),
            (&[0x30, 0x85, 0, 0, 0, 0, 1], Frame::Invalid),
            (&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff], Frame::Invalid),
            (&[0x16, 3, 1, 2, 0], Frame::Invalid),
        ] {
            assert_eq!(frame(bytes), expected, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in prop::collection::vec((0_u8..31, prop::collection::vec(any::<u8>(), 0..300)), 0..5)) {
            let mut writer = Writer::with_capacity(0);
            writer.constructed(SEQUENCE, |inside| values.iter().for_each(|(tag, value)| inside.octets(*tag, value)));
            prop_assert_eq!(frame(writer.bytes()), Frame::Whole(writer.bytes().len()));
            let mut reader = Reader::new(Reader::new(writer.bytes()).expect(SEQUENCE).unwrap());
            for (tag, value) in &values {
                prop_assert_eq!(reader.next(), Some((*tag, value.as_slice())));
            }
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_reaching_beyond_them(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            let mut total = 0;
            while let Some((_, content)) = reader.next() {
                total += 2 + content.len();
            }
            prop_assert!(total <= bytes.len());
            if let Frame::Whole(length) = frame(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
