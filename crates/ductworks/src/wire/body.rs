//! Where a payload is received.

use std::io;
use std::mem::MaybeUninit;

/// Growing memory for a payload: a vector, or an object of another language that is spared a copy
/// so.
///
/// # Safety
///
/// The bytes that [`spare`](Self::spare) lends lie directly behind the first [`len`](Self::len)
/// bytes, and stay where they are, with their values, until the next [`reserve`](Self::reserve).
pub unsafe trait Body: Default {
    /// How many bytes are filled.
    fn len(&self) -> usize;

    /// Whether no byte is filled.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes there is memory for, the filled ones included.
    fn capacity(&self) -> usize;

    /// Grows to a capacity of `total` bytes, and not of more where that can be helped.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::OutOfMemory`], with everything as it was.
    fn reserve(&mut self, total: usize) -> io::Result<()>;

    /// The memory behind the filled bytes.
    fn spare(&mut self) -> &mut [MaybeUninit<u8>];

    /// Counts as filled what has been written at the beginning of [`spare`](Self::spare).
    ///
    /// # Safety
    ///
    /// The first `count` bytes of the spare memory are initialised.
    unsafe fn filled(&mut self, count: usize);

    /// The filled bytes.
    fn as_slice(&self) -> &[u8];

    /// Forgets the filled bytes and keeps the memory.
    fn clear(&mut self);

    /// Moves the filled bytes into memory of its own, if these were lent for one call only: that call
    /// ends before the payload is complete.
    fn vacate(&mut self) {}
}

// SAFETY: `spare_capacity_mut` is what lies behind the elements, and a vector moves or changes its
// memory only when it grows.
unsafe impl Body for Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn reserve(&mut self, total: usize) -> io::Result<()> {
        self.try_reserve_exact(total.saturating_sub(self.len()))
            .map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        self.spare_capacity_mut()
    }

    unsafe fn filled(&mut self, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.set_len(self.len() + count) };
    }

    fn as_slice(&self) -> &[u8] {
        self
    }

    fn clear(&mut self) {
        self.clear();
    }
}
