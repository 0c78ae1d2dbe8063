//! Where the frames of a WebSocket end (RFC 6455 §5.2): so that one of the gateway's own can follow them. Nothing else is read of them.

/// Follows the bytes of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    /// What came of the header of a frame, without a mask, and how much that is.
    header: [u8; LONGEST],
    have: usize,
    /// Bytes of the frame behind that, its mask included.
    left: u64,
    /// There was a frame that says that no other follows.
    has_closed: bool,
}

impl Frames {
    /// Reads up to the end of the frame that these bytes belong to, if they have it; how many of them that is.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used)
            && self.have < self.needed()
        {
            if let Some(place) = self.header.get_mut(self.have) {
                *place = byte;
            }
            self.have += 1;
            used += 1;
            if self.have == self.needed() {
                self.left = self.length();
            }
        }
        let rest = (bytes.len() - used) as u64;
        let payload = self.left.min(rest);
        self.left -= payload;
        used += payload as usize;
        if self.have == self.needed() && self.left == 0 {
            let [first, ..] = self.header;
            self.has_closed |= first & 0x0f == CLOSE;
            self.have = 0;
        }
        used
    }

    /// Reads all of it.
    pub(super) fn follow_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = self.follow(bytes);
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// May a frame follow here?
    pub(super) const fn is_boundary(&self) -> bool {
        self.have == 0
    }

    /// May none?
    pub(super) const fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Bytes of the header, as far as is known.
    const fn needed(&self) -> usize {
        let [_, second, ..] = self.header;
        match (self.have, second & 0x7f) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => 10,
            _ => 2,
        }
    }

    /// Bytes that follow the header.
    fn length(&self) -> u64 {
        let [_, second, extended @ ..] = self.header;
        let [a, b, ..] = extended;
        let payload = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes(extended),
            short => u64::from(short),
        };
        // A server masks nothing; one that does is followed all the same.
        payload.saturating_add(if second & 0x80 == 0 { 0 } else { 4 })
    }
}

/// A frame that ends a connection, with a status code and a reason of at most 123 bytes (§5.5.1).
pub(super) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let reason = reason.as_bytes().get(..LONGEST_REASON).unwrap_or(reason.as_bytes());
    let mut frame = vec![0x80 | CLOSE, 2 + reason.len() as u8];
    frame.extend(code.to_be_bytes());
    frame.extend_from_slice(reason);
    frame
}

/// A header without a mask.
const LONGEST: usize = 10;

/// The opcode (§5.5.1).
const CLOSE: u8 = 8;

/// A control frame has 125 bytes at most, two of them the code.
const LONGEST_REASON: usize = 123;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The bytes of a frame.
    fn frame(first: u8, is_masked: bool, length: usize, is_wide: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match length {
            0..=125 if !is_wide => bytes.push(mask | length as u8),
            126..=65_535 if !is_wide => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if is_masked {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.extend(std::iter::repeat_n(0x88, length));
        bytes
    }

    proptest! {
        /// However the bytes are split, a frame may follow after each frame and nowhere else.
        #[test]
        fn frames_end_where_they_end_however_they_are_split(
            frames in vec((any::<u8>(), any::<bool>(), prop_oneof![0usize..300, Just(65_535), Just(65_536), Just(70_000)], any::<bool>()), 1..6),
            pieces in vec(1usize..70_000, 1..40),
        ) {
            let (mut bytes, mut ends, mut is_closed) = (Vec::new(), Vec::new(), Vec::new());
            for (first, is_masked, length, is_wide) in frames {
                bytes.extend(frame(first, is_masked, length, is_wide));
                ends.push(bytes.len());
                is_closed.push(first & 0x0f == 8 || is_closed.last() == Some(&true));
            }
            let (mut follower, mut at, mut found) = (Frames::default(), 0, Vec::new());
            for piece in pieces.into_iter().cycle() {
                let mut piece = &bytes[at..bytes.len().min(at + piece)];
                while !piece.is_empty() {
                    let used = follower.follow(piece);
                    prop_assert!(used > 0);
                    at += used;
                    piece = &piece[used..];
                    if follower.is_boundary() {
                        prop_assert_eq!(follower.has_closed(), is_closed[found.len()]);
                        found.push(at);
                    }
                }
                if at == bytes.len() { break; }
            }
            prop_assert_eq!(found, ends);
        }

        /// Nothing that a server sends stops it.
        #[test]
        fn any_bytes_can_be_followed(bytes in vec(any::<u8>(), 0..400)) {
            let mut follower = Frames::default();
            follower.follow_all(&bytes);
            let mut one_by_one = Frames::default();
            bytes.iter().for_each(|byte| one_by_one.follow_all(&[*byte]));
            prop_assert_eq!(follower.is_boundary(), one_by_one.is_boundary());
            prop_assert_eq!(follower.left, one_by_one.left);
        }
    }

    #[test]
    fn a_close_frame_is_one_frame_of_at_most_127_bytes() {
        for reason in ["", "token expired", &"x".repeat(123), &"x".repeat(500)] {
            let bytes = close_frame(1008, reason);
            let mut follower = Frames::default();
            assert_eq!(follower.follow(&bytes), bytes.len());
            assert!(follower.is_boundary() && follower.has_closed() && bytes.len() <= 127);
            assert_eq!(bytes[..4], [0x88, bytes.len() as u8 - 2, 0x03, 0xf0]);
        }
    }
}
