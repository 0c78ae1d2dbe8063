//! The chunked coding of an answer (RFC 9112 §7.1), looked through on its way: it goes on as it is, without its extensions and trailers,
//! or only its content does.

/// How far a chunked body has come.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// Of the size that is being read, or of the chunk.
    left: u64,
    digits: u32,
    /// Bytes that were dropped in a row.
    dropped: usize,
    /// Only the content goes on.
    is_bare: bool,
    /// Bytes of content so far.
    pub(super) content: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Content,
    ContentEnd,
    ContentEndLine,
    Trailer,
    TrailerLine,
    End,
    Done,
}

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Bytes that were looked at; what is behind them does not belong to the body.
    pub(super) consumed: usize,
    /// So many bytes, now at the beginning, go on.
    pub(super) kept: usize,
    /// The body is complete.
    pub(super) is_done: bool,
}

/// Not what the coding allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

impl Chunks {
    /// Of a body whose coding ends here.
    pub(super) fn bare() -> Self {
        Self { is_bare: true, ..Self::default() }
    }

    /// Looks through what came next.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<Seen, Invalid> {
        let (mut at, mut kept) = (0, 0);
        while self.state != State::Done {
            let Some(&byte) = bytes.get(at) else { break };
            if self.state == State::Content {
                let room = bytes.len() - at;
                let count = usize::try_from(self.left).map_or(room, |left| left.min(room));
                if kept != at {
                    bytes.copy_within(at..at + count, kept);
                }
                (at, kept) = (at + count, kept + count);
                self.left -= count as u64;
                self.content += count as u64;
                self.dropped = 0;
                if self.left == 0 {
                    self.state = State::ContentEnd;
                }
                continue;
            }
            at += 1;
            if self.step(byte)? && !self.is_bare {
                self.dropped = 0;
                if let Some(place) = bytes.get_mut(kept) {
                    *place = byte;
                }
                kept += 1;
            } else {
                self.dropped += 1;
                if self.dropped > MOST_DROPPED {
                    return Err(Invalid);
                }
            }
        }
        Ok(Seen { consumed: at, kept, is_done: self.state == State::Done })
    }

    /// One byte between contents; does it go on?
    fn step(&mut self, byte: u8) -> Result<bool, Invalid> {
        use State::*;
        let (next, keeps) = match (self.state, byte) {
            (Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < MOST_DIGITS => {
                let digit = char::from(byte).to_digit(16).ok_or(Invalid)?;
                self.left = self.left * 16 + u64::from(digit);
                self.digits += 1;
                (Size, true)
            }
            (Size, b';' | b' ' | b'\t') if self.digits > 0 => (Extension, false),
            (Size | Extension, b'\r') if self.digits > 0 => (SizeEnd, true),
            (Extension, b'\n') => return Err(Invalid),
            (Extension, _) => (Extension, false),
            (SizeEnd, b'\n') => {
                self.digits = 0;
                (if self.left == 0 { Trailer } else { Content }, true)
            }
            (ContentEnd, b'\r') => (ContentEndLine, true),
            (ContentEndLine, b'\n') => (Size, true),
            (Trailer, b'\r') => (End, true),
            (Trailer | TrailerLine, byte) => (if byte == b'\n' { Trailer } else { TrailerLine }, false),
            (End, b'\n') => (Done, true),
            _ => return Err(Invalid),
        };
        self.state = next;
        Ok(keeps)
    }
}

/// A size has no more: that is beyond all bodies.
const MOST_DIGITS: u32 = 15;

/// The longest extension or trailer.
const MOST_DROPPED: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::{prop_assert_eq, proptest};

    fn read(text: &[u8], size: usize) -> Result<Option<(Vec<u8>, usize, u64)>, Invalid> {
        read_by(Chunks::default(), text, size)
    }

    /// What goes on of a body that comes in pieces, what is left behind it, and its content; `None` where it is not complete.
    fn read_by(
        mut chunks: Chunks,
        text: &[u8],
        size: usize,
    ) -> Result<Option<(Vec<u8>, usize, u64)>, Invalid> {
        let (mut out, mut consumed) = (Vec::new(), 0);
        for piece in text.chunks(size) {
            let mut piece = piece.to_vec();
            let seen = chunks.read(&mut piece)?;
            out.extend_from_slice(&piece[..seen.kept]);
            consumed += seen.consumed;
            if seen.is_done {
                return Ok(Some((out, text.len() - consumed, chunks.content)));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_chunked_body_goes_on_without_what_nobody_needs() {
        let plain = "5\r\nhello\r\n0\r\n\r\n";
        for (text, expected) in [
            (plain, Ok(Some((plain, 0, 5)))),
            ("0\r\n\r\nHTTP/1.1 200 OK", Ok(Some(("0\r\n\r\n", 15, 0)))),
            ("5;a=\"b\"\r\nhello\r\n0 ;x\r\n\r\n", Ok(Some((plain, 0, 5)))),
            ("5\r\nhello\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", Ok(Some((plain, 0, 5)))),
            ("00A\r\n0123456789\r\n000\r\n\r\n", Ok(Some(("00A\r\n0123456789\r\n000\r\n\r\n", 0, 10)))),
            ("5\r\nhello\r\n", Ok(None)),
            ("5\r\nhello\r\n0\r\n", Ok(None)),
            ("5\r\nhello", Ok(None)),
            ("", Ok(None)),
            ("5\nhello\r\n0\r\n\r\n", Err(Invalid)),
            ("5\r\nhello0\r\n\r\n", Err(Invalid)),
            ("5\r\nhello\r\n\r\n", Err(Invalid)),
            ("\r\n", Err(Invalid)),
            (";a\r\n", Err(Invalid)),
            ("-1\r\n", Err(Invalid)),
            ("0x5\r\n", Err(Invalid)),
            (" 5\r\n", Err(Invalid)),
            ("5;a\nhello", Err(Invalid)),
            ("5\r\rhello", Err(Invalid)),
            ("1000000000000000\r\n", Err(Invalid)),
        ] {
            for size in [1, 2, 3, 7, 100] {
                let expected =
                    expected.map(|whole| whole.map(|(out, left, content)| (out.into(), left, content)));
                // What is left behind it may be in pieces that were not looked at.
                assert_eq!(read(text.as_bytes(), size), expected, "{text:?} in pieces of {size}");
            }
        }
        let endless = format!("5;{}", "x".repeat(MOST_DROPPED + 1));
        assert_eq!(read(endless.as_bytes(), 1000), Err(Invalid));
    }

    proptest! {
        #[test]
        fn it_is_the_same_however_it_is_cut(
            contents in vec(vec(any::<u8>(), 1..50), 0..5), junk in vec(any::<u8>(), 0..20), size in 1usize..40,
        ) {
            let mut text = Vec::new();
            for content in &contents {
                text.extend(format!("{:x}\r\n", content.len()).bytes().chain(content.iter().copied()).chain(*b"\r\n"));
            }
            text.extend(b"0\r\n\r\n");
            let whole = text.clone();
            text.extend(&junk);
            let content = contents.iter().map(|content| content.len() as u64).sum();
            prop_assert_eq!(read(&text, size), Ok(Some((whole, junk.len(), content))));
            prop_assert_eq!(read_by(Chunks::bare(), &text, size), Ok(Some((contents.concat(), junk.len(), content))));
        }

        #[test]
        fn any_bytes_are_read_alike_in_any_pieces(text in vec(proptest::sample::select(b"0125afF;\r\n x".to_vec()), 0..60), size in 1usize..9) {
            prop_assert_eq!(read(&text, size), read(&text, 1));
        }
    }
}
