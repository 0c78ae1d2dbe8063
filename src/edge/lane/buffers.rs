//! Buffers that a worker lends to its connections while they have something to hold.

use parking_lot::Mutex;

/// Buffers of one size. Of one worker alone, so that the lock is never waited for.
pub(super) struct Buffers {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Each has room for `size` bytes.
    pub(super) const fn new(size: usize) -> Self {
        Self { size, free: Mutex::new(Vec::new()) }
    }

    /// Bytes that each has room for.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// An empty one.
    pub(super) fn lend(&self) -> Vec<u8> {
        self.free.lock().pop().unwrap_or_else(|| Vec::with_capacity(self.size))
    }

    /// Takes one back, or any other in its place. One that has grown is let go.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() == self.size {
            let mut free = self.free.lock();
            if free.len() < MOST_FREE {
                free.push(buffer);
            }
        }
    }
}

/// Takes bytes off the beginning.
pub(super) fn consume(bytes: &mut Vec<u8>, count: usize) {
    if count == bytes.len() {
        bytes.clear();
    } else {
        bytes.drain(..count.min(bytes.len()));
    }
}

/// How many are kept that nobody uses.
const MOST_FREE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_again_empty_unless_it_has_grown() {
        let buffers = Buffers::new(64);
        let mut one = buffers.lend();
        one.extend_from_slice(b"x");
        let place = one.as_ptr();
        buffers.give_back(one);
        let mut again = buffers.lend();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 0, 64));
        again.extend_from_slice(&[0; 65]);
        buffers.give_back(again);
        assert_eq!(buffers.lend().capacity(), 64);
        assert!(buffers.free.lock().is_empty());
    }
}
