//! One pass over a path: is it ambiguous, or could any server take it for the gateway's own?
//!
//! Escapes are decoded twice, since some servers do. Dot segments are refused, so nothing that comes later can undo what was
//! read: the comparison with the endpoint's path goes from its start to the first difference and is over then.

use super::escapes::{NotUtf8, Unescaped, char_of, is_escape, is_unicode_escape, is_utf8};
use super::fold::{Role, fold, role};
use super::target::{ENDPOINT, TargetError};

/// Reads a path that begins with `/`.
///
/// `Ok(true)`: folded, it is [`ENDPOINT`], alone or before a character that is no part of a word.
///
/// # Errors
///
/// What is ambiguous about it. `is_lenient` lets controls other than NUL, bytes that are not UTF-8 and a third layer of
/// escapes pass.
pub(super) fn scan(path: &[u8], is_lenient: bool) -> Result<bool, TargetError> {
    let bytes = path.iter().copied();
    let (mut has_escape, mut is_doubled) = (false, false);
    let mut rest = path;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if !is_escape(rest.iter().copied()) {
            let is_unicode = is_unicode_escape(rest.iter().copied());
            return Err(if is_unicode { TargetError::UnicodeEscape } else { TargetError::BadEscape });
        }
        has_escape = true;
        is_doubled |= rest.starts_with(b"25");
    }
    // A server that decodes less often reads other bytes: they are UTF-8 for each.
    if has_escape && !is_lenient && std::str::from_utf8(path).is_err() {
        return Err(TargetError::NotUtf8);
    }
    match (has_escape, is_doubled) {
        (false, _) => Scan::new(is_lenient).read(bytes),
        (true, false) => Scan::new(is_lenient).read(Unescaped(bytes)),
        (true, true) if !is_lenient && !is_utf8(Unescaped(bytes.clone())) => Err(TargetError::NotUtf8),
        (true, true) => Scan::new(is_lenient).read(Unescaped(Unescaped(bytes))),
    }
}

/// A letter, a digit, or another byte of ASCII that is never more than a part of a name.
fn is_plain(byte: u8) -> bool {
    /// Looked up, which is less than half of what comparisons cost.
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < 128_u8 {
            #[expect(clippy::indexing_slicing, reason = "a constant is made when it is compiled")]
            {
                plain[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
            }
            byte += 1;
        }
        plain
    };
    PLAIN.get(usize::from(byte)).is_some_and(|plain| *plain)
}

struct Scan {
    is_lenient: bool,
    segment: Segment,
    comparison: Comparison,
}

/// What was seen of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    /// Nothing, and it is the first.
    First,
    /// Nothing but blanks.
    Blank,
    /// Dots and blanks.
    Dots,
    /// Something else, or all that counts.
    Name,
}

impl Scan {
    const fn new(is_lenient: bool) -> Self {
        Self { is_lenient, segment: Segment::First, comparison: Comparison::START }
    }

    fn read(mut self, mut bytes: impl Iterator<Item = u8> + Clone) -> Result<bool, TargetError> {
        // The `/` that it begins with.
        bytes.next();
        let mut is_over = false;
        while let Some(mut byte) = bytes.next() {
            // Most bytes, most of the time: they change nothing but that the segment has a name.
            if is_over && is_plain(byte) {
                self.segment = Segment::Name;
                loop {
                    match bytes.next() {
                        Some(next) if is_plain(next) => {}
                        Some(next) => break byte = next,
                        None => return Ok(self.comparison.is_reserved()),
                    }
                }
            }
            let character = match char_of(byte, &mut bytes) {
                Ok(character) => character,
                // In a name that nobody can read, what can be read is what counts.
                Err(NotUtf8(char::REPLACEMENT_CHARACTER)) if self.is_lenient => continue,
                Err(NotUtf8(character)) if self.is_lenient => character,
                Err(_) => return Err(TargetError::NotUtf8),
            };
            if character == '%' {
                self.check_left_over(bytes.clone())?;
            }
            let role = role(character);
            self.read_structure(character, role)?;
            if !is_over && role != Role::Invisible {
                self.comparison.take(character, role);
                is_over = self.comparison.is_over();
            }
        }
        if self.segment == Segment::Dots {
            return Err(TargetError::DotSegment);
        }
        Ok(self.comparison.is_reserved())
    }

    /// A `%` that two layers have left.
    fn check_left_over(&self, after: impl Iterator<Item = u8> + Clone) -> Result<(), TargetError> {
        if is_unicode_escape(after.clone()) {
            return Err(TargetError::UnicodeEscape);
        }
        if !self.is_lenient && is_escape(after) {
            return Err(TargetError::ThirdLayer);
        }
        Ok(())
    }

    fn read_structure(&mut self, character: char, role: Role) -> Result<(), TargetError> {
        match (role, self.segment) {
            (Role::Name, _) => self.segment = Segment::Name,
            (Role::Separator, Segment::First) => return Err(TargetError::SeveralSeparators),
            (Role::Separator | Role::Cut, Segment::Dots) => return Err(TargetError::DotSegment),
            (Role::Separator, _) => self.segment = Segment::Blank,
            (Role::Cut, _) => self.segment = Segment::Name,
            (Role::Dot, Segment::First | Segment::Blank) => self.segment = Segment::Dots,
            (Role::Blank, Segment::First) => self.segment = Segment::Blank,
            (Role::SoftHyphen, _) => return Err(TargetError::SoftHyphen),
            (Role::Control, _) if character == '\0' => return Err(TargetError::Control),
            (Role::Control, _) if !self.is_lenient => return Err(TargetError::Control),
            // Some servers drop controls, so that they hide no dots.
            (Role::Dot | Role::Blank | Role::Invisible | Role::Control, _) => {}
        }
        Ok(())
    }
}

/// How far a path, folded, is the endpoint's, in each way in which it can be read: sets of lengths of [`ENDPOINT`], one bit each.
#[derive(Clone, Copy)]
struct Comparison {
    /// So much of it was read.
    equal: u32,
    /// The same, and then dots or blanks, which count for nothing at the end of a segment.
    trailing: u32,
    /// The same, and then something that some servers drop up to a separator, and others up to a later one: a path parameter,
    /// where the separator may have been escaped; a segment in brackets; the stream of a file.
    dropped: u32,
    is_reserved: bool,
}

impl Comparison {
    /// Behind the first `/`.
    const START: Self = Self { equal: 1 << 1, trailing: 0, dropped: 0, is_reserved: false };
    /// All of it.
    const WHOLE: u32 = 1 << ENDPOINT.len();

    const fn is_over(self) -> bool {
        self.is_reserved || self.equal | self.trailing | self.dropped == 0
    }

    fn take(&mut self, character: char, role: Role) {
        if self.equal | self.trailing == 0 && role != Role::Separator {
            return;
        }
        fold(character, |folded| {
            self.take_folded(folded);
            !self.is_over()
        });
    }

    fn take_folded(&mut self, folded: char) {
        let role = role(folded);
        let read = self.equal | self.trailing;
        let is_word = role == Role::Name && (folded.is_alphanumeric() || folded == '-' || folded == '_');
        if read & Self::WHOLE != 0 && !is_word {
            self.is_reserved = true;
        }
        match role {
            Role::Invisible | Role::Control => {}
            Role::Dot | Role::Blank => (self.equal, self.trailing) = (0, read),
            Role::Separator => {
                let all = read | self.dropped;
                (self.equal, self.trailing) = ((all & lengths_before('/')) << 1 | all & SEGMENTS, 0);
            }
            _ => {
                match folded {
                    ';' | ':' => self.dropped |= read,
                    '(' => self.dropped |= self.equal & SEGMENTS,
                    _ => {}
                }
                (self.equal, self.trailing) = ((self.equal & lengths_before(folded)) << 1, 0);
            }
        }
    }

    const fn is_reserved(self) -> bool {
        self.is_reserved || (self.equal | self.trailing) & Self::WHOLE != 0
    }
}

/// The lengths behind which [`ENDPOINT`] goes on with that character.
fn lengths_before(character: char) -> u32 {
    /// By character; looked up, since it is asked for each that may be the endpoint's.
    const LENGTHS: [u32; 128] = {
        let mut lengths = [0; 128];
        let mut at = 0;
        while at < ENDPOINT.len() {
            #[expect(clippy::indexing_slicing, reason = "a constant is made when it is compiled")]
            {
                lengths[ENDPOINT.as_bytes()[at] as usize] |= 1 << at;
            }
            at += 1;
        }
        lengths
    };
    usize::try_from(u32::from(character)).ok().and_then(|code| LENGTHS.get(code)).copied().unwrap_or_default()
}

/// The lengths behind which a segment of [`ENDPOINT`] begins.
const SEGMENTS: u32 = 1 << 1 | 1 << 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_begin_behind_each_separator() {
        assert_eq!(SEGMENTS, lengths_before('/') << 1);
    }
}
