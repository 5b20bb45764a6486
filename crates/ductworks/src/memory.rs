//! Where a Rust program's messages are received.

use std::io;
use std::mem::MaybeUninit;
use std::slice;

use crate::wire::Body;

/// A vector, or the caller's own memory for one call.
pub(crate) enum Memory {
    Own(Vec<u8>),
    Lent(Lent),
}

/// The beginning of a buffer that a caller of `recv_into` has lent. It never outlives that call: a
/// receive that ends early moves what has arrived into a vector (`vacate`), and a complete one hands
/// it out.
pub(crate) struct Lent {
    start: *mut u8,
    room: usize,
    len: usize,
}

// SAFETY: it stands for a `&mut [u8]`, which may be sent.
unsafe impl Send for Lent {}

impl Memory {
    /// Lends a buffer for one call.
    pub(crate) fn lent(place: &mut [u8]) -> Self {
        Self::Lent(Lent {
            start: place.as_mut_ptr(),
            room: place.len(),
            len: 0,
        })
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(_) => self.as_slice().to_vec(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

// SAFETY: for the vector as in its own implementation. A lent buffer is `room` bytes from `start` on,
// which the caller has borrowed mutably for as long as this variant exists.
unsafe impl Body for Memory {
    fn len(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Lent(lent) => lent.len,
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.capacity(),
            Self::Lent(lent) => lent.room,
        }
    }

    fn reserve(&mut self, total: usize) -> io::Result<()> {
        match self {
            Self::Own(bytes) => Body::reserve(bytes, total),
            Self::Lent(lent) if total <= lent.room => Ok(()),
            Self::Lent(_) => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        match self {
            Self::Own(bytes) => bytes.spare_capacity_mut(),
            // SAFETY: within the lent buffer, which is borrowed mutably for as long.
            Self::Lent(lent) => unsafe {
                let behind = lent.start.add(lent.len).cast();
                slice::from_raw_parts_mut(behind, lent.room - lent.len)
            },
        }
    }

    unsafe fn filled(&mut self, count: usize) {
        match self {
            // SAFETY: the caller's promise.
            Self::Own(bytes) => unsafe { Body::filled(bytes, count) },
            Self::Lent(lent) => lent.len += count,
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            // SAFETY: the buffer was initialised when it was lent.
            Self::Lent(lent) => unsafe { slice::from_raw_parts(lent.start, lent.len) },
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Own(bytes) => bytes.clear(),
            Self::Lent(lent) => lent.len = 0,
        }
    }

    fn vacate(&mut self) {
        if let Self::Lent(_) = self {
            *self = Self::Own(self.as_slice().to_vec());
        }
    }
}
